"""Amplitudes of a signal in the eigenvectors of the graph, and their prior, from the data (empirical Bayes)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from ..errors import InputError
from ..records import FloatArray, IndexArray

Real = NDArray[np.float32]

EM_STEPS = 5
TRUST = 0.9  # in correlations that are those of all eigenvectors together
MAX_ITERATIONS, TOLERANCE = 20, 1e-3  # of the linear system; the prior is not known to a thousandth
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


def fit_amplitudes(
    projected: FloatArray, grams: FloatArray, precision: FloatArray, copies: int, covariance: FloatArray
) -> GraphFit:
    """z and its prior by EM: posterior mean of all amplitudes together, (Lambda^-1 + P) z = Phi^T w.

    P couples the eigenvectors at each radial function, P_q = sum_g precision_gq G_g; the prior Lambda couples the
    radial functions at each eigenvector: variances per band and radial function from the data, correlations those of
    ``covariance``. The correlations are what tells the particle from the empty disc around it. EM takes the posterior
    variance from the diagonal of P, averaged over a band: the columns of Phi are nearly orthogonal within each class.

    Parameters
    ----------
    projected : (m, p), Phi^T w of the matched coefficients w.
    grams : (g, m, m), from :func:`class_grams`.
    precision : (g, p), h^2 / noise power.
    copies : 2 in the real form (Re; Im), 1 for k = 0.
    covariance : (p, p) of the clean coefficients, from :func:`~mfvdm_fast.restore.wiener.estimate_covariance`.

    Raises
    ------
    InputError
        When the Gram matrices have a negative diagonal.

    Examples
    --------
    >>> fit = fit_amplitudes(np.array([[40.0, 1.0]]), np.array([[[10.0]]]), np.ones((1, 2)), 1, np.eye(2))
    >>> fit.amplitude.round(2).tolist()
    [[3.98, 0.0]]
    """
    m, p = projected.shape
    band = np.minimum(np.arange(m) // BAND, max(0, m // BAND - 1))
    information = (precision.T.astype(np.float32) @ grams.reshape(len(grams), -1).astype(np.float32)).reshape(p, m, m)
    diagonal = band_means(np.einsum("qll->lq", information).astype(np.float64), band)
    if diagonal.min(initial=0) < 0:
        raise InputError("a Gram matrix of the eigenbasis has a negative diagonal: check the eigenvectors")
    count = np.bincount(band)[:, None]
    scale = (diagonal * count).sum(axis=0) / m
    scale = np.maximum(scale, 1e-12 * scale.max() or 1.0)  # where the CTF vanishes there is nothing to learn
    start = copies * (projected**2).mean(axis=0) / scale**2 - 1 / scale
    prior = np.tile(np.maximum(start, 1e-3 / scale), (len(diagonal), 1))
    correlation = prior_correlation(covariance)
    blocks, log_determinants = posterior_blocks(prior, correlation, diagonal)
    amplitude = solve_amplitudes(projected, information, diagonal, blocks, band)
    for _ in range(EM_STEPS - 1):
        moments = copies * band_means(amplitude**2, band) + np.einsum("bqq->bq", blocks)
        prior = falling_prior(moments, count[:, 0])
        blocks, log_determinants = posterior_blocks(prior, correlation, diagonal)
        amplitude = solve_amplitudes(projected, information, diagonal, blocks, band)
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


def posterior_blocks(prior: FloatArray, correlation: FloatArray, diagonal: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(Lambda_b^-1 + diag P_b)^-1 of each band, (b, p, p), and log det(1 + Lambda_b diag P_b), (b,).

    >>> blocks, value = posterior_blocks(np.array([[3.0]]), np.eye(1), np.array([[1.0]]))
    >>> float(blocks[0, 0, 0]), (value / np.log(2)).round(6).tolist()
    (0.75, [2.0])
    """
    deviation, root = np.sqrt(prior), np.sqrt(diagonal)
    full = deviation[:, :, None] * correlation * deviation[:, None, :]
    half = root[:, :, None] * full
    inner = half * root[:, None, :]
    inner[:, np.arange(prior.shape[1]), np.arange(prior.shape[1])] += 1
    log_determinants = np.linalg.slogdet(inner)[1]
    return full - half.transpose(0, 2, 1) @ np.linalg.solve(inner, half), log_determinants


def solve_amplitudes(
    projected: FloatArray, information: Real, diagonal: FloatArray, blocks: FloatArray, band: IndexArray
) -> FloatArray:
    """z (m, p) with (Lambda^-1 + P) z = ``projected``, by conjugate gradients preconditioned with the bands' blocks.

    In v = C^-1 z, with C = (Lambda^-1 + D)^-1 the blocks and D the ``diagonal`` of each band, the system is
    v + (P - D) C v = projected: self-adjoint in the inner product <a, C b>, and close to the identity.

    >>> band = np.array([0])
    >>> solve_amplitudes(np.array([[8.0]]), np.ones((1, 1, 1), np.float32), np.ones((1, 1)), np.array([[[0.75]]]), band)
    array([[6.]])
    """
    spread, edges = diagonal[band], np.flatnonzero(np.diff(band)) + 1

    def precondition(v: FloatArray) -> FloatArray:
        return np.concatenate([rows @ block for rows, block in zip(np.split(v, edges), blocks, strict=True)])

    z, residual = np.zeros_like(projected), projected
    conditioned = precondition(residual)
    direction, image = residual, conditioned  # of v, and of z
    first = energy = float(np.einsum("lq,lq->", residual, conditioned))
    for _ in range(MAX_ITERATIONS):
        if energy <= TOLERANCE**2 * first:
            break
        product = direction + (information @ image.T.astype(np.float32)[:, :, None])[:, :, 0].T - spread * image
        step = energy / float(np.einsum("lq,lq->", image, product))
        z = z + step * image
        residual = residual - step * product
        conditioned = precondition(residual)
        before, energy = energy, float(np.einsum("lq,lq->", residual, conditioned))
        direction, image = residual + energy / before * direction, conditioned + energy / before * image
    return z


def falling_prior(moments: FloatArray, count: IndexArray) -> FloatArray:
    """Prior variance of each band from its second moments (b, p): never rising, ``count`` eigenvectors in each band.

    >>> falling_prior(np.array([[4.0, 2.0], [1.0, 3.0]]), np.array([20, 20])).round(3).tolist()
    [[4.0, 2.5], [1.0, 2.5]]
    """
    weights = count.astype(np.float64)
    falling = [isotonic_regression(column, weights=weights, increasing=False).x for column in moments.T]
    return np.maximum(np.stack(falling, axis=1), np.finfo(np.float64).tiny)
