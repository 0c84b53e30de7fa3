"""Bessel functions from the table against SciPy, and their zeros."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import jn_zeros, jv

from mfvdm_fast.basis.bessel import bessel_rows, bessel_table, bessel_zeros


@pytest.mark.parametrize(("k_max", "x_max"), [(0, 0.3), (12, 3.0), (40, 100.0), (210, 210.0)])
def test_table_is_scipy(k_max: int, x_max: float) -> None:
    table = bessel_table(k_max, x_max)
    x = (np.arange(table.shape[1]) - 3) / 16
    assert x[-1] >= x_max + 2 / 16
    np.testing.assert_allclose(table, jv(np.arange(k_max + 1)[:, None], x), atol=2e-14)


def test_rows_are_scipy(rng: np.random.Generator) -> None:
    orders = rng.integers(0, 60, 200)
    scales, radii = rng.uniform(0, 3, 200), np.concatenate([[0.0], rng.uniform(0, 32, 50)])
    np.testing.assert_allclose(
        bessel_rows(orders, scales, radii), jv(orders[:, None], scales[:, None] * radii), atol=5e-10
    )


def test_no_rows() -> None:
    assert bessel_rows(np.array([], dtype=np.int64), np.array([]), np.array([1.0])).shape == (0, 1)


@pytest.mark.parametrize("x_max", [2.41, 31.0, 120.5])
def test_zeros_are_all_of_scipys(x_max: float) -> None:
    zeros = bessel_zeros(x_max)
    for k in range(int(x_max) + 1):
        expected = jn_zeros(k, int(x_max))
        expected = expected[expected <= x_max]
        found = zeros[k] if k < len(zeros) else np.empty(0)
        np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_high_orders_and_many_zeros() -> None:
    zeros = bessel_zeros(480.0)
    for k in (0, 77, 200):
        np.testing.assert_allclose(zeros[k][:60], jn_zeros(k, 60), rtol=1e-14)


def test_no_zero_below_the_first() -> None:
    assert bessel_zeros(2.4) == ()


def test_cached_zeros_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        bessel_zeros(10.0)[0][0] = 1.0
