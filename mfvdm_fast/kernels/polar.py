"""Fourier transforms of many images on one polar grid: oversampled FFT and a compact Kaiser-Bessel kernel.

A type-2 non-uniform FFT whose points are shared by all images (Fessler & Sutton 2003; kernel parameter of Beatty,
Nishimura & Pauly 2005): indices and weights are made once. Eight images travel side by side, so that every load, weight
and addition serves sixteen floats.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, NDArray
from scipy.special import i0

from ._jit import kernel

LANES = 8  # images interleaved: 8 complex64 are one cache line
WIDTH = 6  # kernel width in grid points
_PIECE = 4 * LANES  # images that a thread takes at once
_OVERSAMPLING = 1.6  # with this width: relative error 3e-5; 2.0 would give 1e-5 and cost half as much again in FFTs


class PolarPlan:
    """Where to sample and with which weights, for images (L, L) and F(I)(xi) = sum I(x) exp(-2 pi i x.xi).

    ``radii`` (n_r,) float64 in [0, 0.5] cycles/px; ``n_theta`` even, angles 2 pi j / n_theta from +x towards +y, of
    which j < n_theta / 2 are computed: the others are their complex conjugates. The centre pixel is L // 2. ``window``
    (L, L), if given, multiplies the images. Raises ValueError for what breaks these rules. A plan may be used from
    several threads at once. Memory: 68 bytes per point in the plan, about 270 L^2 + 32 bytes per point and 8 images of
    work space per call.

    >>> plan = PolarPlan(9, np.array([0.0, 0.1]), 8)
    >>> plan.transform(np.ones((1, 9, 9), np.float32)).shape
    (1, 2, 4)
    """

    def __init__(
        self, box_size: int, radii: NDArray[np.float64], n_theta: int, window: NDArray[np.floating] | None = None
    ) -> None:
        if not _is_whole(box_size) or box_size < 1:
            raise ValueError(f"box_size must be a whole number of at least 1, got {box_size!r}; give the images' own")
        if not _is_whole(n_theta) or n_theta < 2 or n_theta % 2:
            raise ValueError(f"n_theta must be even and at least 2, got {n_theta!r}; only half a circle is computed")
        self.box_size, self.n_theta = box_size, n_theta
        self.radii = _real_array("radii", radii).astype(np.float64)
        if self.radii.ndim != 1 or not self.radii.size or not ((self.radii >= 0) & (self.radii <= 0.5)).all():
            raise ValueError(f"radii must lie in [0, 0.5] cycles/px, got {self.radii}; multiply 1/Å by the pixel size")
        if window is not None and _real_array("window", window).shape != (box_size, box_size):
            raise ValueError(f"window must have shape ({box_size}, {box_size}) as the images, got {np.shape(window)}")
        self.grid_size = max(2 * WIDTH, scipy.fft.next_fast_len(math.ceil(_OVERSAMPLING * box_size), real=True))
        self._beta = math.pi * math.sqrt((WIDTH * (1 - 0.5 * box_size / self.grid_size)) ** 2 - 0.8)
        inverse = 1 / self._kernel_transform((np.arange(box_size) - box_size // 2) / self.grid_size)
        self._window = np.outer(inverse, inverse) * (1 if window is None else window)
        self._window = self._window.astype(np.float32)
        theta = 2 * np.pi / n_theta * np.arange(n_theta // 2)
        # Rounded, for cos(pi/2) to be 0: points on an axis then see as far to one side as to the other.
        x = (self.radii[:, None] * np.round(np.cos(theta), 15)).ravel() * self.grid_size
        y = (self.radii[:, None] * np.round(np.sin(theta), 15)).ravel() * self.grid_size
        flip = x < 0  # the FFT of real images knows only x >= 0; the rest by Hermitian symmetry
        x[flip], y[flip] = -x[flip], -y[flip]
        columns, weights_x = self._stencil(x)
        rows, weights_y = self._stencil(y)
        self._pad = WIDTH // 2  # columns of negative frequency that stencils near x = 0 reach
        self._first = np.stack([rows % self.grid_size, columns + self._pad])
        self._weights = np.stack([weights_y, weights_x])
        self._conjugate = np.where(flip, -1.0, 1.0).astype(np.float32)
        self._n_columns = int(self._first[1].max()) + WIDTH

    @property
    def n_points(self) -> int:
        """n_r * n_theta / 2."""
        return len(self._conjugate)

    def _kernel_transform(self, nu: NDArray[np.float64]) -> NDArray[np.float64]:
        """Integral of I_0(beta sqrt(1 - (2u/w)^2)) / I_0(beta) exp(2 pi i u nu) over |u| <= w/2."""
        s = np.sqrt(self._beta**2 - (np.pi * WIDTH * nu) ** 2)
        return np.asarray(WIDTH * np.sinh(s) / (s * i0(self._beta)))

    def _stencil(self, position: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """First grid point within w/2 of each position, and the kernel's values at the w points from there."""
        first = np.ceil(position - WIDTH / 2).astype(np.int64)
        u = (position - first)[:, None] - np.arange(WIDTH)
        inside = 1 - (2 * u / WIDTH) ** 2
        weights = np.where(inside > 0, i0(self._beta * np.sqrt(np.maximum(0, inside))) / i0(self._beta), 0)
        return first, weights.astype(np.float32)  # 0 at the very edge, for the same reason

    def transform(self, images: NDArray[np.float32], threads: int = 1) -> NDArray[np.complex64]:
        """(b, L, L) float32 -> (b, n_r, n_theta / 2) complex64, relative error below 1e-4; the same for any threads.

        Raises ValueError for images of another box, or that are no real numbers, and for threads below 1; NaN stays in
        its image.
        """
        images = self._check_images(images)
        if not _is_whole(threads) or threads < 1:
            raise ValueError(f"threads must be a whole number of at least 1, got {threads!r}; leave it out to use one")
        out = np.empty((len(images), self.n_points), dtype=np.complex64)

        def fill(first: int) -> None:
            piece = out[first : first + _PIECE]
            for rows, samples in self.batches(images[first : first + _PIECE]):
                piece[rows] = samples.T[: rows.stop - rows.start]

        starts = range(0, len(images), _PIECE)
        if threads == 1 or len(starts) < 2:
            for first in starts:
                fill(first)
        else:
            with ThreadPoolExecutor(min(threads, len(starts))) as pool:
                list(pool.map(fill, starts))  # errors are raised here
        return out.reshape(len(images), len(self.radii), self.n_theta // 2)

    def _check_images(self, images: ArrayLike) -> NDArray[np.float32]:
        array = np.asarray(_real_array("images", images), dtype=np.float32, order="C")
        if array.ndim != 3 or array.shape[1:] != (self.box_size, self.box_size):
            raise ValueError(f"images must have shape (b, {self.box_size}, {self.box_size}), got {array.shape}")
        return array

    def batches(self, images: NDArray[np.float32]) -> Iterator[tuple[slice, NDArray[np.complex64]]]:
        """Yield (rows, samples (n_r * n_theta / 2, 8) complex64), 8 images side by side, overwritten by the next."""
        images = self._check_images(images)
        spread = np.zeros((self.box_size, self.grid_size, LANES), dtype=np.float32)
        grid = np.zeros((self.grid_size, self._n_columns, LANES), dtype=np.complex64)
        samples = np.empty((self.n_points, 2 * LANES), dtype=np.float32)
        for start in range(0, len(images), LANES):
            rows = slice(start, min(start + LANES, len(images)))
            interleave_images(images[rows], self._window, spread)
            wrap_rows(scipy.fft.rfft(spread, axis=1), self._pad, grid)
            grid = scipy.fft.fft(grid, axis=0, overwrite_x=True)
            floats = grid.view(np.float32).reshape(self.grid_size, -1)
            interpolate_points(floats, self._first, self._weights, self._conjugate, samples)
            yield rows, samples.view(np.complex64)


def _is_whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _real_array(name: str, values: ArrayLike) -> NDArray[Any]:
    """``values`` as an array; ValueError unless they are real numbers."""
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(f"{name} must be real numbers, got lists of several lengths; make an array of them") from None
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} must be real numbers, got {array.dtype}; convert them to floats first")
    return array


@kernel
def interleave_images(images, window, spread):  # type: ignore[no-untyped-def]
    """``images`` (b <= 8, L, L) times ``window`` (L, L) -> ``spread`` (L, M, 8), centre column moved to 0."""
    size, columns = images.shape[1], spread.shape[1]
    half = size // 2
    for y in range(size):
        for i in range(images.shape[0]):
            for x in range(half):
                spread[y, columns - half + x, i] = images[i, y, x] * window[y, x]
            for x in range(half, size):
                spread[y, x - half, i] = images[i, y, x] * window[y, x]


@kernel
def wrap_rows(rows, pad, grid):  # type: ignore[no-untyped-def]
    """Row transforms ``rows`` (L, M/2 + 1, 8) -> ``grid`` (M, n_columns, 8), centre row moved to 0, ``pad`` columns of
    negative frequency (conjugates) in front, and columns beyond Nyquist behind."""
    size, n_rows, n_columns = rows.shape[0], grid.shape[0], grid.shape[1]
    half = size // 2
    grid[size - half : n_rows - half] = 0
    for y in range(size):
        target, source = grid[(y - half) % n_rows], rows[y]
        last = min(n_columns, pad + source.shape[0])
        for c in range(pad, last):
            for v in range(8):
                target[c, v] = source[c - pad, v]
        for c in range(pad):
            for v in range(8):
                target[c, v] = source[pad - c, v].conjugate()
        for c in range(last, n_columns):
            for v in range(8):
                target[c, v] = source[n_rows - (c - pad), v].conjugate()


@kernel
def interpolate_points(grid, first, weights, conjugate, samples):  # type: ignore[no-untyped-def]
    """samples[p] = sum over a 6 x 6 stencil of ``grid`` (M, n_columns * 16) float32, eight complex numbers a column.

    ``first`` (2, n) int64: first row (rows go on modulo M) and column of each stencil; ``weights`` (2, n, 6) float32
    along rows and columns; ``conjugate`` (n,) float32 +-1 multiplies the imaginary parts; ``samples`` (n, 16) float32.
    """
    n_rows = grid.shape[0]
    for p in range(samples.shape[0]):
        begin = first[1, p] * 16
        wx, out = weights[1, p], samples[p]
        w0, w1, w2, w3, w4, w5 = wx[0], wx[1], wx[2], wx[3], wx[4], wx[5]
        out[:] = 0
        for a in range(6):
            r = first[0, p] + a
            if r >= n_rows:
                r -= n_rows
            line = grid[r, begin : begin + 96]
            wy = weights[0, p, a]
            for v in range(16):
                out[v] += wy * (
                    ((w0 * line[v] + w1 * line[v + 16]) + (w2 * line[v + 32] + w3 * line[v + 48]))
                    + (w4 * line[v + 64] + w5 * line[v + 80])
                )
        for v in range(8):
            out[2 * v + 1] *= conjugate[p]


@kernel
def real_circles(samples, circles):  # type: ignore[no-untyped-def]
    """Half circles ``samples`` (r * h, 8) complex64 -> ``circles`` (r, 2 h, 8) float32: Re + Im, then Re - Im.

    F(theta + pi) is the conjugate of F(theta), so even angular frequencies of F are those of Re F and odd ones i times
    those of Im F: one real FFT of these circles gives both.
    """
    half = circles.shape[1] // 2
    for r in range(circles.shape[0]):
        for j in range(half):
            for v in range(8):
                z = samples[r * half + j, v]
                circles[r, j, v] = z.real + z.imag
                circles[r, half + j, v] = z.real - z.imag


@kernel
def gather_rings(spectrum, weights, start, rings):  # type: ignore[no-untyped-def]
    """``spectrum`` (r, >= k, 8) complex64 times ``weights`` (r,) float32 -> ``rings`` (k, r, b) from ``start``."""
    for k in range(rings.shape[0]):
        for r in range(rings.shape[1]):
            for v in range(8):
                rings[k, r, start + v] = spectrum[r, k, v] * weights[r]
