"""The highest point of a trigonometric polynomial: a dense grid, then golden sections."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar


def height(coefficients: NDArray[Any], alpha: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Re[C_0 + 2 sum_{k >= 1} C_k e^{ik alpha}] of one row of coefficients (k_max + 1,)."""
    k = np.arange(len(coefficients))
    weights = np.where(k == 0, 1, 2) * np.asarray(coefficients, np.complex128)
    return (np.exp(1j * np.multiply.outer(np.asarray(alpha), k)) @ weights).real


def peak(coefficients: NDArray[Any], n_grid: int = 3600) -> tuple[float, float]:
    """Angle in (-pi, pi] and value of the maximum."""
    grid = 2 * np.pi * np.arange(n_grid) / n_grid
    start, step = grid[np.argmax(height(coefficients, grid))], 2 * np.pi / n_grid
    found = minimize_scalar(
        lambda a: -float(height(coefficients, a)),
        bounds=(start - step, start + step),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return float(np.angle(np.exp(1j * found.x))), -float(found.fun)
