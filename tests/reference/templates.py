"""The log likelihood of an observed image given a template turned by an angle, straight from its definition."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def log_likelihood(y: Array, x: Array, h: Array, power: Array, offsets: Array, turn: tuple[float, bool]) -> float:
    """log p(y | x turned and mirrored) - log p(y | nothing) for one image: complex Gaussian noise, real at k = 0."""
    alpha, mirrored = turn
    total = 0.0
    for k in range(len(offsets) - 1):
        columns = slice(offsets[k], offsets[k + 1])
        model = h[columns] * np.exp(-1j * k * alpha) * (x[columns].conj() if mirrored else x[columns])
        seen = y[columns]
        if k == 0:
            model, seen = model.real, seen.real
        weight = (0.5 if k == 0 else 1.0) / power[columns]
        total += float((weight * (np.abs(seen) ** 2 - np.abs(seen - model) ** 2)).sum())
    return total
