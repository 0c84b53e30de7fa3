"""Split images on a square grid by its eight symmetries, put them together again, and reorder coefficients.

A point P = (x, y), 0 <= y <= x, stands for its eight images (+-x, +-y), (+-y, +-x). ``pixels`` (8, m) int64 holds the
flat indices of I(x, y), I(-x, y), I(x, -y), I(-x, -y) and of the same four with x and y swapped (T = (y, x)). The
eight parts of a folded image, in this order, are what functions of one symmetry class see of it:

0  even in x, even in y, P + T        1  even, even, P - T        2  odd, odd, P + T        3  odd, odd, P - T
4  odd in x, even in y, at P          5  the same at T            6  odd in y, even in x, at T          7  the same at P

Parts 6, 7 are parts 4, 5 of the transposed image.
"""

from __future__ import annotations

from ._jit import kernel


@kernel
def fold_images(images, pixels, folded):  # type: ignore[no-untyped-def]
    """``images`` (b, L * L) float32, ``pixels`` (8, m) int64 -> ``folded`` (b, 8, m) float32 (sums, no weights)."""
    for i in range(images.shape[0]):
        image, out = images[i], folded[i]
        for p in range(pixels.shape[1]):
            a, b, c, d = image[pixels[0, p]], image[pixels[1, p]], image[pixels[2, p]], image[pixels[3, p]]
            s, t, u, v = image[pixels[4, p]], image[pixels[5, p]], image[pixels[6, p]], image[pixels[7, p]]
            even_p, even_t = (a + b) + (c + d), (s + t) + (u + v)
            odd_p, odd_t = (a - b) - (c - d), (s - t) - (u - v)
            out[0, p] = even_p + even_t
            out[1, p] = even_p - even_t
            out[2, p] = odd_p + odd_t
            out[3, p] = odd_p - odd_t
            out[4, p] = (a - b) + (c - d)
            # swapping x and y exchanges the second and third of the four pixels of T
            out[5, p] = (s - u) + (t - v)
            out[6, p] = (s + u) - (t + v)
            out[7, p] = (a + b) - (c + d)


@kernel
def unfold_images(folded, pixels, images):  # type: ignore[no-untyped-def]
    """``folded`` (b, 8, m) float32, values of the eight parts -> ``images`` (b, L * L) float32 at ``pixels`` (8, m)."""
    for i in range(images.shape[0]):
        part, out = folded[i], images[i]
        for p in range(pixels.shape[1]):
            even, odd = part[0, p] + part[1, p], part[2, p] + part[3, p]
            x, y = part[4, p], part[7, p]
            out[pixels[0, p]] = (even + odd) + (x + y)
            out[pixels[1, p]] = (even - odd) + (y - x)
            out[pixels[2, p]] = (even - odd) + (x - y)
            out[pixels[3, p]] = (even + odd) - (x + y)
            even, odd = part[0, p] - part[1, p], part[2, p] - part[3, p]
            x, y = part[5, p], part[6, p]
            out[pixels[4, p]] = (even + odd) + (x + y)
            out[pixels[5, p]] = (even - odd) + (x - y)
            out[pixels[6, p]] = (even - odd) + (y - x)
            out[pixels[7, p]] = (even + odd) - (x + y)


@kernel
def pack_coefficients(real_parts, columns, signs, packed):  # type: ignore[no-untyped-def]
    """packed[i, j] = real_parts[i, columns[0, j]] + 1j * signs[j] * real_parts[i, columns[1, j]]; signs 0 gives real.

    ``real_parts`` (b, c) float32, ``columns`` (2, n) int64, ``signs`` (n,) float32, ``packed`` (b, n) complex64.
    """
    for i in range(packed.shape[0]):
        row, out = real_parts[i], packed[i]
        for j in range(packed.shape[1]):
            if signs[j] == 0:
                out[j] = complex(row[columns[0, j]], 0.0)
            else:
                out[j] = complex(row[columns[0, j]], signs[j] * row[columns[1, j]])


@kernel
def unpack_coefficients(packed, columns, signs, real_parts):  # type: ignore[no-untyped-def]
    """The inverse of :func:`pack_coefficients` for ``signs`` of +-1 or 0; arrays as there."""
    for i in range(packed.shape[0]):
        row, out = packed[i], real_parts[i]
        for j in range(packed.shape[1]):
            out[columns[0, j]] = row[j].real
            if signs[j] != 0:
                out[columns[1, j]] = signs[j] * row[j].imag
