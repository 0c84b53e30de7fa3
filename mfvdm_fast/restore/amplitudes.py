"""Amplitudes of a signal in the eigenvectors of the graph, and their prior, from the data (empirical Bayes)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..kernels.amplitudes import falling_prior, posterior_blocks, solve_amplitudes
from ..records import FloatArray, IndexArray
from .wiener import Real

EM_STEPS = 5
TRUST = 0.9  # in correlations that are those of all eigenvectors together
MAX_ITERATIONS, TOLERANCE = 20, 1e-3  # of the linear system; the prior is not known to a thousandth
ROUGHER = 10.0  # times the tolerance do amplitudes have that nothing but the next prior follows from
ROUNDING = 1e-5  # of single precision, in sums over all particles
BAND = 20  # eigenvectors that share one prior variance


@dataclass(frozen=True)
class GraphFit:
    """The coefficients of one angular frequency in the eigenbasis of the graph."""

    amplitude: FloatArray  # (m, p): z, posterior mean
    prior: FloatArray  # (m, p), prior variance of z, twice over for k >= 1 (of a complex number)
    correlation: FloatArray  # (p, p), prior correlation of the radial functions
    band_evidence: FloatArray  # (b,), log evidence of each band against no signal in it, for orthogonal columns

    @property
    def evidence(self) -> float:
        """Log evidence against no signal at all."""
        return float(self.band_evidence.sum())

    def worth_having(self, least: float) -> int:
        """How many eigenvectors there are up to the last band of more evidence than ``least``."""
        bands = 1 + int(np.flatnonzero(self.band_evidence > least).max(initial=-1))
        return BAND * bands if bands < len(self.band_evidence) else len(self.amplitude)


def fit_amplitudes(projected: FloatArray, information: Real, copies: int, covariance: FloatArray) -> GraphFit:
    """z and its prior by EM: posterior mean of all amplitudes together, (Lambda^-1 + P) z = Phi^T w.

    P couples the eigenvectors at each radial function, P_q = sum_g precision_gq Phi_g^T Phi_g; the prior Lambda couples
    the radial functions at each eigenvector: variances per band and radial function from the data, correlations those
    of ``covariance``. The correlations are what tells the particle from the empty disc around it. EM takes the
    posterior variance from the diagonal of P, averaged over a band: the columns of Phi are nearly orthogonal within
    each class.

    Parameters
    ----------
    projected : (m, p), Phi^T w of the matched coefficients w.
    information : (p, m, m), P, C-contiguous; rows and columns beyond m, if there are any, have no meaning.
    copies : 2 in the real form (Re; Im), 1 for k = 0.
    covariance : (p, p) of the clean coefficients, from :func:`~mfvdm_fast.restore.wiener.estimate_covariance`.

    Raises
    ------
    InputError
        When the Gram matrices have a negative diagonal.

    Examples
    --------
    >>> fit = fit_amplitudes(np.array([[40.0, 1.0]]), np.full((2, 1, 1), 10, np.float32), 1, np.eye(2))
    >>> fit.amplitude.round(1).tolist()
    [[4.0, 0.0]]
    """
    m, p = projected.shape
    band = np.minimum(np.arange(m) // BAND, max(0, m // BAND - 1))
    diagonal = band_means(np.einsum("qll->lq", information[:, :m, :m]).astype(np.float64), band)
    # What is left where all others have no say is the rounding error of a difference: 0.
    if diagonal.min(initial=0) < -ROUNDING * np.abs(diagonal).max(initial=0):
        raise InputError("a Gram matrix of the eigenbasis has a negative diagonal: check the eigenvectors")
    diagonal = np.maximum(diagonal, 0)
    count = np.bincount(band)[:, None]
    scale = (diagonal * count).sum(axis=0) / m
    scale = np.maximum(scale, 1e-12 * scale.max() or 1.0)  # where the CTF vanishes there is nothing to learn
    start = copies * (projected**2).mean(axis=0) / scale**2 - 1 / scale
    prior = np.tile(np.maximum(start, 1e-3 / scale), (len(diagonal), 1))
    correlation, bounds = prior_correlation(covariance), np.append(np.flatnonzero(np.diff(band, prepend=-1)), m)
    amplitude, blocks, log_determinants = np.zeros((m, p)), np.empty((*prior.shape, p)), np.empty(len(prior))
    for step in range(EM_STEPS):
        if step:
            known = np.einsum("bqq->bq", blocks)
            falling_prior(copies * np.add.reduceat(amplitude**2, bounds[:-1]) / count + known, bounds, prior)
        posterior_blocks(prior, correlation, diagonal, blocks, log_determinants)
        enough = TOLERANCE if step == EM_STEPS - 1 else ROUGHER * TOLERANCE
        amplitude = solve_amplitudes(projected, information, diagonal, blocks, bounds, enough, MAX_ITERATIONS)
    explained = np.bincount(band, np.einsum("lq,lq->l", projected, amplitude))
    evidence = 0.5 * (copies * explained - log_determinants * count[:, 0])
    return GraphFit(amplitude, prior[band], correlation, evidence)


def band_means(values: FloatArray, band: IndexArray) -> FloatArray:
    """Means (b, p) over the rows of each band of ``values`` (m, p).

    >>> band_means(np.array([[1.0], [3.0], [5.0]]), np.array([0, 0, 1])).tolist()
    [[2.0], [5.0]]
    """
    return np.add.reduceat(values, np.flatnonzero(np.diff(band, prepend=-1))) / np.bincount(band)[:, None]


def prior_correlation(covariance: FloatArray) -> FloatArray:
    """Correlations (p, p) of ``covariance``, those off the diagonal taken a tenth smaller; none where it is 0.

    >>> prior_correlation(np.array([[4.0, 1.0], [1.0, 1.0]])).round(3).tolist()
    [[1.0, 0.45], [0.45, 1.0]]
    """
    deviation = np.sqrt(np.maximum(np.diagonal(covariance), 0))
    inverse = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    correlation = TRUST * covariance * np.outer(inverse, inverse)
    np.fill_diagonal(correlation, 1)
    return correlation
