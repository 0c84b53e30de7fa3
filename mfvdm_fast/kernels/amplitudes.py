"""Amplitudes of a signal in eigenvectors, and their prior: small systems, solved thousands of times.

Eigenvectors are in bands: those from ``bounds[b]`` to ``bounds[b + 1]`` in band b, ``bounds`` (b + 1,) int64.
"""

from __future__ import annotations

import math

import numpy as np

from ._jit import kernel

SMALLEST = np.finfo(np.float64).tiny  # of a prior variance


@kernel
def _precondition(v, blocks, bounds, out):  # type: ignore[no-untyped-def]
    """``out`` = C ``v`` (p, m), each band of eigenvectors with its own block (p, p)."""
    out[:] = 0
    for band in range(len(blocks)):
        for q in range(len(v)):
            for r in range(len(v)):
                factor = blocks[band, q, r]
                for l in range(bounds[band], bounds[band + 1]):
                    out[r, l] += factor * v[q, l]


@kernel
def _inner(a, b, sums):  # type: ignore[no-untyped-def]
    """Sum of ``a`` * ``b`` (p, m), by way of ``sums`` (m,)."""
    sums[:] = 0
    for q in range(len(a)):
        for l in range(len(sums)):
            sums[l] += a[q, l] * b[q, l]
    return sums.sum()


@kernel
def solve_amplitudes(projected, information, diagonal, blocks, bounds, tolerance, most):  # type: ignore[no-untyped-def]
    """z (m, p) float64 with (Lambda^-1 + P) z = ``projected``, by conjugate gradients, preconditioned band by band.

    ``projected`` (m, p) float64; ``information`` (p, m, m) float32: P, symmetric; rows and columns beyond m are not
    looked at. ``diagonal`` (b, p) and ``blocks`` (b, p, p) float64: D, the diagonal of P averaged over each band, and
    C = (Lambda^-1 + D)^-1. At most ``most`` steps, until the error is a ``tolerance`` of what it was.

    In v = C^-1 z the system is v + (P - D) C v = projected: self-adjoint in the inner product <a, C b>, and close to
    the identity.
    """
    m, p = projected.shape
    residual = projected.T.copy()
    z, conditioned = np.zeros((p, m)), np.empty((p, m))
    product, sums = np.empty((p, m)), np.empty(m)
    row = np.empty(m, np.float32)
    _precondition(residual, blocks, bounds, conditioned)
    direction, image = residual.copy(), conditioned.copy()  # of v, and of z
    energy = _inner(residual, conditioned, sums)
    enough = tolerance * tolerance * energy
    for _ in range(most):
        if energy <= enough:
            break
        for q in range(p):
            row[:] = 0
            for l in range(m):
                factor = np.float32(image[q, l])
                for other in range(m):
                    row[other] += factor * information[q, l, other]
            for band in range(len(blocks)):
                for l in range(bounds[band], bounds[band + 1]):
                    product[q, l] = direction[q, l] + row[l] - diagonal[band, q] * image[q, l]
        step = energy / _inner(image, product, sums)
        for q in range(p):
            for l in range(m):
                z[q, l] += step * image[q, l]
                residual[q, l] -= step * product[q, l]
        _precondition(residual, blocks, bounds, conditioned)
        before, energy = energy, _inner(residual, conditioned, sums)
        turn = energy / before
        for q in range(p):
            for l in range(m):
                direction[q, l] = residual[q, l] + turn * direction[q, l]
                image[q, l] = conditioned[q, l] + turn * image[q, l]
    return z.T.copy()


@kernel
def posterior_blocks(prior, correlation, diagonal, blocks, log_determinants):  # type: ignore[no-untyped-def]
    """Fill ``blocks`` (b, p, p) with (Lambda_b^-1 + D_b)^-1, and (b,) with log det(1 + Lambda_b D_b), all float64.

    Lambda_b has the variances ``prior[b]`` (p,) and the ``correlation`` (p, p), D_b is diagonal: ``diagonal[b]`` (p,).
    """
    p = len(correlation)
    full, half, inner = np.empty((p, p)), np.empty((p, p)), np.empty((p, p))
    for band in range(len(prior)):
        for q in range(p):
            root = math.sqrt(diagonal[band, q])
            for r in range(p):
                full[q, r] = math.sqrt(prior[band, q]) * correlation[q, r] * math.sqrt(prior[band, r])
                half[q, r] = root * full[q, r]
                inner[q, r] = half[q, r] * math.sqrt(diagonal[band, r]) + (1.0 if q == r else 0.0)
        # inner is symmetric and positive definite: its Cholesky factor, in place
        log_determinant = 0.0
        for q in range(p):
            for r in range(q + 1):
                value = inner[q, r]
                for s in range(r):
                    value -= inner[q, s] * inner[r, s]
                if q == r:
                    inner[q, q] = math.sqrt(value)
                    log_determinant += 2 * math.log(inner[q, q])
                else:
                    inner[q, r] = value / inner[r, r]
        log_determinants[band] = log_determinant
        # half becomes L^-1 half, so that half^T inner^-1 half is a square
        for q in range(p):
            for s in range(q):
                factor = inner[q, s]
                for r in range(p):
                    half[q, r] -= factor * half[s, r]
            for r in range(p):
                half[q, r] /= inner[q, q]
        for q in range(p):
            for r in range(p):
                blocks[band, q, r] = full[q, r]
            for s in range(p):
                factor = half[s, q]
                for r in range(p):
                    blocks[band, q, r] -= factor * half[s, r]


@kernel
def falling_prior(moments, bounds, prior):  # type: ignore[no-untyped-def]
    """Fill ``prior`` (b, p) with the ``moments`` (b, p), never rising: neighbours that do are averaged, by their sizes.

    The isotonic regression of each column, by pooling adjacent violators; above 0.
    """
    mean, size, first = np.empty(len(moments)), np.empty(len(moments)), np.empty(len(moments) + 1, np.int64)
    for q in range(moments.shape[1]):
        n = 0
        for band in range(len(moments)):
            mean[n], size[n], first[n] = moments[band, q], bounds[band + 1] - bounds[band], band
            while n > 0 and mean[n] > mean[n - 1]:
                both = size[n - 1] + size[n]
                mean[n - 1] = (size[n - 1] * mean[n - 1] + size[n] * mean[n]) / both
                size[n - 1] = both
                n -= 1
            n += 1
        first[n] = len(moments)
        for group in range(n):
            for band in range(first[group], first[group + 1]):
                prior[band, q] = max(mean[group], SMALLEST)
