"""The K partners of largest affinity A(i, j) = sum_k |C_k(i, j)|^2 over all pairs, plain and mirrored (Eqs. 5-7).

Each unordered pair is met once. Frequencies are added to a tile of 64 x 64 pairs one after the other; what the others
can still add is at most sum |b_i,k|^2 |b_j,k|^2, so that soon few pairs are left, and those are computed one by one, always by
the same instructions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from ._jit import kernel
from ._simd import LANES, count_bits, fma, load, lowest_bit, reaches, splat, store, total, vmin
from .pairs import (
    BLOCK,
    SLAB,
    Float32s,
    Progress,
    allowed_bits,
    cluster_order,
    pack_lanes,
    pack_slabs,
    pair_coefficients,
    products,
    search_tiles,
)
from .topk import Lists, push

SLACK = 1e-4  # see distance.SLACK
FEW = 128  # pairs of a tile of 4096 that are cheaper one by one than one more frequency for all


class AffinityPlan(NamedTuple):
    """Features as the kernel wants them."""

    slabs: Float32s  # (n_blocks, size), see pairs.pack_slabs
    starts: NDArray[np.int64]  # (n_freq + 1,)
    tails: Float32s  # (n_freq, n_rows): tails[f, i] * tails[f, j] >= what frequencies after f can add, with slack
    ids: NDArray[np.int64]  # (n,): the particles in the order of the plan
    lanes: Float32s  # (n, depth, 2, n_lanes), see pairs.pack_lanes


def plan_affinity(features: NDArray[np.complex64], offsets: NDArray[np.int64]) -> AffinityPlan:
    """Lay out features (n, sum p_k) with ``offsets`` (n_freq + 1,); frequencies without components are left out."""
    order = cluster_order(features)
    features = features[order]
    used = np.append(offsets[:-1][np.diff(offsets) > 0], offsets[-1])
    slabs = pack_slabs(features)
    power = np.stack([(np.abs(features[:, a:b]) ** 2).sum(axis=1, dtype=np.float64) for a, b in zip(used, used[1:])])
    left = np.cumsum(power[::-1] ** 2, axis=0)[::-1]
    tails = np.zeros((len(power), len(slabs) * BLOCK), np.float32)
    tails[:-1, : len(features)] = left[1:]
    tails[:, : len(features)] += SLACK * left[0]
    lanes = pack_lanes(features, used, np.arange(len(power)))
    return AffinityPlan(slabs, used * SLAB, np.sqrt(tails), order, lanes)


@kernel
def _add_frequency(plan: AffinityPlan, f: int, row0: int, lane0: int, sums: Float32s) -> None:
    """Add |C_k|^2 of frequency number f to sums (64, 2, 64): row, plain or mirrored, column."""
    rows, lanes = plan.slabs[row0 // 64], plan.slabs[lane0 // 64]
    for r in range(0, 64, 2):
        for at in range(0, 64, 16):
            p0, q0, x0, y0, p1, q1, x1, y1 = products(rows, r, lanes, at, plan.starts[f], plan.starts[f + 1])
            u0, v0, u1, v1 = p0 + q0, x0 - y0, p0 - q0, x0 + y0
            u2, v2, u3, v3 = p1 + q1, x1 - y1, p1 - q1, x1 + y1
            to = 128 * r + at
            store(sums, to, fma(u0, u0, fma(v0, v0, load(sums, to))))
            store(sums, to + 64, fma(u1, u1, fma(v1, v1, load(sums, to + 64))))
            store(sums, to + 128, fma(u2, u2, fma(v2, v2, load(sums, to + 128))))
            store(sums, to + 192, fma(u3, u3, fma(v3, v3, load(sums, to + 192))))


@kernel
def _left(plan: AffinityPlan, lists: Lists, f: int, i: int, lane0: int, at: int, m: int, n: int, sums: Float32s) -> int:
    """Which of the 16 pairs (i, lane0 + at + l) can still enter a list after frequency f, as bits."""
    least = vmin(load(lists.limits, lane0 + at), splat(lists.limits[i]))
    most = fma(splat(plan.tails[f, i]), load(plan.tails, f * plan.tails.shape[1] + lane0 + at), load(sums, 128 * (i % 64) + 64 * m + at))
    return reaches(most, least) & allowed_bits(i, lane0 + at, n)


@kernel
def _count_left(plan: AffinityPlan, lists: Lists, f: int, row0: int, lane0: int, n: int, sums: Float32s) -> int:
    left = 0
    for i in range(row0, min(row0 + 64, n)):
        for m in range(2):
            for at in range(0, 64, 16):
                left += count_bits(_left(plan, lists, f, i, lane0, at, m, n, sums))
    return left


@kernel
def _affinity(plan: AffinityPlan, i: int, j: int, m: int, work: Float32s) -> float:
    pair_coefficients(plan.lanes, i, j, 1.0 - 2.0 * m, work)
    power = splat(np.float32(0))
    for at in range(0, work.size, LANES):
        value = load(work, at)
        power = fma(value, value, power)
    return total(power)


@kernel(parallel=True)
def _affinity_round(plan: AffinityPlan, lists: Lists, tiles: NDArray[np.int64], n: int) -> None:
    """All pairs of the given tiles, of which no two share a particle."""
    n_freq = plan.starts.size - 1
    for t in prange(tiles.shape[0]):
        row0, lane0 = 64 * tiles[t, 0], 64 * tiles[t, 1]
        sums = np.zeros((64, 2, 64), np.float32)
        work = np.empty(2 * plan.lanes.shape[3], np.float32)
        f = 0
        _add_frequency(plan, f, row0, lane0, sums)
        while f + 1 < n_freq and _count_left(plan, lists, f, row0, lane0, n, sums) > FEW:
            f += 1
            _add_frequency(plan, f, row0, lane0, sums)
        for i in range(row0, min(row0 + 64, n)):
            for m in range(2):
                for at in range(0, 64, 16):
                    bits = _left(plan, lists, f, i, lane0, at, m, n, sums)
                    while bits:
                        j = lane0 + at + lowest_bit(bits)
                        bits &= bits - 1
                        score = _affinity(plan, i, j, m, work)
                        push(lists, i, score, 2 * plan.ids[j] + m)
                        push(lists, j, score, 2 * plan.ids[i] + m)


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
    return search_tiles(_affinity_round, plan, plan.ids, n_best, progress)
