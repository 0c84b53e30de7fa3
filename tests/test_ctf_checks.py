"""CTF parameters that cannot be right or are odd: what is told, and what is not."""

from __future__ import annotations

import doctest
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from mfvdm_fast import ctf_checks
from mfvdm_fast.ctf_checks import check_defocus, doubts_about_ctf
from mfvdm_fast.errors import InputError
from mfvdm_fast.io.star import read_star
from mfvdm_fast.records import BoolArray, CtfParameters, FloatArray

from .conftest import shared_data


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
        (ctf_of(1.2e-6, 3.4e-6), r"is 1\.2e-06 to 3\.4e-06, and must be in Å: .*; is it in m\?"),
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
    found = doubts_about_ctf(ctf)
    assert len(found) == bool(text)
    assert text in "".join(found)


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


@pytest.mark.parametrize("count", [20, 90, 100, 110, 120, 180])
def test_any_share_of_the_rows_in_nm_is_told(count: int) -> None:
    (found,) = doubts_about_ctf(uneven(0.1, range(count)))
    assert f"of {count} of 200 particles (rows 1, 2, 3, 4, 5 and {count - 5} more) is " in found
    assert "is it in nm?" in found


def test_one_row_in_metres_is_told() -> None:
    ctf = uneven(1e-10, [7])
    check_defocus(ctf)
    (found,) = doubts_about_ctf(ctf)
    assert "of 1 of 200 particles (row 8) is " in found
    assert "is it in m?" in found
    (found,) = doubts_about_ctf(uneven(1e-12, [7]))  # in no unit, and no defocus either
    assert "was it not estimated?" in found


def test_other_rows_do_not_hide_what_is_odd() -> None:
    defocus = uneven(0.1, range(60)).defocus_u_angstrom.copy()
    defocus[-1] = 5e5  # farther above the others than those are above the rows in nm
    assert "of 60 of 200 particles" in doubts_about_ctf(ctf_of(*defocus))[0]
    rest = uneven(0.1, range(200)).defocus_u_angstrom.copy()
    rest[7] = 0.0
    median, rows = doubts_about_ctf(ctf_of(*rest))
    assert median.startswith("the median of the defocus ")
    assert "of 1 of 200 particles (row 8) is 0 Å" in rows


def with_astigmatism(defocus: FloatArray, astigmatism: FloatArray | float) -> CtfParameters:
    ctf = ctf_of(*defocus)
    half = 0.5 * np.asarray(astigmatism)
    return replace(ctf, defocus_u_angstrom=defocus + half, defocus_v_angstrom=defocus - half)


def focal_pair(near: float, far: float, spread: float = 0.0, n: int = 200) -> tuple[FloatArray, BoolArray]:
    """Defocus of n particles, half of them taken near to focus, and which."""
    below = np.random.default_rng(3).permutation(n) < n // 2
    return np.where(below, near, far) + spread * np.random.default_rng(4).standard_normal(n), below


@pytest.mark.parametrize("near", [1000, 2000, 2900, 3000, 5000])
@pytest.mark.parametrize("spread", [0.0, 150.0])
def test_a_focal_pair_is_no_doubt(near: float, spread: float) -> None:
    defocus, below = focal_pair(near, 3e4, spread)
    for ctf in (ctf_of(*defocus), with_astigmatism(defocus, 300.0)):
        assert doubts_about_ctf(ctf) == []
        more = np.concatenate([np.flatnonzero(below), np.flatnonzero(~below)[:85]])  # more than half near to focus
        assert doubts_about_ctf(ctf[more]) == []
    assert doubts_about_ctf(ctf_of(*defocus, 2e5)) == []


def test_half_a_stack_in_nm_is_no_focal_pair() -> None:
    defocus, below = focal_pair(2000, 2e4, 100.0)
    tenth = np.where(below, 0.1, 1.0)
    for ctf in (with_astigmatism(defocus, 300 * tenth), ctf_of(*(tenth * np.linspace(1e4, 3e4, 200)))):
        assert "is it in nm?" in doubts_about_ctf(ctf)[0]  # astigmatism of a tenth; a spread that is no microscope's


@pytest.mark.parametrize("name", ["defocus_v_angstrom", "defocus_u_angstrom"])
@pytest.mark.parametrize(("factor", "unit"), [(0.1, "nm"), (1e-4, "µm"), (1e-10, "m"), (1e-7, "another unit")])
def test_one_defocus_in_another_unit_is_told(name: str, factor: float, unit: str) -> None:
    ctf = with_astigmatism(uneven(1.0, []).defocus_u_angstrom, 400.0)
    for rows, words in (
        (np.arange(200), "of 200 of 200 particles (rows 1, 2,"),
        ([7], "of 1 of 200 particles (row 8) "),
    ):
        values = getattr(ctf, name).copy()
        values[rows] *= factor
        changed = replace(ctf, **{name: values})
        check_defocus(changed)
        (found,) = doubts_about_ctf(changed)
        assert words in found
        assert f"too far for astigmatism: is one in {unit}? Both must be in Å" in found


@pytest.mark.parametrize("least", [1500, 3000, 7000])
def test_strong_astigmatism_is_no_doubt(least: float) -> None:
    plate = 1.5 if least < 3000 else 0.0
    ctf = with_astigmatism(np.linspace(least, 4e4, 200), 2000.0)
    assert doubts_about_ctf(replace(ctf, phase_shift=np.full(200, plate))) == []


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


@pytest.mark.parametrize(
    "name",
    [
        "metadata/cryosparc_J2_particles_exported.cs",
        "metadata/cryosparc_P12_J24_001_particles.cs",
        "small_real_stacks/empiar_10076_7.cs",
    ],
)
def test_real_cryosparc_parameters_raise_no_doubts(name: str) -> None:
    table = np.load(shared_data(*name.split("/")), max_header_size=100_000)
    u, v = (table[f"ctf/df{i}_A"].astype(float) for i in (1, 2))
    ctf = replace(ctf_of(*u), defocus_v_angstrom=v, phase_shift=table["ctf/phase_shift_rad"].astype(float))
    check_defocus(ctf)
    assert doubts_about_ctf(ctf) == []


@pytest.mark.parametrize("name", ["FinalRefinement-OriginalParticles-PfCRT.star", "empiar10025_T20S_ctf_params.star"])
def test_real_tables_without_all_columns_raise_no_doubts(name: str) -> None:
    table = read_star(shared_data("metadata", name)).blocks["images"]
    ctf = replace(ctf_of(*table.floats("rlnDefocusU")), defocus_v_angstrom=table.floats("rlnDefocusV"))
    check_defocus(ctf)
    assert doubts_about_ctf(ctf) == []


def test_in_focus_is_no_unit() -> None:
    check_defocus(ctf_of(0.0, 0.0))
    check_defocus(ctf_of(0.0, 2e4))


def test_docstring_examples() -> None:
    result = doctest.testmod(ctf_checks)
    assert result.attempted >= 2
    assert result.failed == 0
