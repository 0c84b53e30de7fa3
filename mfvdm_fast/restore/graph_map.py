"""Restoration by maximum a posteriori in the eigenbasis of the neighbour graph, CTF and noise solved for directly.

Algorithm 2 of arXiv:1904.07772 filters phase-flipped coefficients by h(lambda) and divides by a filtered |CTF|. Here
the clean coefficients are x = Phi z, Phi = D^{-1/2} U with columns of unit mean square, and z is Gaussian with a
variance per band of eigenvectors and radial function that the data decide (empirical Bayes): no filter and no division.
What the graph does not hold is left to the Wiener filter of the residual.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from ..errors import InputError
from ..records import Coefficients, Eigenbasis, FloatArray, SteerableCoefficients
from ..threads import resolve_threads, use_threads
from .wiener import (
    Observation,
    apply_wiener,
    estimate_covariance,
    estimate_mean,
    match,
    sum_products,
    to_complex,
)

Real = NDArray[np.float32]
SolveBasis = Callable[[int], Eigenbasis]
log = logging.getLogger(__name__)

EM_STEPS = 6
TRUST = 0.9  # in correlations that are those of all eigenvectors together
MAX_ITERATIONS, TOLERANCE = 20, 1e-3  # of the linear system; the prior is not known to a thousandth
BAND = 20  # eigenvectors that share one prior variance
SMALLEST_SHARE = 1e-4  # of all evidence so far: a frequency with less is the last that the graph is asked about


@dataclass(frozen=True)
class GraphFit:
    """The coefficients of one angular frequency in the eigenbasis of the graph."""

    amplitude: FloatArray  # (m, p): z, posterior mean
    prior: FloatArray  # (m, p), prior variance of z, twice over for k >= 1 (of a complex number)
    correlation: FloatArray  # (p, p), prior correlation of the radial functions
    evidence: float  # log evidence against no signal at all, for orthogonal columns


@dataclass(frozen=True)
class GraphMap:
    """Restored coefficients, and how much of the signal the graph accounts for."""

    coefs: SteerableCoefficients
    captured: float  # energy of the fits over the signal energy that the covariance of the particles shows


def scaled_eigenbasis(basis: Eigenbasis, degrees: FloatArray) -> Real:
    """Phi = D^{-1/2} U, columns of unit mean square, in the real form: (2 n, m) float32, k = 0: (n, m).

    A node without edges has a row of zeros.

    >>> basis = Eigenbasis(0, np.ones(1), np.full((2, 1), 0.5, np.complex64), np.zeros(1), 1, "converged")
    >>> (scaled_eigenbasis(basis, np.array([1.0, 0.0])) ** 2).astype(float).round(3).ravel().tolist()
    [2.0, 0.0]
    """
    inverse = np.divide(1, np.sqrt(degrees), out=np.zeros(len(degrees)), where=degrees > 0).astype(np.float32)[:, None]
    n = len(degrees)
    phi = np.empty((n if basis.k == 0 else 2 * n, basis.n_eigenvectors), np.float32)
    np.multiply(basis.vectors.real, inverse, out=phi[:n])
    if basis.k:
        np.multiply(basis.vectors.imag, inverse, out=phi[n:])
    # |x_i|^2 has unit mean over the n particles when z = 1: Re and Im together.
    square = np.einsum("ij,ij->j", phi, phi, dtype=np.float64) / len(phi)
    phi /= np.sqrt(np.maximum(square, np.finfo(np.float32).tiny)).astype(np.float32)
    return phi


def class_grams(phi: Real, seen: Observation, threads: int | None = None) -> FloatArray:
    """G_g = Phi_g^T Phi_g over the particles of each class: (g, m, m) float64. Memory: 8 g m^2 bytes."""
    n = len(seen.group)
    members = seen.members()
    grams = np.zeros((len(members), phi.shape[1], phi.shape[1]))

    def add(g: int) -> None:
        for offset in range(0, len(phi), n):
            block = phi[offset + members[g]]
            grams[g] += sum_products(block, block)

    with ThreadPoolExecutor(resolve_threads(threads)) as pool:
        list(pool.map(add, range(len(members))))
    return grams


def fit_amplitudes(
    projected: FloatArray, grams: FloatArray, precision: FloatArray, copies: int, covariance: FloatArray
) -> GraphFit:
    """z and its prior by EM: posterior mean of all amplitudes together, (Lambda^-1 + P) z = Phi^T w.

    P couples the eigenvectors at each radial function, P_q = sum_g precision_gq G_g; the prior Lambda couples the
    radial functions at each eigenvector: variances per band and radial function from the data, correlations those of
    ``covariance``. The correlations are what tells the particle from the empty disc around it. EM takes the posterior
    variance from the diagonal of P: the columns of Phi are nearly orthogonal within each class.

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
    information = (precision.T @ grams.reshape(len(grams), -1)).reshape(p, m, m)
    diagonal = np.ascontiguousarray(np.einsum("qll->lq", information))
    if diagonal.min(initial=0) < 0:
        raise InputError("a Gram matrix of the eigenbasis has a negative diagonal: check the eigenvectors")
    scale = diagonal.mean(axis=0)
    scale = np.maximum(scale, 1e-12 * scale.max() or 1.0)  # where the CTF vanishes there is nothing to learn
    start = copies * (projected**2).mean(axis=0) / scale**2 - 1 / scale
    prior = np.tile(np.maximum(start, 1e-3 / scale), (m, 1))
    correlation = prior_correlation(covariance)
    blocks, log_determinant = posterior_blocks(prior, correlation, diagonal)
    amplitude = solve_amplitudes(projected, information, blocks)
    for _ in range(EM_STEPS - 1):
        prior = pool_prior(copies * amplitude**2 + np.einsum("lqq->lq", blocks))
        blocks, log_determinant = posterior_blocks(prior, correlation, diagonal)
        amplitude = solve_amplitudes(projected, information, blocks)
    evidence = 0.5 * (copies * float(np.einsum("lq,lq->", projected, amplitude)) - log_determinant)
    return GraphFit(amplitude, prior, correlation, evidence)


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


def posterior_blocks(prior: FloatArray, correlation: FloatArray, diagonal: FloatArray) -> tuple[FloatArray, float]:
    """(Lambda_l^-1 + diag P_l)^-1 of each eigenvector, (m, p, p), and the sum of log det(1 + Lambda_l diag P_l).

    >>> blocks, value = posterior_blocks(np.array([[3.0]]), np.eye(1), np.array([[1.0]]))
    >>> float(blocks[0, 0, 0]), round(float(value / np.log(2)), 6)
    (0.75, 2.0)
    """
    deviation, root = np.sqrt(prior), np.sqrt(diagonal)
    full = deviation[:, :, None] * correlation * deviation[:, None, :]
    half = root[:, :, None] * full
    inner = half * root[:, None, :]
    inner[:, np.arange(prior.shape[1]), np.arange(prior.shape[1])] += 1
    log_determinant = float(np.linalg.slogdet(inner)[1].sum())
    return full - half.transpose(0, 2, 1) @ np.linalg.solve(inner, half), log_determinant


def solve_amplitudes(projected: FloatArray, information: FloatArray, blocks: FloatArray) -> FloatArray:
    """z with (Lambda^-1 + P) z = ``projected`` (m, p), by conjugate gradients preconditioned with the blocks.

    In v = C^-1 z, with C the blocks, the system is v + (P - diag P) C v = projected: self-adjoint in the inner product
    <a, C b>, and close to the identity.

    >>> solve_amplitudes(np.array([[8.0]]), np.array([[[1.0]]]), np.array([[[0.75]]])).tolist()
    [[6.0]]
    """
    diagonal = np.einsum("qll->lq", information)

    def precondition(v: FloatArray) -> FloatArray:
        return (blocks @ v[:, :, None])[:, :, 0]

    z, residual = np.zeros_like(projected), projected
    conditioned = precondition(residual)
    direction, image = residual, conditioned  # of v, and of z
    first = energy = float(np.einsum("lq,lq->", residual, conditioned))
    for _ in range(MAX_ITERATIONS):
        if energy <= TOLERANCE**2 * first:
            break
        product = direction + (information @ image.T[:, :, None])[:, :, 0].T - diagonal * image
        step = energy / float(np.einsum("lq,lq->", image, product))
        z = z + step * image
        residual = residual - step * product
        conditioned = precondition(residual)
        before, energy = energy, float(np.einsum("lq,lq->", residual, conditioned))
        direction, image = residual + energy / before * direction, conditioned + energy / before * image
    return z


def pool_prior(moments: FloatArray) -> FloatArray:
    """Prior variance from second moments (m, p): shared in bands of eigenvectors, never rising with l.

    >>> pool_prior(np.repeat([[4.0, 2.0], [1.0, 3.0]], 20, axis=0))[[0, 20]].round(3).tolist()
    [[4.0, 2.5], [1.0, 2.5]]
    """
    m = len(moments)
    band = np.minimum(np.arange(m) // BAND, max(0, m // BAND - 1))
    count = np.bincount(band).astype(np.float64)
    pooled = np.stack([np.bincount(band, column) / count for column in moments.T], axis=1)
    falling = [isotonic_regression(column, weights=count, increasing=False).x for column in pooled.T]
    return np.maximum(np.stack(falling, axis=1), np.finfo(np.float64).tiny)[band]


@dataclass(frozen=True)
class _Frequency:
    """One restored angular frequency."""

    coefs: Coefficients
    evidence: float
    fitted: float
    present: float


def restore_frequency(
    coefs: Coefficients, seen: Observation, k: int, phi: Real | None, threads: int | None = None
) -> _Frequency:
    """Graph MAP and Wiener filter of the residual for one angular frequency; the filter alone without ``phi``."""
    n = len(coefs)
    mean = estimate_mean(coefs, seen) if k == 0 else np.zeros(coefs.shape[1])
    residual = match(coefs, seen, mean, real=k == 0)
    fitted, evidence, present = np.zeros_like(residual), 0.0, 0.0
    if phi is not None and phi.shape[1]:
        prior = estimate_covariance(residual, seen)
        grams = class_grams(phi, seen, threads)
        fit = fit_amplitudes(sum_products(phi, residual), grams, seen.precision, len(phi) // n, prior)
        evidence, present = max(fit.evidence, 0.0), float(np.trace(prior))
        fitted = phi @ fit.amplitude.astype(np.float32)
        precision = seen.precision.astype(np.float32)[seen.group]
        for offset in range(0, len(phi), n):
            residual[offset : offset + n] -= precision * fitted[offset : offset + n]
    energy = float(np.einsum("ij,ij->", fitted, fitted, dtype=np.float64)) / n
    covariance = estimate_covariance(residual, seen)
    if covariance.any():
        fitted += apply_wiener(residual, covariance, seen)
    fitted[:n] += mean.astype(np.float32)
    return _Frequency(to_complex(fitted, n), evidence, energy, present)


def restore_graph_map(
    coefs: SteerableCoefficients,
    seen: Observation,
    bases: SolveBasis,
    degrees: FloatArray,
    *,
    k_max: int | None = None,
    threads: int | None = None,
) -> GraphMap:
    """Graph MAP of every angular frequency that the graph says something about, Wiener filter of the rest.

    Frequencies go upwards, until one adds less than 1e-4 of the evidence. Peak memory besides the result: one
    eigenbasis and Phi (16 n m bytes), 8 (g + p) m^2 bytes, and a few float32 copies of one ``coefs[k]``.

    Parameters
    ----------
    coefs : (n, P), as observed: signed, not phase-flipped.
    seen : from :func:`mfvdm_fast.restore.wiener.describe_observation`; at most some hundred classes.
    bases : called once per frequency k = 0, 1, ... that is needed; residuals up to 0.1 are as good as smaller ones.
    degrees : (n,) node degrees of the graph.
    k_max : last frequency to ask the graph about; all when left out. With a small one, the result's ``captured`` is a
        quick look at the graph.
    threads : the result does not depend on it.

    Returns
    -------
    GraphMap. ``captured`` above 1 means that the graph fits more energy than there is signal: its edges agree with
    the noise they were found in, and another graph is to be preferred.

    Raises
    ------
    InputError
        When an eigenbasis is of other particles or another frequency.

    Examples
    --------
    >>> from .wiener import describe_observation
    >>> rng = np.random.default_rng(0)
    >>> y = SteerableCoefficients((4 + rng.normal(size=(500, 1)) + 0j).astype(np.complex64), np.array([0, 1]))
    >>> ramp = np.linspace(-1, 1, 500)[:, None].astype(np.complex64)
    >>> basis = Eigenbasis(0, np.ones(1), ramp, np.zeros(1), 1, "converged")
    >>> result = restore_graph_map(y, describe_observation(y, 1.0), lambda k: basis, np.ones(500))
    >>> bool(result.coefs.packed.real.std() < 0.2)
    True
    """
    out = np.zeros_like(coefs.packed, dtype=np.complex64)
    asked, total, fitted, present = True, 0.0, 0.0, 0.0
    with use_threads(threads) as count:
        for k in range(coefs.k_max + 1):
            columns = slice(int(coefs.offsets[k]), int(coefs.offsets[k + 1]))
            asked = asked and (k_max is None or k <= k_max)
            phi = scaled_eigenbasis(_check_basis(bases(k), k, coefs.n_particles), degrees) if asked else None
            one = restore_frequency(coefs[k], seen.columns(columns.start, columns.stop), k, phi, count)
            out[:, columns] = one.coefs
            total, fitted, present = total + one.evidence, fitted + one.fitted, present + one.present
            asked = asked and (k == 0 or one.evidence > SMALLEST_SHARE * total)
            log.debug("k=%d: evidence %.0f, energy fitted %.3g of %.3g", k, one.evidence, one.fitted, one.present)
    captured = fitted / present if present > 0 else (np.inf if fitted > 0 else 0.0)
    return GraphMap(SteerableCoefficients(out, coefs.offsets), captured)


def _check_basis(basis: Eigenbasis, k: int, n: int) -> Eigenbasis:
    if basis.k != k or len(basis.vectors) != n:
        raise InputError(
            f"frequency k = {k} of {n} particles got a basis of k = {basis.k} and {len(basis.vectors)} particles: "
            "solve it on the graph of these particles"
        )
    return basis
