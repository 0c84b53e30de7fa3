"""The K best templates of every observed particle, plain and mirrored, up to rotation; all of them are compared.

C_k(i, j) = sum_q a_i,kq conj(b_j,kq) (plain) or sum_q a_i,kq b_j,kq (mirrored), a the observed features, b those of the
templates. The score is the maximum of s(alpha) = Re[C_0 + 2 sum_k C_k exp(i k alpha)] (``neighbors.match``): on a grid
of angles, for 2 x 16 pairs at a time.

Nothing is pruned: at low signal-to-noise ratios bounds of s drop few of the pairs, and those that are left would be met
one by one, which costs more than their share of sixteen without branches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import get_num_threads, prange
from numpy.typing import NDArray

from ._jit import kernel
from ._simd import fma, load, lowest_bit, reaches, splat, store, vmax
from ._take import take
from .distance import fold
from .pairs import SLAB, pack_slabs, products
from .topk import Lists, empty_lists, push, sort_lists

REPORTS = 10  # of progress, at most: threads wait for each other at each of them
ROWS = 16  # in one piece of work

Float32s = NDArray[np.float32]
Complexes = NDArray[np.complex64]
Progress = Callable[[int, int], None]


class MatchPlan(NamedTuple):
    """Features and tables as the kernel wants them.

    Frequencies are numbered in this order: 0 (even when it has no components), then those of remainder 0, of remainder
    2, and of remainders 1 and 3 modulo 4; others without components are left out.
    """

    rows: Float32s  # (row blocks, size), see pairs.pack_slabs
    columns: Float32s  # (column blocks, size)
    starts: NDArray[np.int64]  # (n_freq + 1,): where in a slab each frequency begins
    classes: NDArray[np.int64]  # (2,): number of the first frequency of remainder 2, and of the first odd one
    grid: Float32s  # (steps, 4 or 8 numbers for each frequency but 0), see angle_tables
    own: NDArray[np.int64]  # (r,): the template that a row is not matched with
    n_columns: int


def grid_size(k_max: int) -> int:
    """Number of equidistant angles on which the score is maximised: at least 4 k_max, a multiple of 16.

    >>> grid_size(14)
    64
    """
    return 16 * max(1, -(-k_max // 4))


def angle_tables(frequencies: NDArray[np.int64], k_max: int) -> Float32s:
    """2 cos k alpha and 2 sin k alpha for the frequencies but the first: (steps, ...).

    The grid is (g + 1/2) h, so that its reflections at 0, pi / 4 and pi / 2 are in it and none is its own: it is
    enough to go through an eighth of the circle, two angles in a step. A row holds cos, sin at the one, cos, sin at
    the other angle for each even frequency; then, for each odd one, cos, sin at the one angle, cos, sin at pi / 2
    minus it, and the same for the other angle.
    """
    size = grid_size(k_max)
    first = (np.arange(size // 8) + 0.5) * (2 * np.pi / size)
    angles = np.stack([first, np.pi / 2 - first], axis=1).reshape(-1, 2, 1, 2)  # (steps, 2, 1, 2)
    phase = frequencies[1:, None] * angles  # (steps, 2, n_freq - 1, 2)
    waves = 2 * np.stack([np.cos(phase), np.sin(phase)], axis=-1)
    even, odd = waves[:, :, frequencies[1:] % 2 == 0, 0], waves[:, :, frequencies[1:] % 2 == 1]
    parts = [even.swapaxes(1, 2), odd.swapaxes(1, 2)]
    return np.concatenate([part.reshape(len(waves), -1) for part in parts], axis=1).astype(np.float32)


def plan_matching(
    observed: Complexes, templates: Complexes, offsets: NDArray[np.int64], own: NDArray[np.int64]
) -> MatchPlan:
    """Lay out observed features (r, sum p_k) and templates (n, sum p_k)."""
    sizes = np.diff(offsets)
    k = np.arange(1, len(sizes))
    groups = [k[(sizes[1:] > 0) & chosen] for chosen in (k % 4 == 0, k % 4 == 2, k % 2 == 1)]
    frequencies = np.concatenate([[0], *groups])
    columns = np.concatenate([np.arange(offsets[f], offsets[f + 1]) for f in frequencies])
    starts = SLAB * np.append(0, np.cumsum(sizes[frequencies]))
    classes = 1 + np.cumsum([len(groups[0]), len(groups[1])])
    rows, lanes = (pack_slabs(side, columns=columns) for side in (observed, templates))
    return MatchPlan(rows, lanes, starts, classes, angle_tables(frequencies, len(sizes) - 1), own, len(templates))


@kernel
def _real_products(rows: Float32s, r: int, lanes: Float32s, at: int, last: int) -> Any:
    """C_0 of the rows r and r + 1 of one block with the 16 particles from ``at`` of another block."""
    p0 = p1 = splat(np.float32(0))
    for c in range(0, last, 128):
        re = load(lanes, c + at)
        p0, p1 = fma(splat(rows[c + r]), re, p0), fma(splat(rows[c + r + 1]), re, p1)
    return p0, p1


@kernel
def _all_coefficients(plan: MatchPlan, rows: Float32s, r: int, lanes: Float32s, at: int, c: Float32s) -> None:
    """C_k of the rows r, r + 1 of a block with 16 columns: c[128 f + 64 s + 32 m + l] is Re C_k of frequency number f
    for (r + s, at + l), plain (m = 0) or mirrored (m = 1); Im C_k stands 16 further."""
    p0, p1 = _real_products(rows, r, lanes, at, plan.starts[1])
    store(c, 0, p0), store(c, 32, p0), store(c, 64, p1), store(c, 96, p1)
    for f in range(1, plan.starts.size - 1):
        p0, q0, x0, y0, p1, q1, x1, y1 = products(rows, r, lanes, at, plan.starts[f], plan.starts[f + 1])
        to = 128 * f
        store(c, to, p0 + q0), store(c, to + 16, x0 - y0), store(c, to + 32, p0 - q0), store(c, to + 48, x0 + y0)
        store(c, to + 64, p1 + q1), store(c, to + 80, x1 - y1), store(c, to + 96, p1 - q1), store(c, to + 112, x1 + y1)


@kernel
def _even_sums(c: Float32s, at: int, grid: Float32s, g: int, first: int, last: int, e0: Any) -> Any:
    """Sums of Re C_k cos k alpha (from e0 on), Im C_k sin k alpha at both angles of step g, frequencies first:last."""
    e1 = e0
    s0 = s1 = splat(np.float32(0))
    for f in range(first, last):
        w, re, im = 4 * (f - 1), load(c, at + 128 * f), load(c, at + 128 * f + 16)
        e0, s0 = fma(re, splat(grid[g, w]), e0), fma(im, splat(grid[g, w + 1]), s0)
        e1, s1 = fma(re, splat(grid[g, w + 2]), e1), fma(im, splat(grid[g, w + 3]), s1)
    return e0, s0, e1, s1


@kernel
def _odd_sums(c: Float32s, at: int, grid: Float32s, g: int, first: int, last: int) -> Any:
    """The same sums over odd frequencies at four angles: the one, pi / 2 minus it, the other, pi / 2 minus it."""
    o0 = t0 = o1 = t1 = o2 = t2 = o3 = t3 = splat(np.float32(0))
    for f in range(first, last):
        w, re, im = 8 * f - 4 * (first + 1), load(c, at + 128 * f), load(c, at + 128 * f + 16)
        o0, t0 = fma(re, splat(grid[g, w]), o0), fma(im, splat(grid[g, w + 1]), t0)
        o1, t1 = fma(re, splat(grid[g, w + 2]), o1), fma(im, splat(grid[g, w + 3]), t1)
        o2, t2 = fma(re, splat(grid[g, w + 4]), o2), fma(im, splat(grid[g, w + 5]), t2)
        o3, t3 = fma(re, splat(grid[g, w + 6]), o3), fma(im, splat(grid[g, w + 7]), t3)
    return o0, t0, o1, t1, o2, t2, o3, t3


@kernel
def _grid_maxima(plan: MatchPlan, c: Float32s, at: int) -> Any:
    """Maxima over the grid of 16 pairs of :func:`_all_coefficients`; at = 64 s + 32 m.

    At pi / 2 - alpha, cos k alpha is the same and sin k alpha the opposite for remainder 0, and the reverse for 2.
    """
    n_two, n_odd, n_freq = plan.classes[0], plan.classes[1], plan.starts.size - 1
    best = splat(np.float32(-np.inf))
    for g in range(plan.grid.shape[0]):
        e0, s0, e1, s1 = _even_sums(c, at, plan.grid, g, 1, n_two, load(c, at))
        e2, s2, e3, s3 = _even_sums(c, at, plan.grid, g, n_two, n_odd, splat(np.float32(0)))
        o0, t0, o1, t1, o2, t2, o3, t3 = _odd_sums(c, at, plan.grid, g, n_odd, n_freq)
        best = vmax(best, vmax(fold(e0 + e2, o0, s0 + s2, t0), fold(e0 - e2, o1, s2 - s0, t1)))
        best = vmax(best, vmax(fold(e1 + e3, o2, s1 + s3, t2), fold(e1 - e3, o3, s3 - s1, t3)))
    return best


@kernel
def _enter(plan: MatchPlan, lists: Lists, i: int, lane: int, m: int, best: Any, scores: Float32s) -> None:
    """Offer the columns lane ... lane + 15 to the list of row i."""
    own = plan.own[i] - lane
    allowed = (1 << min(16, plan.n_columns - lane)) - 1
    if 0 <= own < 16:
        allowed &= ~(1 << own)
    bits = reaches(best, splat(lists.limits[i])) & allowed
    if bits:
        store(scores, 0, best)
        while bits:
            at = lowest_bit(bits)
            bits &= bits - 1
            push(lists, i, scores[at], 2 * (lane + at) + m)


@kernel
def _search_rows(plan: MatchPlan, lists: Lists, first: int) -> None:
    """All columns for ROWS rows, which stand in one block."""
    n_rows, n_columns = plan.own.size, plan.n_columns
    c, scores = np.zeros(128 * (plan.starts.size - 1), np.float32), np.empty(16, np.float32)
    rows = plan.rows[first // 64]
    for other in range(len(plan.columns)):
        lanes = plan.columns[other]
        for row in range(first, min(first + ROWS, n_rows), 2):
            for lane in range(64 * other, min(64 * other + 64, n_columns), 16):
                _all_coefficients(plan, rows, row % 64, lanes, lane % 64, c)
                for part in range(4 if row + 1 < n_rows else 2):
                    best = _grid_maxima(plan, c, 32 * part)
                    _enter(plan, lists, row + part // 2, lane, part % 2, best, scores)


@kernel(parallel=True)
def _match_rows(plan: MatchPlan, lists: Lists, first: int, last: int, threads: int) -> None:
    counter = np.full(1, first)
    for _ in prange(threads):
        piece = take(counter)
        while piece < last:
            _search_rows(plan, lists, ROWS * piece)
            piece = take(counter)


def match_by_rotation(
    observed: Complexes,
    templates: Complexes,
    offsets: NDArray[np.int64],
    own: NDArray[np.int64],
    n_best: int,
    progress: Progress | None = None,
) -> tuple[Float32s, NDArray[np.int64]]:
    """The ``n_best`` templates of largest score on the grid for each row of ``observed``.

    ``observed`` (r, sum p_k) and ``templates`` (n, sum p_k) complex64 with ``offsets`` (k_max + 2,) int64 as in
    ``SteerableCoefficients``; frequency 0 is taken as real. ``own`` (r,) int64 is the template that a row is not
    matched with. Returns scores (r, n_best) float32, best first, and codes (r, n_best) int64: 2 j for the plain pair
    with template j, 2 j + 1 for the mirrored one. Ties go to the smaller code. Each row belongs to one thread.
    ``progress(done, total)`` counts pieces of 16 rows. Memory: the features once more, and 12 bytes for each entry.

    >>> import numpy as np
    >>> b = np.array([[1, 1, 1j], [1, 1, 0.9j], [1, 1, -0.5j]], np.complex64)
    >>> scores, codes = match_by_rotation(b, b, np.array([0, 1, 2, 3]), np.arange(3), 1)
    >>> codes[:, 0]  # 1 and 0 resemble each other as they are, 2 resembles the mirror image of 0
    array([2, 0, 1])
    """
    plan = plan_matching(observed, templates, offsets, own)
    lists = empty_lists(len(observed), n_best)
    n_pieces = -(-len(observed) // ROWS)
    threads = get_num_threads()
    share = max(64 * threads, -(-n_pieces // REPORTS))
    for first in range(0, n_pieces, share):
        if progress is not None:
            progress(first, n_pieces)
        _match_rows(plan, lists, first, min(first + share, n_pieces), threads)
    if progress is not None:
        progress(n_pieces, n_pieces)
    sort_lists(lists.scores, lists.codes)
    return lists.scores, lists.codes
