"""Graph MAP as one dense Gaussian regression over all particles, radial functions and eigenvectors."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def design(vectors: Array, degrees: Array, real: bool) -> Array:
    """Phi: D^{-1/2} U over (Re; Im), every column of unit mean square."""
    rows = vectors / np.sqrt(degrees)[:, None]
    phi = rows.real if real else np.concatenate([rows.real, rows.imag])
    return phi / np.sqrt((np.asarray(phi, float) ** 2).mean(axis=0))


def information(phi: Array, precision: Array) -> Array:
    """Phi^T diag(precision_q) Phi of each coefficient q: (p, m, m), for ``precision`` (N, p) of every row of Phi."""
    return np.stack([phi.T @ (weight[:, None] * phi) for weight in precision.T])


def fit_bands(
    projected: Array, coupling: Array, diagonal: Array, correlation: Array, width: int, prior: Array, copies: int
) -> tuple[Array, Array]:
    """Five steps of EM with dense matrices: z (m, p), and log det(1 + Lambda D) of each band.

    ``prior`` (m, p), ``diagonal`` (b, p), bands of ``width`` eigenvectors (the last one takes the rest).
    """
    m, p = projected.shape
    of = np.minimum(np.arange(m) // width, len(diagonal) - 1)
    dense = np.zeros((m, p, m, p))
    for q in range(p):
        dense[:, q, :, q] = coupling[q]
    z: Array = np.zeros((m, p))
    for step in range(5):
        if step > 0:
            spread = np.stack([np.diag(np.linalg.inv(np.linalg.inv(prior_matrix(prior[l : l + 1], correlation))
                                                     + np.diag(diagonal[of[l]]))) for l in range(m)])  # fmt: skip
            prior = pool(copies * z**2 + spread, width)
        z = np.linalg.solve(dense.reshape(m * p, m * p) + np.linalg.inv(prior_matrix(prior, correlation)),
                            projected.ravel()).reshape(m, p)  # fmt: skip
    first = [int(np.flatnonzero(of == b)[0]) for b in range(len(diagonal))]
    full = [prior_matrix(prior[l : l + 1], correlation) @ np.diag(diagonal[of[l]]) for l in first]
    return z, np.array([np.linalg.slogdet(np.eye(p) + one)[1] for one in full])


def prior_matrix(variances: Array, correlation: Array) -> Array:
    """Covariance (m p, m p) of z in row-major order: independent over l, correlated over q."""
    m, p = variances.shape
    out = np.zeros((m * p, m * p))
    for l in range(m):
        deviation = np.diag(np.sqrt(variances[l]))
        out[l * p : (l + 1) * p, l * p : (l + 1) * p] = deviation @ correlation @ deviation
    return out


def observation_matrix(h: Array, phi: Array) -> Array:
    """A with y.ravel() = A z.ravel() + noise: y, h (N, p) real."""
    n, p = h.shape
    return (h[:, :, None, None] * phi[:, None, :, None] * np.eye(p)[None, :, None, :]).reshape(n * p, -1)


def posterior_mean(y: Array, h: Array, variance: Array, phi: Array, prior: Array) -> Array:
    """E z (m, p) for y = h (Phi z) + noise of ``variance`` (p,) and z ~ N(0, prior), with N p x N p matrices."""
    a = observation_matrix(h, phi)
    noise = np.diag(np.tile(variance, len(y)))
    return (prior @ a.T @ np.linalg.solve(a @ prior @ a.T + noise, y.ravel())).reshape(phi.shape[1], -1)


def log_evidence(y: Array, h: Array, variance: Array, phi: Array, prior: Array) -> float:
    """log N(y; 0, A prior A^T + noise) - log N(y; 0, noise)."""
    a, noise, flat = observation_matrix(h, phi), np.diag(np.tile(variance, len(y))), y.ravel()
    value = 0.0
    for sign, total in ((1, a @ prior @ a.T + noise), (-1, noise)):
        value -= sign * 0.5 * (flat @ np.linalg.solve(total, flat) + np.linalg.slogdet(total)[1])
    return float(value)


def pool(moments: Array, width: int) -> Array:
    """Means over bands of ``width`` rows (the last one takes the rest), made non-increasing by merging neighbours."""
    m = len(moments)
    edges = [*range(0, max(1, m // width) * width, width), m]
    out = np.empty(moments.shape)
    for q in range(moments.shape[1]):
        groups = [[float(moments[a:b, q].mean()), b - a] for a, b in pairwise(edges)]
        i = 0
        while i + 1 < len(groups):
            if groups[i + 1][0] > groups[i][0]:
                (v0, c0), (v1, c1) = groups[i : i + 2]
                groups[i : i + 2] = [[(v0 * c0 + v1 * c1) / (c0 + c1), c0 + c1]]
                i = max(0, i - 1)
            else:
                i += 1
        out[:, q] = np.repeat([g[0] for g in groups], [int(g[1]) for g in groups])
    return out
