"""Central slices of a volume's Fourier transform, read off an oversampled grid with a compact kernel."""

from __future__ import annotations

import math

import numba
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ._jit import kernel

WIDTH = 5  # grid points per axis: relative error about 5e-5 at twofold oversampling
OVERSAMPLING = 2
HALO = WIDTH // 2 + 1
_BETA = 2.3 * WIDTH
_TABLE_STEPS = 2048  # linear interpolation between rows errs by 1e-6 of the peak


def _spreading(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """The exponential-of-semicircle kernel on |t| <= WIDTH / 2, peak 1 (Barnett, Magland & af Klinteberg 2019)."""
    inside = 1.0 - (2.0 * t / WIDTH) ** 2
    return np.where(inside >= 0, np.exp(_BETA * (np.sqrt(np.maximum(inside, 0)) - 1.0)), 0.0)


def weight_table() -> NDArray[np.float32]:
    """Kernel weights (steps + 1, WIDTH) float32: row r has those at r / steps - WIDTH / 2 + (0 ... WIDTH - 1)."""
    fraction = np.arange(_TABLE_STEPS + 1)[:, None] / _TABLE_STEPS
    return _spreading(fraction - WIDTH / 2 + np.arange(WIDTH)).astype(np.float32)


def slice_grid(volume: NDArray[np.float32], threads: int = 1) -> NDArray[np.complex64]:
    """The oversampled transform of ``volume`` (L, L, L) [z, y, x], for :func:`slice_volume`.

    The origin is the voxel L // 2. Only x frequencies >= 0 are kept, and every axis has a halo, so that the kernel
    never wraps: complex64 of shape (2L + 2 HALO + 1, 2L + 2 HALO + 1, L + 2 HALO + 1), zero frequency at
    (L + HALO, L + HALO, HALO). Memory: about 64 L^3 bytes at the peak, 32 L^3 afterwards.
    """
    box_size = volume.shape[0]
    grid_size = OVERSAMPLING * box_size
    offset = np.arange(box_size) - box_size // 2
    nodes, gauss = np.polynomial.legendre.leggauss(64)
    half = WIDTH / 2
    phase = np.cos(2 * np.pi / grid_size * np.outer(offset, half * nodes))
    decay = (1.0 / (phase @ (gauss * half * _spreading(half * nodes)))).astype(np.float32)
    padded = np.zeros((grid_size,) * 3, dtype=np.float32)
    scaled = volume * (decay[:, None, None] * decay[:, None] * decay)
    padded[np.ix_(offset % grid_size, offset % grid_size, offset % grid_size)] = scaled
    transform = scipy.fft.rfftn(padded, workers=threads)
    del padded
    both = np.arange(-box_size - HALO, box_size + HALO + 1) % grid_size
    grid = np.empty((both.size, both.size, box_size + 2 * HALO + 1), dtype=np.complex64)
    grid[:, :, HALO : HALO + box_size + 1] = transform[both[:, None], both]
    # Hermitian symmetry gives the halo below x = 0 and beyond the highest frequency.
    reverse = (-both) % grid_size
    below = np.arange(HALO, 0, -1)
    grid[:, :, :HALO] = transform[reverse[:, None, None], reverse[:, None], below].conj()
    above = grid_size - np.arange(box_size + 1, box_size + HALO + 1)
    grid[:, :, HALO + box_size + 1 :] = transform[reverse[:, None, None], reverse[:, None], above].conj()
    return grid


@kernel(parallel=True)
def slice_volume(grid, rotations, shifts, table, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` (b, L, L // 2 + 1) complex64 with the rfft2 of the projections of the volume behind ``grid``.

    ``grid`` is that of :func:`slice_grid` viewed as float32 (real, imaginary interleaved), ``table`` that of
    :func:`weight_table`; ``rotations`` (b, 3, 3) float64 with x_volume = R x_image; ``shifts`` (b, 2) float64, the
    (x, y) in pixels to where the projected origin goes, counted from pixel (0, 0). Frequencies of half a cycle per
    pixel and more are 0: beyond them a rotated cube of voxels says nothing.
    """
    n_images, box_size, half = out.shape
    steps = table.shape[0] - 1
    centre = box_size + HALO
    for b in numba.prange(n_images):
        row_sum = np.empty(2 * WIDTH, dtype=np.float32)
        weights = np.empty((3, WIDTH), dtype=np.float32)
        place = np.empty(3, dtype=np.float64)
        first = np.empty(3, dtype=np.int64)
        rotation = 2.0 * rotations[b, :, :2]
        phase_x = np.empty(half, dtype=np.complex128)
        for kx in range(half):
            angle = -2.0 * math.pi * shifts[b, 0] * kx / box_size
            phase_x[kx] = complex(math.cos(angle), math.sin(angle))
        for iy in range(box_size):
            ky = iy if 2 * iy < box_size else iy - box_size
            angle = -2.0 * math.pi * shifts[b, 1] * ky / box_size
            phase_y = complex(math.cos(angle), math.sin(angle))
            for kx in range(half):
                if 4 * (kx * kx + ky * ky) >= box_size * box_size:
                    out[b, iy, kx] = 0.0
                    continue
                for axis in range(3):
                    place[axis] = rotation[axis, 0] * kx + rotation[axis, 1] * ky
                sign = -1.0 if place[0] < 0.0 else 1.0
                for axis in range(3):
                    start = sign * place[axis] - 0.5 * WIDTH
                    first[axis] = math.ceil(start)
                    position = (first[axis] - start) * steps
                    row = min(int(position), steps - 1)
                    part = np.float32(position - row)
                    for j in range(WIDTH):
                        weights[axis, j] = table[row, j] + part * (table[row + 1, j] - table[row, j])
                row_sum[:] = 0.0
                x0 = 2 * (first[0] + HALO)
                for jz in range(WIDTH):
                    for jy in range(WIDTH):
                        weight = weights[2, jz] * weights[1, jy]
                        line = grid[first[2] + jz + centre, first[1] + jy + centre, x0 : x0 + 2 * WIDTH]
                        for j in range(2 * WIDTH):
                            row_sum[j] += weight * line[j]
                real = np.float32(0.0)
                imag = np.float32(0.0)
                for j in range(WIDTH):
                    real += weights[0, j] * row_sum[2 * j]
                    imag += weights[0, j] * row_sum[2 * j + 1]
                out[b, iy, kx] = complex(real, sign * imag) * phase_x[kx] * phase_y
