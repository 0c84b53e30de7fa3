"""All pairs of particles in square tiles: data layouts, the order of the tiles, and the products of features.

C_k(i, j) = sum_q b_i,kq conj(b_j,kq) for a plain pair, sum_q b_i,kq b_j,kq for a mirrored one. With P = re re',
Q = im im', X = im re', Y = re im' they are (P + Q) + i (X - Y) and (P - Q) + i (X + Y).

For tiles the particles stand in blocks of 64, one slab ``[q][re, im][particle]`` per frequency, so that particles fill
the vector registers. For single pairs they stand as :class:`Lanes`, with one lane per frequency.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import prange
from numpy.typing import NDArray

from ._jit import kernel
from ._simd import LANES, empty_aligned, fma, load, reaches, splat, store, vmin
from ._tiles import free_claims
from .topk import Lists, empty_lists, sort_lists

BLOCK = 64
SLAB = 2 * BLOCK  # floats per component: real parts, then imaginary parts
GROUP = 4  # blocks, at most
TILES = 64  # for each thread, until threads wait for each other
ORDER_COLUMNS, ORDER_AXES = 128, 5  # how much cluster_order looks at

Float32s = NDArray[np.float32]
Progress = Callable[[int, int], None]


@kernel(parallel=True)
def _fill_slabs(
    features: NDArray[np.complex64],
    order: NDArray[np.int64],
    columns: NDArray[np.int64],
    out: NDArray[np.float32],
) -> None:
    for b in prange(out.shape[0]):
        for i in range(64 * b, min(64 * b + 64, order.size)):
            for c in range(columns.size):
                value = features[order[i], columns[c]]
                out[b, c, 0, i - 64 * b], out[b, c, 1, i - 64 * b] = value.real, value.imag


class Lanes(NamedTuple):
    """Features of particles one by one: frequency f stands in lane f % 16 of chunk f // 16."""

    values: Float32s  # (n, size): chunk after chunk, each [q][re, im][16 lanes]
    depths: NDArray[np.int64]  # (n_chunks,): the largest number of components of a frequency of the chunk


@kernel(parallel=True)
def _fill_lanes(
    features: NDArray[np.complex64], order: NDArray[np.int64], places: NDArray[np.int64], out: NDArray[np.float32]
) -> None:
    for i in prange(out.shape[0]):
        for c in range(features.shape[1]):
            value = features[order[i], c]
            out[i, places[c]], out[i, places[c] + 16] = value.real, value.imag


def pack_slabs(
    features: NDArray[np.complex64],
    order: NDArray[np.int64] | None = None,
    columns: NDArray[np.int64] | None = None,
) -> Float32s:
    """Rows ``order`` and p ``columns`` of features, all when left out, as slabs (ceil(n / 64), p * 128) float32.

    Zero where there is no particle.
    """
    order = np.arange(features.shape[0]) if order is None else order
    columns = np.arange(features.shape[1]) if columns is None else columns
    slabs = empty_aligned((-(-len(order) // BLOCK), len(columns), 2, BLOCK))
    slabs[len(order) // BLOCK :] = 0
    _fill_slabs(features, order, columns, slabs)
    return slabs.reshape(len(slabs), -1)


def pack_lanes(
    parts: Sequence[tuple[NDArray[np.complex64], NDArray[np.int64] | None]], offsets: NDArray[np.int64]
) -> Lanes:
    """Features (n, sum p_k), frequency after frequency as ``offsets`` say, as lanes; zero where there is nothing.

    Of one part after the other, each with the order of its rows (None: as they are).
    """
    orders = [np.arange(len(features)) if order is None else order for features, order in parts]
    sizes = np.diff(offsets)
    chunks = np.arange(len(sizes)) // LANES
    depths = np.array([sizes[chunks == chunk].max() for chunk in range(int(chunks[-1]) + 1)], np.int64)
    starts = 2 * LANES * np.append(0, np.cumsum(depths))
    depth = np.arange(int(sizes.sum())) - np.repeat(offsets[:-1], sizes)
    places = np.repeat(starts[chunks] + np.arange(len(sizes)) % LANES, sizes) + 2 * LANES * depth
    values = empty_aligned((sum(map(len, orders)), int(starts[-1])))
    values[:] = 0
    first = 0
    for (features, _), order in zip(parts, orders, strict=True):
        _fill_lanes(features, order, places, values[first : first + len(order)])
        first += len(order)
    return Lanes(values, depths)


def cluster_order(features: NDArray[np.complex64]) -> NDArray[np.int64]:
    """An order of the particles in which blocks, and blocks that are close in the sense of XOR, hold similar ones.

    Real features and the moduli of complex ones are free of rotation and mirroring. The particles are halved again
    and again along the axis of largest variance, out of the leading principal axes. It only decides what is met first.
    """
    leading = features[:, :ORDER_COLUMNS]
    sizes = np.where(leading.imag.any(axis=0), np.sqrt(leading.real**2 + leading.imag**2), leading.real)
    sizes -= sizes.mean(axis=0)
    places = sizes @ np.linalg.eigh(sizes.T @ sizes)[1][:, -ORDER_AXES:]
    order = np.arange(len(features))
    half = BLOCK
    while 2 * half < len(order):
        half *= 2
    while half >= BLOCK:
        for start in range(0, len(order), 2 * half):
            part = order[start : start + 2 * half]
            if len(part) > half:
                along = places[part, np.argmax(places[part].var(axis=0))]
                order[start : start + 2 * half] = part[np.argpartition(along, half)]
        half //= 2
    return order


def order_tiles(n_groups: int) -> NDArray[np.int64]:
    """Every unordered pair of groups once, (tiles, 2).

    By b XOR c of the tile (b, c): tiles of similar particles (see :func:`cluster_order`) come first, so that limits
    rise early, and tiles that follow each other touch different particles, so that threads find some that are free.
    """
    b, c = np.triu_indices(n_groups)
    return np.stack([b, c], axis=1)[np.lexsort((b, b ^ c))]


def search_tiles(
    run_tiles: Any, plan: Any, order: NDArray[np.int64], n_best: int, progress: Progress | None
) -> tuple[Float32s, NDArray[np.int64]]:
    """Call ``run_tiles(plan, lists, tiles, claims, size, threads)`` for all tiles; scores and codes (n, n_best).

    Best first. ``order`` (n,) are the particles as they stand in the plan. Tiles are pairs of groups of ``size``
    blocks, with at least eight groups for each thread. Threads wait for each other, and progress is reported, once in a
    while. What is found does not depend on any of it.
    """
    n, n_blocks = len(order), len(plan.slabs)
    lists = empty_lists(n_blocks * BLOCK, n_best)
    threads = numba.get_num_threads()
    size = min(GROUP, max(1, n_blocks // (8 * threads)))
    n_groups = -(-n_blocks // size)
    tiles = order_tiles(n_groups)
    if progress is not None:
        progress(0, len(tiles))
    for first in range(0, len(tiles), TILES * threads):
        some = tiles[first : first + TILES * threads]
        run_tiles(plan, lists, some, free_claims(some, n_groups), size, threads)
        if progress is not None:
            progress(first + len(some), len(tiles))
    scores, codes = np.empty((n, n_best), np.float32), np.empty((n, n_best), np.int64)
    scores[order], codes[order] = lists.scores[:n], lists.codes[:n]
    sort_lists(scores, codes)
    return scores, codes


@kernel
def products(rows: Float32s, r: int, lanes: Float32s, at: int, first: int, last: int) -> Any:
    """P, Q, X, Y of row r, then of row r + 1, of one block with the 16 particles from ``at`` of another block.

    ``rows`` and ``lanes`` are the slabs of the blocks, of which ``first:last`` is the frequency in question.
    """
    p0 = q0 = x0 = y0 = p1 = q1 = x1 = y1 = splat(np.float32(0))
    for c in range(first, last, 128):
        re, im = load(lanes, c + at), load(lanes, c + 64 + at)
        a, b = splat(rows[c + r]), splat(rows[c + 64 + r])
        p0, q0, x0, y0 = fma(a, re, p0), fma(b, im, q0), fma(b, re, x0), fma(a, im, y0)
        a, b = splat(rows[c + r + 1]), splat(rows[c + 65 + r])
        p1, q1, x1, y1 = fma(a, re, p1), fma(b, im, q1), fma(b, re, x1), fma(a, im, y1)
    return p0, q0, x0, y0, p1, q1, x1, y1


@kernel
def pair_coefficients(lanes: Lanes, i: int, j: int, sign: float, out: Float32s) -> None:
    """Re C_k, then Im C_k, of one pair into out (2 * 16 n_chunks,); sign +1 plain, -1 mirrored."""
    size, width = lanes.values.shape[1], LANES * lanes.depths.size
    a, b = i * size, j * size
    for chunk in range(lanes.depths.size):
        p = q = x = y = splat(np.float32(0))
        for _ in range(lanes.depths[chunk]):
            re_i, im_i = load(lanes.values, a), load(lanes.values, a + LANES)
            re_j, im_j = load(lanes.values, b), load(lanes.values, b + LANES)
            p, q, x, y = fma(re_i, re_j, p), fma(im_i, im_j, q), fma(im_i, re_j, x), fma(re_i, im_j, y)
            a += 2 * LANES
            b += 2 * LANES
        turn = splat(np.float32(sign))
        store(out, LANES * chunk, fma(turn, q, p))
        store(out, width + LANES * chunk, fma(splat(np.float32(-sign)), y, x))


@kernel
def blocks_of_tile(tile: NDArray[np.int64], size: int, n_blocks: int) -> NDArray[np.int64]:
    """The pairs of blocks (pairs, 2), the first not after the second, of a pair of groups of ``size`` blocks."""
    out = np.empty((size * size, 2), np.int64)
    count = 0
    for a in range(size * tile[0], min(size * tile[0] + size, n_blocks)):
        for b in range(max(a, size * tile[1]), min(size * tile[1] + size, n_blocks)):
            out[count, 0], out[count, 1] = a, b
            count += 1
    return out[:count]


@kernel
def allowed_pairs(i: int, j: int, n: int) -> int:
    """Bit l is set when (i, j + l) is a pair to look at: i < j + l < n, l < 16."""
    low, high = min(16, max(0, i + 1 - j)), min(16, n - j)
    return (1 << high) - (1 << low) if high > low else 0


@kernel
def open_pairs(lists: Lists, tails: Float32s, f: int, row: int, lane: int, n: int, sums: Float32s) -> int:
    """Which pairs of two rows with 16 particles may still enter a list: bit 32 s + 16 m + l for (row + s, lane + l).

    Their bounds are ``sums`` (64,) in the same order (m = 1 is mirrored), plus tails[f, i] * tails[f, j].
    """
    limits, others = load(lists.limits, lane), load(tails, f * tails.shape[1] + lane)
    bits = 0
    for s in range(2 if row + 1 < n else 1):
        least = vmin(limits, splat(lists.limits[row + s])) - splat(tails[f, row + s]) * others
        allowed = allowed_pairs(row + s, lane, n)
        bits |= (reaches(load(sums, 32 * s), least) & allowed) << (32 * s)
        bits |= (reaches(load(sums, 32 * s + 16), least) & allowed) << (32 * s + 16)
    return bits
