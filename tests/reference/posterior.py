"""The mean over the matches of one particle at a time, straight from its definition."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def posterior_mean(x: Array, k: Array, row: tuple[Array, Array, Array, Array], i: int, own: float) -> Array:
    """Coefficients (P,) of particle i; ``x`` (n, P), ``k`` (P,); ``row``: indices, mirrored, angles, scores."""
    weights = np.array([np.exp((score - max(row[3])) / 2) for score in row[3]])
    weights /= weights.sum()
    mean = np.zeros(len(k), np.complex128)
    for j, mirrored, angle, weight in zip(*row[:3], weights, strict=True):
        mean += weight * np.exp(-1j * k * angle) * (x[j].conj() if mirrored else x[j])
    count = 1 / (weights**2).sum()
    return (own * x[i] + count * mean) / (own + count)
