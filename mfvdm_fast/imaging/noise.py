"""Background, noise variance and noise spectrum from the pixels outside the particle."""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike

from ..errors import InputError, ParameterError
from ..records import BoolArray, FloatArray, Images, IndexArray, NoiseModel
from .blocks import map_blocks, sum_blocks, sum_power

FLOOR = 1e-2  # of the mean power: a frequency without noise must not be blown up
WILDEST = 500.0  # standard deviations that a pixel may lie from the mean; one of 1,500 among 500 images costs 6 dB
BANDS = (0.0, 0.06, 0.12, 0.25, 0.5)  # cycles/px, in which the power of a background is compared with the others'
LARGEST_DEVIATION = 4.5  # standard deviations of a background like the others: one in 10^5 lies farther above


def radii_px(box_size: int) -> FloatArray:
    """Distance of every pixel from the centre pixel L // 2: (L, L) float64, pixels.

    >>> radii_px(3)[1].tolist()
    [1.0, 0.0, 1.0]
    """
    line = np.arange(box_size) - box_size // 2
    return np.hypot(line[:, None], line[None, :]).astype(np.float64)


def estimate_noise(images: Images, radius_px: float | None = None, threads: int | None = None) -> NoiseModel:
    """Background level and noise variance of the pixels farther than ``radius_px`` from the centre.

    Parameters
    ----------
    images : (b, L, L) float32.
    radius_px : the inscribed circle, L // 2, when left out.

    Raises
    ------
    ParameterError
        When the circle leaves fewer than 8 pixels of the box.
    InputError
        When the pixels outside are all equal: masked images have no noise to estimate.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> noise = estimate_noise(rng.normal(3, 2, (200, 32, 32)).astype(np.float32))
    >>> round(noise.mean, 1), round(noise.variance, 1)
    (3.0, 4.0)
    """
    outside = np.flatnonzero(_outside(images.shape[-1], radius_px))
    usual = images[0].ravel()[outside[0]].astype(np.float64)  # what all pixels are where they are all equal

    def measure(block: Images) -> FloatArray:
        pixels = block.reshape(len(block), -1)[:, outside].astype(np.float64).ravel() - usual
        return np.array([pixels.sum(), np.square(pixels).sum()])

    mean, square = sum_blocks(measure, images, threads) / (len(images) * len(outside))
    variance = float(square - mean**2)
    if not variance > 0:
        raise InputError(
            "the pixels outside the particle circle are all equal: the noise cannot be estimated from masked images; "
            "use the particles as extracted, without a mask"
        )
    return NoiseModel(variance=variance, mean=float(usual + mean))


def refuse_wild_pixels(images: Images, rows: IndexArray, sigma: float, threads: int | None = None) -> None:
    """Raise InputError for a pixel more than WILDEST times ``sigma`` off its image's mean: it would outweigh all.

    Parameters
    ----------
    images : (b, L, L) float32.
    rows : (b,), the particles that they are of.
    sigma : standard deviation of an image that is like most.

    Examples
    --------
    >>> refuse_wild_pixels(np.ones((2, 4, 4), np.float32), np.arange(2), 0.1)
    """

    def measure(block: Images) -> FloatArray:
        mean = block.mean(axis=(1, 2), dtype=np.float64)
        return np.maximum(block.max(axis=(1, 2)) - mean, mean - block.min(axis=(1, 2)))

    largest = map_blocks(measure, images, threads)
    worst = int(largest.argmax())
    if largest[worst] > WILDEST * sigma:
        raise InputError(
            f"particle {rows[worst] + 1} has a pixel {largest[worst]:.2g} off its mean, more than {WILDEST:g} "
            f"times the standard deviation of most images, {sigma:.2g}: leave that particle out, or extract it again"
        )


def like_the_others(images: Images, noise: NoiseModel, radius_px: float, threads: int | None = None) -> BoolArray:
    """Which images have a background like most, (b,): no ice, carbon or neighbour in it that would pass for noise.

    The power of the pixels farther than ``radius_px`` from the centre, in each of a few bands of frequency, is about
    chi-squared; its cube root is normal (Wilson & Hilferty 1931). An image is unlike the others where that lies more
    than LARGEST_DEVIATION standard deviations (by MAD) above the median in any band.

    Parameters
    ----------
    images : (b, L, L) float32.
    noise : background level from :func:`estimate_noise`.

    Examples
    --------
    >>> images = np.random.default_rng(0).normal(size=(300, 32, 32)).astype(np.float32)
    >>> images[7, 1:6, 1:6] += 5
    >>> np.flatnonzero(~like_the_others(images, estimate_noise(images), 12)).tolist()
    [7]
    """
    box_size = images.shape[-1]
    mask = _outside(box_size, min(radius_px, box_size // 2)).astype(np.float32)
    radii = np.hypot(scipy.fft.fftfreq(box_size)[:, None], scipy.fft.rfftfreq(box_size)[None, :])
    member = (np.digitize(radii, BANDS[1:]).reshape(-1, 1) == np.arange(len(BANDS) - 1)).astype(np.float32)

    def measure(block: Images) -> FloatArray:
        spectrum = scipy.fft.rfft2((block - np.float32(noise.mean)) * mask).reshape(len(block), -1)
        return ((spectrum.real**2 + spectrum.imag**2) @ member).astype(np.float64)

    size = np.cbrt(map_blocks(measure, images, threads))
    above = size - np.median(size, axis=0)
    spread = 1.4826 * np.median(np.abs(above), axis=0)
    return np.asarray((above <= LARGEST_DEVIATION * spread).all(axis=1))


def _outside(box_size: int, radius_px: float | None) -> np.ndarray:
    radius = box_size // 2 if radius_px is None else radius_px
    mask = radii_px(box_size) > radius
    if np.count_nonzero(mask) < 8:
        raise ParameterError(
            f"a circle of {radius:g} px leaves no background in a box of {box_size} px: "
            "give a smaller particle diameter"
        )
    return mask


def estimate_noise_power(images: Images, noise: NoiseModel, radius_px: float, threads: int | None = None) -> NoiseModel:
    """``noise`` with the radial power spectrum of the pixels outside the particle added, relative to its variance.

    The autocorrelation of the pixels outside, corrected for the shape of the mask, is tapered (Hann) at a quarter of
    the box, transformed and averaged over rings: a smooth estimate that needs no model.

    Parameters
    ----------
    images : (b, L, L) float32.
    noise : mean and variance from :func:`estimate_noise`.
    radius_px : of the particle.

    Returns
    -------
    NoiseModel with ``frequencies`` 0 ... 0.5 cycles/px in steps of 1/(2L) and ``relative_power`` (white: 1).

    Examples
    --------
    >>> images = np.random.default_rng(0).normal(size=(300, 32, 32)).astype(np.float32)
    >>> model = estimate_noise_power(images, estimate_noise(images), radius_px=12)
    >>> bool(np.all(abs(model.relative_power - 1) < 0.1))
    True
    """
    box_size = images.shape[-1]
    mask = _outside(box_size, min(radius_px, box_size // 2))
    size = scipy.fft.next_fast_len(2 * box_size, real=True)
    spectrum = scipy.fft.rfft2(_tapered_correlation(images, noise.mean, mask, size, threads)).real
    frequencies = np.arange(box_size + 1) / (2 * box_size)
    radii = np.hypot(scipy.fft.fftfreq(size)[:, None], scipy.fft.rfftfreq(size)[None, :])
    ring = np.rint(radii * 2 * box_size).astype(np.int64).ravel()
    inside = ring <= box_size
    count = np.bincount(ring[inside], minlength=box_size + 1)
    profile = np.bincount(ring[inside], spectrum.ravel()[inside], minlength=box_size + 1) / np.maximum(count, 1)
    profile = np.interp(frequencies, frequencies[count > 0], profile[count > 0])
    relative = np.maximum(profile / noise.variance, FLOOR)
    return NoiseModel(noise.variance, noise.mean, frequencies, relative)


def _tapered_correlation(
    images: Images, background: float, mask: BoolArray, size: int, threads: int | None
) -> FloatArray:
    """Mean product of two pixels of the ``mask`` (L, L) at every lag, tapered: (size, size), lag 0 first."""
    box_size = images.shape[-1]
    reach = max(4.0, box_size / 4)
    longest = int(np.ceil(reach)) - 1  # lag that counts: longer ones may wrap around
    padded = scipy.fft.next_fast_len(box_size + longest, real=True)
    power = sum_power(images, background, threads, mask=mask, size=padded) / len(images)
    shape = np.abs(scipy.fft.rfft2(mask.astype(np.float64), s=(padded, padded))) ** 2
    lags = np.arange(-longest, longest + 1)
    products, pairs = (scipy.fft.irfft2(p, s=(padded, padded))[np.ix_(lags, lags)] for p in (power, shape))
    distance = np.hypot(lags[:, None], lags[None, :])
    taper = np.where(distance < reach, 0.5 + 0.5 * np.cos(np.pi * distance / reach), 0.0)
    correlation = np.zeros((size, size))
    correlation[np.ix_(lags, lags)] = products / np.maximum(np.rint(pairs), 1) * taper
    return correlation


def is_white(noise: NoiseModel, bandlimit: float = 0.5, tolerance: float = 0.25) -> bool:
    """Whether the noise power stays within ``tolerance`` of its mean at all frequencies up to the bandlimit.

    >>> is_white(NoiseModel(1.0, 0.0))
    True
    """
    if noise.frequencies is None or noise.relative_power is None:
        return True
    power = noise.relative_power[noise.frequencies <= bandlimit]
    return bool(np.all(np.abs(power / power.mean() - 1) <= tolerance))


def relative_power(noise: NoiseModel, frequencies: ArrayLike) -> FloatArray:
    """Noise power over its variance at the given ``frequencies`` (cycles/px, any shape); 1 for white noise.

    >>> relative_power(NoiseModel(1.0, 0.0), [0.1, 0.2]).tolist()
    [1.0, 1.0]
    """
    at = np.asarray(frequencies, np.float64)
    if noise.frequencies is None or noise.relative_power is None:
        return np.ones_like(at)
    return np.interp(at, noise.frequencies, noise.relative_power)
