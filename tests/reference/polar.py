"""Fourier transforms at polar points by direct sums: F(I)(xi) = sum I(x) exp(-2 pi i x.xi)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def polar_points(radii: NDArray[np.float64], n_theta: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(xi, eta), each (n_r, n_theta / 2) cycles/px, of the half circle that is computed."""
    theta = 2 * np.pi * np.arange(n_theta // 2) / n_theta
    return radii[:, None] * np.cos(theta), radii[:, None] * np.sin(theta)


def transform(images: NDArray[np.floating], radii: NDArray[np.float64], n_theta: int) -> NDArray[np.complex128]:
    """F(I)(xi) = sum I(x) exp(-2 pi i x.xi), centre pixel L // 2: (b, n_r, n_theta / 2)."""
    box_size = images.shape[-1]
    pixel = np.arange(box_size) - box_size // 2
    xi, eta = polar_points(radii, n_theta)
    along_x = np.exp(-2j * np.pi * pixel * xi[..., None])
    along_y = np.exp(-2j * np.pi * pixel * eta[..., None])
    return np.einsum("byx,rtx,rty->brt", images.astype(np.float64), along_x, along_y, optimize=True)
