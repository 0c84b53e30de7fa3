"""CWF of one angular frequency with dense complex matrices, particle by particle, from the published equations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def shrink(value: float, gamma: float) -> float:
    """Spiked covariance model, noise of variance 1: l - 1 for the l with l + gamma l / (l - 1) = value."""
    if value <= (1 + np.sqrt(gamma)) ** 2:
        return 0.0
    # (1 + x)(1 + gamma / x) = value, the larger root x = l - 1
    roots = np.roots([1.0, 1.0 + gamma - value, gamma])
    return float(np.max(roots.real))


def covariance(y: Array, h: Array, noise: Array, real: bool, trust: Array | None = None) -> Array:
    """Sigma from coefficients y (n, p) of mean 0 with CTF h (n, p), noise variance ``noise`` (p,), trust (n,)."""
    p = y.shape[1]
    t = np.ones(len(y)) if trust is None else trust
    n = t.sum()
    y, h = y / np.sqrt(noise), h / np.sqrt(noise)  # the noise is now white of variance 1
    b = sum(t[i] * np.outer(h[i] * y[i], (h[i] * y[i]).conj()) for i in range(len(y))).real / n
    root = np.diag(np.sqrt(t @ h**2 / n))
    inverse = np.linalg.inv(root)
    values, vectors = np.linalg.eigh(inverse @ b @ inverse)
    shrunk = np.array([shrink(v, p / n if real else p / (2 * n)) for v in values])
    signal = root @ vectors @ np.diag(shrunk) @ vectors.T @ root
    overlap = sum(t[i] * np.outer(h[i] ** 2, h[i] ** 2) for i in range(len(y))) / n
    values, vectors = np.linalg.eigh(signal / overlap)
    return vectors @ np.diag(np.maximum(values, 0)) @ vectors.T


def wiener(y: Array, h: Array, noise: Array, sigma: Array, mean: Array) -> Array:
    """mu + Sigma H^T (H Sigma H^T + N)^{-1} (y - H mu) for every particle."""
    out = np.empty(y.shape, complex)
    for i in range(len(y)):
        H = np.diag(h[i])
        out[i] = mean + sigma @ H.T @ np.linalg.inv(H @ sigma @ H.T + np.diag(noise)) @ (y[i] - H @ mean)
    return out


def restore(y: Array, h: Array, noise: Array, real: bool) -> Array:
    """CWF of one frequency; ``real`` for k = 0, where the mean is taken out."""
    mean = (h * y).real.sum(axis=0) / (h**2).sum(axis=0) if real else np.zeros(y.shape[1])
    return wiener(y, h, noise, covariance(y - h * mean, h, noise, real), mean)
