"""The mean over the matches of one particle at a time, straight from its definition."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def posterior_mean(
    x: Array, k: Array, row: tuple[Array, Array, Array, Array], i: int, own: float, lead: float, contrast: float
) -> Array:
    """Coefficients (P,) of particle i; ``x`` (n, P), ``k`` (P,); ``row``: indices, mirrored, angles, scores."""
    likelihoods = np.array([np.exp((score - max(row[3])) / 2) for score in row[3]])
    weights = likelihoods / likelihoods.sum()
    mean = np.zeros(len(k), np.complex128)
    for j, mirrored, angle, weight in zip(*row[:3], weights, strict=True):
        mean += contrast * weight * np.exp(-1j * k * angle) * (x[j].conj() if mirrored else x[j])
    count = 1 / (weights**2).sum()
    mean = (own * x[i] + count * mean) / (own + count)
    alone = np.exp((lead - 8) / 2)
    return (likelihoods.sum() * mean + alone * x[i]) / (likelihoods.sum() + alone)
