"""The most similar partners of every particle over all pairs, plain and mirrored, up to rotation; none is guessed.

C_k(i, j) = sum_q b_i,kq conj(b_j,kq) (plain) or sum_q b_i,kq b_j,kq (mirrored). The score of a pair is the maximum of
s(alpha) = Re[C_0 + 2 sum_k C_k exp(i k alpha)] over a fixed grid of angles (``neighbors.search``). Each unordered pair
is met once and serves both of its rows, 2 x 16 pairs at a time. Nothing is pruned: at low signal-to-noise ratios bounds
of s hardly drop a pair, and arithmetic without branches is faster than the bounds are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from ._jit import kernel
from ._simd import fma, load, lowest_bit, reaches, splat, store, vabs, vmax, vmin
from ._tiles import Claims, next_tile
from .pairs import (
    SLAB,
    Float32s,
    Progress,
    allowed_pairs,
    blocks_of_tile,
    cluster_order,
    pack_slabs,
    products,
    search_tiles,
)
from .topk import Lists, push


class RotationPlan(NamedTuple):
    """Features and tables as the kernel wants them; frequencies without components are left out, even ones first."""

    slabs: Float32s  # (n_blocks, size), see pairs.pack_slabs
    starts: NDArray[np.int64]  # (n_freq + 1,) where in a slab each frequency begins
    n_even: int  # how many of the frequencies are even
    ids: NDArray[np.int64]  # (n,): the particles in the order of the plan
    tables: Float32s  # (angles / 2, 4 n_freq): cos, sin at one angle, cos, sin at the next one, of each frequency


def grid_size(k_max: int) -> int:
    """Number of equidistant angles on which the score is maximised: at least 4 k_max, a multiple of 4."""
    return 4 * (2 * -(-(k_max + 1) // 2) - 1)


def _angle_tables(frequencies: NDArray[np.int64]) -> Float32s:
    """Cosines and sines on a quarter of the grid, both ends included, times 2 for k > 0."""
    steps = grid_size(int(frequencies.max(initial=0))) // 4
    phase = np.outer(np.arange(steps + 1) * (np.pi / 2 / steps), frequencies)
    tables = np.where(frequencies == 0, 1.0, 2.0)[:, None] * np.stack([np.cos(phase), np.sin(phase)], axis=-1)
    pairs = tables.reshape(-1, 2, len(frequencies), 2).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(pairs, np.float32).reshape(len(pairs), -1)


def plan_rotation(features: NDArray[np.complex64], offsets: NDArray[np.int64]) -> RotationPlan:
    """Lay out features (n, sum p_k) with ``offsets`` (k_max + 2,)."""
    order = cluster_order(features)
    sizes = np.diff(offsets)
    frequencies = np.flatnonzero(sizes > 0)
    frequencies = np.concatenate([frequencies[frequencies % 2 == 0], frequencies[frequencies % 2 == 1]])
    columns = np.concatenate([np.arange(offsets[k], offsets[k + 1]) for k in frequencies])
    starts = SLAB * np.append(0, np.cumsum(sizes[frequencies]))
    slabs = pack_slabs(features, order, columns)
    return RotationPlan(slabs, starts, int((frequencies % 2 == 0).sum()), order, _angle_tables(frequencies))


@kernel
def _all_coefficients(plan: RotationPlan, row: int, lane: int, c: Float32s) -> None:
    """C_k of the rows row, row + 1 with 16 particles: c[128 f + 64 s + 16 m + l] is Re C_k of frequency number f for
    (row + s, lane + l), plain (m = 0) or mirrored (m = 1); Im C_k stands 32 further."""
    rows, lanes = plan.slabs[row // 64], plan.slabs[lane // 64]
    for f in range(plan.starts.size - 1):
        p0, q0, x0, y0, p1, q1, x1, y1 = products(rows, row % 64, lanes, lane % 64, plan.starts[f], plan.starts[f + 1])
        to = 128 * f
        store(c, to, p0 + q0), store(c, to + 16, p0 - q0), store(c, to + 32, x0 - y0), store(c, to + 48, x0 + y0)
        store(c, to + 64, p1 + q1), store(c, to + 80, p1 - q1), store(c, to + 96, x1 - y1), store(c, to + 112, x1 + y1)


@kernel
def _sums_at_two_angles(c: Float32s, at: int, tables: Float32s, a: int, first: int, last: int) -> Any:
    """Sums of Re C_k cos k alpha and of Im C_k sin k alpha over frequencies first:last, for plain and mirrored pairs at
    angles 2 a and 2 a + 1."""
    u0 = v0 = u1 = v1 = u2 = v2 = u3 = v3 = splat(np.float32(0))
    for f in range(first, last):
        x = at + 128 * f
        re0, re1, im0, im1 = load(c, x), load(c, x + 16), load(c, x + 32), load(c, x + 48)
        cos0, sin0 = splat(tables[a, 4 * f]), splat(tables[a, 4 * f + 1])
        cos1, sin1 = splat(tables[a, 4 * f + 2]), splat(tables[a, 4 * f + 3])
        u0, v0, u1, v1 = fma(re0, cos0, u0), fma(im0, sin0, v0), fma(re0, cos1, u1), fma(im0, sin1, v1)
        u2, v2, u3, v3 = fma(re1, cos0, u2), fma(im1, sin0, v2), fma(re1, cos1, u3), fma(im1, sin1, v3)
    return u0, v0, u1, v1, u2, v2, u3, v3


@kernel
def fold(even: Any, odd: Any, even_sin: Any, odd_sin: Any) -> Any:
    """The largest of s at alpha, -alpha, pi - alpha and pi + alpha: a quarter of the circle stands for all of it."""
    return vmax(even + odd + vabs(even_sin + odd_sin), even - odd + vabs(even_sin - odd_sin))


@kernel
def _grid_maxima(plan: RotationPlan, c: Float32s, at: int) -> Any:
    """Maxima over the grid for one row of :func:`_all_coefficients` (at = 64 s), plain and mirrored."""
    n_freq = plan.starts.size - 1
    plain = mirrored = splat(np.float32(-np.inf))
    for a in range(plan.tables.shape[0]):
        e0, f0, e1, f1, e2, f2, e3, f3 = _sums_at_two_angles(c, at, plan.tables, a, 0, plan.n_even)
        o0, p0, o1, p1, o2, p2, o3, p3 = _sums_at_two_angles(c, at, plan.tables, a, plan.n_even, n_freq)
        plain = vmax(plain, vmax(fold(e0, o0, f0, p0), fold(e1, o1, f1, p1)))
        mirrored = vmax(mirrored, vmax(fold(e2, o2, f2, p2), fold(e3, o3, f3, p3)))
    return plain, mirrored


@kernel
def _enter(plan: RotationPlan, lists: Lists, i: int, lane: int, m: int, bits: int, scores: Float32s) -> None:
    """Offer the pairs (i, lane + l) whose bits l are set to the lists of both particles."""
    while bits:
        l = lowest_bit(bits)
        bits &= bits - 1
        push(lists, i, scores[l], 2 * plan.ids[lane + l] + m)
        push(lists, lane + l, scores[l], 2 * plan.ids[i] + m)


@kernel
def _search_blocks(plan: RotationPlan, lists: Lists, row0: int, lane0: int, c: Float32s, scores: Float32s) -> None:
    """All pairs of two blocks, given by their first particles; ``c`` and ``scores`` are work space."""
    n = plan.ids.size
    for row in range(row0, min(row0 + 64, n), 2):
        for lane in range(lane0, min(lane0 + 64, n), 16):
            if lane + 15 <= row:
                continue
            _all_coefficients(plan, row, lane, c)
            for s in range(2 if row + 1 < n else 1):
                plain, mirrored = _grid_maxima(plan, c, 64 * s)
                least = vmin(load(lists.limits, lane), splat(lists.limits[row + s]))
                allowed = allowed_pairs(row + s, lane, n)
                store(scores, 0, plain), store(scores, 16, mirrored)
                _enter(plan, lists, row + s, lane, 0, reaches(plain, least) & allowed, scores[:16])
                _enter(plan, lists, row + s, lane, 1, reaches(mirrored, least) & allowed, scores[16:])


@kernel(parallel=True)
def _rotation_tiles(
    plan: RotationPlan, lists: Lists, tiles: NDArray[np.int64], claims: Claims, size: int, threads: int
) -> None:
    """All pairs of the given tiles."""
    for _ in prange(threads):
        c, scores = np.empty(128 * (plan.starts.size - 1), np.float32), np.empty(32, np.float32)
        t = next_tile(tiles, claims, -1)
        while t >= 0:
            for a, b in blocks_of_tile(tiles[t], size, len(plan.slabs)):
                _search_blocks(plan, lists, 64 * a, 64 * b, c, scores)
            t = next_tile(tiles, claims, t)


def nearest_by_rotation(
    features: NDArray[np.complex64], offsets: NDArray[np.int64], n_best: int, progress: Progress | None = None
) -> tuple[Float32s, NDArray[np.int64]]:
    """The ``n_best`` best partners of each particle by rotation-invariant correlation.

    ``features`` (n, sum p_k) complex64 with ``offsets`` (k_max + 2,) int64 as in ``SteerableCoefficients``; frequency 0
    is taken as real. Returns scores (n, n_best) float32, best first, and codes (n, n_best) int64: 2 j for the plain
    pair with j, 2 j + 1 for the mirrored one. Ties go to the smaller code. ``progress(done, total)`` is called between
    rounds. Memory: twice the features, and the lists (12 bytes an entry).

    >>> import numpy as np
    >>> b = np.array([[1, 1, 1j], [1, 1, 0.9j], [1, 1, -0.5j]], np.complex64)
    >>> scores, codes = nearest_by_rotation(b, np.array([0, 1, 2, 3]), 1)
    >>> codes[:, 0]  # 1 and 0 resemble each other as they are, 2 resembles the mirror image of 0
    array([2, 0, 1])
    """
    plan = plan_rotation(features, offsets)
    return search_tiles(_rotation_tiles, plan, plan.ids, n_best, progress)
