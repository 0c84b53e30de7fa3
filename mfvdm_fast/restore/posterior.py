"""Posterior mean over the matches of a particle: its restoration is averaged with those of what it may be.

Where the noise leaves the view of a particle open, its restoration follows the matches that came out best, as if they
were certain. The estimate of least squared error is the mean over all that the image may be, by its likelihood,

    x_i <- (1 - a_i) c_i sum_j w_ij R_ij x_j + a_i x_i,    w_ij ~ exp(log L(i | j, alpha_ij) / T),

R_ij the turn and mirror of the match, c_i the contrast of the image. T allows for templates that are not exact. The
particle's own restoration holds what its image says of detail; it counts for OWN of the matches that have weight,
OWN / (OWN + 1 / sum_j w_ij^2), and for all where its own template is much likelier than those of all others: with few
particles, or little noise, none of them is of the same view.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array

from ..errors import InputError
from ..records import Coefficients, FloatArray, NeighborTable, SteerableCoefficients
from ..threads import map_in_order, use_threads

TEMPERATURE = 2.0  # log likelihoods are divided by it: 1.5 to 3 are as good
OWN = 3.0  # matches that the particle's own restoration counts for: 2 to 4 are as good
DOUBT = 8.0  # log likelihood by which a particle's own template, which noise may favour, must be better than all others
LEAST_WEIGHT = 1e-3  # matches with less are left out


def posterior_weights(scores: FloatArray) -> FloatArray:
    """(n, K), of sum 1: how likely each match is, by log likelihoods (n, K); 0 for what does not count.

    >>> posterior_weights(np.array([[5.0, 5.0, -30.0]])).tolist()
    [[0.5, 0.5, 0.0]]
    """
    weights = np.exp((scores - scores.max(axis=1, keepdims=True)) / TEMPERATURE)
    weights /= weights.sum(axis=1, keepdims=True)
    weights[weights < LEAST_WEIGHT] = 0
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def average_matches(
    coefs: SteerableCoefficients,
    table: NeighborTable,
    own: ArrayLike = OWN,
    *,
    lead: ArrayLike = -np.inf,
    contrast: ArrayLike = 1.0,
    out: Coefficients | None = None,
    threads: int | None = None,
) -> Coefficients:
    """Restorations of all particles, averaged with those of their matches: (n, P) complex64.

    Parameters
    ----------
    coefs : (n, P), restored.
    table : K matches of each particle, with log likelihoods in ``scores``.
    own : a number, or (n,), of the matches that each particle's own restoration counts for.
    lead : log likelihood (n,) of each image with its own template, less that with the best of the others.
    contrast : (n,) of the images; 1 is that of their matches.
    out : where the result goes; may be ``coefs.packed``.
    threads : the result does not depend on it.

    Memory: 60 n K bytes, and for each thread 30 n K and 32 n per coefficient of one angular frequency.

    Raises InputError when the table is of other particles.

    Examples
    --------
    >>> x = SteerableCoefficients(np.array([[4], [0], [8]], np.complex64), np.array([0, 1]))
    >>> zero = np.zeros((3, 2))
    >>> table = NeighborTable(np.array([[1, 2], [0, 2], [0, 1]]), zero.astype(bool), zero, zero)
    >>> (average_matches(x, table).real.ravel() * 5).astype(int).tolist()  # 5 x (3 x_i + 2 (x_j + x_k) / 2) / 5
    [20, 12, 28]
    """
    n = coefs.n_particles
    if table.n_particles != n:
        raise InputError(f"{n} particles got matches of {table.n_particles}: match these particles")
    out = np.empty(coefs.packed.shape, np.complex64) if out is None else out
    weights = posterior_weights(table.scores)
    share = own / (own + 1 / np.square(weights).sum(axis=1))
    with np.errstate(over="ignore"):  # weights are relative to the best match's
        alone = 1 / (1 + np.exp((DOUBT - np.asarray(lead)) / TEMPERATURE) / weights.max(axis=1))
    share = share + (1 - share) * alone
    kept = weights > 0
    values = (weights * ((1 - share) * contrast)[:, None])[kept].astype(np.float32)
    others, angles = (table.indices + n * table.mirrored)[kept], table.angles[kept]  # after all particles their mirrors
    starts, share = np.append(0, np.cumsum(kept.sum(axis=1))), share.astype(np.float32)[:, None]

    def average(k: int) -> None:
        x = coefs[k]
        turn = np.remainder(k * angles, 2 * np.pi).astype(np.float32)
        turned = values * np.cos(turn) - 1j * (values * np.sin(turn))
        mean = csr_array((turned, others, starts), shape=(n, 2 * n)) @ np.concatenate([x, x.conj()])
        out[:, coefs.offsets[k] : coefs.offsets[k + 1]] = mean + share * x

    with use_threads(threads) as count:
        map_in_order(average, range(coefs.k_max + 1), count)
    return out
