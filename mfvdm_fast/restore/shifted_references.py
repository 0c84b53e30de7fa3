"""References at many places: which restoration, turned, mirrored and moved, a particle looks like most.

A graph of particles that stand off the centre groups those that stand off in the same way, and a restoration from it
follows the particle's own shift: comparing a particle with its own restoration hardly moves it. A few restorations of
others, each brought to the centre and then to every place of a grid, tell where the particle stands. The log likelihood
of particle i for reference r turned by alpha,

    log L(i | r, alpha) = sum_k w_k Re[e^{i k alpha} <h_i y_i, x_r>_k / s^2] - 1/2 sum_k w_k |h_i x_r|_k^2 / s^2,

w_0 = 1, w_k = 2, has the bilinear form of the search; its last term joins k = 0 with a few numbers per class of CTF.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from ..errors import InputError
from ..records import BoolArray, Coefficients, FloatArray, NeighborTable, SteerableCoefficients
from .template_features import balance, factor_penalty
from .wiener import Observation

EQUATIONS = 12.0  # that each reference's matches count for, against one that its shift is 0
REWEIGHTINGS = 4


@dataclass(frozen=True)
class ReferenceFeatures:
    """Both sides of the log likelihood, as the search takes them."""

    observed: SteerableCoefficients  # (n, sum p_k)
    references: SteerableCoefficients  # (m, sum p_k)


def shift_grid(step_px: float, max_shift_px: float) -> FloatArray:
    """(t, 2): all (x, y) of a square grid through the centre, at most ``max_shift_px`` from it.

    >>> len(shift_grid(1.5, 4.5))
    29
    """
    line = step_px * np.arange(-int(max_shift_px / step_px), int(max_shift_px / step_px) + 1.0)
    places = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    return places[np.hypot(places[:, 0], places[:, 1]) <= max_shift_px * (1 + 1e-9)]


def reference_features(
    coefs: SteerableCoefficients, seen: Observation, references: Coefficients, log_prior: FloatArray
) -> ReferenceFeatures:
    """The log likelihood of every particle for every reference, plus the log prior of the reference, as features.

    Parameters
    ----------
    coefs : (n, P), as observed: signed, not phase-flipped.
    seen : from :func:`mfvdm_fast.restore.wiener.describe_observation`.
    references : (m, P), clean coefficients.
    log_prior : (m,), up to a constant: -|s|^2 / (2 std^2) of the place s at which the reference stands.

    Raises
    ------
    InputError
        When the references do not have the coefficients of the particles, or not one log prior each.

    Examples
    --------
    >>> from .wiener import describe_observation
    >>> y = SteerableCoefficients(np.array([[2], [-1]], np.complex64), np.array([0, 1]))
    >>> f = reference_features(y, describe_observation(y, 0.5), np.array([[2], [0]], np.complex64), np.zeros(2))
    >>> (f.observed.packed @ f.references.packed[:1].T).real.round(3).ravel()  # y x / s^2 - x^2 / (2 s^2)
    array([ 4., -8.], dtype=float32)
    """
    if references.ndim != 2 or references.shape[1] != coefs.packed.shape[1] or log_prior.shape != (len(references),):
        raise InputError(
            f"references and log_prior must have shapes (m, {coefs.packed.shape[1]}) and (m,), got {references.shape} "
            f"and {log_prior.shape}; expand the references in the basis of the particles"
        )
    share = seen.counts / max(seen.counts.sum(), 1)
    twice = np.where(np.arange(references.shape[1]) < coefs.offsets[1], 0.5, 1.0)
    power = np.square(references.real, dtype=np.float64) + np.square(references.imag, dtype=np.float64)
    penalty = power @ (seen.precision * twice).T  # (m, g)
    common = penalty @ share
    of_class, of_reference = factor_penalty(penalty - common[:, None], share)
    weight = (seen.transfer / seen.noise_power).astype(np.float32)
    extra = of_class.shape[1] + 1
    observed = np.empty((coefs.n_particles, coefs.packed.shape[1] + extra), np.complex64)
    for g, rows in enumerate(seen.members()):
        observed[rows, extra:] = coefs.packed[rows] * weight[g]
        observed[rows, 1:extra] = -of_class[g]
    observed[:, 0] = 1
    columns = np.concatenate([(log_prior - common)[:, None], of_reference, references], axis=1).astype(np.complex64)
    balance(observed, columns)
    offsets = coefs.offsets + extra
    offsets[0] = 0
    return ReferenceFeatures(
        SteerableCoefficients(observed, offsets),
        SteerableCoefficients(columns, offsets),
    )


def turns(mirrored: BoolArray, angles: FloatArray) -> FloatArray:
    """Matrices (..., 2, 2) that turn (x, y) by ``angles`` from +x towards +y, mirrored (y -> -y) first where flagged.

    >>> (turns(np.array(True), np.array(np.pi / 2)) @ [1.0, 2.0]).round(9).tolist()
    [2.0, 1.0]
    """
    cosine, sine, sign = np.cos(angles), np.sin(angles), np.where(mirrored, -1.0, 1.0)
    return np.stack([np.stack([cosine, -sine * sign], -1), np.stack([sine, cosine * sign], -1)], -2)


def synchronize_shifts(table: NeighborTable, places: FloatArray) -> FloatArray:
    """(r, 2): where each of r references stands, from pairs of them that match when one is moved.

    Column ``p r + j`` of ``table`` (r rows) stands for reference j at ``places[p]``. With M the turn of a match,
    s_i = M (s_j + place) in a least squares sense, every match counting less the farther it is off, and sum |s|^2
    small: particles are off their centres at random, so that a shift that many views agree on, which pairs of
    neighbours do not see, is none.

    A reference without any match but itself is left where it is.

    >>> zero, plain = np.zeros((2, 1)), np.zeros((2, 1), bool)
    >>> table = NeighborTable(np.array([[3], [0]]), plain, zero, zero)
    >>> synchronize_shifts(table, np.array([[0.0, 0.0], [1.0, 0.0]])).round(1).tolist()
    [[0.2, 0.0], [-0.2, 0.0]]
    """
    n = table.n_particles
    i = np.repeat(np.arange(n), table.n_neighbors)
    index = table.indices.ravel()
    j, place = index % n, index // n
    others = np.flatnonzero(i != j)
    i, j = i[others], j[others]
    turn = turns(table.mirrored.ravel()[others], table.angles.ravel()[others])
    there = np.einsum("eab,eb->ea", turn, places[place[others]])
    row, size = np.arange(2 * len(i)), (2 * len(i), 2 * n)
    own, other = (2 * i[:, None] + [0, 1]).ravel(), np.repeat(2 * j[:, None] + [0, 1], 2, axis=0).ravel()
    values = np.concatenate([np.ones(len(row)), -turn.ravel()])
    places_of = (np.concatenate([row, np.repeat(row, 2)]), np.concatenate([own, other]))
    equations = scipy.sparse.coo_array((values, places_of), shape=size).tocsr()
    weight = np.full(len(i), EQUATIONS * n / max(len(i), 1))
    shifts, trust = np.zeros((n, 2)), np.ones(len(i))
    for _ in range(REWEIGHTINGS):
        scaled = equations.T @ scipy.sparse.diags_array(np.repeat(weight * trust, 2))
        normal = (scaled @ equations + scipy.sparse.identity(2 * n)).tocsc()
        shifts = scipy.sparse.linalg.spsolve(normal, scaled @ there.ravel()).reshape(n, 2)
        residual = (equations @ shifts.ravel()).reshape(-1, 2) - there
        scale = (np.median(np.hypot(*residual.T)) if len(i) else 0.0) + 1e-12
        trust = 1 / (1 + (residual**2).sum(axis=1) / scale**2)
    return shifts
