"""Where the particle lives: the radius in real space and the bandlimit in Fourier space that hold its power."""

from __future__ import annotations

import warnings

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ..errors import MfvdmWarning
from ..records import DiskSupport, FloatArray, Images, IndexArray, NoiseModel
from .blocks import map_blocks, mean_image, sum_blocks, sum_power, sum_squares
from .noise import radii_px, relative_power

ENERGY = 0.99
SIGNIFICANCE = 3.0  # standard errors a ring must stand above the noise to count as signal
# What lies below the noise of the estimate is still particle: both limits are set wider than what was seen.
RADIUS_MARGIN = 1.15
BANDLIMIT_MARGIN = 0.1  # cycles/px
CENTRE = 0.7  # of the radius, in which a particle is looked for
STANDS_OUT = 5.0  # standard errors
DIFFERS = 4.0  # standard errors


def estimate_radius(images: Images, noise: NoiseModel, threads: int | None = None) -> float:
    """Radius in pixels of the disc that holds 99 % of the signal's variance, with a margin of 15 % and 1.5 pixels.

    The mean square of every ring minus the noise variance, 0 where it does not stand three standard errors above the
    noise, cumulated with weight r. (Zhao & Singer's rule, with the margin and the threshold that low SNR asks for.)

    Parameters
    ----------
    images : (b, L, L) float32; a sample of the stack.
    noise : background and variance.

    Returns
    -------
    float, at most the largest disc inside the box (L // 2 for odd, L // 2 - 1 for even boxes). Without any ring above
    the noise, that largest disc.

    Examples
    --------
    >>> images = np.random.default_rng(0).normal(size=(200, 33, 33)) + 2 * (radii_px(33) < 8)
    >>> 8 <= estimate_radius(images.astype(np.float32), NoiseModel(1.0, 0.0)) <= 11
    True
    """
    box_size = images.shape[-1]
    largest = (box_size - 1) // 2
    square = sum_blocks(lambda block: sum_squares(block - np.float32(noise.mean)), images, threads)
    rings = np.rint(radii_px(box_size)).astype(np.int64)
    reached = _reach(square / len(images), rings, largest, noise.variance, len(images), power=1)
    return float(largest if reached is None else min(largest, RADIUS_MARGIN * reached + 1.5))


def estimate_bandlimit(images: Images, noise: NoiseModel, threads: int | None = None) -> float:
    """Bandlimit in cycles/px that holds 99 % of what tells images apart, and 0.1 more; at most 0.5.

    What tells two images apart is the sum of squared spectral SNRs: rings are cumulated with r (P/sigma^2 - 1)^2.
    With the power itself as weight, maps with a flat spectrum get a bandlimit at which noise wins: on the 129 px
    ribosome at SNR .01 both the neighbours and the images were worse at 0.40 than at 0.26 cycles/px.

    Parameters
    ----------
    images : (b, L, L) float32; a sample of the stack.
    noise : background, variance, and the spectrum if it is not white.

    Returns
    -------
    float; 0.5 when no ring stands above the noise.

    Examples
    --------
    >>> images = np.random.default_rng(0).normal(size=(200, 33, 33)) + 2 * (radii_px(33) < 8)
    >>> 0.1 < estimate_bandlimit(images.astype(np.float32), NoiseModel(1.0, 0.0)) < 0.3
    True
    """
    box_size = images.shape[-1]
    radii = np.hypot(scipy.fft.fftfreq(box_size)[:, None], scipy.fft.rfftfreq(box_size)[None, :])
    power = sum_power(images, noise.mean, threads) / (len(images) * box_size**2 * relative_power(noise, radii))
    reached = _reach(
        power, np.rint(radii * box_size).astype(np.int64), box_size // 2, noise.variance, len(images), power=2
    )
    return 0.5 if reached is None else float(min(reached / box_size + BANDLIMIT_MARGIN, 0.5))


def _reach(
    values: FloatArray, rings: np.ndarray, last: int, variance: float, n_images: int, *, power: int
) -> int | None:
    """First ring at which the cumulated significant excess over ``variance``, to a power, reaches ENERGY."""
    inside = rings <= last
    count = np.bincount(rings[inside], minlength=last + 1)
    profile = np.bincount(rings[inside], values[inside], minlength=last + 1) / count
    error = variance * np.sqrt(2 / (n_images * count))
    excess = np.where(profile - variance > SIGNIFICANCE * error, profile - variance, 0.0)
    cumulated = np.cumsum((excess / variance) ** power * np.arange(last + 1))
    if cumulated[-1] <= 0:
        return None
    return int(np.searchsorted(cumulated, ENERGY * cumulated[-1]))


def estimate_support(images: Images, noise: NoiseModel, threads: int | None = None) -> DiskSupport:
    """Radius and bandlimit of a sample of images.

    Parameters
    ----------
    images : (b, L, L) float32.
    noise : background, variance, and the spectrum if it is not white.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> images = rng.normal(size=(200, 33, 33)).astype(np.float32) + 2 * (radii_px(33) < 8)
    >>> support = estimate_support(images.astype(np.float32), NoiseModel(1.0, 0.0))
    >>> 8 <= support.radius_px <= 11
    True
    """
    return DiskSupport(estimate_radius(images, noise, threads), estimate_bandlimit(images, noise, threads))


def warn_if_inverted(
    images: Images, noise: NoiseModel, radius_px: float, where: str = "", threads: int | None = None
) -> bool:
    """Warn (MfvdmWarning) and return True when the particle is darker than its background.

    Where the particle reaches the edge of the box (``radius_px``, as far as :func:`estimate_radius` goes) the corners
    may hold parts of it, and a hollow one that is cut is darker in its middle: nothing is said unless the middle
    differs from image to image more than the corners do. Measured on 300 images of windows smaller than the particle,
    and beside its middle: 5 of 176 such stacks are called black, 33 without this; of 111 stacks that are black 2 are
    missed by it (SNR .01 and 40 % of junk).
    ``where`` begins the message.

    >>> bright = np.zeros((4, 17, 17), np.float32) + (radii_px(17) < 5)
    >>> warn_if_inverted(bright.astype(np.float32), NoiseModel(0.01, 0.0), 6.0)
    False
    """
    radii = radii_px(images.shape[-1])
    inside = np.flatnonzero(radii <= CENTRE * radius_px)
    means = map_blocks(lambda block: _mean_over(block, inside), images, threads) - noise.mean
    white = np.sqrt(noise.variance / len(inside))  # neighbouring pixels of other noise are alike
    error = max(white, float(means.std())) / np.sqrt(len(images))
    inverted = bool(means.mean() < -5 * error)
    if inverted and radius_px >= (images.shape[-1] - 1) // 2:  # no ring of background was seen
        inverted = _differs_most(images, inside, np.flatnonzero(radii > images.shape[-1] // 2), threads)
    if inverted:
        warnings.warn(
            f"{where}the particles are darker than their background: this program expects white protein, as RELION "
            "does; if protein is black in these images, run again with --invert (invert=True), or without it if it was "
            "given",
            MfvdmWarning,
            stacklevel=2,
        )
    return inverted


def _mean_over(values: NDArray[np.floating], pixels: IndexArray) -> FloatArray:
    """Mean of each of ``values`` (b, L, L) over ``pixels``, flat indices: (b,)."""
    return np.asarray(values.reshape(len(values), -1)[:, pixels].mean(axis=1, dtype=np.float64))


def _differs_most(images: Images, inside: IndexArray, corners: IndexArray, threads: int | None) -> bool:
    """Whether the pixels ``inside`` vary more over the images than those in the ``corners``."""
    mean = mean_image(images, threads)

    def measure(block: Images) -> FloatArray:
        square = np.square(block - mean)
        return _mean_over(square, inside) - _mean_over(square, corners)

    more = map_blocks(measure, images, threads)
    return bool(more.mean() > DIFFERS * more.std() / np.sqrt(len(images)))


def measure_centre(images: Images, noise: NoiseModel, support: DiskSupport, threads: int | None = None) -> float:
    """How much more power the middle of the images has than their corners, in standard errors.

    The mean square of each image, whitened and without what lies above the bandlimit, within CENTRE radii less that
    outside the largest circle of the box; the mean of all images over its error. The same up to a half and a quarter of
    the bandlimit, which may be that of the noise; of the three the farthest from 0. Noise of any spectrum has the same
    power everywhere: what it gives each time is normal, of mean 0 and variance 1.

    Parameters
    ----------
    images : (b, L, L) float32; a sample of the stack.
    noise : background, and the spectrum if it is not white.
    support : radius and bandlimit in px and cycles/px of these images.
    threads : the result does not depend on it.

    Examples
    --------
    >>> images = np.random.default_rng(0).normal(size=(200, 33, 33)).astype(np.float32)
    >>> abs(measure_centre(images, NoiseModel(1.0, 0.0), DiskSupport(10.0, 0.3))) < STANDS_OUT
    True
    >>> images += radii_px(33) < 6
    >>> measure_centre(images, NoiseModel(1.0, 0.0), DiskSupport(10.0, 0.3)) > 10 * STANDS_OUT
    True
    """
    box_size, radii = images.shape[-1], radii_px(images.shape[-1])
    middle, corners = (
        np.flatnonzero(pixels) for pixels in (radii <= CENTRE * support.radius_px, radii > box_size // 2)
    )
    f = np.hypot(scipy.fft.fftfreq(box_size)[:, None], scipy.fft.rfftfreq(box_size)[None, :])
    white = 1 / np.sqrt(relative_power(noise, f))
    filters = [(white * (f <= share * support.bandlimit)).astype(np.float32) for share in (1, 0.5, 0.25)]

    def measure(block: Images) -> FloatArray:
        spectra, more = scipy.fft.rfft2(block - np.float32(noise.mean)), []
        for transfer in filters:
            square = np.square(scipy.fft.irfft2(spectra * transfer, s=block.shape[1:]), dtype=np.float64)
            more.append(_mean_over(square, middle) - _mean_over(square, corners))
        return np.stack(more, axis=1)

    more = map_blocks(measure, images, threads)
    error = np.maximum(more.std(axis=0) / np.sqrt(len(images)), np.finfo(np.float64).tiny)
    return float(max(more.mean(axis=0) / error, key=abs))


def warn_if_even(
    images: Images, noise: NoiseModel, support: DiskSupport, where: str = "", threads: int | None = None
) -> bool:
    """Warn (MfvdmWarning) and return True when the middle of the images does not stand out: :func:`measure_centre`.

    Measured in 64 px: -1.7 to 3.4 in 24 stacks of 300 and 1,000 images of noise with six spectra; with particles at SNR
    .01 in 300 images 18 (white noise), 11 (power falling by 4) and 7 (by 20); 15 at SNR .005 in 2,000 (by 4); 23 in
    1,000 real images of apoferritin, other particles around them.
    ``where`` begins the message.

    >>> images = np.random.default_rng(0).normal(size=(200, 33, 33)).astype(np.float32) + 2 * (radii_px(33) < 6)
    >>> warn_if_even(images, NoiseModel(1.0, 0.0), DiskSupport(10.0, 0.3))
    False
    """
    even = abs(measure_centre(images, noise, support, threads)) < STANDS_OUT
    if even:
        warnings.warn(
            f"{where}the middle of the images holds no more than their corners do, so what is restored may be noise: "
            "check that the images hold particles and are not scaled or masked one by one, or use more particles",
            MfvdmWarning,
            stacklevel=2,
        )
    return even
