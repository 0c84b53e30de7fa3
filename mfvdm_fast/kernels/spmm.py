"""Products of the frequency graph with blocks of vectors, 32 complex vectors at a time.

Such a panel is float32 (n, 64): row i is [Re x_i1 .. Re x_i32, Im x_i1 .. Im x_i32], four cache lines when the panel
begins on one (``_simd.empty_aligned``). Every edge costs eight fused multiply-adds of sixteen numbers, and all rows of
a panel stay in the cache while a polynomial of the graph is applied to them. Neighbours should stand side by side
(``graph.arrangement``): they are then found in the nearest cache, which is most of the time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from ._jit import kernel
from ._simd import LANES, fma, load, splat, store

PANEL = 4 * LANES
HALF = PANEL // 2  # where imaginary parts begin


@kernel
def _add_edges(
    panels: NDArray[np.float32],
    source: int,
    columns: NDArray[np.int32],
    values: NDArray[np.complex64],
    edges: tuple[int, int],
    sign: float,
    sums: Any,
) -> Any:
    """``sums`` plus v_e x_j (``sign`` 1) or v_e conj(x_j) (-1) over ``edges``, x from ``source`` on in ``panels``.

    Four sums hold real and imaginary parts of 32 vectors: more would not fit into the registers of AVX2.
    """
    re0, re1, im0, im1 = sums
    for e in range(edges[0], edges[1]):
        at = source + np.int64(columns[e]) * PANEL
        x0, x1, y0, y1 = load(panels, at), load(panels, at + 16), load(panels, at + 32), load(panels, at + 48)
        c, s = values[e].real, values[e].imag
        a, b = splat(c), splat(s)
        re0, re1, im0, im1 = fma(a, x0, re0), fma(a, x1, re1), fma(b, x0, im0), fma(b, x1, im1)
        a, b = splat(-sign * s), splat(sign * c)
        re0, re1, im0, im1 = fma(a, y0, re0), fma(a, y1, re1), fma(b, y0, im0), fma(b, y1, im1)
    return re0, re1, im0, im1


@kernel
def _add_real_edges(
    panels: NDArray[np.float32],
    source: int,
    columns: NDArray[np.int32],
    values: NDArray[np.complex64],
    edges: tuple[int, int],
) -> Any:
    """Sums of v_e x_j for 64 real vectors."""
    x0 = x1 = x2 = x3 = splat(np.float32(0.0))
    for e in range(edges[0], edges[1]):
        at, a = source + np.int64(columns[e]) * PANEL, splat(values[e].real)
        x0, x1 = fma(a, load(panels, at), x0), fma(a, load(panels, at + 16), x1)
        x2, x3 = fma(a, load(panels, at + 32), x2), fma(a, load(panels, at + 48), x3)
    return x0, x1, x2, x3


@kernel(parallel=True)
def filter_panel(indptr, splits, columns, values, parts, panels, centre, half, degree):  # type: ignore[no-untyped-def]
    """Chebyshev polynomial T_degree((S_k - centre) / half) of 32 complex vectors, and S_k applied to the outcome.

    (S x)_i = sum over plain edges of v_e x_j + sum over mirrored edges of v_e conj(x_j) (Eqs. 2-4 of
    arXiv:1904.07772 on n instead of 2n nodes). The vectors stay in the cache from one degree to the next.

    Parameters
    ----------
    indptr : (n + 1,) int64 -- where the edges of each row begin, plain ones before mirrored ones.
    splits : (n,) int64 -- where the mirrored edges of each row begin, which conjugate.
    columns : (nnz,) int32 -- j of each edge.
    values : (nnz,) complex64 -- v_e.
    parts : int64 -- 2; or 1 for real vectors, of which a panel holds 64, and the real parts of the values.
    panels : (3, n, 64) float32 -- x in ``panels[0]``: 32 real parts, then 32 imaginary parts, of each row. Overwritten:
        T x ends in ``panels[degree % 2]``, S T x in ``panels[2]``.
    centre, half : float32 -- of the interval on which the polynomial stays within [-1, 1].
    degree : int64, >= 0.
    """
    block = panels.shape[1] * PANEL
    nothing = splat(np.float32(0.0))
    for step in range(degree + 1):
        # target = scale (S - shift) source - keep previous; blocks are given by where they start.
        source = (step % 2) * block
        target, scale, shift = block - source, np.float32(2.0) / half, centre
        previous, keep = target, np.float32(1.0)
        if step == 0:
            scale, previous, keep = np.float32(1.0) / half, source, np.float32(0.0)
        if step == degree:
            target, scale, shift = 2 * block, np.float32(1.0), np.float32(0.0)
            previous, keep = source, np.float32(0.0)
        for i in prange(indptr.shape[0] - 1):
            if parts == 1:
                sums = _add_real_edges(panels, source, columns, values, (indptr[i], indptr[i + 1]))
            else:
                sums = nothing, nothing, nothing, nothing
                sums = _add_edges(panels, source, columns, values, (indptr[i], splits[i]), np.float32(1), sums)
                sums = _add_edges(panels, source, columns, values, (splits[i], indptr[i + 1]), np.float32(-1), sums)
            a, b, d = splat(scale), splat(-scale * shift), splat(-keep)
            for part in range(4):
                at = i * PANEL + part * LANES
                x = fma(b, load(panels, source + at), d * load(panels, previous + at))
                store(panels, target + at, fma(a, sums[part], x))


@kernel
def split_rows(rows, first, parts, panels):  # type: ignore[no-untyped-def]
    """Complex ``rows`` (r, w) as rows ``first`` ... of ``panels`` (p, n, 64), one after the other.

    ``parts`` = 2: 32 columns in each panel, real and imaginary parts; 1: the real parts of 64 columns.
    Columns beyond w are zero.
    """
    lanes = PANEL // parts
    width = rows.shape[1]
    for i in range(rows.shape[0]):
        for s in range(panels.shape[0]):
            panel = panels[s, first + i]
            for c in range(lanes):
                z = rows[i, s * lanes + c] if s * lanes + c < width else np.complex64(0)
                panel[c] = z.real
                if parts == 2:
                    panel[lanes + c] = z.imag


@kernel
def join_rows(panels, order, parts, block):  # type: ignore[no-untyped-def]
    """Rows ``order`` of ``panels`` in the real form, rows Re x_i, Im x_i: ``block`` (parts r, 64 p / parts) float32.

    The other way round than `split_rows`.
    """
    width = block.shape[1]
    row = width if parts == 2 else HALF  # from the first half of the numbers to the others
    for i in range(order.shape[0]):
        for s in range(panels.shape[0]):
            source = (s * panels.shape[1] + order[i]) * PANEL
            at = i * parts * width + s * PANEL // parts
            for c in range(0, HALF, LANES):
                store(block, at + c, load(panels, source + c))
                store(block, at + row + c, load(panels, source + HALF + c))


@kernel
def put_rows(block, parts, order, vectors):  # type: ignore[no-untyped-def]
    """Rows of the real form, ``block`` (parts r, m) float32, to where they belong in complex ``vectors`` (n, m).

    The i-th row, or pair of rows, goes to ``vectors[order[i]]``.
    """
    for i in range(order.shape[0]):
        row = order[i]
        for c in range(block.shape[1]):
            y = block[parts * i + 1, c] if parts == 2 else np.float32(0.0)
            vectors[row, c] = complex(block[parts * i, c], y)


@kernel
def multiply_rows(others, factors, mix, particles, out):  # type: ignore[no-untyped-def]
    """Vectors times combinations of ``factors``: out_rl = others_il sum_t factors_it mix_tl, i = particles_r.

    ``others`` (n, 2 m), ``factors`` (n, 2 t) and ``out`` (r, >= 2 m) float32, real and imaginary parts interleaved;
    ``mix`` (t, m) float32, ``particles`` (r,) int64.
    """
    t, m = mix.shape
    re, im = np.empty(m, np.float32), np.empty(m, np.float32)
    for r in range(len(particles)):
        i = particles[r]
        re[:] = 0
        im[:] = 0
        for s in range(t):
            a, b = factors[i, 2 * s], factors[i, 2 * s + 1]
            for l in range(m):
                re[l] += a * mix[s, l]
                im[l] += b * mix[s, l]
        row, target = others[i], out[r]
        for l in range(m):
            a, b = row[2 * l], row[2 * l + 1]
            target[2 * l] = a * re[l] - b * im[l]
            target[2 * l + 1] = a * im[l] + b * re[l]
