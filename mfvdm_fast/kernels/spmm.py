"""Products of the frequency graph with blocks of vectors, sixteen complex vectors at a time.

Such a panel is float32 (n, 32): row i is [Re x_i1 .. Re x_i16, Im x_i1 .. Im x_i16], two cache lines. Every edge then
costs four fused multiply-adds of sixteen numbers, and all rows of a panel stay in the cache while a polynomial of the
graph is applied to them. Neighbours should stand side by side (``graph.arrangement``): they are then found in the
nearest cache, which is most of the time.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from ._jit import kernel
from ._simd import LANES, fma, load, splat, store

PANEL = 2 * LANES


@kernel(parallel=True)
def filter_panel(indptr, splits, indices, values, panels, centre, half, degree):  # type: ignore[no-untyped-def]
    """Chebyshev polynomial T_degree((S_k - centre) / half) of sixteen complex vectors, and S_k applied to the outcome.

    (S x)_i = sum over plain edges of v_e x_j + sum over mirrored edges of v_e conj(x_j) (Eqs. 2-4 of
    arXiv:1904.07772 on n instead of 2n nodes). Sixteen vectors at a time stay in the cache from one degree to the next.

    Parameters
    ----------
    indptr, indices : (n + 1,), (nnz,) int64 -- CSR pattern, the plain edges of each row before the mirrored ones.
    splits : (n,) int64 -- where the mirrored edges of each row begin, which conjugate.
    values : (nnz,) complex64 -- v_e.
    panels : (3, n, 32) float32 -- x in ``panels[0]``: sixteen real parts, then sixteen imaginary parts, of each row
        (any thirty-two real vectors when no edge conjugates and no value has an imaginary part). Overwritten:
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
            # Four sums: each waits for its own last product alone.
            cx, sy, sx, cy = nothing, nothing, nothing, nothing
            for e in range(indptr[i], splits[i]):
                at = source + indices[e] * PANEL
                x, y = load(panels, at), load(panels, at + LANES)
                c, s = splat(values[e].real), splat(values[e].imag)
                cx, sy, sx, cy = fma(c, x, cx), fma(s, y, sy), fma(s, x, sx), fma(c, y, cy)
            sy, cy = nothing - sy, nothing - cy
            for e in range(splits[i], indptr[i + 1]):
                at = source + indices[e] * PANEL
                x, y = load(panels, at), load(panels, at + LANES)
                c, s = splat(values[e].real), splat(values[e].imag)
                cx, sy, sx, cy = fma(c, x, cx), fma(s, y, sy), fma(s, x, sx), fma(c, y, cy)
            at = i * PANEL
            a, b, d = splat(scale), splat(-scale * shift), splat(-keep)
            x = fma(b, load(panels, source + at), d * load(panels, previous + at))
            y = fma(b, load(panels, source + at + LANES), d * load(panels, previous + at + LANES))
            store(panels, target + at, fma(a, cx + sy, x))
            store(panels, target + at + LANES, fma(a, sx - cy, y))


@kernel
def split_rows(rows, first, parts, panels):  # type: ignore[no-untyped-def]
    """Complex ``rows`` (r, w) as rows ``first`` ... of ``panels`` (p, n, 32), one after the other.

    ``parts`` = 2: sixteen columns in each panel, real and imaginary parts; 1: the real parts of thirty-two columns.
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
    """Rows ``order`` of ``panels`` in the real form, rows Re x_i, Im x_i: ``block`` (parts r, 32 p / parts) float32.

    The other way round than `split_rows`.
    """
    lanes = PANEL // parts
    width = block.shape[1]
    row = width if parts == 2 else LANES  # from the first sixteen numbers to the others
    for i in range(order.shape[0]):
        for s in range(panels.shape[0]):
            source = (s * panels.shape[1] + order[i]) * PANEL
            at = i * parts * width + s * lanes
            store(block, at, load(panels, source))
            store(block, at + row, load(panels, source + LANES))


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
