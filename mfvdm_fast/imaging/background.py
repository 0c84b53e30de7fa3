"""Levels, ramps and gains that differ from image to image: found in a stack, and taken out of each of its images.

Programs that extract particles normalise them one by one: background 0 without a ramp, deviation 1. Where that was not
done, the corners of an image and its middle share what they should not: noise and particles have nothing in common
there. Stacks without that sign are left as they are, to the bit.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import SMALLEST_BOX
from ..records import BoolArray, FloatArray, Images, ImageStack, IndexArray, Unevenness
from ..threads import map_in_order

FEWEST = 8  # images, of which anything can be told
CERTAIN = 5.0  # standard errors of Fisher's z
LEAST_SHARED = 0.3  # correlation of corners and middle: levels of .02 standard deviations of white noise in 64 px
CLIP = 3.0  # standard deviations, by MAD, that an image may count for
# What lies so far off in its corners and its middle alike is hardly junk: deviations of the noise (level, ramp at the
# edge of the image), and how many times the usual scale.
FAR_LEVEL, FAR_RAMP, FAR_SCALE = 2.0, 4.0, 20.0
WILD = 1e6
LEAST_GAIN = 0.1  # standard deviation of its logarithm
MOST_LEFT = 0.6  # of the spread of log deviations, once those of the backgrounds are out
NINETY = 3.29  # standard deviations of normal values, between which 90 % of them lie
FAINTEST = 1 / 3  # of the power in the middle: what a background has less may be the particle's own
_BLOCK = 64
_X, _Y = np.array([[-1], [1], [-1], [1]]), np.array([[-1], [-1], [1], [1]])  # signs of the four corners


@dataclass(frozen=True)
class Surroundings:
    """Level, slopes (per px) and deviation of the corners of b images, and of the rest of each."""

    corners: FloatArray  # (b, 3): level, slopes along x and y, from the means of the four corners
    middle: FloatArray  # (b, 3): the same of the other pixels
    log_corners: FloatArray  # (b,): log deviation in a corner once the ramp is out, mean of all four; -inf: constant
    log_middle: FloatArray  # (b,): log deviation of the other pixels from the plane that fits the image best


@functools.lru_cache(maxsize=4)
def _corner_pixels(box_size: int) -> tuple[IndexArray, FloatArray, FloatArray]:
    """Flat indices (4, m) of the pixels outside the largest circle, and |x|, |y| (m,) from the centre pixel."""
    half, centre = (box_size - 1) // 2, box_size // 2
    line = np.arange(1, half + 1)
    y, x = (1 + place for place in np.nonzero(np.hypot(line[:, None], line) > half))
    at = (centre + _Y * y) * box_size + centre + _X * x
    return at.astype(np.int64), x.astype(np.float64), y.astype(np.float64)


def fit_planes(pixels: FloatArray) -> FloatArray:
    """Mean and slopes along x and y (per px) of the plane that fits each of the images (b, L, L) best: (b, 3).

    Each image is measured by itself: the ones beside it make no difference, not even to the last bit.

    >>> y, x = np.mgrid[:16, :16]
    >>> np.round(fit_planes(3 + 0.5 * x[None] - 0.25 * y), 9).tolist()
    [[4.875, 0.5, -0.25]]
    """
    box_size = pixels.shape[-1]
    line = np.arange(box_size) - (box_size - 1) / 2
    columns, rows = pixels.sum(axis=1), pixels.sum(axis=2)
    square = box_size * np.square(line).sum()
    slopes = [(columns * line).sum(axis=1) / square, (rows * line).sum(axis=1) / square]
    return np.stack([rows.sum(axis=1) / box_size**2, *slopes], axis=1)


def measure_surroundings(images: Images, threads: int = 1) -> Surroundings:
    """Level, slopes and deviation of the corners of the images (b, L, L) float32, and of the rest of each.

    >>> y, x = np.mgrid[:16, :16]
    >>> found = measure_surroundings(np.float32([3 + 0.5 * (x - 8)]))
    >>> np.round(np.concatenate([found.corners, found.middle]), 6).tolist()
    [[3.0, 0.5, 0.0], [2.644444, 0.5, 0.0]]
    """

    def measure(start: int) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        return _surroundings(images[start : start + _BLOCK].astype(np.float64))

    found = map_in_order(measure, range(0, len(images), _BLOCK), threads)
    return Surroundings(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _fit_corners(pixels: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Pixels (b, 4, m) of the corners in float64, (b, 3) level and slopes, (b,) log deviation: see Surroundings."""
    at, x, y = _corner_pixels(pixels.shape[-1])
    corner = pixels.reshape(len(pixels), -1)[:, at]
    means = corner.mean(axis=2)
    slopes = [(means * sign[:, 0]).mean(axis=1) / x.mean() for sign in (_X, _Y)]
    flat = corner - means[..., None]
    for slope, away in zip(slopes, (_X * x, _Y * y), strict=True):
        flat -= slope[:, None, None] * (away - away.mean(axis=1, keepdims=True))
    with np.errstate(divide="ignore"):
        deviation = np.log(np.square(flat, out=flat).mean(axis=2)).mean(axis=1) / 2
    return corner, np.stack([means.mean(axis=1), *slopes], axis=1), deviation


def _surroundings(pixels: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """The fields of Surroundings for images (b, L, L) in float64."""
    box_size = pixels.shape[-1]
    at, x, y = _corner_pixels(box_size)
    corner, corners, log_corners = _fit_corners(pixels)
    square = box_size * np.square(np.arange(box_size) - (box_size - 1) / 2).sum()
    whole, number = fit_planes(pixels), box_size**2 - at.size
    middle = [(box_size**2 * whole[:, 0] - corner.sum(axis=(1, 2))) / number]
    power = np.square(pixels.reshape(len(pixels), -1)).sum(axis=1) - box_size**2 * np.square(whole[:, 0])
    off = corner - whole[:, 0, None, None]
    to_centre = box_size // 2 - (box_size - 1) / 2  # planes are about the middle of the box
    for slope, away in zip(whole.T[1:], (_X * x, _Y * y), strict=True):
        middle.append((square * slope - (corner * away).sum(axis=(1, 2))) / (square - np.square(away).sum()))
        power -= square * np.square(slope)
        off -= slope[:, None, None] * (away + to_centre)
    inner = np.maximum(power - np.square(off, out=off).sum(axis=(1, 2)), 0) / number
    with np.errstate(divide="ignore"):
        return corners, np.stack(middle, axis=1), log_corners, np.log(inner) / 2


def _standard(values: FloatArray) -> FloatArray:
    """Values (n,) from their median in standard deviations, by MAD, clipped at CLIP; 0 where most are the same."""
    away = values - np.median(values)
    spread = 1.4826 * np.median(np.abs(away))
    return np.clip(away / spread, -CLIP, CLIP) if spread > 0 else np.zeros_like(away)


def shared(one: FloatArray, other: FloatArray) -> tuple[float, float]:
    """Correlation of two lists (n,) in which outliers count little, and its certainty in standard errors (Fisher's z).

    >>> x, y = np.random.default_rng(0).normal(size=(2, 100))
    >>> [[round(value) for value in shared(x, other)] for other in (x + 0.1 * y, y)]
    [[1, 30], [0, 1]]
    """
    if len(one) < FEWEST:
        return 0.0, 0.0
    a, b = (values - values.mean() for values in map(_standard, (one, other)))
    size = np.sqrt((a @ a) * (b @ b))
    if not size > 0:
        return 0.0, 0.0
    common = float(a @ b / size)
    return common, float(np.arctanh(np.clip(common, -1 + 1e-12, 1 - 1e-12)) * np.sqrt(len(one) - 3))


def estimate_unevenness(images: Images, threads: int = 1) -> Unevenness:
    """What differs between the images (b, L, L) float32, a sample of a stack, beyond noise and particles.

    Levels and slopes of the corners are compared with those of the rest of each image, and so are the deviations: they
    share what the image as a whole has. Measured on 2,000 simulated images of 32, 64 and 96 px, what they share (a
    correlation): -.1 to .1 in white noise; up to .13 (level) and .1 (ramp) in noise whose power falls by 4, .24 and .19
    by 20; up to .22 with up to 30 % of junk; below 0 in real images that RELION normalised. Levels of .01, .02 and .1
    standard deviations of the noise: .18, .41, .94; ramps of .001 per px .41. Deviations: of gains between .5 and 2
    .998, but up to .65 with much junk, which is told otherwise. Where the background may be the particle's own (SNR
    above 3) they are left. Of a few images among many even ones no correlation tells: one that lies far off in
    its corners and its middle alike is enough (FAR_LEVEL, FAR_RAMP, FAR_SCALE). Junk of SNR 1 lies .6, 2.9
    and (scale) 4 off.

    Examples
    --------
    >>> images = np.random.default_rng(0).normal(size=(200, 32, 32)).astype(np.float32)
    >>> estimate_unevenness(images).is_even
    True
    >>> images += np.linspace(-1, 1, 200, dtype=np.float32)[:, None, None]
    >>> found = estimate_unevenness(images)
    >>> found.has_levels, found.has_ramps, round(found.level_spread, 1)
    (True, False, 0.6)
    """
    if len(images) < FEWEST or images.shape[-1] < SMALLEST_BOX:
        return Unevenness()
    found = measure_surroundings(images, threads)
    outer, inner = found.log_corners, found.log_middle
    known = np.isfinite(outer) & np.isfinite(inner)
    if not known.any():
        return Unevenness()
    usual = float(np.median(outer[known]))
    # Where the background may be the particle's own, nothing lies far off it.
    is_noise = 2 * np.median((outer - inner)[known]) > np.log(FAINTEST)
    unit, far = float(np.exp(usual)), 1.0 if is_noise else np.inf
    scales = np.exp(outer - usual)[None], np.exp(inner - np.median(inner[known]))[None]
    has_gains, far_off = _told(bool(is_noise) and _has_gains(outer[known], inner[known]), *scales, FAR_SCALE * far)
    gain = _gains(outer, usual) if has_gains else np.ones(len(images))
    corners, middle = (found.corners / gain[:, None]).T, (found.middle / gain[:, None]).T
    is_shared, far_ramp = _is_shared(corners[1:].ravel(), middle[1:].ravel()), 2 * FAR_RAMP * unit / images.shape[-1]
    has_ramps, far_too = _told(is_shared, corners[1:], middle[1:], far_ramp * far)
    is_shared = _is_shared(corners[0], middle[0])
    has_levels, as_far = _told(is_shared, corners[:1], middle[:1], FAR_LEVEL * unit * far)
    return Unevenness(
        has_levels=has_levels or has_ramps,
        has_ramps=has_ramps,
        has_gains=has_gains,
        deviation=unit,
        level_spread=_spread(middle[0]) / unit if has_levels else 0.0,
        ramp_spread=_spread(middle[1:]) / unit if has_ramps else 0.0,
        gain_ratio=float(np.exp(NINETY * _spread(outer[known]))) if has_gains else 1.0,
        n_far=int((far_off | far_too | as_far).sum()),
    )


def _is_shared(one: FloatArray, other: FloatArray) -> bool:
    common, certainty = shared(one, other)
    return common > LEAST_SHARED and certainty > CERTAIN


def _told(is_shared: bool, one: FloatArray, other: FloatArray, far: float) -> tuple[bool, BoolArray]:
    """Whether images differ, and which (n,) of them, columns of (c, n), tell so although no correlation does.

    Those are ``far`` from the median in both, to the same side. Such as are WILD times as far have a pixel that is
    refused later, in which the rest of the sums is lost.
    """
    a, b = (values - np.median(values, axis=1, keepdims=True) for values in (one, other))
    near, most = np.minimum(np.abs(a), np.abs(b)), np.maximum(np.abs(a), np.abs(b))
    found = ((np.sign(a) == np.sign(b)) & (near > far) & (most < WILD * far)).any(axis=0)
    return is_shared or bool(found.any()), np.asarray(found & (not is_shared))


def _spread(values: FloatArray) -> float:
    """Standard deviation of normal values, from the middle 90 % of these."""
    low, high = np.quantile(values, [0.05, 0.95])
    return float(high - low) / NINETY


def _has_gains(outer: FloatArray, inner: FloatArray) -> bool:
    """Whether log deviations (n,) of backgrounds and of the pixels inside tell of images on different scales.

    Junk has more power in both, but not by the same factor. Measured (SNR .1 to 1), the spread that is left, of that
    before: where half are junk .63 to 1.4 in 33 px, 1 and more in 48 and 64 px; of gains of .1 (standard deviation of
    the logarithm) .3 at SNR .05, .8 at .2 with .3 of junk; of .2 .55 there.
    """
    least = min(_spread(outer), _spread(inner))
    return _is_shared(outer, inner) and least > LEAST_GAIN and _spread(outer - inner) < MOST_LEFT * least


def _gains(log_deviations: FloatArray, usual: float) -> FloatArray:
    """(b,) what images of these deviations are divided by; 1 where the background is constant."""
    return np.where(np.isfinite(log_deviations), np.exp(log_deviations - usual), 1.0)


def even_out(images: Images, unevenness: Unevenness, threads: int = 1) -> Images:
    """The images (b, L, L) float32 with what ``unevenness`` tells taken out of each; a new array if there is anything.

    The level is the mean of all pixels of an image: that of the corners alone has so much noise that what is left of
    it costs 2.4 dB (64 px, SNR .05), while the mean of the particle, whose mass is the same in all views, is hardly
    missed. It makes no difference which images stand beside each other, nor how many threads there are.

    Examples
    --------
    >>> images = np.random.default_rng(0).normal(size=(3, 16, 16)).astype(np.float32)
    >>> even_out(images, Unevenness()) is images
    True
    >>> bool(np.allclose(even_out(images, Unevenness(has_levels=True)).mean(axis=(1, 2)), 0, atol=1e-6))
    True
    """
    if unevenness.is_even:
        return images
    out = np.empty_like(images)
    box_size = images.shape[-1]
    line = np.arange(box_size) - (box_size - 1) / 2

    def take_out(start: int) -> None:
        pixels = images[start : start + _BLOCK].astype(np.float64)
        gain = None
        if unevenness.has_gains:
            gain = _gains(_fit_corners(pixels)[2], float(np.log(unevenness.deviation)))
        if unevenness.has_levels:
            level, slope_x, slope_y = fit_planes(pixels).T[..., None, None]
            if unevenness.has_ramps:
                pixels -= slope_x * line
                pixels -= slope_y * line[:, None]
            pixels -= level
        if gain is not None:
            pixels /= gain[:, None, None]
        out[start : start + _BLOCK] = pixels

    map_in_order(take_out, range(0, len(images), _BLOCK), threads)
    return out


class EvenStack:
    """A stack (anything with the attributes of ``ImageStack``) from whose images ``unevenness`` is taken out."""

    def __init__(self, stack: ImageStack, unevenness: Unevenness, threads: int) -> None:
        self._stack, self._unevenness, self._threads = stack, unevenness, threads

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stack, name)

    def read(self, rows: IndexArray) -> Images:
        return even_out(self._stack.read(rows), self._unevenness, self._threads)

    def chunks(self, max_images: int) -> Iterator[tuple[IndexArray, Images]]:
        for rows, images in self._stack.chunks(max_images):
            held = [even_out(images, self._unevenness, self._threads)]
            del images
            yield rows, held.pop()  # the caller alone holds them
