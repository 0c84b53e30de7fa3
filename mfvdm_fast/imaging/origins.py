"""Whether the origins of a stack are right: images are alike where they are centred, and stand in the middle.

The mean of all images is that of particles turned at random: round, and sharpest where the particles are centred. So
is their mean power, in which few and faint images tell more.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ..errors import MfvdmWarning
from ..records import FloatArray, Images, IndexArray, NoiseModel, OriginColumns
from ..threads import map_in_order, resolve_threads
from .blocks import add_blocks, sum_spectra, sum_squares
from .fourier_shift import check_shifts, shift_transforms
from .noise import radii_px, relative_power
from .resample import resample_images

GROUPS = 16  # of images, from whose differences the error of the comparison follows
CERTAIN = 5.0  # standard errors
CERTAIN_PLACE = 6.0  # the same for the best of a thousand places: noise reached 4.2 in 400 stacks
FARTHEST = 0.3  # of the box, in x and in y, that all particles may be found off
ROUND = 0.8  # of what the mean image has in common with itself, kept when turned: .84 and more, .3 to .8 for one view
OFF = 0.05  # of the box: particles that stand farther off, all of them, are told
LARGEST_GRID = 128  # px, on which images of large boxes are compared
MOST_FOR_POWER = 1024  # images: of more their mean tells as much
# How origins may be wrong: (x, y) times the matrix would be right; what to say, and what to do to which column.
WAYS: tuple[tuple[tuple[tuple[int, int], tuple[int, int]], str, str], ...] = (
    (((-1, 0), (0, -1)), "have the wrong sign", "turn the signs of both columns round"),
    (((-1, 0), (0, 1)), "have the wrong sign in x", "turn the sign of {x} round"),
    (((1, 0), (0, -1)), "have the wrong sign in y", "turn the sign of {y} round"),
    (((0, 1), (1, 0)), "have x and y exchanged", "exchange the two columns"),
    (((0, -1), (-1, 0)), "have x and y exchanged, and the wrong sign", "exchange the two columns and both signs"),
    (((0, -1), (1, 0)), "are turned by 90 degrees", "exchange the two columns, then the sign of {x}"),
    (((0, 1), (-1, 0)), "are turned by 90 degrees", "exchange the two columns, then the sign of {y}"),
)


def measure_ways(
    images: Images, shifts_px: FloatArray, radius_px: float, background: float = 0.0, threads: int | None = None
) -> FloatArray:
    """How much more all images have in common when their shifts are taken in each of WAYS, in standard errors.

    The energy of the mean image within ``radius_px`` of the centre, without what each group of images has by itself
    (its noise), less the same with the shifts as they are; over its standard error, by leaving groups out (jackknife).
    Around 0 when the shifts are nothing that the particles have; 0 for fewer than 2 * GROUPS images.

    Parameters
    ----------
    images : (b, L, L) float32.
    shifts_px : (b, 2), (x, y) of the particles from the centre.
    background : of the images.
    threads : the result does not depend on it.

    Raises
    ------
    ParameterError
        When the shifts are not finite numbers of shape (b, 2).

    Examples
    --------
    >>> images = np.zeros((32, 9, 9), np.float32)
    >>> images[::2, 4, 5], images[1::2, 4, 3] = 1, 1
    >>> images += np.random.default_rng(0).normal(0, 0.1, images.shape).astype(np.float32)
    >>> shifts = np.tile([[0.0, 1.0], [0.0, -1.0]], (16, 1))
    >>> WAYS[int(measure_ways(images, shifts, 3).argmax())][1]
    'have x and y exchanged'
    """
    shifts = check_shifts(shifts_px, len(images))
    if len(images) < 2 * GROUPS:
        return np.zeros(len(WAYS))
    taken = [shifts, *(shifts @ np.array(way, np.float64).T for way, _, _ in WAYS)]
    sums = _group_sums(images, taken, background, threads)
    inside = radii_px(sums.shape[-1]) <= radius_px * sums.shape[-1] / images.shape[-1]
    given, *others = (_mean_products(groups[:, inside]).sum(axis=1) for groups in sums)
    return np.array([_in_errors(other - given) for other in others])


class Offset(NamedTuple):
    """Where all particles stand."""

    place: FloatArray  # (2,), (x, y) in px from the centre
    certainty: float  # in standard errors
    is_round: bool  # what it was found by


def measure_offset(
    images: Images, shifts_px: FloatArray | None, background: float = 0.0, threads: int | None = None
) -> Offset:
    """Where all particles stand when ``shifts_px`` are undone, by the mean image; and how surely.

    That is where the mean image has most in common with itself turned by half a turn; how much more than when it is
    turned about the centre, in standard errors as in :func:`measure_ways`. To half a pixel (of the grid of a large
    box), and up to FARTHEST. The certainty is 0 where the mean image is not round, as that of one view turned always
    alike. Measured in 65 px: 0 to 2 standard errors for particles in the middle; with 1,000 images that stand (12, 0)
    px off and up to 3 px (rms) around it 13 to 54 at SNR .05, 5 to 28 at SNR .02.

    >>> images = np.random.default_rng(0).normal(size=(64, 17, 17)).astype(np.float32)
    >>> images[:, 8:11, 5:8] += 1
    >>> place, certainty, _ = measure_offset(images, None)
    >>> place.tolist(), certainty > CERTAIN
    ([-2.0, 1.0], True)
    """
    if len(images) < 2 * GROUPS:
        return Offset(np.zeros(2), 0.0, False)
    shifts = None if shifts_px is None else check_shifts(shifts_px, len(images))
    sums = _group_sums(images, None if shifts is None else [shifts], background, threads)
    place, certainty, is_round = _half_turn(sums[0], threads)
    scale = images.shape[-1] / min(images.shape[-1], LARGEST_GRID)
    return Offset(place * scale, certainty if is_round else 0.0, is_round)


def measure_offset_of_power(
    images: Images, shifts_px: FloatArray | None, noise: NoiseModel, threads: int | None = None
) -> Offset:
    """The same by the mean power: of images filtered so that what stands above the noise weighs most, squared.

    Neither the sign of the CTF nor views that differ cancel in it. Of one view turned always alike it may be round.
    Measured with 300 images of 65 px, standing (10, 0) px off and up to 3 px (rms) around it: 6 to 18 standard errors
    at SNR .02 (by the mean image 2 to 8), at (9, 0) to (10, .5) px.

    >>> images = np.random.default_rng(0).normal(size=(64, 17, 17)).astype(np.float32)
    >>> images[:, 8:11, 5:8] += np.random.default_rng(1).choice([-2, 2], 64)[:, None, None]
    >>> measure_offset_of_power(images, None, NoiseModel(1.0, 0.0)).place.tolist()
    [-2.0, 1.0]
    """
    if len(images) < 2 * GROUPS:
        return Offset(np.zeros(2), 0.0, False)
    shifts = None if shifts_px is None else check_shifts(shifts_px, len(images))
    rows = np.linspace(0, len(images) - 1, min(len(images), MOST_FOR_POWER)).astype(np.int64)
    return _half_turn(_power_sums(images, rows, None if shifts is None else shifts[rows], noise, threads), threads)


def _half_turn(groups: NDArray[np.float64], threads: int | None) -> Offset:
    """Where the mean of ``groups`` (GROUPS, l, l) has most in common with itself turned by half a turn."""
    groups = groups - groups.mean(axis=(1, 2), keepdims=True)
    box_size = groups.shape[-1]
    middle, most = 2 * (box_size // 2), int(2 * FARTHEST * box_size)
    size = scipy.fft.next_fast_len(box_size + most + 1, real=True)  # from the other side nothing comes back so far
    window = slice(middle - most, middle + most + 1)

    def turn(product: NDArray[np.complex128]) -> FloatArray:
        return np.asarray(scipy.fft.irfft2(product, s=(size, size))[window, window])

    workers = resolve_threads(threads)
    spectra = map_in_order(lambda group: scipy.fft.rfft2(group, s=(size, size)), groups, workers)
    near = np.array(map_in_order(turn, _mean_products(np.array(spectra)), workers))
    y, x = np.unravel_index(int(near[0].argmax()), near[0].shape)
    is_round = bool(near[0, y, x] >= ROUND * _mean_products(groups)[0].sum())
    return Offset(np.array([x - most, y - most]) / 2, _in_errors(near[:, y, x] - near[:, most, most]), is_round)


def _groups(n_images: int) -> list[range]:
    """The rows of each of GROUPS of images."""
    bounds = [-(-g * n_images // GROUPS) for g in range(GROUPS + 1)]
    return [range(start, stop) for start, stop in itertools.pairwise(bounds)]


def _power_sums(
    images: Images, rows: IndexArray, shifts_px: FloatArray | None, noise: NoiseModel, threads: int | None
) -> NDArray[np.float64]:
    """Mean squares of each of GROUPS of the ``rows`` (m,) of images, filtered and moved back: (GROUPS, L, L).

    By ``shifts_px`` (m, 2). The filter is the root of S / N^2, signal and noise power by rings of frequency: of a
    faint signal no other sum of squares shows more.
    """
    box_size, groups, workers = images.shape[-1], _groups(len(rows)), resolve_threads(threads)
    frequencies = np.hypot(scipy.fft.fftfreq(box_size)[:, None], scipy.fft.rfftfreq(box_size)[None, :])
    ring = np.rint(frequencies * box_size).astype(np.int64)
    spectra = np.empty((len(rows), *ring.shape), np.complex64)

    def transform(some: slice) -> NDArray[np.floating]:
        spectra[some] = scipy.fft.rfft2(images[rows[some]] - np.float32(noise.mean))
        return sum_spectra(spectra[some])

    power = np.sum(map_in_order(lambda group: add_blocks(transform, group, box_size), groups, workers), axis=0)
    mean = np.bincount(ring.ravel(), power.ravel()) / np.bincount(ring.ravel()) / (len(rows) * box_size**2)
    noise_power = noise.variance * relative_power(noise, np.arange(len(mean)) / box_size)
    wanted = np.sqrt(np.maximum(mean / noise_power - 1, 0) / noise_power)
    wanted[0], wanted[box_size // 2 + 1 :] = 0, 0  # the background of single images, and corners
    transfer = wanted[ring].astype(np.float32)

    def square(some: slice) -> NDArray[np.floating]:
        filtered = spectra[some] * transfer
        if shifts_px is not None:
            shift_transforms(filtered, shifts_px[some])
        return sum_squares(scipy.fft.irfft2(filtered, s=images.shape[1:]))

    sums = map_in_order(lambda group: add_blocks(square, group, box_size) / len(group), groups, workers)
    return np.array(sums)


def _group_sums(
    images: Images, ways: Sequence[FloatArray] | None, background: float, threads: int | None
) -> NDArray[np.float64]:
    """Sums of each of GROUPS of images, moved in each of the ``ways`` (b, 2) or not at all: (ways or 1, GROUPS, l, l).

    On a grid of l = min(L, LARGEST_GRID) pixels.
    """
    box_size = images.shape[-1]

    def stay(some: slice) -> NDArray[np.floating]:
        return np.asarray((images[some] - np.float32(background)).sum(axis=0, keepdims=True))

    def move(some: slice) -> NDArray[np.complexfloating]:
        observed, sums = scipy.fft.rfft2(images[some] - np.float32(background)), []
        for shifts in ways or ():
            moved = observed.copy()
            shift_transforms(moved, shifts[some])
            sums.append(moved.sum(axis=0, dtype=np.complex128))
        return np.array(sums)

    def add(group: range) -> Images:
        sums = add_blocks(move if ways else stay, group, box_size)
        found = scipy.fft.irfft2(sums, s=(box_size, box_size)) if ways else sums
        return resample_images(found.astype(np.float32), min(box_size, LARGEST_GRID), 1)

    sums = map_in_order(add, _groups(len(images)), resolve_threads(threads))
    return np.array(sums, np.float64).swapaxes(0, 1)


def _mean_products(groups: NDArray[np.inexact]) -> NDArray[np.inexact]:
    """Mean product of two different ones of ``groups`` (g, ...): of all, then without each of them, (1 + g, ...)."""
    total, squares, count = groups.sum(axis=0), np.square(groups), len(groups)
    own = squares.sum(axis=0)
    of_all = (np.square(total) - own) / (count * (count - 1))
    without = (np.square(total - groups) - (own - squares)) / ((count - 1) * (count - 2))
    return np.concatenate([of_all[None], without])


def _in_errors(value: FloatArray) -> float:
    """A value, which comes first, over its jackknife error, by the values (1 + g,) without each group."""
    error = np.sqrt((GROUPS - 1) / GROUPS * np.square(value[1:] - value[1:].mean()).sum())
    return float(value[0] / error) if error > 0 else 0.0


def warn_if_misplaced(
    images: Images,
    shifts_px: FloatArray | None,
    noise: NoiseModel,
    radius_px: float,
    columns: OriginColumns | None = None,
    where: str = "",
    threads: int | None = None,
) -> bool:
    """Warn (MfvdmWarning) and return True when the origins are wrong in one of WAYS, or all particles stand off alike.

    Measured on 300 and 1,000 images of four particles (SNR .02 to .2, shifts of .5 to 3 px rms): other ways than the
    right one come out at 2.5 standard errors at most, and so do all where the shifts are those of other particles; the
    right one, when another was given, at 14 to 23 (70S, SNR .05, 1,000 images, 1.5 and 3 px), at 5 to 15 at SNR .02
    and 1.5 px. ``columns`` are those that the message names, and ``where`` begins it.

    >>> warn_if_misplaced(np.zeros((40, 9, 9), np.float32), np.ones((40, 2)), NoiseModel(1.0, 0.0), 3)
    False
    """
    columns = columns or OriginColumns()
    if shifts_px is not None and shifts_px.any():
        found = measure_ways(images, shifts_px, radius_px, noise.mean, threads)
        if found.max() > CERTAIN:
            _, wrong, remedy = WAYS[int(found.argmax())]
            warnings.warn(
                f"{where}the origins that the input gives {wrong}: moved otherwise, images have more in common; "
                f"{remedy.format(x=columns.x, y=columns.y)} (a particle that stands at +x has a negative {columns.x})",
                MfvdmWarning,
                stacklevel=2,
            )
            return True
    place, certainty, is_round = measure_offset(images, shifts_px, noise.mean, threads)
    if is_round and certainty < CERTAIN_PLACE:
        place, certainty, _ = measure_offset_of_power(images, shifts_px, noise, threads)
    if certainty < CERTAIN_PLACE or np.hypot(*place) < OFF * images.shape[-1]:
        return False
    place = place.round(1)
    x, y = (columns.amount(value) for value in (0 - place).tolist())
    if shifts_px is None or not shifts_px.any():
        text = f"extract them again where they stand, or give origins: {columns.x} {x} and {columns.y} {y}"
    else:
        text = (
            "the origins that the input gives may be of another box, binning or pixel size; add "
            f"{x} to {columns.x} and {y} to {columns.y}, or leave them out"
        )
    warnings.warn(
        f"{where}all particles stand about {np.hypot(*place):.0f} px off the centre, at x {place[0]:+g}, y "
        f"{place[1]:+g} px (x along the rows of pixels): {text}",
        MfvdmWarning,
        stacklevel=2,
    )
    return True
