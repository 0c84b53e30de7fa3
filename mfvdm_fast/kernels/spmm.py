"""Products of the frequency graph with blocks of vectors, and the dense block products of the eigensolver.

A complex block of m vectors over n nodes is float32 (n, 2 m): row i is [Re x_i1 .. Re x_im, Im x_i1 .. Im x_im],
so that every edge costs four fused multiply-adds over contiguous memory, and so that the same memory seen as (2 n, m)
is the real form in which inner products are plain dot products.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from ._jit import kernel

ROWS_PER_BLOCK = 2048  # fixed, so that the order of summation does not depend on the number of threads


@kernel(parallel=True)
def chebyshev_step(indptr, indices, mirrored, values, x, previous, scale, shift, out):  # type: ignore[no-untyped-def]
    """``out = scale (S_k x - shift x) - previous``: one step of a three-term recurrence in the O(2) form.

    (S x)_i = sum over plain edges of v_e x_j + sum over mirrored edges of v_e conj(x_j) (SCIENCE: Eqs. 2-4 of
    arXiv:1904.07772 on n instead of 2n nodes).

    Parameters
    ----------
    indptr, indices : (n + 1,), (nnz,) int64 -- CSR pattern.
    mirrored : (nnz,) bool -- True where the edge conjugates.
    values : (nnz,) complex64 -- v_e.
    x, previous : (n, 2 m) float32 -- real parts, then imaginary parts; not changed.
    scale, shift : float32.
    out : (n, 2 m) float32 -- overwritten; may be ``previous`` but not ``x``.
    """
    n = indptr.shape[0] - 1
    m = x.shape[1] // 2
    for i in prange(n):
        row = np.zeros(2 * m, np.float32)
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            c = values[e].real
            s = values[e].imag
            sign = np.float32(-1.0) if mirrored[e] else np.float32(1.0)
            ri = -s * sign
            ii = c * sign
            for column in range(m):
                re = x[j, column]
                im = x[j, m + column]
                # One product at a time: two would leave open which of them is fused with the sum.
                row[column] += c * re
                row[column] += ri * im
                row[m + column] += s * re
                row[m + column] += ii * im
        for column in range(2 * m):
            out[i, column] = scale * (row[column] - shift * x[i, column]) - previous[i, column]


@kernel(parallel=True)
def chebyshev_step_real(indptr, indices, values, x, previous, scale, shift, out):  # type: ignore[no-untyped-def]
    """:func:`chebyshev_step` for k = 0, where vectors are real: ``x`` (n, m) float32, ``values`` (nnz,) float32."""
    n = indptr.shape[0] - 1
    m = x.shape[1]
    for i in prange(n):
        row = np.zeros(m, np.float32)
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            v = values[e]
            for column in range(m):
                row[column] += v * x[j, column]
        for column in range(m):
            out[i, column] = scale * (row[column] - shift * x[i, column]) - previous[i, column]


@kernel(parallel=True)
def block_gram(a, b, partial):  # type: ignore[no-untyped-def]
    """``partial[t] = a_t^T b_t`` over blocks t of ROWS_PER_BLOCK rows: a (rows, p), b (rows, q), float32 contiguous."""
    rows = a.shape[0]
    for t in prange(partial.shape[0]):
        start = t * ROWS_PER_BLOCK
        stop = min(rows, start + ROWS_PER_BLOCK)
        partial[t] = np.dot(a[start:stop].T, b[start:stop])


@kernel(parallel=True)
def block_multiply(a, b, out):  # type: ignore[no-untyped-def]
    """``out = a b`` by blocks of ROWS_PER_BLOCK rows: a (rows, p), b (p, q), out (rows, q), all float32 contiguous."""
    rows = a.shape[0]
    for t in prange((rows + ROWS_PER_BLOCK - 1) // ROWS_PER_BLOCK):
        start = t * ROWS_PER_BLOCK
        stop = min(rows, start + ROWS_PER_BLOCK)
        out[start:stop] = np.dot(a[start:stop], b)
