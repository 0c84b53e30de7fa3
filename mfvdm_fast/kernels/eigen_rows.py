"""Rows of the scaled eigenbasis of a graph, made from its eigenvectors a block at a time and never held as a whole.

Eigenvectors come as ``vectors`` (n, 2 m) float32, real and imaginary parts interleaved. In the real form r particles
have ``copies`` r rows: the real parts first, then, where ``copies`` is 2, the imaginary ones.
"""

from __future__ import annotations

import numpy as np

from ._jit import kernel


@kernel
def _scaled_row(vector, row_scale, column_scale, real, imag):  # type: ignore[no-untyped-def]
    """Both parts of one row times ``row_scale`` and ``column_scale`` (m,); ``imag`` of length 0 is left out."""
    if len(imag) > 0:
        for l in range(len(column_scale)):
            factor = row_scale * column_scale[l]
            real[l] = vector[2 * l] * factor
            imag[l] = vector[2 * l + 1] * factor
    else:
        for l in range(len(column_scale)):
            real[l] = vector[2 * l] * (row_scale * column_scale[l])


@kernel
def scaled_rows(vectors, row_scale, column_scale, first, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` (copies, r, m) float32 with the rows of the particles from ``first`` on.

    ``row_scale`` (n,) and ``column_scale`` (m,) float32.
    """
    m = len(column_scale)
    for i in range(out.shape[1]):
        imag = out[1, i, :m] if out.shape[0] > 1 else out[0, i, :0]
        _scaled_row(vectors[first + i], row_scale[first + i], column_scale, out[0, i, :m], imag)


@kernel
def joint_rows(vectors, row_scale, column_scale, matched, weight, particles, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` (copies, r, m + p + s) float32 with ``weight`` times [row, coefficients, 1 in all that is left].

    ``matched`` (copies, n, p) and ``weight`` (n,) float32; ``particles`` (r,) int64 says which.
    """
    m, p = len(column_scale), matched.shape[2]
    for row in range(len(particles)):
        i = particles[row]
        imag = out[1, row, :m] if out.shape[0] > 1 else out[0, row, :0]
        _scaled_row(vectors[i], row_scale[i] * weight[i], column_scale, out[0, row, :m], imag)
        for copy in range(out.shape[0]):
            rest = out[copy, row, m:]
            for q in range(p):
                rest[q] = matched[copy, i, q] * weight[i]
            for q in range(p, len(rest)):
                rest[q] = weight[i]


@kernel
def join_parts(product, first, out):  # type: ignore[no-untyped-def]
    """Put ``product`` (copies, r, q p) float32 into the rows from ``first`` on of ``out`` (q, n, p) complex64."""
    p = out.shape[2]
    for part in range(len(out)):
        for i in range(product.shape[1]):
            row, real = out[part, first + i], product[0, i, part * p : (part + 1) * p]
            if len(product) > 1:
                imag = product[1, i, part * p : (part + 1) * p]
                for j in range(p):
                    row[j] = complex(real[j], imag[j])
            else:
                for j in range(p):
                    row[j] = complex(real[j], 0.0)


@kernel
def add_squares(vectors, row_scale, start, stop, copies, squares):  # type: ignore[no-untyped-def]
    """Add |row_scale_i u_il|^2 of the particles from ``start`` to ``stop`` to ``squares`` (m,) float64."""
    some = np.empty(len(squares), np.float32)
    for begin in range(start, stop, 64):  # single precision does for so few
        some[:] = 0
        for i in range(begin, min(begin + 64, stop)):
            power = row_scale[i] * row_scale[i]
            for l in range(len(squares)):
                re, im = vectors[i, 2 * l], vectors[i, 2 * l + 1]
                some[l] += power * (re * re + im * im) if copies > 1 else power * re * re
        for l in range(len(squares)):
            squares[l] += some[l]
