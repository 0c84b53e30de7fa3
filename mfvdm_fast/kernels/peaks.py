"""Where a real trigonometric polynomial is largest: the rotation that aligns two images.

s(alpha) = Re[C_0 + 2 sum_{k >= 1} C_k exp(i k alpha)]. A grid of at least 4 k_max angles, then a parabola and Newton's
method inside a bracket in float64, for every grid maximum that could still be the highest: between two grid angles h
apart s rises by no more than h^2 / 8 sum 2 k^2 |C_k|. Heights that agree to 1e-6 of sum 2 |C_k| are ties, which go to
the smallest |alpha|, then to the positive angle.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import get_num_threads, prange
from numpy.typing import NDArray

from ._jit import kernel
from ._simd import LANES, fma, largest, load, lowest_bit, reaches, splat, store, vabs, vmax
from ._take import take
from .pairs import Float32s, Lanes, pair_coefficients

TIE = 1e-6
NEWTON_STEPS = 30  # two or three are usual; the bracket alone reaches 1e-9 in this many
CLOSE = 1e-6  # radians; after a Newton step this short the error is of the order of its square


def quarter_circle_tables(k_max: int) -> Float32s:
    """2 cos k alpha and 2 sin k alpha (1 and 0 for k = 0) on angles from 0 to pi / 2: (2, k_max + 1, n_angles).

    The number of angles is a multiple of 16 above k_max, so that the whole circle has at least 4 k_max.
    """
    n_angles = LANES * (max(k_max, 0) // LANES + 1)
    phase = np.outer(np.arange(k_max + 1), np.linspace(0.0, np.pi / 2, n_angles))
    tables = 2 * np.stack([np.cos(phase), np.sin(phase)])
    tables[0, 0] = 1
    return tables.astype(np.float32)


@kernel
def _derivatives(c: Float32s, shift: int, n_freq: int, alpha: float) -> Any:
    """s, s' and s'' at alpha; exp(i k alpha) by recurrence, odd and even k apart since each step waits for the last."""
    turn_re, turn_im = np.cos(alpha), np.sin(alpha)
    twice_re, twice_im = turn_re * turn_re - turn_im * turn_im, 2 * turn_re * turn_im
    re, im, next_re, next_im = turn_re, turn_im, twice_re, twice_im
    value, first, second = 0.5 * c[0], 0.0, 0.0
    for k in range(1, n_freq):
        x, y = c[k] * re - c[shift + k] * im, c[k] * im + c[shift + k] * re
        value += x
        first -= k * y
        second -= k * k * x
        old_re, old_im = re, im
        re, im = next_re, next_im
        next_re, next_im = old_re * twice_re - old_im * twice_im, old_re * twice_im + old_im * twice_re
    return 2 * value, 2 * first, 2 * second


@kernel
def _climb(c: Float32s, shift: int, n_freq: int, alpha: float, low: float, high: float) -> Any:
    """The zero of s' between low (s' >= 0) and high (s' <= 0), and s there."""
    value = 0.0
    for _ in range(NEWTON_STEPS):
        value, first, second = _derivatives(c, shift, n_freq, alpha)
        if first == 0:
            break
        if first > 0:
            low = alpha
        else:
            high = alpha
        moved = alpha - first / second if second < 0 else low - 1.0
        if not low <= moved <= high:
            moved = 0.5 * (low + high)
        step, alpha = moved - alpha, moved
        if abs(step) < CLOSE:
            value += step * first + 0.5 * step * step * second
            break
    return alpha, value


@kernel
def _grid(c: Float32s, shift: int, tables: Float32s, out: Float32s) -> float:
    """s on the whole circle into out (4 n_angles,); returns its maximum.

    out[segment * n_angles + a] is s at alpha, -alpha, pi - alpha, pi + alpha (segments 0 to 3), alpha the angle a of
    the tables: even and odd k, cosines and sines differ only by signs there.
    """
    n_freq, n_angles = tables.shape[1], tables.shape[2]
    best = splat(np.float32(-np.inf))
    for a in range(0, n_angles, LANES):
        even = odd = even_sin = odd_sin = splat(np.float32(0))
        for k in range(0, n_freq, 2):
            even = fma(splat(c[k]), load(tables, k * n_angles + a), even)
            even_sin = fma(splat(c[shift + k]), load(tables, (n_freq + k) * n_angles + a), even_sin)
        for k in range(1, n_freq, 2):
            odd = fma(splat(c[k]), load(tables, k * n_angles + a), odd)
            odd_sin = fma(splat(c[shift + k]), load(tables, (n_freq + k) * n_angles + a), odd_sin)
        near, far, near_sin, far_sin = even + odd, even - odd, even_sin + odd_sin, even_sin - odd_sin
        store(out, a, near - near_sin), store(out, n_angles + a, near + near_sin)
        store(out, 2 * n_angles + a, far + far_sin), store(out, 3 * n_angles + a, far - far_sin)
        best = vmax(best, vmax(near + vabs(near_sin), far + vabs(far_sin)))
    return largest(best)


@kernel
def _sides(grid: Float32s, n_angles: int, g: int) -> Any:
    """s one step below and one step above entry g of :func:`_grid`, in the direction of the angle of the tables."""
    segment, a = g // n_angles, g % n_angles
    below = grid[g - 1] if a > 0 else grid[(segment ^ 1) * n_angles + 1]
    above = grid[g + 1] if a + 1 < n_angles else grid[(segment ^ 2) * n_angles + n_angles - 2]
    return below, above


@kernel
def _peak(c: Float32s, shift: int, tables: Float32s, grid: Float32s, found: NDArray[np.float64]) -> Any:
    """Angle and height of the highest peak; C_k = c[k] + i c[shift + k]; grid (4 n_angles,), found (2, 4 n_angles)."""
    n_freq, n_angles = tables.shape[1], tables.shape[2]
    highest, step = _grid(c, shift, tables, grid), 0.5 * np.pi / (n_angles - 1)
    scale, bend = abs(np.float64(c[0])), 0.0
    for k in range(1, n_freq):
        size_k = 2.0 * (abs(c[k]) + abs(c[shift + k]))
        scale += size_k
        bend += k * k * size_k
    least = splat(np.float32(highest - step * step / 8 * bend - 1e-5 * scale))
    count = 0
    for at in range(0, 4 * n_angles, LANES):
        bits = reaches(load(grid, at), least)
        while bits:
            g = at + lowest_bit(bits)
            bits &= bits - 1
            here, (below, above) = grid[g], _sides(grid, n_angles, g)
            if here < below or here < above:
                continue
            curve = below - 2 * here + above
            move = 0.5 * (below - above) / curve if curve < 0 else 0.0
            segment, a = g // n_angles, g % n_angles
            start, turn = np.pi * (segment // 2), 1.0 if segment == 0 or segment == 3 else -1.0
            alpha = start + turn * step * a
            found[0, count], found[1, count] = _climb(
                c, shift, n_freq, alpha + turn * step * move, alpha - step, alpha + step
            )
            count += 1
    return _choose(found, count, TIE * scale)


@kernel
def _choose(found: NDArray[np.float64], count: int, tolerance: float) -> Any:
    """The highest of the peaks found (angles, heights); among ties the one nearest to zero, the positive one first."""
    top = -np.inf
    for p in range(count):
        top = max(top, found[1, p])
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
    return (angle, value) if np.isfinite(angle) else (np.nan, np.nan)  # no peak at all: the coefficients are not finite


@kernel(parallel=True)
def _peaks(re: Float32s, im: Float32s, tables: Float32s, angles: NDArray[Any], values: NDArray[Any]) -> None:
    n_freq, n_angles = tables.shape[1], tables.shape[2]
    for b in prange(len(re)):
        c, grid = np.empty(2 * n_freq, np.float32), np.empty(4 * n_angles, np.float32)
        found = np.empty((2, 4 * n_angles))
        c[:n_freq], c[n_freq:] = re[b], im[b]
        angles[b], values[b] = _peak(c, n_freq, tables, grid, found)


@kernel(parallel=True)
def _align(
    lanes: Lanes,
    indices: NDArray[np.int64],
    mirrored: NDArray[np.bool_],
    tables: Float32s,
    angles: NDArray[np.float64],
    values: NDArray[np.float64],
    threads: int,
) -> None:
    width, n_angles = LANES * lanes.depths.size, tables.shape[2]
    counter = np.zeros(1, np.int64)
    for _ in prange(threads):
        c, grid = np.empty(2 * width, np.float32), np.empty(4 * n_angles, np.float32)
        found = np.empty((2, 4 * n_angles))
        i = take(counter)
        while i < len(indices):
            for t in range(indices.shape[1]):
                pair_coefficients(lanes, i, indices[i, t], -1.0 if mirrored[i, t] else 1.0, c)
                angles[i, t], values[i, t] = _peak(c, width, tables, grid, found)
            i = take(counter)


@kernel
def _height(c: Float32s, shift: int, tables: Float32s, grid: Float32s) -> float:
    """Height of the highest peak, from a parabola through the grid (4 n_angles,); C_k = c[k] + i c[shift + k]."""
    highest, n_angles = _grid(c, shift, tables, grid), tables.shape[2]
    for g in range(0, 4 * n_angles, LANES):
        bits = reaches(load(grid, g), splat(highest))
        if bits:
            below, above = _sides(grid, n_angles, g + lowest_bit(bits))
            curve = below - 2 * highest + above
            return highest - (below - above) ** 2 / (8 * curve) if curve < 0 else highest
    return highest


@kernel(parallel=True)
def _heights(
    lanes: Lanes,
    indices: NDArray[np.int64],
    mirrored: NDArray[np.bool_],
    tables: Float32s,
    heights: Float32s,
    threads: int,
) -> None:
    width, n_angles = LANES * lanes.depths.size, tables.shape[2]
    counter = np.zeros(1, np.int64)
    for _ in prange(threads):
        c, grid = np.empty(2 * width, np.float32), np.empty(4 * n_angles, np.float32)
        i = take(counter)
        while i < len(indices):
            for t in range(indices.shape[1]):
                heights[i, t] = -np.inf
                if indices[i, t] >= 0:
                    pair_coefficients(lanes, i, indices[i, t], -1.0 if mirrored[i, t] else 1.0, c)
                    heights[i, t] = _height(c, width, tables, grid)
            i = take(counter)


@kernel(parallel=True)
def _values(
    lanes: Lanes,
    indices: NDArray[np.int64],
    mirrored: NDArray[np.bool_],
    angles: NDArray[np.float64],
    n_freq: int,
    values: NDArray[np.float64],
) -> None:
    width = LANES * lanes.depths.size
    for i in prange(len(indices)):
        c = np.empty(2 * width, np.float32)
        for t in range(indices.shape[1]):
            pair_coefficients(lanes, i, indices[i, t], -1.0 if mirrored[i, t] else 1.0, c)
            values[i, t] = _derivatives(c, width, n_freq, angles[i, t])[0]


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
    _peaks(re, im, quarter_circle_tables(n_freq - 1), angles, values)
    return angles, values


def align_lanes(
    lanes: Lanes, k_max: int, indices: NDArray[np.int64], mirrored: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Angles and heights (n, K) of the pairs (i, indices[i, t]); ``lanes`` from ``pairs.pack_lanes``, k in lane k."""
    angles, values = np.empty(indices.shape), np.empty(indices.shape)
    _align(lanes, indices, mirrored, quarter_circle_tables(k_max), angles, values, get_num_threads())
    return angles, values


def heights_of_lanes(lanes: Lanes, k_max: int, indices: NDArray[np.int64], mirrored: NDArray[np.bool_]) -> Float32s:
    """Heights of :func:`align_lanes` to about 1e-3 of their size, from a parabola through the grid: much cheaper.

    -inf where ``indices`` are negative.
    """
    heights = np.empty(indices.shape, np.float32)
    _heights(lanes, indices, mirrored, quarter_circle_tables(k_max), heights, get_num_threads())
    return heights


def values_of_lanes(
    lanes: Lanes, k_max: int, indices: NDArray[np.int64], mirrored: NDArray[np.bool_], angles: NDArray[np.float64]
) -> NDArray[np.float64]:
    """s (n, K) of the pairs of :func:`align_lanes` at given angles (n, K)."""
    values = np.empty(indices.shape)
    _values(lanes, indices, mirrored, angles, k_max + 1, values)
    return values
