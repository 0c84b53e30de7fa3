"""Every check: what it lets through, and the words of its refusal."""

from __future__ import annotations

import doctest
from typing import Any

import numpy as np
import pytest

from mfvdm_fast import checks
from mfvdm_fast.checks import (
    as_number,
    check_choice,
    check_coefficients,
    check_images,
    check_kind,
    check_numbers,
    check_positive,
    check_rows,
    check_switch,
    check_whole,
)
from mfvdm_fast.errors import InputError, ParameterError
from mfvdm_fast.records import SteerableCoefficients


def test_images_are_made_contiguous_float32_without_needless_copies() -> None:
    good = np.zeros((3, 4, 4), np.float32)
    assert check_images("images", good) is good
    assert check_images("images", np.zeros((0, 4, 4), np.float32)).shape == (0, 4, 4)
    strided = good.transpose(0, 2, 1)[:, ::2, ::2]
    for other in (good.astype(np.float64), strided, good.astype(np.float16), good.astype("i1")):
        converted = check_images("images", other)
        assert converted.dtype == np.float32
        assert converted.flags.c_contiguous
    large = np.full((2, 4, 4), 3e38, np.float32)  # more than float32 can add up
    assert check_images("images", large) is large


def bad_image(value: float) -> np.ndarray:
    images = np.zeros((3, 4, 4), np.float32)
    images[1, 2, 3] = value
    return images


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((4, 4)), r"images must have shape \(n, L, L\), got \(4, 4\); give a stack of square images"),
        (np.zeros((2, 4, 5)), r"images must have shape \(n, L, L\), got \(2, 4, 5\)"),
        (np.zeros((2, 0, 0)), r"images must have shape \(n, L, L\), got \(2, 0, 0\)"),
        (np.zeros((2, 4, 4), complex), "images must hold real numbers, got complex128; convert them to float32 first"),
        (bad_image(np.nan), r"images\[1\] holds NaN or infinity; leave this particle out, or repair it"),
        (bad_image(-np.inf), r"images\[1\] holds NaN or infinity"),
    ],
)
def test_images_refuses(images: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_images("images", images)


NO_NUMBERS: list[Any] = ["3", b"3", None, True, np.True_, [], [1.0], [1, [2]], (1,), np.ones(1), 1j, {}, object()]


@pytest.mark.parametrize("wrong", NO_NUMBERS)
def test_what_is_no_number(wrong: Any) -> None:
    assert np.isnan(as_number(wrong))
    for check in (check_positive, check_whole):
        with pytest.raises(ParameterError, match="t must be a "):
            check("t", wrong)
    assert [as_number(number) for number in (2, np.int8(2), np.float32(2), np.array(2))] == [2.0] * 4


@pytest.mark.parametrize("wrong", [0, -1.5, float("nan"), float("inf"), "3", None, True])
def test_positive(wrong: Any) -> None:
    assert check_positive("t", np.float32(2.5)) == 2.5
    with pytest.raises(ParameterError) as caught:
        check_positive("t", wrong)
    assert str(caught.value) == f"t must be a finite number above 0, got {wrong!r}"
    with pytest.raises(ParameterError, match=r"got .*; give it in Å"):
        check_positive("t", wrong, "give it in Å")


@pytest.mark.parametrize("wrong", [1, 2.0, "5", None, True])
def test_whole(wrong: Any) -> None:
    assert check_whole("t", np.int32(2), 2) == 2
    with pytest.raises(ParameterError) as caught:
        check_whole("t", wrong, 2)
    assert str(caught.value) == f"t must be a whole number of at least 2, got {wrong!r}"
    with pytest.raises(ParameterError, match=r"got .*; take 50"):
        check_whole("t", wrong, 2, "take 50")


def test_choice() -> None:
    assert check_choice("preset", "paper", ["default", "paper"]) == "paper"
    wrong: list[Any] = ["best", None, 1, ["paper"], np.array(["default", "paper"]), np.zeros((2, 2))]
    for value in wrong:
        with pytest.raises(ParameterError, match=r"preset must be one of 'default', 'paper', got (?!'paper')"):
            check_choice("preset", value, ["default", "paper"])


def test_switch() -> None:
    for value in (True, False, np.True_, np.False_):
        assert check_switch("t", value) is bool(value)
        assert check_switch("t", value, optional=True) is bool(value)
    assert check_switch("t", None, optional=True) is None
    wrong: list[Any] = ["no", 0, 1.0, np.int8(1), [True], np.array([True])]
    for value in [*wrong, None]:
        with pytest.raises(
            ParameterError, match=r"t must be True or False, got .*; give a Python bool, without quotes"
        ):
            check_switch("t", value)
    for value in wrong:
        with pytest.raises(ParameterError, match="t must be True, False or None, got "):
            check_switch("t", value, optional=True)


def test_kind() -> None:
    assert check_kind("t", 3, int, "count") == 3
    wrong: Any = "3"
    with pytest.raises(ParameterError, match="t must be int, got str: count them"):
        check_kind("t", wrong, int, "count them")


@pytest.mark.parametrize(
    ("wrong", "got"),
    [
        ("a", "<U1"),
        (None, "object"),
        ([1, [2]], "lists of several lengths: make them of one length"),
        (np.zeros(2, complex), "complex128; convert them to float32 first"),
        (np.array(["1"]), "<U1"),
    ],
)
def test_numbers(wrong: Any, got: str) -> None:
    for error in (InputError, ParameterError):
        with pytest.raises(error, match=f"t must hold (real )?numbers, got {got}"):
            check_numbers("t", wrong, error=error)
    good = np.zeros((2, 3))
    assert check_numbers("t", good) is good
    assert check_numbers("t", np.zeros(2, complex), "fiubc").dtype == complex
    with pytest.raises(InputError, match="t must hold numbers, got <U1"):
        check_numbers("t", np.array(["1"]), "fiubc")


def test_rows() -> None:
    for good in ([], [2, 0], (1,), np.array([1], np.uint8)):
        assert check_rows(good, 3).dtype == np.int64
        assert check_rows(good, 3).tolist() == list(good)
    wrong: list[Any] = [[3], [-1], [[0]], 1, "a", None, [0.5], [True], ["1"], [0, [1]], np.nan]
    for rows in wrong:
        with pytest.raises(
            ParameterError, match=r"rows must be whole numbers from 0 to 2 in one dimension, such as \[0"
        ):
            check_rows(rows, 3)


@pytest.mark.parametrize(
    ("packed", "offsets", "message"),
    [
        ("a", [0, 3], "coefs.packed must hold numbers, got <U1"),
        (np.zeros((2, 3)), "a", "coefs.offsets must hold real numbers, got <U1"),
        (np.zeros((2, 3)), [0.0, 3.0], r"coefs must be \(n, sum p_k\) with whole offsets ascending from 0, got shape"),
        (np.zeros((2, 3)), [0, 2, 1, 3], "with whole offsets ascending from 0"),
        (np.zeros((2, 3)), [1, 3], "with whole offsets ascending from 0"),
        (np.zeros((2, 3)), [[0, 3]], "with whole offsets ascending from 0"),
        (np.zeros(3), [0, 3], "with whole offsets ascending from 0"),
        (np.zeros((2, 3)), [0, 2], "the offsets of coefs end at 2, but the array has 3 columns"),
        (np.zeros((2, 0)), [0, 0], "the offsets of coefs end at 0, but the array has 0 columns"),
    ],
)
def test_coefficients(packed: Any, offsets: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_coefficients("coefs", SteerableCoefficients(packed, offsets))


def test_docstring_examples() -> None:
    result = doctest.testmod(checks)
    assert result.attempted >= 5
    assert result.failed == 0
