"""Every check: what it lets through, and the words of its refusal."""

from __future__ import annotations

import doctest
from typing import Any

import numpy as np
import pytest

from mfvdm_fast import checks
from mfvdm_fast.checks import check_choice, check_fraction, check_images, check_positive, check_whole
from mfvdm_fast.errors import InputError, ParameterError


def test_images_are_made_contiguous_float32_without_needless_copies() -> None:
    good = np.zeros((3, 4, 4), np.float32)
    assert check_images("images", good) is good
    assert check_images("images", np.zeros((0, 4, 4), np.float32)).shape == (0, 4, 4)
    strided = good.transpose(0, 2, 1)[:, ::2, ::2]
    for other in (good.astype(np.float64), strided, good.astype(np.float16), good.astype("i1")):
        converted = check_images("images", other)
        assert converted.dtype == np.float32
        assert converted.flags.c_contiguous


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


@pytest.mark.parametrize("wrong", [0, -1.5, float("nan"), float("inf"), "3", None, True])
def test_positive(wrong: Any) -> None:
    assert check_positive("t", np.float32(2.5)) == 2.5
    with pytest.raises(ParameterError) as caught:
        check_positive("t", wrong)
    assert str(caught.value) == f"t must be a finite number above 0, got {wrong!r}"


@pytest.mark.parametrize("wrong", [0, 1.0001, -0.1, float("nan"), "0.5", False])
def test_fraction(wrong: Any) -> None:
    assert check_fraction("t", 1) == 1.0
    with pytest.raises(ParameterError) as caught:
        check_fraction("t", wrong)
    assert str(caught.value) == f"t must be a fraction above 0 and at most 1, got {wrong!r}"


@pytest.mark.parametrize("wrong", [1, 2.0, "5", None, True])
def test_whole(wrong: Any) -> None:
    assert check_whole("t", np.int32(2), 2) == 2
    with pytest.raises(ParameterError) as caught:
        check_whole("t", wrong, 2)
    assert str(caught.value) == f"t must be a whole number of at least 2, got {wrong!r}"


def test_choice() -> None:
    assert check_choice("preset", "paper", ["default", "paper"]) == "paper"
    with pytest.raises(ParameterError, match="preset must be one of 'default', 'paper', got 'best'"):
        check_choice("preset", "best", ["default", "paper"])


def test_docstring_examples() -> None:
    result = doctest.testmod(checks)
    assert result.attempted >= 5
    assert result.failed == 0
