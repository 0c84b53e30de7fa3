"""A built-in particle for demonstrations and tests, and a change of box for any volume."""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, NDArray

from .errors import ParameterError

_BLOBS = (30, 18, 12)  # three domains of different size: no rotation or mirror maps the particle to itself
_DOMAIN_CENTRES = np.array([[-0.12, -0.05, 0.02], [0.14, 0.03, 0.10], [0.05, 0.17, -0.13]])  # in boxes, (x, y, z)
_DOMAIN_RADII = (0.17, 0.12, 0.10)
_REACH = 0.4  # distance from the centre, in boxes, that the two-sigma sphere of the outermost blob touches


def check_volume(volume: ArrayLike) -> NDArray[np.float32]:
    """``volume`` as float32; ParameterError unless it is a cube of at least 8 voxels with finite, unequal values."""
    cube = np.ascontiguousarray(volume, dtype=np.float32)
    if cube.ndim != 3 or len(set(cube.shape)) != 1 or cube.shape[0] < 8:
        raise ParameterError(f"volume must be a cube of at least 8 voxels a side, got shape {cube.shape}; pad it first")
    if not np.isfinite(cube).all():
        raise ParameterError("volume must hold finite numbers, got NaN or infinity; replace them first")
    if cube.min() == cube.max():
        raise ParameterError(f"volume must not be constant, every voxel is {cube.flat[0]:g}; check the file")
    return cube


def synthetic_particle(box_size: int = 65, seed: int = 0) -> NDArray[np.float32]:
    """An asymmetric protein-like density (L, L, L) float32 [z, y, x]: three chains of 60 Gaussian blobs in all.

    The centre of mass is at the centre voxel L // 2, the radius 0.4 L, the peak 1.

    >>> synthetic_particle(32).shape
    (32, 32, 32)
    """
    if box_size < 8:
        raise ParameterError(f"box_size must be at least 8 px, got {box_size}; 65 is a good size for a demonstration")
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    chains = []
    for count, centre, radius in zip(_BLOBS, _DOMAIN_CENTRES, _DOMAIN_RADII, strict=True):
        chains.append(centre + _folded_chain(count, radius, rng))
    places = np.concatenate(chains)
    sigma = rng.uniform(0.020, 0.034, len(places))
    peak = rng.uniform(0.6, 1.4, len(places))
    places -= np.average(places, axis=0, weights=peak * sigma**3)
    places *= np.min((_REACH - 2 * sigma) / np.linalg.norm(places, axis=1))
    axis = (np.arange(box_size) - box_size // 2) / box_size
    x, y, z = (np.exp(-0.5 * ((axis - places[:, i, None]) / sigma[:, None]) ** 2) for i in range(3))
    planes = (peak[:, None] * z)[:, :, None] * y[:, None, :]
    density = planes.reshape(len(places), -1).T @ x
    return (density / density.max()).reshape((box_size,) * 3).astype(np.float32)


def _folded_chain(count: int, radius: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A random walk (count, 3) of fixed step that stays in a ball and keeps clear of its own earlier points."""
    step = 1.1 * radius / count ** (1 / 3)
    chain = np.zeros((count, 3))
    for i in range(1, count):
        directions = rng.standard_normal((32, 3))
        candidates = chain[i - 1] + step * directions / np.linalg.norm(directions, axis=1, keepdims=True)
        clearance = np.linalg.norm(candidates[:, None] - chain[None, :i], axis=2).min(axis=1)
        outside = np.maximum(np.linalg.norm(candidates, axis=1) - radius, 0.0)
        chain[i] = candidates[np.argmax(clearance - 4.0 * outside)]
    return chain


def resize_volume(volume: NDArray[np.float32], pixel_size: float, box_size: int) -> tuple[NDArray[np.float32], float]:
    """``volume`` (L, L, L) on a grid of ``box_size`` voxels by Fourier cropping or padding, and its new pixel size.

    The physical side of the box, the centre (voxel size // 2) and the density values stay as they are. The Nyquist
    planes of an even smaller grid are dropped, so that the result is real and unbiased.

    >>> small, pixel_size = resize_volume(synthetic_particle(32), 2.0, 16)
    >>> small.shape, pixel_size
    ((16, 16, 16), 4.0)
    """
    volume = check_volume(volume)
    if box_size < 8:
        raise ParameterError(f"box_size must be at least 8 px, got {box_size}; take 32 or more")
    old = volume.shape[0]
    if box_size == old:
        return volume.copy(), float(pixel_size)
    kept = np.arange(-((min(old, box_size) - 1) // 2), (min(old, box_size) - 1) // 2 + 1)
    transform = scipy.fft.fftn(scipy.fft.ifftshift(volume))
    target = np.zeros((box_size,) * 3, dtype=np.complex64)
    target[np.ix_(kept, kept, kept)] = transform[np.ix_(kept, kept, kept)]
    resized = scipy.fft.fftshift(scipy.fft.ifftn(target).real) * (box_size / old) ** 3
    return np.ascontiguousarray(resized, dtype=np.float32), float(pixel_size) * old / box_size
