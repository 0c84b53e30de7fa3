"""Steerable PCA straight from Zhao, Shkolnisky & Singer (2016): sums over particles, one eigenvalue at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def covariance(y: NDArray[Any], k: int) -> NDArray[np.float64]:
    """Re(Y^H Y)/n, the mean taken out at k = 0."""
    centred = y.astype(np.complex128) - (y.astype(np.complex128).mean(axis=0) if k == 0 else 0)
    total = np.zeros((y.shape[1], y.shape[1]))
    for row in centred:
        total += np.outer(row.conj(), row).real
    return total / len(y)


def weight_of(eigenvalue: float, noise_variance: float, gamma: float) -> tuple[float, float]:
    """Signal eigenvalue and weight 1 / (1 + 1/SNR_gamma); (0, 0) inside the noise bulk."""
    if not eigenvalue > noise_variance * (1 + math.sqrt(gamma)) ** 2:
        return 0.0, 0.0
    shifted = eigenvalue - (gamma + 1) * noise_variance
    signal = (shifted + math.sqrt(shifted**2 - 4 * gamma * noise_variance**2)) / 2
    snr = signal / noise_variance
    snr_gamma = (snr**2 - gamma) / (snr + gamma)
    return signal, 1 / (1 + 1 / snr_gamma)


def components(
    coefs: list[NDArray[Any]], noise_variance: float
) -> list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]]:
    """Per k: eigenvalues kept, vectors (columns), weights."""
    found = []
    for k, y in enumerate(coefs):
        n, p = y.shape
        gamma = p / n if k == 0 else p / (2 * n)
        values, vectors = np.linalg.eigh(covariance(y, k))
        weights = np.array([weight_of(d, noise_variance, gamma)[1] for d in values])
        kept = [q for q in np.argsort(-values) if weights[q] > 0]
        found.append((values[kept], vectors[:, kept], weights[kept]))
    return found
