"""Bessel functions from a table: six-point Lagrange interpolation on an even grid."""

from __future__ import annotations

from ._jit import kernel


@kernel
def interpolate_rows(table, step, pad, orders, scales, radii, out):  # type: ignore[no-untyped-def]
    """out[i, j] = table[orders[i]] interpolated at scales[i] * radii[j].

    ``table`` (n_orders, m) float64, column c standing for the argument (c - pad) * step, pad >= 2; ``orders`` (n,)
    int64, ``scales`` (n,) and ``radii`` (r,) float64 >= 0, ``out`` (n, r) float64. The table must reach three points
    beyond the largest argument.
    """
    for i in range(len(orders)):
        row = table[orders[i]]
        for j in range(len(radii)):
            t = scales[i] * radii[j] / step
            cell = int(t)
            u = t - cell
            c = cell + pad
            p, m, q, n, s = u + 1.0, u - 1.0, u + 2.0, u - 2.0, u - 3.0
            out[i, j] = (
                u * m * n * s * (-row[c - 2] * p / 120.0 + row[c - 1] * q / 24.0)
                + p * q * n * s * (-row[c] * m / 12.0 + row[c + 1] * u / 12.0)
                + p * u * m * q * (-row[c + 2] * s / 24.0 + row[c + 3] * n / 120.0)
            )
