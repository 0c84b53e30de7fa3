"""Where particles stand, a little off the templates that they were matched with: log L to second order in the move.

Template x_j moved by s is x_j - s . grad x_j to first order, so that

    log L(i | j, alpha, s) = log L(i | j, alpha) + s . g - 1/2 s . H s,
    g = -sum_k w_k Re[e^{ik alpha} <h_i y_i, grad x_j>_k / s^2],  H = sum_k w_k Re <h_i grad x_j, h_i grad x_j>_k / s^2.

With a Gaussian prior of variance t^2 per coordinate the move is (H + 1/t^2)^{-1} g, and the integral over moves adds
1/2 g . (H + 1/t^2)^{-1} g - 1/2 log det(t^2 H + 1) to log L. Good for moves below a quarter of the finest wavelength.
"""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from ..kernels.pairs import pack_lanes
from ..kernels.peaks import values_of_lanes
from ..records import Coefficients, FloatArray, NeighborTable, SteerableCoefficients
from ..threads import use_threads
from .shifted_references import turns
from .wiener import Observation


def mean_places(
    coefs: SteerableCoefficients,
    seen: Observation,
    templates: tuple[Coefficients, Coefficients],
    table: NeighborTable,
    std_px: float,
    *,
    threads: int | None = None,
) -> FloatArray:
    """(r, 2): (x, y) at which each particle stands, mean over its matches of ``table`` by their likelihood.

    Parameters
    ----------
    coefs : (r, P), as observed: signed, not phase-flipped.
    seen : from :func:`mfvdm_fast.restore.wiener.describe_observation`.
    templates : gradients (n, P) along x and y of the templates, in pixels.
    table : (r, K) templates of each particle, with angles, and log L in ``scores``.
    std_px : t, how far off a particle is expected to stand, in each coordinate.
    threads : the result does not depend on it.

    Memory: 24 (r + n) bytes per coefficient, and 150 r K.

    Raises InputError when gradients do not have the coefficients of the particles.

    >>> import numpy as np
    >>> from .wiener import describe_observation
    >>> y = SteerableCoefficients(np.array([[3 + 0.3j, 0.6]], np.complex64), np.array([0, 1, 2]))
    >>> slopes = np.array([[0, -1]], np.complex64), np.array([[0, 1j]], np.complex64)  # a move along x adds to k = 1
    >>> table = NeighborTable(np.zeros((1, 1), int), np.zeros((1, 1), bool), np.zeros((1, 1)), np.zeros((1, 1)))
    >>> mean_places(y, describe_observation(y, 1e-3), slopes, table, 1.0).round(2).tolist()
    [[0.6, 0.0]]
    """
    if any(part.shape != (len(templates[0]), coefs.packed.shape[1]) for part in templates):
        raise InputError(
            f"gradients must have shape (n, {coefs.packed.shape[1]}), got {templates[0].shape} and "
            f"{templates[1].shape}; take them in the basis of the particles"
        )
    slope = -_slopes(coefs, seen, templates, table, threads)
    curvature = _curvatures(seen, templates, table, int(coefs.offsets[1])) + np.eye(2) / std_px**2
    moves = np.linalg.solve(curvature, slope[..., None])[..., 0]
    gain = 0.5 * (slope * moves).sum(axis=-1) - 0.5 * np.log(np.linalg.det(curvature))
    score = table.scores + gain
    weight = np.exp(score - score.max(axis=1, keepdims=True))
    places = np.einsum("nkab,nkb->nka", turns(table.mirrored, table.angles), moves)
    mean: FloatArray = np.einsum("nk,nka->na", weight / weight.sum(axis=1, keepdims=True), places)
    return mean


def _slopes(
    coefs: SteerableCoefficients,
    seen: Observation,
    templates: tuple[Coefficients, Coefficients],
    table: NeighborTable,
    threads: int | None,
) -> FloatArray:
    """(r, K, 2): the sum over k of the pairs with each of the two gradients."""
    matched = coefs.packed * (seen.transfer / seen.noise_power).astype(np.float32)[seen.group]
    sums = []
    with use_threads(threads):
        for part in templates:
            lanes = pack_lanes([(matched, None), (part, None)], coefs.offsets)
            rows = table.indices + len(matched)
            sums.append(values_of_lanes(lanes, coefs.k_max, rows, table.mirrored, table.angles))
    return np.stack(sums, axis=-1)


def _curvatures(
    seen: Observation, templates: tuple[Coefficients, Coefficients], table: NeighborTable, n_real: int
) -> FloatArray:
    """(r, K, 2, 2): H of each pair."""
    x, y = templates
    weight = (seen.precision * np.where(np.arange(x.shape[1]) < n_real, 1.0, 2.0)).T.astype(np.float32)
    pairs = table.indices, seen.group[:, None]
    xx, yy = (((part.real**2 + part.imag**2) @ weight)[pairs] for part in (x, y))
    xy = ((x.real * y.real + x.imag * y.imag) @ weight)[pairs]
    return np.stack([np.stack([xx, xy], -1), np.stack([xy, yy], -1)], -2).astype(np.float64)
