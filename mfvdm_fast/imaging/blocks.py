"""Measures of every image and sums over all, by blocks that fit the cache; the same for any number of threads."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ..records import FloatArray, Images
from ..threads import map_in_order, resolve_threads

BLOCK_BYTES = 2**19  # of images in work at once
PARTS = 16  # of the images, summed each by itself: of larger ones the sums would outgrow the images


def blocks(rows: range, box_size: int) -> Iterator[slice]:
    """``rows`` in slices of as many images of ``box_size`` px as fit the cache.

    >>> list(blocks(range(5, 12), 181))
    [slice(5, 9, None), slice(9, 12, None)]
    """
    step = max(1, BLOCK_BYTES // (4 * box_size**2))
    return (slice(start, min(start + step, rows.stop)) for start in range(rows.start, rows.stop, step))


def map_blocks(work: Callable[[Images], NDArray], images: Images, threads: int | None = None) -> NDArray:
    """What ``work`` finds of each of the images (b, L, L), one row for each: it is given some of them at a time.

    >>> map_blocks(lambda block: block.max(axis=(1, 2)), np.ones((3, 4, 4), np.float32)).tolist()
    [1.0, 1.0, 1.0]
    """
    rows = blocks(range(len(images)), images.shape[-1])
    return np.concatenate(map_in_order(lambda some: work(images[some]), rows, resolve_threads(threads)))


def add_blocks(work: Callable[[slice], NDArray], rows: range, box_size: int) -> NDArray:
    """Sum in double precision, one after the other, of what ``work`` finds of the images of each slice of ``rows``.

    >>> add_blocks(lambda some: np.array([some.stop - some.start]), range(5, 12), 181).tolist()
    [7.0]
    """
    first, *others = blocks(rows, box_size)
    total = work(first)
    total = total.astype(np.result_type(total, np.float64))
    for some in others:
        total += work(some)
    return total


def sum_blocks(work: Callable[[Images], NDArray], images: Images, threads: int | None = None) -> FloatArray:
    """Sum in float64 over the images (b, L, L) of what ``work`` finds of some of them at a time.

    >>> sum_blocks(lambda block: block.sum(axis=0), np.ones((3, 2, 2), np.float32)).tolist()
    [[3.0, 3.0], [3.0, 3.0]]
    """
    size = -(-len(images) // PARTS)
    parts = [range(start, min(start + size, len(images))) for start in range(0, len(images), size)]

    def add(rows: range) -> FloatArray:
        return add_blocks(lambda some: work(images[some]), rows, images.shape[-1])

    return functools.reduce(np.add, map_in_order(add, parts, resolve_threads(threads)))


def mean_image(images: Images, threads: int | None = None) -> Images:
    """Mean (L, L) float32 of the images (b, L, L).

    >>> mean_image(np.arange(8, dtype=np.float32).reshape(2, 2, 2)).tolist()
    [[2.0, 3.0], [4.0, 5.0]]
    """
    total = sum_blocks(lambda block: block.sum(axis=0, dtype=np.float64), images, threads)
    return (total / len(images)).astype(np.float32)


def sum_squares(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Squares of ``values`` (b, ...) summed over the first axis, in their own precision: for few of them.

    >>> sum_squares(np.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [10.0, 20.0]
    """
    flat = values.reshape(len(values), -1)
    return np.einsum("bp,bp->p", flat, flat).reshape(values.shape[1:])


def sum_spectra(spectra: NDArray[np.complexfloating]) -> NDArray[np.floating]:
    """Squared moduli of ``spectra`` (b, k, l), contiguous, summed over the first axis: (k, l).

    >>> sum_spectra(np.array([[[3 + 4j]], [[1 + 0j]]])).tolist()
    [[26.0]]
    """
    squares = sum_squares(spectra.view(spectra.real.dtype))
    return np.asarray(squares[:, ::2] + squares[:, 1::2])


def sum_power(
    images: Images,
    background: float,
    threads: int | None = None,
    *,
    mask: NDArray[np.bool_] | None = None,
    size: int | None = None,
) -> FloatArray:
    """Power spectra of the images (b, L, L) float32, less their ``background``, summed: (s, s // 2 + 1) of ``rfft2``.

    Parameters
    ----------
    mask : (L, L), pixels that count; all of them when left out.
    size : s, to which the images are padded with zeros; L when left out.

    Examples
    --------
    >>> sum_power(np.full((3, 2, 2), 5, np.float32), 4.0).tolist()
    [[48.0, 0.0], [0.0, 0.0]]
    """
    size = size or images.shape[-1]
    weights = None if mask is None else mask.astype(np.float32)

    def measure(block: Images) -> NDArray[np.floating]:
        pixels = block - np.float32(background)
        if weights is not None:
            pixels *= weights
        return sum_spectra(scipy.fft.rfft2(pixels, s=(size, size)))

    return sum_blocks(measure, images, threads)
