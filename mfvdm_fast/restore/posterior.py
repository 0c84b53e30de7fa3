"""Posterior mean over the matches of a particle: its restoration is averaged with those of what it may be.

Where the noise leaves the view of a particle open, its restoration follows the matches that came out best, as if they
were certain. The estimate of least squared error is the mean over all that the image may be, by its likelihood,

    x_i <- a_i (x_i + d_i m_i) + (1 - a_i) c_i [(1 - b_i) m_i + b_i sum_j w_ij R_ij m_j],

    m_i = sum_j w_ij R_ij x_j,    w_ij ~ exp(log L(i | j, alpha_ij) / T),

R_ij the turn and mirror of the match. T allows for templates that are not exact. What else there is to settle, the
images tell (:func:`settle_shares`):

- a_i, the share of the particle's own restoration, which holds what its image says of detail. It counts for OWN of the
  matches that have weight, OWN / (OWN + 1 / sum_j w_ij^2), and for more where it differs from the mean by more than
  noise can make up: with few particles, or little noise, the matches are of other views.
- b_i, which is above 0 where the matches that have weight are most of the list: views that are not in it are as likely,
  and the means of the matches reach them.
- c_i, the contrast of the image over that of the mean, and d_i, what its own restoration lacks of it: restored with
  others, it has part of theirs. The spread of contrasts is that of the fitted ones less what the noise adds, so that
  where all are even they are left so. They are fitted to the mean over the matches, not to the particle's own template:
  whose errors, of views a little off, pass for a spread of contrasts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..kernels.averages import turned_means
from ..records import Coefficients, FloatArray, IndexArray, NeighborTable, SteerableCoefficients
from ..threads import map_in_order, use_threads
from .wiener import BLOCK, Observation, Real

TEMPERATURE = 2.0  # log likelihoods are divided by it: 1.5 to 3 are as good
OWN = 3.0  # matches that the particle's own restoration counts for: 2 to 4 are as good
NOISE = 40.0  # |h (x_i - c_i m_i)|^2 / s^2 that the noise in both may make up: 24 to 64 are as good
WIDE = (0.5, 0.75)  # parts of the list that have weight: b_i rises from 0 to 1 between them
LEAST_WEIGHT = 1e-3  # matches with less are left out
TINY = float(np.finfo(np.float64).tiny)


def posterior_weights(scores: FloatArray) -> FloatArray:
    """(n, K), of sum 1: how likely each match is, by log likelihoods (n, K); 0 for what does not count.

    >>> posterior_weights(np.array([[5.0, 5.0, -30.0]])).tolist()
    [[0.5, 0.5, 0.0]]
    """
    weights = np.exp((scores - scores.max(axis=1, keepdims=True)) / TEMPERATURE)
    weights /= weights.sum(axis=1, keepdims=True)
    weights[weights < LEAST_WEIGHT] = 0
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class Matches:
    """The matches of n particles that have weight, one particle after the other. Make it with :func:`weigh_matches`."""

    starts: IndexArray  # (n + 1,), of the matches of each particle
    others: IndexArray  # (e,): j, or n + j for the mirror of j
    angles: FloatArray  # (e,) rad
    weights: Real  # (e,)
    count: FloatArray  # (n,): 1 / sum_j w_ij^2, how many of them have weight
    width: int  # K, how many there were to choose from

    def mean(self, x: Coefficients, k: int, rows: IndexArray | None = None, threads: int = 1) -> Coefficients:
        """sum_j w_ij R_ij x_j (r, p) complex64 of angular frequency k, for the particles ``rows`` (r,), or all n.

        >>> zero = np.zeros((2, 1))
        >>> table = NeighborTable(np.array([[1], [0]]), zero.astype(bool), zero + np.pi / 2, zero)
        >>> mean = weigh_matches(table).mean(np.array([[2], [4j]], np.complex64), 1)
        >>> bool(np.allclose(mean, [[4], [-2j]]))
        True
        """
        rows = np.arange(len(self.starts) - 1) if rows is None else rows
        parts, out = np.concatenate([x.real, x.imag], axis=1), np.empty((len(rows), x.shape[1]), np.complex64)

        def average(first: int) -> None:
            some = rows[first : first + BLOCK]
            edges = self.starts[some], self.starts[some + 1]
            found = np.empty((len(some), parts.shape[1]), np.float32)
            turned_means(parts, float(k), self.angles, self.weights, self.others, *edges, found)
            out.real[first : first + BLOCK], out.imag[first : first + BLOCK] = np.split(found, 2, axis=1)

        map_in_order(average, range(0, len(out), BLOCK), threads)
        return out


def weigh_matches(table: NeighborTable) -> Matches:
    """The matches of ``table`` (n, K), with log likelihoods in ``scores``, that have weight. Memory: 60 n K bytes."""
    weights = posterior_weights(table.scores)
    kept = weights > 0
    return Matches(
        starts=np.append(0, np.cumsum(kept.sum(axis=1))),
        others=(table.indices + table.n_particles * table.mirrored)[kept],
        angles=table.angles[kept],
        weights=weights[kept].astype(np.float32),
        count=np.asarray(1 / np.square(weights).sum(axis=1)),
        width=weights.shape[1],
    )


def compare_with_mean(
    y: Coefficients, x: Coefficients, mean: Coefficients, seen: Observation, k: int, threads: int = 1
) -> FloatArray:
    """<y, h m>, <h m, h m>, <h x, h m> and <h x, h x> over s^2, (n, 4) float64, of one angular frequency.

    ``y``, ``x`` and ``mean`` (n, p): as observed, restored, and means of matches; ``seen`` of these p coefficients.

    >>> seen = Observation(np.array([[2.0]]), np.zeros(1, np.int64), np.array([4.0]))
    >>> compare_with_mean(*(np.full((1, 1), value + 0j) for value in (8, 3, 2)), seen, 0).tolist()
    [[8.0, 4.0, 6.0, 9.0]]
    """
    out = np.empty((len(y), 4))
    power = (1.0 if k == 0 else 2.0) / seen.noise_power
    transfer = seen.transfer.astype(np.float32)

    def compare(start: int) -> None:
        rows = slice(start, start + BLOCK)
        h = transfer[seen.group[rows]]
        a, b, m = y[rows], h * x[rows], h * mean[rows]
        for place, (one, other) in enumerate(((a, m), (m, m), (b, m), (b, b))):
            out[rows, place] = (one.real * other.real + one.imag * other.imag) @ power

    map_in_order(compare, range(0, len(y), BLOCK), threads)
    return out


def _believed(values: FloatArray, noise: FloatArray) -> FloatArray:
    """Values (n,) less their median, shrunk: normal, with the spread (by MAD) that the variance ``noise`` (n,) leaves.

    >>> _believed(np.array([-4.0, -2.0, 0.0, 2.0, 4.0]), np.full(5, 4.4)).round(1).tolist()
    [-2.0, -1.0, 0.0, 1.0, 2.0]
    """
    deviation = values - np.median(values)
    variance = max(0.0, (1.4826 * float(np.median(np.abs(deviation)))) ** 2 - float(np.median(noise)))
    return np.asarray(deviation * (variance / (variance + noise)))


def settle_shares(
    matches: Matches, energies: FloatArray | None = None, here: float | FloatArray = 1.0
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """What x_i, m_i and the mean of the m_j count for, three times (n,): see the first lines of the module.

    Parameters
    ----------
    matches : of n particles.
    energies : (n, 4), the sum over angular frequencies of :func:`compare_with_mean`. Without them contrasts are even,
        and matches are of the same view.
    here : (n,) how likely each particle stands where its image was moved, which its restoration and ``energies`` say.

    Examples
    --------
    >>> zero = np.zeros((2, 1))
    >>> matches = weigh_matches(NeighborTable(np.array([[1], [0]]), zero.astype(bool), zero, zero))
    >>> [share.tolist() for share in settle_shares(matches)]
    [[0.75, 0.75], [0.0, 0.0], [0.25, 0.25]]
    >>> settle_shares(matches, np.array([[1e3, 1e3, 1e3, 1010.0], [1e3, 1e3, 1e3, 1400.0]]))[0].tolist()  # 1 - 40 / 400
    [0.75, 0.9]
    """
    low, high = WIDE
    wide = np.clip((matches.count / matches.width - low) / (high - low), 0, 1)
    own = OWN * here
    share = own / (own + matches.count)
    contrast, lacking = np.ones(len(share)), np.zeros(len(share))
    if energies is not None:
        with_mean, of_mean, restored_with_mean, of_restored = energies.T
        noise = 1 / np.maximum(of_mean, TINY)
        fitted = with_mean * noise
        # Matches were chosen by the noise as well, which makes the fit larger; those of other views make it smaller.
        middle = float(np.median(fitted))
        found = np.maximum(0, min(middle, 1.0) + _believed(fitted, noise) / max(middle, 1.0))
        contrast = 1 + here * (found - 1)
        lacking = here * _believed(fitted / max(middle, 1.0) - restored_with_mean * noise, noise)
        apart = lacking - contrast
        distance = of_restored + 2 * apart * restored_with_mean + apart**2 * of_mean
        share = np.maximum(share, here * (1 - NOISE / np.maximum(distance, NOISE)))
    others = (1 - share) * contrast
    return share, share * lacking + others * (1 - wide), others * wide


def average_matches(
    coefs: SteerableCoefficients,
    matches: Matches,
    energies: FloatArray | None = None,
    *,
    here: float | FloatArray = 1.0,
    out: Coefficients | None = None,
    threads: int | None = None,
) -> Coefficients:
    """Restorations of all particles, averaged with those of their matches: (n, P) complex64.

    Parameters
    ----------
    coefs : (n, P), restored.
    matches : of each particle, from :func:`weigh_matches`.
    energies, here : as in :func:`settle_shares`.
    out : where the result goes; may be ``coefs.packed``.
    threads : the result does not depend on it.

    Memory: for each thread 40 n per coefficient of one angular frequency.

    Raises InputError when the matches are of other particles.

    Examples
    --------
    >>> x = SteerableCoefficients(np.array([[4], [0], [8]], np.complex64), np.array([0, 1]))
    >>> zero = np.zeros((3, 4))
    >>> zero[:, 2:] = -99  # no matches
    >>> table = NeighborTable(np.array([[1, 2, 0, 0], [0, 2, 0, 0], [0, 1, 0, 0]]), zero > 0, zero, zero)
    >>> average = average_matches(x, weigh_matches(table))
    >>> (average.real.ravel() * 5).round().astype(int).tolist()  # 5 x (3 x_i + 2 (x_j + x_k) / 2) / 5
    [20, 12, 28]
    """
    n = coefs.n_particles
    if len(matches.count) != n:
        raise InputError(f"{n} particles got matches of {len(matches.count)}: match these particles")
    out = np.empty(coefs.packed.shape, np.complex64) if out is None else out
    own, first, second = (s.astype(np.float32)[:, None] for s in settle_shares(matches, energies, here))
    wide = np.flatnonzero(second)

    def average(k: int) -> None:
        x = coefs[k]
        mean = matches.mean(x, k)
        total = own * x + first * mean
        if wide.size:
            total[wide] += second[wide] * matches.mean(mean, k, wide)
        out[:, coefs.offsets[k] : coefs.offsets[k + 1]] = total

    with use_threads(threads) as count:
        map_in_order(average, range(coefs.k_max + 1), count)
    return out
