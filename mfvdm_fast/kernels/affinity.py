"""The K partners of largest affinity A(i, j) = sum_k |C_k(i, j)|^2 over all pairs, plain and mirrored (Eqs. 5-7).

Each unordered pair is met once. Frequencies are added one after the other, for groups of 2 rows x 16 columns; what the
others can still add is at most sum |b_i,k|^2 |b_j,k|^2, so that in most groups few pairs or none stay open. Those are
computed one by one, always by the same instructions, so that an affinity does not depend on how the pair was met.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from ._jit import kernel
from ._simd import LANES, count_bits, fma, load, lowest_bit, splat, store, total
from ._tiles import Claims, next_tile
from .pairs import (
    BLOCK,
    SLAB,
    Float32s,
    Lanes,
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

# Bounds and scores are rounded in float32 along different ways: the former are raised by this part of |b_i|^2 |b_j|^2.
SLACK = 1e-4
FEW = 2  # pairs out of 64 that are cheaper one by one than one more frequency for all


class AffinityPlan(NamedTuple):
    """Features as the kernel wants them."""

    slabs: Float32s  # (n_blocks, size), see pairs.pack_slabs
    starts: NDArray[np.int64]  # (n_freq + 1,)
    tails: Float32s  # (n_freq, n_rows): tails[f, i] * tails[f, j] >= what frequencies after f can add, with slack
    ids: NDArray[np.int64]  # (n,): the particles in the order of the plan
    values: Float32s  # all frequencies of each particle, see pairs.Lanes
    depths: NDArray[np.int64]


@kernel(parallel=True)
def _fill_tails(
    features: NDArray[np.complex64], order: NDArray[np.int64], used: NDArray[np.int64], tails: Float32s
) -> None:
    for i in prange(order.size):
        left, row = 0.0, features[order[i]]
        for f in range(used.size - 2, -1, -1):
            tails[f, i] = left
            power = 0.0
            for c in range(used[f], used[f + 1]):
                power += np.float64(row[c].real) ** 2 + np.float64(row[c].imag) ** 2
            left += power**2
        for f in range(used.size - 1):
            tails[f, i] = np.sqrt(tails[f, i] + SLACK * left)


def plan_affinity(features: NDArray[np.complex64], offsets: NDArray[np.int64]) -> AffinityPlan:
    """Lay out features (n, sum p_k) with ``offsets`` (n_freq + 1,); frequencies without components are left out."""
    order = cluster_order(features)
    used = np.append(offsets[:-1][np.diff(offsets) > 0], offsets[-1])
    slabs = pack_slabs(features, order)
    tails = np.zeros((len(used) - 1, len(slabs) * BLOCK), np.float32)
    _fill_tails(features, order, used, tails)
    values, depths = pack_lanes([(features, order)], used)
    return AffinityPlan(slabs, used * SLAB, tails, order, values, depths)


@kernel
def _add(plan: AffinityPlan, f: int, row: int, lane: int, sums: Float32s) -> None:
    """Add |C_k|^2 of frequency number f to sums (4, 16): rows row, row + 1, plain and mirrored, 16 columns."""
    rows, lanes = plan.slabs[row // 64], plan.slabs[lane // 64]
    p0, q0, x0, y0, p1, q1, x1, y1 = products(rows, row % 64, lanes, lane % 64, plan.starts[f], plan.starts[f + 1])
    u0, v0, u1, v1 = p0 + q0, x0 - y0, p0 - q0, x0 + y0
    u2, v2, u3, v3 = p1 + q1, x1 - y1, p1 - q1, x1 + y1
    store(sums, 0, fma(u0, u0, fma(v0, v0, load(sums, 0))))
    store(sums, 16, fma(u1, u1, fma(v1, v1, load(sums, 16))))
    store(sums, 32, fma(u2, u2, fma(v2, v2, load(sums, 32))))
    store(sums, 48, fma(u3, u3, fma(v3, v3, load(sums, 48))))


@kernel
def _try_pairs(plan: AffinityPlan, lists: Lists, row: int, lane: int, bits: int, work: Float32s) -> None:
    """Compute the affinity of the pairs whose bits are set and put them into the lists of both particles."""
    while bits:
        bit = lowest_bit(bits)
        bits &= bits - 1
        i, m, j = row + bit // 32, bit // 16 % 2, lane + bit % 16
        pair_coefficients(Lanes(plan.values, plan.depths), i, j, 1.0 - 2.0 * m, work)
        power = splat(np.float32(0))
        for at in range(0, work.size, LANES):
            value = load(work, at)
            power = fma(value, value, power)
        score = total(power)
        push(lists, i, score, 2 * plan.ids[j] + m)
        push(lists, j, score, 2 * plan.ids[i] + m)


@kernel
def _search_blocks(plan: AffinityPlan, lists: Lists, row0: int, lane0: int) -> None:
    """All pairs of two blocks, given by their first particles."""
    n, n_freq = plan.ids.size, plan.starts.size - 1
    groups = np.arange((min(64, n - row0) + 1) // 2 * 4)  # numbers 4 * (row // 2) + column // 16 still open
    n_open = groups.size
    sums = np.zeros((128, 64), np.float32)
    work = np.empty(2 * LANES * plan.depths.size, np.float32)
    for f in range(n_freq):
        still = 0
        for g in groups[:n_open]:
            row, lane = row0 + g // 4 * 2, lane0 + g % 4 * 16
            _add(plan, f, row, lane, sums[g])
            bits = open_pairs(lists, plan.tails, f, row, lane, n, sums[g])
            if count_bits(bits) <= FEW or f + 1 == n_freq:
                _try_pairs(plan, lists, row, lane, bits, work)
            else:
                groups[still] = g
                still += 1
        n_open = still


@kernel(parallel=True)
def _affinity_tiles(
    plan: AffinityPlan, lists: Lists, tiles: NDArray[np.int64], claims: Claims, size: int, threads: int
) -> None:
    """All pairs of the given tiles."""
    for _ in prange(threads):
        t = next_tile(tiles, claims, -1)
        while t >= 0:
            for a, b in blocks_of_tile(tiles[t], size, len(plan.slabs)):
                _search_blocks(plan, lists, 64 * a, 64 * b)
            t = next_tile(tiles, claims, t)


def nearest_by_affinity(
    features: NDArray[np.complex64], offsets: NDArray[np.int64], n_best: int, progress: Progress | None = None
) -> tuple[Float32s, NDArray[np.int64]]:
    """The ``n_best`` partners of largest sum_k |C_k|^2 of each particle; same form as ``nearest_by_rotation``.

    >>> import numpy as np
    >>> v = np.array([[1, 1j], [1, -0.9j], [0, 1]], np.complex64)
    >>> scores, codes = nearest_by_affinity(v, np.array([0, 2]), 1)
    >>> codes[:, 0], scores[:, 0].round(2)
    (array([3, 1, 0]), array([3.61, 3.61, 1.  ], dtype=float32))
    """
    plan = plan_affinity(features, offsets)
    return search_tiles(_affinity_tiles, plan, plan.ids, n_best, progress)
