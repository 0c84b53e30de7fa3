"""Where a real trigonometric polynomial is largest: the rotation that aligns two images.

s(alpha) = Re[C_0 + 2 sum_{k >= 1} C_k exp(i k alpha)]. A grid of at least 4 k_max angles, then a parabola and Newton's
method inside a bracket in float64, for every grid maximum that could still be the highest: between two grid angles h
apart s rises by no more than h^2 / 8 sum 2 k^2 |C_k|. Heights that agree to 1e-6 of sum 2 |C_k| are ties, which go to
the smallest |alpha|, then to the positive angle.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from ._jit import kernel
from ._simd import LANES, fma, load, splat, store
from .pairs import Float32s, pair_coefficients

TIE = 1e-6
NEWTON_STEPS = 30  # three or four are usual; the bracket alone reaches 1e-9 in this many
CLOSE = 1e-10  # radians


def half_circle_tables(k_max: int) -> Float32s:
    """2 cos k alpha and 2 sin k alpha (1 and 0 for k = 0) on angles from 0 to pi: (2, k_max + 1, n_angles)."""
    n_angles = LANES * -(-(2 * max(k_max, 1) + 1) // LANES)
    phase = np.outer(np.arange(k_max + 1), np.linspace(0.0, np.pi, n_angles))
    tables = 2 * np.stack([np.cos(phase), np.sin(phase)])
    tables[0, 0] = 1
    tables[1, :, -1] = 0
    return tables.astype(np.float32)


@kernel
def _derivatives(c: Float32s, shift: int, n_freq: int, alpha: float) -> Any:
    """s, s' and s'' at alpha."""
    turn_re, turn_im, re, im = np.cos(alpha), np.sin(alpha), 1.0, 0.0
    value, first, second = np.float64(c[0]), 0.0, 0.0
    for k in range(1, n_freq):
        re, im = re * turn_re - im * turn_im, re * turn_im + im * turn_re
        x, y = 2 * (c[k] * re - c[shift + k] * im), 2 * (c[k] * im + c[shift + k] * re)
        value += x
        first -= k * y
        second -= k * k * x
    return value, first, second


@kernel
def _climb(c: Float32s, shift: int, n_freq: int, alpha: float, low: float, high: float) -> Any:
    """The zero of s' between low (s' >= 0) and high (s' <= 0), and s there."""
    for _ in range(NEWTON_STEPS):
        _, first, second = _derivatives(c, shift, n_freq, alpha)
        if first == 0:
            break
        if first > 0:
            low = alpha
        else:
            high = alpha
        moved = alpha - first / second if second < 0 else low - 1.0
        if not low <= moved <= high:
            moved = 0.5 * (low + high)
        step, alpha = abs(moved - alpha), moved
        if step < CLOSE:
            break
    return alpha, _derivatives(c, shift, n_freq, alpha)[0]


@kernel
def _grid(c: Float32s, shift: int, tables: Float32s, out: Float32s) -> None:
    """s on the whole circle into out (2 n_angles - 2,): angle number g is g pi / (n_angles - 1)."""
    n_freq, n_angles = tables.shape[1], tables.shape[2]
    odd_at = 2 * n_angles
    for a in range(0, n_angles, LANES):
        even = odd = splat(np.float32(0))
        for k in range(n_freq):
            even = fma(splat(c[k]), load(tables, k * n_angles + a), even)
            odd = fma(splat(c[shift + k]), load(tables, (n_freq + k) * n_angles + a), odd)
        store(out, a, even - odd)
        store(out, odd_at + a, even + odd)
    for a in range(1, n_angles - 1):
        out[2 * n_angles - 2 - a] = out[odd_at + a]


@kernel
def _peak(c: Float32s, shift: int, tables: Float32s, grid: Float32s, found: NDArray[np.float64]) -> Any:
    """Angle and height of the highest peak; C_k = c[k] + i c[shift + k]; grid (3 n_angles,), found (2, 2 n_angles)."""
    n_freq, size = tables.shape[1], 2 * tables.shape[2] - 2
    _grid(c, shift, tables, grid)
    highest, step = grid[0], 2 * np.pi / size
    for g in range(1, size):
        highest = max(highest, grid[g])
    scale, bend = abs(np.float64(c[0])), 0.0
    for k in range(1, n_freq):
        size_k = 2.0 * (abs(c[k]) + abs(c[shift + k]))
        scale += size_k
        bend += k * k * size_k
    least = highest - step * step / 8 * bend - 1e-5 * scale
    count = 0
    for g in range(size):
        here, before, after = grid[g], grid[g - 1 if g > 0 else size - 1], grid[g + 1 if g + 1 < size else 0]
        if here < least or here < before or here < after:
            continue
        alpha = step * (g if 2 * g <= size else g - size)
        curve = before - 2 * here + after
        start = alpha + 0.5 * step * (before - after) / curve if curve < 0 else alpha
        found[0, count], found[1, count] = _climb(c, shift, n_freq, start, alpha - step, alpha + step)
        count += 1
    return _choose(found, count, TIE * scale)


@kernel
def _choose(found: NDArray[np.float64], count: int, tolerance: float) -> Any:
    """The highest of the peaks found (angles, heights); among ties the one nearest to zero, the positive one first."""
    top = found[1, :count].max()
    angle, value = np.inf, top
    for p in range(count):
        alpha = found[0, p]
        if alpha > np.pi:
            alpha -= 2 * np.pi
        elif alpha <= -np.pi:
            alpha += 2 * np.pi
        nearer = abs(alpha) - abs(angle)
        if found[1, p] >= top - tolerance and (nearer < -1e-7 or (nearer < 1e-7 and alpha > angle)):
            angle, value = alpha, found[1, p]
    return (angle, value) if np.isfinite(angle) else (np.nan, np.nan)


@kernel(parallel=True)
def _peaks(re: Float32s, im: Float32s, tables: Float32s, angles: NDArray[Any], values: NDArray[Any]) -> None:
    n_freq, n_angles = tables.shape[1], tables.shape[2]
    for b in prange(len(re)):
        c, grid = np.empty(2 * n_freq, np.float32), np.empty(3 * n_angles, np.float32)
        found = np.empty((2, 2 * n_angles))
        c[:n_freq], c[n_freq:] = re[b], im[b]
        angles[b], values[b] = _peak(c, n_freq, tables, grid, found)


@kernel(parallel=True)
def _align(
    lanes: Float32s,
    indices: NDArray[np.int64],
    mirrored: NDArray[np.bool_],
    tables: Float32s,
    angles: NDArray[np.float64],
    values: NDArray[np.float64],
) -> None:
    width, n_angles = lanes.shape[3], tables.shape[2]
    for i in prange(len(indices)):
        c, grid = np.empty(2 * width, np.float32), np.empty(3 * n_angles, np.float32)
        found = np.empty((2, 2 * n_angles))
        for t in range(indices.shape[1]):
            pair_coefficients(lanes, i, indices[i, t], -1.0 if mirrored[i, t] else 1.0, c)
            angles[i, t], values[i, t] = _peak(c, width, tables, grid, found)


def peak_angles(coefficients: NDArray[np.complex64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Angles (b,) in (-pi, pi] at which Re[C_0 + 2 sum C_k exp(i k alpha)] is largest, and the maxima (b,).

    ``coefficients`` (b, k_max + 1) complex: C_k by column; of column 0 the real part is used (zeros where there is no
    k = 0 term). NaN gives NaN.

    >>> import numpy as np
    >>> angles, values = peak_angles(np.array([[1, np.exp(-0.5j), 0.5 * np.exp(-1j)]], np.complex64))
    >>> angles.round(4), values.round(4)
    (array([0.5]), array([4.]))
    """
    b, n_freq = coefficients.shape
    angles, values = np.empty(b), np.empty(b)
    re, im = (np.ascontiguousarray(part, np.float32) for part in (coefficients.real, coefficients.imag))
    _peaks(re, im, half_circle_tables(n_freq - 1), angles, values)
    return angles, values


def align_lanes(
    lanes: Float32s, k_max: int, indices: NDArray[np.int64], mirrored: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Angles and heights (n, K) of the pairs (i, indices[i, t]); ``lanes`` from ``pairs.pack_lanes``, k in lane k."""
    angles, values = np.empty(indices.shape), np.empty(indices.shape)
    _align(lanes, indices, mirrored, half_circle_tables(k_max), angles, values)
    return angles, values
