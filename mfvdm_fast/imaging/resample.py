"""Fourier cropping and padding: the same images on a coarser or finer grid, centre pixel on centre pixel."""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ..checks import check_whole
from ..records import Images
from ..threads import resolve_threads

LARGE_BOX = 144  # px; smaller boxes are fast enough as they are
SAFE_BANDLIMIT = 0.4  # cycles per pixel of the coarse grid: well below Nyquist, where sampled functions stay orthogonal


def working_box(box_size: int, bandlimit: float) -> int:
    """Box size in which images of ``box_size`` px with nothing above ``bandlimit`` (cycles/px) are processed.

    Large boxes with a low bandlimit lose nothing on a coarser grid, and the dense products of the basis grow with the
    fourth power of the box. Small boxes stay as they are.

    >>> working_box(129, 0.2), working_box(256, 0.2), working_box(256, 0.45)
    (129, 128, 256)
    """
    coarse = int(np.ceil(box_size * bandlimit / SAFE_BANDLIMIT))
    return coarse if box_size > LARGE_BOX and coarse <= 0.8 * box_size else box_size


def resample_images(images: Images, box_size: int, threads: int | None = None) -> Images:
    """``images`` (b, L, L) on a grid of ``box_size`` pixels over the same field, by Fourier cropping or padding.

    Pixel L // 2 lands on pixel ``box_size // 2``; pixel values keep their size, so that white noise of variance s^2
    comes out with variance s^2 (box_size / L)^2 when cropped. Frequencies at and above the smaller Nyquist are dropped.

    Raises ParameterError when ``box_size`` is not a whole number of at least 2.

    >>> resample_images(np.ones((1, 8, 8), np.float32), 5).round(5).tolist()[0][0]
    [1.0, 1.0, 1.0, 1.0, 1.0]
    """
    before, after = images.shape[-1], check_whole("box_size", box_size, 2)
    if before == after:
        return images
    workers = resolve_threads(threads)
    kept = (min(before, after) - 1) // 2  # highest frequency kept, in periods per box
    spectrum = scipy.fft.rfft2(images, workers=workers)
    out = np.zeros((len(images), after, after // 2 + 1), spectrum.dtype)
    for start, stop in ((0, kept + 1), (-kept, None)):
        rows = slice(start, stop)
        out[:, rows, : kept + 1] = spectrum[:, rows, : kept + 1]
    shift = 2j * np.pi * ((before // 2) / before - (after // 2) / after)
    y = np.exp(shift * after * scipy.fft.fftfreq(after))
    x = np.exp(shift * np.arange(after // 2 + 1))
    out *= (after**2 / before**2 * y[:, None] * x[None, :]).astype(spectrum.dtype)
    result: NDArray[np.float32] = scipy.fft.irfft2(out, s=(after, after), workers=workers)
    return result
