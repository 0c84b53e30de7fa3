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
