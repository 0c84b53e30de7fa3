"""Moving images by any number of pixels: a phase ramp on their Fourier transform, exact for band-limited images."""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, NDArray

from ..errors import ParameterError
from ..records import FloatArray, Images
from ..threads import map_in_order, resolve_threads

_PIECE = 8  # images in one piece of work, which fits the cache


def check_shifts(shifts_px: ArrayLike, n_images: int) -> FloatArray:
    """``shifts_px`` as float64 (n, 2). Raises ParameterError unless they are finite numbers of that shape.

    >>> check_shifts([[1, 2]], 1).dtype
    dtype('float64')
    """
    shifts = np.asarray(shifts_px, np.float64)
    if shifts.shape != (n_images, 2):
        raise ParameterError(
            f"shifts_px must have shape ({n_images}, 2), x and y of each particle's centre, got {shifts.shape}"
        )
    if not np.isfinite(shifts).all():
        row = int(np.flatnonzero(~np.isfinite(shifts).all(axis=1))[0])
        raise ParameterError(f"shifts_px[{row}] is {shifts[row].tolist()}; give finite numbers of pixels")
    return shifts


def shift_images(images: Images, shifts_px: ArrayLike, threads: int | None = None) -> Images:
    """``images`` (b, L, L) float32 with what stands at ``shifts_px`` (b, 2) from the centre brought to the centre.

    ``shifts_px`` are (x, y) in pixels from the pixel L // 2, x along columns: content moves by minus that. What leaves
    the box on one side comes back on the other. The Nyquist row and column of an even box are moved by the nearest
    whole number of pixels, so that a shift and its negative undo each other.

    Raises ParameterError when the shifts are not finite numbers of shape (b, 2).

    >>> image = np.zeros((1, 5, 5), np.float32)
    >>> image[0, 2, 3] = 1
    >>> round(float(shift_images(image, [[1.0, 0.0]])[0, 2, 2]), 6)
    1.0
    """
    shifts = check_shifts(shifts_px, len(images))
    out = np.empty(images.shape, np.float32)

    def shift(first: int) -> None:
        rows = slice(first, first + _PIECE)
        transform = scipy.fft.rfft2(np.asarray(images[rows], np.float32))
        shift_transforms(transform, shifts[rows])
        out[rows] = scipy.fft.irfft2(transform, s=images.shape[1:])

    map_in_order(shift, range(0, len(images), _PIECE), resolve_threads(threads))
    return out


def shift_copies(images: Images, shifts_px: ArrayLike, threads: int | None = None) -> Images:
    """(s, b, L, L): all of ``images`` (b, L, L) for each of ``shifts_px`` (s, 2), as :func:`shift_images` moves them.

    >>> copies = shift_copies(np.eye(5, dtype=np.float32)[None], [[0.0, 0.0], [1.0, 1.0]])
    >>> copies.shape, bool(np.allclose(copies[0], copies[1], atol=1e-6))
    ((2, 1, 5, 5), True)
    """
    shifts = np.asarray(shifts_px, np.float64)
    shifts = check_shifts(shifts, len(shifts))
    workers = resolve_threads(threads)
    transforms = scipy.fft.rfft2(np.asarray(images, np.float32), workers=workers)
    out = np.empty((len(shifts), *images.shape), np.float32)
    for copy, shift in zip(out, shifts, strict=True):
        moved = transforms.copy()
        shift_transforms(moved, shift[None])
        copy[:] = scipy.fft.irfft2(moved, s=images.shape[1:], workers=workers)
    return out


def shift_transforms(transforms: NDArray[np.complexfloating], shifts_px: FloatArray) -> None:
    """Centre the images of the ``rfft2`` ``transforms`` (b, L, L // 2 + 1), in place; see :func:`shift_images`.

    ``shifts_px`` (b, 2), or (1, 2) for all alike.

    >>> transforms = scipy.fft.rfft2(np.eye(4, dtype=np.float32)[None])
    >>> shift_transforms(transforms, np.array([[1.0, 1.0]]))
    >>> bool(np.allclose(scipy.fft.irfft2(transforms), np.eye(4), atol=1e-6))
    True
    """
    box_size = transforms.shape[1]
    transforms *= _ramp(shifts_px[:, 1], scipy.fft.fftfreq(box_size))[:, :, None]
    transforms *= _ramp(shifts_px[:, 0], scipy.fft.rfftfreq(box_size))[:, None, :]


def _ramp(shifts: FloatArray, frequencies: FloatArray) -> NDArray[np.complex64]:
    phase = 2 * np.pi * shifts[:, None] * frequencies
    nyquist = np.abs(frequencies) == 0.5  # its wave has no sine: only whole pixels leave the image real
    phase[:, nyquist] = np.pi * np.rint(shifts)[:, None]
    ramp: NDArray[np.complex64] = np.exp(1j * phase).astype(np.complex64)
    return ramp
