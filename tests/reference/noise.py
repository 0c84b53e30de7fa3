"""Noise spectrum and whitening by direct sums over pairs of pixels and over frequencies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def autocorrelation(images: NDArray[np.floating], mask: NDArray[np.bool_]) -> dict[tuple[int, int], float]:
    """Mean product of two masked pixels at every lag (dy, dx); 0 where no pair of pixels has that lag."""
    size = images.shape[-1]
    found = {}
    for dy in range(-size + 1, size):
        for dx in range(-size + 1, size):
            one = (slice(max(0, dy), size + min(0, dy)), slice(max(0, dx), size + min(0, dx)))
            other = (slice(max(0, -dy), size + min(0, -dy)), slice(max(0, -dx), size + min(0, -dx)))
            both = mask[one] & mask[other]
            products = (images[:, *one].astype(np.float64) * images[:, *other])[:, both]
            found[dy, dx] = float(products.mean()) if products.size else 0.0
    return found


def ring_power(correlation: dict[tuple[int, int], float], reach: float, size: int, box_size: int) -> Array:
    """Hann-tapered correlation transformed on a size x size frequency grid, averaged over rings 1/(2 L) apart."""
    lags = np.array(list(correlation), dtype=float)
    distance = np.hypot(*lags.T)
    taper = np.where(distance < reach, np.cos(np.pi * distance / reach / 2) ** 2, 0)
    value = np.array(list(correlation.values())) * taper
    sums, counts = np.zeros(box_size + 1), np.zeros(box_size + 1)
    for a in range(size):
        for b in range(size // 2 + 1):
            frequency = np.array([a / size if a < size / 2 else a / size - 1, b / size])
            ring = round(float(np.hypot(*frequency)) * 2 * box_size)
            if ring <= box_size:
                sums[ring] += np.sum(value * np.cos(2 * np.pi * lags @ frequency))
                counts[ring] += 1
    rings = np.arange(box_size + 1)
    return np.interp(rings, rings[counts > 0], sums[counts > 0] / counts[counts > 0])


def padded_power(images: NDArray[np.floating], mask: NDArray[np.bool_]) -> Array:
    """Tapered correlation of the pixels of the mask, by images padded to three times the box, in double precision."""
    box_size, (wide, grid) = images.shape[-1], (3 * images.shape[-1], 2 * images.shape[-1])
    products = np.fft.ifft2((np.abs(np.fft.fft2(images * mask, s=(wide, wide))) ** 2).mean(axis=0)).real
    pairs = np.fft.ifft2(np.abs(np.fft.fft2(mask.astype(float), s=(wide, wide))) ** 2).real
    lags = np.arange(-box_size + 1, box_size)
    mean = (products / np.maximum(np.rint(pairs), 1))[np.ix_(lags, lags)]
    table = {(int(dy), int(dx)): float(mean[i, j]) for i, dy in enumerate(lags) for j, dx in enumerate(lags)}
    return ring_power(table, max(4.0, box_size / 4), grid, box_size)


def whiten(images: NDArray[np.floating], frequencies: Array, power: Array) -> Array:
    """Full complex transform divided by the root of the power at each frequency."""
    f = np.fft.fftfreq(images.shape[-1])
    divisor = np.sqrt(np.interp(np.hypot(f[:, None], f[None, :]), frequencies, power))
    return np.fft.ifft2(np.fft.fft2(images.astype(np.float64)) / divisor).real


def coloured_images(n: int, box_size: int, power: object, rng: np.random.Generator) -> NDArray[np.float32]:
    """Gaussian images with the given power(|f|), cut from fields twice as wide so that they do not wrap around."""
    wide = 2 * box_size
    f = np.fft.fftfreq(wide)
    root = np.sqrt(power(np.hypot(f[:, None], f[None, :])))  # type: ignore[operator]
    fields = np.fft.ifft2(np.fft.fft2(rng.normal(size=(n, wide, wide))) * root).real
    return fields[:, :box_size, :box_size].astype(np.float32)
