"""Restoration by maximum a posteriori in the eigenbasis of the neighbour graph, CTF and noise solved for directly.

Algorithm 2 of arXiv:1904.07772 filters phase-flipped coefficients by h(lambda) and divides by a filtered |CTF|. Here the
clean coefficients are x = Phi z, Phi = D^{-1/2} U with columns of unit mean square, and z is Gaussian with a variance per
band of eigenvectors and radial function that the data decide (empirical Bayes): no filter and no division. What the
graph does not hold is left to the Wiener filter of the residual.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
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

EM_STEPS = 8
BAND = 20  # eigenvectors that share one prior variance
SMALLEST_SHARE = 1e-4  # of all evidence so far: a frequency with less is the last that the graph is asked about


@dataclass(frozen=True)
class GraphFit:
    """The coefficients of one angular frequency in the eigenbasis of the graph."""

    amplitude: FloatArray  # (m, p): z, posterior mean; columns without evidence are 0
    prior: FloatArray  # (m, p), prior variance of z, twice over for k >= 1 (of a complex number)
    evidence: FloatArray  # (p,): log evidence against no signal at all


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
    projected: FloatArray, grams: FloatArray, precision: FloatArray, copies: int, threads: int | None = None
) -> GraphFit:
    """z and its prior by EM: z_q = P_q^{-1} Phi^T w_q, P_q = sum_g precision_gq G_g + diag(1 / prior_q).

    Parameters
    ----------
    projected : (m, p), Phi^T w of the matched coefficients w.
    grams : (g, m, m), from :func:`class_grams`.
    precision : (g, p), h^2 / noise power.
    copies : 2 in the real form (Re; Im), 1 for k = 0.
    threads : the result does not depend on it.

    Examples
    --------
    >>> fit = fit_amplitudes(np.array([[40.0, 1.0]]), np.array([[[10.0]]]), np.ones((1, 2)), copies=1)
    >>> fit.amplitude.round(2).tolist()
    [[3.97, 0.0]]
    """
    m, p = projected.shape
    information = (precision.T @ grams.reshape(len(grams), -1)).reshape(p, m, m)
    scale = np.einsum("qll->q", information) / m
    scale = np.maximum(scale, 1e-12 * scale.max() or 1.0)  # where the CTF vanishes there is nothing to learn
    start = copies * (projected**2).mean(axis=0) / scale**2 - 1 / scale
    prior = np.tile(np.maximum(start, 1e-3 / scale), (m, 1))
    amplitude, variance, evidence = np.zeros((m, p)), np.zeros((m, p)), np.zeros(p)

    def solve(q: int) -> None:
        factor, info = lapack.dpotrf(information[q] + np.diag(1 / prior[:, q]), lower=1, overwrite_a=1)
        if info:
            raise InputError(f"the Gram matrices of the classes are not positive at radial function {q}: check the eigenbasis")
        log_determinant = 2 * np.log(np.diagonal(factor)).sum() + np.log(prior[:, q]).sum()
        amplitude[:, q] = lapack.dpotrs(factor, projected[:, q], lower=1)[0]
        variance[:, q] = np.diagonal(lapack.dpotri(factor, lower=1, overwrite_c=1)[0])
        evidence[q] = 0.5 * (copies * projected[:, q] @ amplitude[:, q] - log_determinant)

    with ThreadPoolExecutor(resolve_threads(threads)) as pool:
        for step in range(EM_STEPS):
            list(pool.map(solve, range(p)))
            if step < EM_STEPS - 1:
                prior = pool_prior(copies * amplitude**2 + variance)
    amplitude[:, evidence <= 0] = 0
    return GraphFit(amplitude, prior, evidence)


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
        projected = sum_products(phi, residual)
        copies = len(phi) // n
        fit = fit_amplitudes(projected, class_grams(phi, seen, threads), seen.precision, copies, threads)
        present = float(np.trace(estimate_covariance(residual, seen)))
        evidence = float(np.maximum(fit.evidence, 0).sum())
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
            asked = asked and one.evidence > SMALLEST_SHARE * total
            log.debug("k=%d: evidence %.0f, energy fitted %.3g of %.3g", k, one.evidence, one.fitted, one.present)
    captured = fitted / present if present > 0 else (np.inf if fitted > 0 else 0.0)
    return GraphMap(SteerableCoefficients(out, coefs.offsets), captured)


def _check_basis(basis: Eigenbasis, k: int, n: int) -> Eigenbasis:
    if basis.k != k or len(basis.vectors) != n:
        raise InputError(
            f"frequency k = {k} of {n} particles got an eigenbasis of k = {basis.k} and {len(basis.vectors)} particles; "
            "solve it on the graph of these particles"
        )
    return basis
