"""Every check: what it lets through, and the words of its refusal."""

from __future__ import annotations

import doctest
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mfvdm_fast import checks
from mfvdm_fast.checks import (
    check_choice,
    check_defocus,
    check_fraction,
    check_images,
    check_positive,
    check_whole,
    doubt_about_defocus,
    doubts_about_ctf,
)
from mfvdm_fast.errors import InputError, ParameterError
from mfvdm_fast.records import CtfParameters


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


def ctf_of(*defocus: float, phase_shift: float = 0.0) -> CtfParameters:
    u, n = np.array(defocus), len(defocus)
    rest = {name: np.full(n, value) for name, value in (("voltage_kv", 300.0), ("cs_mm", 2.7), ("scale", 1.0))}
    rest |= {"amplitude_contrast": np.full(n, 0.1), "phase_shift": np.full(n, phase_shift)}
    zero = np.zeros(n)
    return CtfParameters(**rest, defocus_u_angstrom=u, defocus_v_angstrom=u, defocus_angle=zero, bfactor_angstrom2=zero)


@pytest.mark.parametrize(
    ("ctf", "message"),
    [
        (ctf_of(1.2, -3.4), r"is 1\.2 to 3\.4, and must be in Å: 10000 for 1 µm, between 50 and 1000000; is it in µm"),
        (
            ctf_of(1.2e6, 3e6),
            r"\(rlnDefocusU, rlnDefocusV; defocus_u_angstrom\) is 1\.2e\+06 to 3e\+06, .* in pm\? Cor",
        ),
    ],
)
def test_defocus_that_is_not_in_angstrom(ctf: CtfParameters, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_defocus(ctf)


@pytest.mark.parametrize(
    ("ctf", "text"),
    [
        (
            ctf_of(1200, 2500, 4000),
            "is 2500 Å, and without a phase plate (rlnPhaseShift) hardly any stack is below 3000 Å",
        ),
        (
            ctf_of(300, 400, 9000, phase_shift=1.5),
            "is 400 Å, and hardly any stack is below 500 Å: is it in nm or µm? It must",
        ),
        (ctf_of(1e5, 2.5e5, 3e5), "is 2.5e+05 Å, and hardly any stack is above 100000 Å: is it in another unit?"),
        (ctf_of(-1e4, -2e4, 3e4), "67% of the defocus values (rlnDefocusU, rlnDefocusV; defocus_u_angstrom) are neg"),
        (ctf_of(2000, 4000, 6000), ""),
        (ctf_of(1000, 2000, 600, phase_shift=1.5), ""),
        (ctf_of(-500, 1e4, 2e4), ""),
        (ctf_of(1e4, 5e4, 9e4), ""),
    ],
)
def test_defocus_that_is_odd_as_a_whole(ctf: CtfParameters, text: str) -> None:
    check_defocus(ctf)
    found = doubt_about_defocus(ctf)
    assert text in found
    assert bool(found) == bool(text)


def uneven(factor: float, rows: Sequence[int], phase_shift: float = 0.0) -> CtfParameters:
    """CTFs of 200 particles, of which the defocus of some was multiplied by a factor."""
    defocus = np.random.default_rng(5).uniform(7e3, 4e4, 200)
    defocus[rows] *= factor
    return ctf_of(*defocus, phase_shift=phase_shift)


@pytest.mark.parametrize("phase_shift", [0.0, 1.5])
@pytest.mark.parametrize(
    ("factor", "guess"), [(0.1, "is it in nm?"), (1e-4, "is it in µm?"), (0.0, "was it not estimated?")]
)
def test_a_few_rows_in_another_unit_are_named(factor: float, guess: str, phase_shift: float) -> None:
    ctf = uneven(factor, [3, 50, 99, 199], phase_shift)
    check_defocus(ctf)
    found = doubts_about_ctf(ctf)
    if factor == 0.1 and phase_shift:
        assert found == []  # plates let defocus be small
        return
    assert len(found) == 1
    assert "of 4 of 200 particles (rows 4, 51, 100, 200) is " in found[0]
    assert guess in found[0]
    assert "correct these rows, or leave them out" in found[0]


def test_many_rows_are_counted_and_one_is_one() -> None:
    assert "of 7 of 200 particles (rows 1, 2, 3, 4, 5 and 2 more) is " in doubts_about_ctf(uneven(0.1, range(7)))[0]
    assert "of 1 of 200 particles (row 8) is " in doubts_about_ctf(uneven(1e-4, [7]))[0]
    assert "of 99 of 200" in doubts_about_ctf(uneven(1e-4, range(99)))[0]


@pytest.mark.parametrize(
    "ctf",
    [
        uneven(1.0, [0]),
        uneven(0.5, range(9)),  # small, not too small
        ctf_of(2500, 4500, 6000, 9000, 12000),  # apart, and no unit would bring it to the others
        ctf_of(*np.linspace(-2000, 9000, 200), phase_shift=1.5),  # a plate, near focus
        ctf_of(1e4),
        ctf_of(1e4, 3e4),
    ],
)
def test_defocus_that_merely_varies_is_no_doubt(ctf: CtfParameters) -> None:
    assert doubts_about_ctf(ctf) == []


def test_one_defocus_that_is_zero_is_told() -> None:
    ctf = ctf_of(1e4, 2e4, 1.5e4)
    for name in ("defocus_v_angstrom", "defocus_u_angstrom"):
        for rows, words in (([0, 1, 2], r"of 3 of 3 particles (rows 1, 2, 3) is 0"), ([1], "of 1 of 3 particles (row")):
            values = getattr(ctf, name).copy()
            values[rows] = 0.0
            (found,) = doubts_about_ctf(replace(ctf, **{name: values}))
            assert words in found
            assert (
                "astigmatism as large as the defocus. If no astigmatism was estimated, both must be the same" in found
            )


@pytest.mark.parametrize("largest", [0.5, 1.6, np.pi, -1.6])
def test_phases_in_radians_are_told(largest: float) -> None:
    ctf = ctf_of(1e4, 2e4, 1.5e4)
    radians = np.array([0.0, 0.3, 1.0]) * largest
    (found,) = doubts_about_ctf(replace(ctf, phase_shift=np.deg2rad(radians)))
    assert f"the phase shifts (rlnPhaseShift; phase_shift) are {abs(largest):.3g}° at most" in found
    assert "rlnPhaseShift must be in degrees (90 for a quarter of a wave; phase_shift of make_ctf in radians)" in found
    assert doubts_about_ctf(replace(ctf, phase_shift=radians)) == []  # as make_ctf takes them


def test_in_focus_is_no_unit() -> None:
    check_defocus(ctf_of(0.0, 0.0))
    check_defocus(ctf_of(0.0, 2e4))
