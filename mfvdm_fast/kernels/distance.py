"""The K most similar partners of every particle over all pairs, plain and mirrored, up to rotation; none is guessed.

C_k(i, j) = sum_q b_i,kq conj(b_j,kq) (plain) or sum_q b_i,kq b_j,kq (mirrored). The score of a pair is the maximum of
s(alpha) = Re[C_0 + 2 sum_k C_k exp(i k alpha)] over a fixed grid of angles (SCIENCE.md section 3). Each unordered pair
is met once, serves both of its rows, and is dropped once an upper bound of s stays below the K-th best score of both:

1. C_0 + 2 sum |C_k| over the leading frequencies, and Cauchy-Schwarz for the others, for 2 x 16 pairs at a time;
2. the maximum over the grid of the leading part, and Cauchy-Schwarz for the others;
3. the score itself, always computed by the same instructions, so that it does not depend on how the pair was met.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from ._jit import kernel
from ._simd import LANES, fma, largest, load, lowest_bit, splat, store, vabs, vmax, vsqrt
from .pairs import (
    BLOCK,
    SLAB,
    Float32s,
    Progress,
    blocks_of_tile,
    cluster_order,
    open_pairs,
    pack_lanes,
    pack_slabs,
    pair_coefficients,
    products,
    search_tiles,
)
from .topk import Lists, push

# Bounds and scores are rounded in float32 along different ways: the former are raised by this part of |b_i| |b_j|.
SLACK = 1e-4


class RotationPlan(NamedTuple):
    """Features and tables as the kernel wants them; frequencies without components are left out."""

    slabs: Float32s  # (n_blocks, size): the leading frequencies, see pairs.pack_slabs
    starts: NDArray[np.int64]
    slots: NDArray[np.int64]  # (n_leading,): lane of each leading frequency, < 8
    real: bool  # the first frequency is k = 0
    tails: Float32s  # (1, n_rows): tails[0, i] * tails[0, j] >= 2 sum |C_k| over the others, with slack
    ids: NDArray[np.int64]  # (n,): the particles in the order of the plan
    lanes: Float32s  # (n, depth, 2, n_lanes): all frequencies, see pairs.pack_lanes
    tables: Float32s  # (groups, chunks, 256): cos of 4 even and 4 odd frequencies, then sin, 16 angles each


def grid_size(k_max: int) -> int:
    """Number of equidistant angles on which the score is maximised: at least 4 k_max, a multiple of 4."""
    return 4 * (LANES * -(-(k_max + 1) // LANES) - 1)


def _lane_of(frequencies: NDArray[np.int64]) -> NDArray[np.int64]:
    """Lanes of the frequencies: groups of eight, four even ones and four odd ones, in ascending order."""
    odd = frequencies % 2
    rank = np.where(odd, np.cumsum(odd), np.cumsum(1 - odd)) - 1
    return 8 * (rank // 4) + 4 * odd + rank % 4


def _angle_tables(frequencies: NDArray[np.int64]) -> Float32s:
    """Cosines and sines on a quarter of the grid, times 2 for k > 0, by lane: (groups, chunks, 256)."""
    lanes = _lane_of(frequencies)
    steps = grid_size(int(frequencies.max(initial=0))) // 4
    phase = np.outer(frequencies, np.arange(steps + 1)) * (np.pi / 2 / steps)
    weight = np.where(frequencies == 0, 1.0, 2.0)[:, None]
    tables = np.zeros((int(lanes.max(initial=0)) // 8 + 1, 2, 8, steps + 1), np.float32)
    tables[lanes // 8, 0, lanes % 8] = weight * np.cos(phase)
    tables[lanes // 8, 1, lanes % 8] = weight * np.sin(phase)
    chunks = tables.reshape(len(tables), 16, -1, LANES).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(chunks).reshape(len(tables), -1, 16 * LANES)


def plan_rotation(features: NDArray[np.complex64], offsets: NDArray[np.int64]) -> RotationPlan:
    """Lay out features (n, sum p_k) with ``offsets`` (k_max + 2,)."""
    order = cluster_order(features)
    features = features[order]
    sizes = np.diff(offsets)
    frequencies = np.flatnonzero(sizes > 0)
    used = np.append(offsets[:-1][frequencies], offsets[-1])
    lanes = _lane_of(frequencies)
    leading = lanes < 8
    columns = np.flatnonzero(np.repeat(leading, sizes[frequencies]))
    starts = SLAB * np.append(0, np.cumsum(sizes[frequencies[leading]]))
    slabs = pack_slabs(features[:, columns])
    power = np.repeat(np.where(frequencies == 0, 1.0, 2.0), sizes[frequencies]) * np.abs(features) ** 2
    tails = np.zeros((1, len(slabs) * BLOCK), np.float32)
    tails[0, : len(features)] = np.sqrt((1 + SLACK) * power.sum(axis=1) - power[:, columns].sum(axis=1))
    real = bool(frequencies.size and frequencies[0] == 0)
    return RotationPlan(
        slabs, starts, lanes[leading], real, tails, order, pack_lanes(features, used, lanes), _angle_tables(frequencies)
    )


@kernel
def _grid_max(c: Float32s, at: int, step: int, shift: int, tables: Float32s, groups: int) -> float:
    """Maximum over the grid of one pair, from its C_k in lane f: c[at + f * step] + i c[at + f * step + shift].

    s(alpha) and s(-alpha) have the same even part and opposite odd parts, and k even or odd does the same to
    s(alpha) and s(pi - alpha): a quarter of the circle is enough.
    """
    n_chunks = tables.shape[1]
    best = splat(np.float32(-np.inf))
    for chunk in range(n_chunks):
        even = odd = even_sin = odd_sin = splat(np.float32(0))
        for g in range(groups):
            w, x = (g * n_chunks + chunk) * 256, at + 8 * g * step
            for f in range(4):
                even = fma(splat(c[x + f * step]), load(tables, w + 16 * f), even)
                odd = fma(splat(c[x + (f + 4) * step]), load(tables, w + 64 + 16 * f), odd)
                even_sin = fma(splat(c[x + f * step + shift]), load(tables, w + 128 + 16 * f), even_sin)
                odd_sin = fma(splat(c[x + (f + 4) * step + shift]), load(tables, w + 192 + 16 * f), odd_sin)
        best = vmax(best, vmax(even + odd + vabs(even_sin + odd_sin), even - odd + vabs(even_sin - odd_sin)))
    return largest(best)


@kernel
def _modulus(x: Any, y: Any) -> Any:
    return vsqrt(fma(x, x, y * y))


@kernel
def _leading(plan: RotationPlan, row: int, lane: int, c: Float32s, bounds: Float32s) -> None:
    """Leading C_k and bounds of the rows row, row + 1 with 16 particles, plain (m = 0) and mirrored (m = 1).

    c[128 f + 64 s + 32 m + l] is Re C_k in lane f of (row + s, lane + l), Im C_k stands 16 further, and
    C_0 + 2 sum |C_k| is bounds[32 s + 16 m + l].
    """
    rows, lanes = plan.slabs[row // 64], plan.slabs[lane // 64]
    two = splat(np.float32(2))
    s0 = s1 = s2 = s3 = splat(np.float32(0))
    for f in range(plan.slots.size):
        p0, q0, x0, y0, p1, q1, x1, y1 = products(rows, row % 64, lanes, lane % 64, plan.starts[f], plan.starts[f + 1])
        u0, v0, u1, v1 = p0 + q0, x0 - y0, p0 - q0, x0 + y0
        u2, v2, u3, v3 = p1 + q1, x1 - y1, p1 - q1, x1 + y1
        to = 128 * plan.slots[f]
        store(c, to, u0), store(c, to + 16, v0), store(c, to + 32, u1), store(c, to + 48, v1)
        store(c, to + 64, u2), store(c, to + 80, v2), store(c, to + 96, u3), store(c, to + 112, v3)
        if f == 0 and plan.real:
            s0, s1, s2, s3 = u0, u1, u2, u3
        else:
            s0, s1 = fma(two, _modulus(u0, v0), s0), fma(two, _modulus(u1, v1), s1)
            s2, s3 = fma(two, _modulus(u2, v2), s2), fma(two, _modulus(u3, v3), s3)
    store(bounds, 0, s0), store(bounds, 16, s1), store(bounds, 32, s2), store(bounds, 48, s3)


@kernel
def _try_pairs(plan: RotationPlan, lists: Lists, row: int, lane: int, bits: int, c: Float32s, pair: Float32s) -> None:
    """Steps 2 and 3 for the pairs of :func:`_leading` whose bits (see ``pairs.open_pairs``) are set."""
    while bits:
        bit = lowest_bit(bits)
        bits &= bits - 1
        s, m, l = bit // 32, bit // 16 % 2, bit % 16
        i, j = row + s, lane + l
        most = _grid_max(c, 64 * s + 32 * m + l, 128, 16, plan.tables, 1) + plan.tails[0, i] * plan.tails[0, j]
        if most < min(lists.limits[i], lists.limits[j]):
            continue
        pair_coefficients(plan.lanes, i, j, 1.0 - 2.0 * m, pair)
        score = _grid_max(pair, 0, 1, plan.lanes.shape[3], plan.tables, plan.tables.shape[0])
        push(lists, i, score, 2 * plan.ids[j] + m)
        push(lists, j, score, 2 * plan.ids[i] + m)


@kernel
def _search_blocks(plan: RotationPlan, lists: Lists, row0: int, lane0: int) -> None:
    """All pairs of two blocks, given by their first particles."""
    n = plan.ids.size
    c, bounds = np.zeros(1024, np.float32), np.empty(64, np.float32)
    pair = np.empty(2 * plan.lanes.shape[3], np.float32)
    for row in range(row0, min(row0 + 64, n), 2):
        for lane in range(lane0, min(lane0 + 64, n), 16):
            _leading(plan, row, lane, c, bounds)
            bits = open_pairs(lists, plan.tails, 0, row, lane, n, bounds)
            if bits:
                _try_pairs(plan, lists, row, lane, bits, c, pair)


@kernel(parallel=True)
def _rotation_round(plan: RotationPlan, lists: Lists, tiles: NDArray[np.int64], size: int) -> None:
    """All pairs of the given tiles, of which no two share a particle."""
    for t in prange(tiles.shape[0]):
        for a, b in blocks_of_tile(tiles[t], size, len(plan.slabs)):
            _search_blocks(plan, lists, 64 * a, 64 * b)


def nearest_by_rotation(
    features: NDArray[np.complex64], offsets: NDArray[np.int64], n_best: int, progress: Progress | None = None
) -> tuple[Float32s, NDArray[np.int64]]:
    """The ``n_best`` best partners of each particle by rotation-invariant correlation.

    ``features`` (n, sum p_k) complex64 with ``offsets`` (k_max + 2,) int64 as in ``SteerableCoefficients``; frequency 0
    is taken as real. Returns scores (n, n_best) float32, best first, and codes (n, n_best) int64: 2 j for the plain
    pair with j, 2 j + 1 for the mirrored one. Ties go to the smaller code. ``progress(done, total)`` is called between
    rounds. Memory: about four times the features, and the lists.

    >>> import numpy as np
    >>> b = np.array([[1, 1, 1j], [1, 1, 0.9j], [1, 1, -0.5j]], np.complex64)
    >>> scores, codes = nearest_by_rotation(b, np.array([0, 1, 2, 3]), 1)
    >>> codes[:, 0]  # 1 and 0 resemble each other as they are, 2 resembles the mirror image of 0
    array([2, 0, 1])
    """
    plan = plan_rotation(features, offsets)
    return search_tiles(_rotation_round, plan, plan.ids, n_best, progress)
