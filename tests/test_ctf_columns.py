"""CTF, pixel size and box size from STAR columns, RELION 3.0 and 3.1."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from mfvdm_fast.ctf_checks import check_defocus, doubts_about_ctf
from mfvdm_fast.errors import InputError, MfvdmWarning
from mfvdm_fast.io.ctf_columns import read_ctf, read_phase_flipped
from mfvdm_fast.io.particle_table import ParticleTable, find_particles, read_box_size, read_pixel_size
from mfvdm_fast.io.star import StarFile, read_star
from mfvdm_fast.io.star_parser import parse_star
from mfvdm_fast.records import CtfParameters

from .conftest import shared_data
from .reference.io import star_text

Columns = dict[str, list[str]]

OPTICS: Columns = {
    "rlnOpticsGroup": ["7", "3"],  # in any order, with gaps
    "rlnOpticsGroupName": ["001", "002"],
    "rlnVoltage": ["300", "200"],
    "rlnSphericalAberration": ["2.7", "2.0"],
    "rlnAmplitudeContrast": ["0.1", "0.07"],
    "rlnImagePixelSize": ["1.5", "1.50001"],
    "rlnImageSize": ["64", "64"],
    "rlnImageDimensionality": ["2", "2"],
}
PARTICLES: Columns = {
    "rlnImageName": ["1@a.mrcs", "2@a.mrcs", "3@a.mrcs"],
    "rlnOpticsGroup": ["3", "7", "3"],
    "rlnDefocusU": ["10000", "11000", "12000"],
    "rlnDefocusV": ["10100", "11100", "12100"],
    "rlnDefocusAngle": ["90", "-45", "0"],
}
OLD: Columns = {
    "rlnImageName": ["1@a.mrcs", "2@a.mrcs"],
    "rlnVoltage": ["300", "200"],
    "rlnSphericalAberration": ["2.7", "2.7"],
    "rlnAmplitudeContrast": ["0.1", "0.1"],
    "rlnDefocusU": ["10000", "11000"],
    "rlnMagnification": ["37369.207031", "37369.207031"],
    "rlnDetectorPixelSize": ["5", "5"],
}


def table(particles: Columns, optics: Columns | None = None, name: str = "particles") -> ParticleTable:
    blocks = {name: particles} if optics is None else {name: particles, "optics": optics}
    return find_particles(StarFile("a.star", parse_star(star_text(blocks).encode(), "a.star")))


def without(columns: Columns, *names: str) -> Columns:
    return {name: values for name, values in columns.items() if name not in names}


def test_optics_groups_are_matched_by_number() -> None:
    found = table(PARTICLES, OPTICS)
    assert found.optics_group.tolist() == [3, 7, 3]
    assert found.optics_row.tolist() == [1, 0, 1]
    ctf = read_ctf(found)
    assert ctf is not None
    wanted: dict[str, list[float]] = {
        "voltage_kv": [200, 300, 200],
        "cs_mm": [2.0, 2.7, 2.0],
        "amplitude_contrast": [0.07, 0.1, 0.07],
        "defocus_u_angstrom": [1e4, 1.1e4, 1.2e4],
        "defocus_v_angstrom": [1.01e4, 1.11e4, 1.21e4],
        "defocus_angle": [np.pi / 2, -np.pi / 4, 0],
        "phase_shift": [0, 0, 0],
        "bfactor_angstrom2": [0, 0, 0],
        "scale": [1, 1, 1],
    }
    for field, expected in wanted.items():
        values = getattr(ctf, field)
        assert values.dtype == np.float64
        np.testing.assert_allclose(values, expected, err_msg=field)
    assert (read_pixel_size(found), read_box_size(found)) == (1.50001, 64)


def test_particle_columns_override_and_optional_columns_count() -> None:
    more = {"rlnVoltage": ["100", "120", "130"], "rlnPhaseShift": ["90", "0", "180"], "rlnCtfBfactor": ["50", "0", "1"]}
    optics = {**OPTICS, "rlnCtfScalefactor": ["0.5", "0.25"]}
    ctf = read_ctf(table({**PARTICLES, **more}, optics))
    assert ctf is not None
    np.testing.assert_array_equal(ctf.voltage_kv, [100, 120, 130])
    np.testing.assert_allclose(ctf.phase_shift, [np.pi / 2, 0, np.pi])
    np.testing.assert_array_equal(ctf.bfactor_angstrom2, [50, 0, 1])
    np.testing.assert_array_equal(ctf.scale, [0.25, 0.5, 0.25])


@pytest.mark.parametrize("name", ["", "images", "particles", "model_class_1"])
def test_relion_30_table_of_any_name(name: str) -> None:
    found = table(OLD, name=name)
    ctf = read_ctf(found)
    assert ctf is not None
    np.testing.assert_array_equal(ctf.defocus_v_angstrom, ctf.defocus_u_angstrom)
    np.testing.assert_array_equal(ctf.defocus_angle, [0, 0])
    assert read_pixel_size(found) == pytest.approx(1.338, abs=1e-6)
    assert read_box_size(found) is None
    assert found.optics_group.tolist() == [1, 1]
    assert read_pixel_size(table(without(OLD, "rlnMagnification"))) is None


def test_both_forms_of_the_same_real_data_agree() -> None:
    old, new = (
        find_particles(read_star(shared_data("small_real_stacks", f"aspire_sample_relion{v}.star"))) for v in (30, 31)
    )
    first, second = read_ctf(old), read_ctf(new)
    assert first is not None
    assert second is not None
    for field in fields(CtfParameters):
        same = getattr(first, field.name) == getattr(second, field.name)
        # Row 15 of the newer file repeats row 14.
        assert same[np.arange(17) != 14].all(), field.name


def test_no_ctf_column_at_all_is_legal() -> None:
    image_columns = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")
    assert read_ctf(table(without(PARTICLES, *image_columns), OPTICS)) is None
    assert read_ctf(table({"rlnImageName": ["1@a.mrcs"]})) is None


@pytest.mark.parametrize(
    ("particles", "optics", "missing"),
    [
        (without(PARTICLES, "rlnDefocusU"), OPTICS, "_rlnDefocusU"),
        (without(PARTICLES, "rlnDefocusAngle"), OPTICS, "_rlnDefocusAngle"),
        (PARTICLES, without(OPTICS, "rlnVoltage", "rlnAmplitudeContrast"), "_rlnVoltage, _rlnAmplitudeContrast"),
        (without(OLD, "rlnSphericalAberration"), None, "_rlnSphericalAberration"),
        (without(OLD, "rlnDefocusU"), None, "_rlnDefocusU"),
    ],
)
def test_incomplete_ctf_names_the_missing_columns(particles: Columns, optics: Columns | None, missing: str) -> None:
    with pytest.raises(InputError, match=rf"a\.star: data_particles: the CTF is incomplete, missing: {missing}; add"):
        read_ctf(table(particles, optics))


def test_real_table_without_amplitude_contrast() -> None:
    star = read_star(shared_data("metadata", "FinalRefinement-OriginalParticles-PfCRT.star"))
    with pytest.raises(InputError, match="missing: _rlnAmplitudeContrast;"):
        read_ctf(find_particles(star))


def test_real_table_with_two_pixel_sizes_and_aberrations() -> None:
    found = find_particles(read_star(shared_data("metadata", "relion31.6opticsgroups.star")))
    with pytest.raises(
        InputError,
        match=r"one pixel size \(_rlnImagePixelSize\), found 1\.24 Å in optics group 2, 5 \(55 particles\); "
        r"1\.25 Å in optics group 1, 3, 4, 6 \(84 particles\): split the file",
    ):
        read_pixel_size(found)
    with pytest.warns(MfvdmWarning, match=r"_rlnBeamTiltX.*_rlnOddZernike.*_rlnMagMat11 are not used"):
        assert read_ctf(found) is not None


@pytest.mark.parametrize(
    "name",
    [
        "apoferritin/apoferritin_64_sub1000.star",
        "metadata/empiar10025_T20S_1500_particles.star",
        "metadata/relion31.6opticsgroups.star",
        "metadata/relion5.star",
        "small_real_stacks/aspire_sample_relion30.star",
        "small_real_stacks/empiar_10076_7.star",
        "small_real_stacks/relion31.star",
    ],
)
@pytest.mark.filterwarnings("ignore:.* are not used")
def test_real_tables_raise_no_doubts(name: str) -> None:
    ctf = read_ctf(find_particles(read_star(shared_data(*name.split("/")))))
    assert ctf is not None
    check_defocus(ctf)
    assert doubts_about_ctf(ctf) == []


def test_trivial_aberrations_and_unused_groups_are_passed_over() -> None:
    trivial = {"rlnBeamTiltX": ["0.0", "0"], "rlnOddZernike": ["[0,0.0,-0]", "[]"], "rlnMagMat00": ["1.0", "1"]}
    other = {**OPTICS, "rlnImagePixelSize": ["9", "1.5"], "rlnImageSize": ["128", "64"], "rlnBeamTiltX": ["5", "0"]}
    assert read_ctf(table(PARTICLES, {**OPTICS, **trivial})) is not None
    found = table({**PARTICLES, "rlnOpticsGroup": ["3", "3", "3"]}, other)
    assert read_ctf(found) is not None
    assert (read_pixel_size(found), read_box_size(found)) == (1.5, 64)
    with pytest.warns(MfvdmWarning, match="_rlnEvenZernike are not used"):
        read_ctf(table(PARTICLES, {**OPTICS, "rlnEvenZernike": ["[0,0]", "unknown"]}))


def test_pixel_size_columns_in_their_order() -> None:
    bare = without(OPTICS, "rlnImagePixelSize")
    both = {"rlnMicrographPixelSize": ["2", "2"], "rlnMicrographOriginalPixelSize": ["1", "1"]}
    assert read_pixel_size(table(PARTICLES, {**bare, **both})) == 2
    assert read_pixel_size(table(PARTICLES, {**bare, "rlnMicrographOriginalPixelSize": ["1", "1"]})) == 1
    assert read_pixel_size(table(PARTICLES, bare)) is None
    assert read_pixel_size(table({**OLD, "rlnImagePixelSize": ["3", "3"]})) == 3


@pytest.mark.parametrize(
    ("particles", "optics", "message"),
    [
        (
            PARTICLES,
            {**OPTICS, "rlnImagePixelSize": ["1", "0"]},
            r"row 1: pixel size 0 Å \(_rlnImagePixelSize\) must be",
        ),
        ({**OLD, "rlnMagnification": ["0", "1"]}, None, r"row 1: pixel size inf Å .* must be positive"),
        (
            {**OLD, "rlnDetectorPixelSize": ["5", "6"]},
            None,
            r"found 1\.338 Å \(1 particle\); 1\.6056 Å \(1 particle\)",
        ),
    ],
)
def test_pixel_sizes_that_cannot_be(particles: Columns, optics: Columns | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_pixel_size(table(particles, optics))


@pytest.mark.parametrize(
    ("optics", "message"),
    [
        (
            {**OPTICS, "rlnImageSize": ["64", "32"]},
            r"one box size .* 32 px in optics group 3 \(2 particles\); 64 px in ",
        ),
        ({**OPTICS, "rlnImageDimensionality": ["2", "3"]}, r"row 1 is an image of 3 dimensions"),
    ],
)
def test_box_sizes_that_cannot_be(optics: Columns, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_box_size(table(PARTICLES, optics))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rlnVoltage": ["300", "0"]}, r"row 1: _rlnVoltage is 0, it must lie between 1 and 10000 \(kV\)"),
        (
            {"rlnAmplitudeContrast": ["7", "0.1"]},
            r"row 2: _rlnAmplitudeContrast is 7, it must lie between 0 and 0\.9999",
        ),
        ({"rlnSphericalAberration": ["2.7", "2e7"]}, r"row 1: _rlnSphericalAberration is 2e\+07, .* 0 and 10 \(mm\)"),
        (
            {"rlnSphericalAberration": ["-1", "0"]},
            r"row 2: _rlnSphericalAberration is -1, it must lie between 0 and 10",
        ),
        ({"rlnCtfDataAreCtfPremultiplied": ["0", "1"]}, r"images of optics group 3 are premultiplied by their CTF"),
    ],
)
def test_ctf_values_that_cannot_be(change: Columns, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_ctf(table(PARTICLES, {**OPTICS, **change}))


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ({"a": {"x": ["1"]}}, r"a\.star: no table has a column _rlnImageName \(tables: data_a\)"),
        ({"a": OLD, "b": OLD}, r"a\.star: several tables have a column _rlnImageName \(tables: data_a, data_b\)"),
        ({"particles": {"rlnImageName": []}}, r"data_particles has no rows: there are no particles"),
        ({"optics": OPTICS, "particles": OLD}, r"data_particles has no column _rlnOpticsGroup"),
        (
            {"optics": {**OPTICS, "rlnOpticsGroup": ["3", "3"]}, "particles": PARTICLES},
            r"data_optics: optics group 3 stands more than once",
        ),
        (
            {"optics": {**OPTICS, "rlnOpticsGroup": ["1", "3"]}, "particles": PARTICLES},
            r"row 2 has optics group 7, which data_optics does not have \(it has 1, 3\)",
        ),
        ({"optics": {"rlnOpticsGroup": []}, "particles": PARTICLES}, r"row 1 has optics group 3, .* \(it has none\)"),
    ],
)
def test_tables_that_do_not_fit(blocks: dict[str, Columns], message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_particles(StarFile("a.star", parse_star(star_text(blocks).encode(), "a.star")))


def test_phase_flipped_images() -> None:
    def flipped(*values: str) -> bool:
        return read_phase_flipped(table(PARTICLES, {**OPTICS, "rlnCtfDataArePhaseFlipped": list(values)}))

    assert not read_phase_flipped(table(PARTICLES, OPTICS))
    assert (flipped("0", "0"), flipped("1", "1")) == (False, True)
    with pytest.raises(InputError, match=r"images of optics group 3 are phase flipped and others are not .* apart, or"):
        flipped("0", "1")


def test_particles_go_before_other_tables_with_image_names() -> None:
    blocks = {"optics": OPTICS, "other": OLD, "particles": PARTICLES}
    assert len(find_particles(StarFile("a.star", parse_star(star_text(blocks).encode(), "a.star")))) == 3
