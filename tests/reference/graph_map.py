"""Graph MAP of one radial function as one dense Gaussian regression over all particles."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def design(vectors: Array, degrees: Array, real: bool) -> Array:
    """Phi: D^{-1/2} U over (Re; Im), every column of unit mean square."""
    rows = vectors / np.sqrt(degrees)[:, None]
    phi = rows.real if real else np.concatenate([rows.real, rows.imag])
    return phi / np.sqrt((np.asarray(phi, float) ** 2).mean(axis=0))


def posterior(y: Array, h: Array, variance: float, phi: Array, prior: Array) -> tuple[Array, Array]:
    """Mean and covariance of z for y = h Phi z + noise: y, h real (N,), ``prior`` (m,) variances of z."""
    a = h[:, None] * phi
    covariance = np.linalg.inv(a.T @ a / variance + np.diag(1 / prior))
    return covariance @ a.T @ y / variance, covariance


def log_evidence(y: Array, h: Array, variance: float, phi: Array, prior: Array) -> float:
    """log N(y; 0, h Phi V Phi^T h + noise) - log N(y; 0, noise), with N x N matrices."""
    a = h[:, None] * phi
    total = a @ np.diag(prior) @ a.T + variance * np.eye(len(y))
    with_signal = -0.5 * (y @ np.linalg.solve(total, y) + np.linalg.slogdet(total)[1])
    without = -0.5 * (y @ y / variance + len(y) * np.log(variance))
    return float(with_signal - without)


def pool(moments: Array, width: int) -> Array:
    """Means over bands of ``width`` rows (the last one takes the rest), made non-increasing by merging neighbours."""
    m = len(moments)
    n_bands = max(1, m // width)
    edges = [*range(0, n_bands * width, width), m] if m >= width else [0, m]
    out = np.empty(moments.shape)
    for q in range(moments.shape[1]):
        groups = [[float(moments[a:b, q].mean()), b - a] for a, b in zip(edges[:-1], edges[1:], strict=True)]
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


def expectation_maximization(
    y: Array, h: Array, noise: Array, phi: Array, copies: int, width: int, steps: int
) -> tuple[Array, Array]:
    """z (m, p) and prior (m, p) of a real number, after ``steps`` EM steps; y, h (N, p), ``noise`` per complex number."""
    m, p = phi.shape[1], y.shape[1]
    variance = noise / copies
    information = np.array([np.trace((h[:, q, None] * phi).T @ (h[:, q, None] * phi)) / variance[q] / m for q in range(p)])
    projected = phi.T @ (h * y / variance)
    start = (projected**2).mean(axis=0) / information**2 - 1 / information
    prior = np.tile(np.maximum(start, 1e-3 / information), (m, 1))
    for step in range(steps):
        solved = [posterior(y[:, q], h[:, q], variance[q], phi, prior[:, q]) for q in range(p)]
        z = np.stack([mean for mean, _ in solved], axis=1)
        if step < steps - 1:
            prior = pool(z**2 + np.stack([np.diag(c) for _, c in solved], axis=1), width)
    return z, prior
