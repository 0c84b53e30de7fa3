"""Peaks of trigonometric polynomials against the twin, their ties, and Numba's vectors against NumPy."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from mfvdm_fast.kernels import peaks
from mfvdm_fast.kernels._jit import kernel
from mfvdm_fast.kernels._simd import (
    count_bits,
    fma,
    largest,
    load,
    lowest_bit,
    reaches,
    splat,
    store,
    total,
    vabs,
    vmax,
    vmin,
)
from mfvdm_fast.kernels.peaks import TIE, peak_angles
from mfvdm_fast.threads import use_threads

from .compare import angle_distance, assert_same_angles
from .reference import peaks as slow


def random_coefficients(rng: np.random.Generator, b: int, n_freq: int) -> np.ndarray:
    c = rng.standard_normal((b, n_freq)) + 1j * rng.standard_normal((b, n_freq))
    c[:, 0] = c[:, 0].real
    return (c * np.exp(-np.arange(n_freq) / 8)).astype(np.complex64)


@pytest.mark.parametrize("n_freq", [2, 3, 8, 9, 16, 17, 34, 60])
def test_matches_the_twin(rng: np.random.Generator, n_freq: int) -> None:
    coefficients = random_coefficients(rng, 60, n_freq)
    angles, values = peak_angles(coefficients)
    for row, angle, value in zip(coefficients, angles, values, strict=True):
        expected, top = slow.peak(row)
        tie = TIE * 2 * np.sum(np.abs(row.real) + np.abs(row.imag))
        assert value == pytest.approx(slow.height(row, angle), abs=1e-5)
        assert top - tie - 1e-9 <= value <= top + 1e-9
        assert angle_distance(angle, expected) < 1e-5 or top - slow.height(row, angle) <= tie
        assert -np.pi < angle <= np.pi


def test_the_higher_of_two_peaks_is_found_although_the_grid_favours_the_lower() -> None:
    """Equal peaks of k = 10 made unequal by a little k = 1: the grid alone would often take a lower one."""
    true = np.linspace(-3, 3, 200)
    k = np.arange(11)
    coefficients = np.where(k == 10, 1.0, np.where(k == 1, 0.002, 0.0)) * np.exp(-1j * k * true[:, None])
    angles, values = peak_angles(coefficients.astype(np.complex64))
    assert_same_angles(angles, true, atol=1e-5)
    np.testing.assert_allclose(values, 2.004, atol=1e-5)


@pytest.mark.parametrize(
    ("coefficients", "angle"),
    [
        ([0, 0, 1], 0.0),  # 0 and pi
        ([0, 0, -1], np.pi / 2),  # +- pi / 2: the positive one
        ([0, 0, 0, -1], np.pi / 3),  # +- pi / 3 and pi
        ([0, 0, np.exp(-2j)], 1.0),  # 1 and 1 - pi
        ([3, 0, 0], 0.0),  # flat
        ([0, 0, 0], 0.0),
        ([0, -1, 0], np.pi),  # not -pi
    ],
)
def test_ties_go_to_the_smallest_angle_then_to_the_positive_one(coefficients: list[complex], angle: float) -> None:
    found, _ = peak_angles(np.array([coefficients], np.complex64))
    assert found[0] == pytest.approx(angle, abs=1e-6)


def test_nan_gives_nan() -> None:
    angles, values = peak_angles(np.array([[0, 1, np.nan], [0, 1, 0]], np.complex64))
    assert np.isnan([angles[0], values[0]]).all()
    assert angles[1] == pytest.approx(0)


def test_bits_do_not_depend_on_threads_layout_or_precision(rng: np.random.Generator) -> None:
    coefficients = random_coefficients(rng, 200, 12)
    with use_threads(1):
        expected = peak_angles(coefficients)
    wide = coefficients.astype(np.complex128)
    wide.flags.writeable = False
    with use_threads(2):
        for same in (coefficients, wide, np.asfortranarray(coefficients), np.repeat(coefficients, 2, axis=1)[:, ::2]):
            np.testing.assert_array_equal(peak_angles(same), expected)
    np.testing.assert_array_equal(peak_angles(coefficients[50:60]), np.array(expected)[:, 50:60])


def test_no_rows_give_no_angles() -> None:
    assert peak_angles(np.zeros((0, 4), np.complex64))[0].shape == (0,)


@kernel
def _every_operation(a, b, out, whole):  # type: ignore[no-untyped-def]
    x, y = load(a, 0), load(b, 0)
    store(out, 0, x + y)
    store(out, 16, x - y)
    store(out, 32, x * y)
    store(out, 48, fma(x, y, splat(np.float32(2))))
    store(out, 64, vmax(x, y))
    store(out, 80, vmin(x, y))
    store(out, 96, vabs(x))
    out[112] = largest(x)
    out[113] = total(x)
    bits = reaches(x, y)
    whole[0], whole[1], whole[2] = bits, lowest_bit(bits), count_bits(bits)


def test_vectors_do_what_numpy_does(rng: np.random.Generator) -> None:
    a, b = rng.standard_normal((2, 16)).astype(np.float32)
    a[3] = b[3]
    out, whole = np.zeros(114, np.float32), np.zeros(3, np.int64)
    _every_operation(a, b, out, whole)
    expected = [a + b, a - b, a * b, a * b + 2, np.maximum(a, b), np.minimum(a, b), np.abs(a)]
    np.testing.assert_allclose(out[:112].reshape(7, 16), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(out[112:], [a.max(), a.sum()], rtol=1e-5)
    reached = np.flatnonzero(a >= b)
    assert whole.tolist() == [sum(1 << int(p) for p in reached), reached[0], len(reached)]


def test_examples_in_the_docstrings() -> None:
    result = doctest.testmod(peaks)
    assert result.attempted > 0
    assert result.failed == 0
