"""Projections by direct sums over all voxels, and images built from them one at a time."""

from __future__ import annotations

import numpy as np


def reference_projection(volume: np.ndarray, rotation: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """rfft2 (L, L // 2 + 1) complex128 of the projection of ``volume`` [z, y, x], origin at L // 2 + shift (x, y)."""
    box_size = volume.shape[0]
    axis = np.arange(box_size) - box_size // 2
    fy, fx = np.meshgrid(np.fft.fftfreq(box_size), np.fft.rfftfreq(box_size), indexing="ij")
    frequency = fx[..., None] * rotation[:, 0] + fy[..., None] * rotation[:, 1]  # (x, y, z) in the volume
    wave_x, wave_y, wave_z = (np.exp(-2j * np.pi * frequency[..., a, None] * axis) for a in range(3))
    out = np.einsum("zyx,abz,aby,abx->ab", volume, wave_z, wave_y, wave_x, optimize=True)
    out = out * np.exp(-2j * np.pi * (fx * (box_size // 2 + shift[0]) + fy * (box_size // 2 + shift[1])))
    out[np.hypot(fx, fy) >= 0.5 - 1e-12] = 0.0
    return out


def reference_image(
    volume: np.ndarray, rotation: np.ndarray, shift: np.ndarray, transfer: np.ndarray | float = 1.0
) -> np.ndarray:
    """Image (L, L) float64 of one particle, with the CTF ``transfer`` on the rfft2 grid."""
    spectrum = reference_projection(volume, rotation, shift) * transfer
    return np.fft.irfft2(spectrum, s=volume.shape[1:])


def in_plane_rotation(angle: float) -> np.ndarray:
    """Rotation (3, 3) about the beam: the image of R @ in_plane_rotation(a) is the image of R turned by -a."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
