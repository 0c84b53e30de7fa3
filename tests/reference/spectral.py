"""Algorithm 2 (Eqs. 10-11) on the doubled graph of 2n nodes (k >= 1) or on n nodes (k = 0)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .eigenbasis import eigenpairs


def filter_coefficients(
    coefs: NDArray[Any],
    matrix: NDArray[Any],
    degrees: NDArray[np.float64],
    h: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    n_eigenvectors: int,
) -> NDArray[np.complex128]:
    """D^{-1/2} U h(Lambda) U^H D^{1/2} [A; conj A], first n rows; ``matrix`` is 2n x 2n Hermitian.

    For k = 0, ``matrix`` is n x n and the mean is filtered apart. Degrees must not be 0.
    """
    values, u = eigenpairs(matrix, n_eigenvectors)
    n = len(coefs)
    mean = coefs.mean(axis=0) if len(matrix) == n else np.zeros(coefs.shape[1])
    doubled = (coefs - mean) if len(matrix) == n else np.concatenate([coefs, coefs.conj()])
    root = np.sqrt(np.resize(degrees, len(matrix)))[:, None]
    return ((u * h(values)) @ (u.conj().T @ (root * doubled)) / root)[:n] + mean
