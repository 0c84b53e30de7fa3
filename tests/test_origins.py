"""RELION's origins: read in its sense and sign, used as RELION uses them, written for centred images."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from mfvdm_fast import denoise, preset, simulate_stack, synthetic_particle
from mfvdm_fast.doubts import warn_about_origins
from mfvdm_fast.errors import InputError, MfvdmWarning, ParameterError
from mfvdm_fast.imaging.fourier_shift import shift_images
from mfvdm_fast.imaging.noise import estimate_noise, estimate_noise_power
from mfvdm_fast.imaging.origins import (
    CERTAIN,
    CERTAIN_PLACE,
    GROUPS,
    WAYS,
    measure_offset,
    measure_offset_of_power,
    measure_ways,
    warn_if_misplaced,
)
from mfvdm_fast.io.denoised_star import write_denoised_star
from mfvdm_fast.io.observed_star import write_observed_star
from mfvdm_fast.io.particle_table import find_particles
from mfvdm_fast.io.stack import ParticleStack, open_stack
from mfvdm_fast.io.star import read_star
from mfvdm_fast.records import NoiseModel, OriginColumns
from mfvdm_fast.simulate import SimulationSettings

from .conftest import shared_data
from .reference.io import star_text, write_mrc
from .reference.shifts import reference_half_turn, reference_power, reference_way

PIXEL_SIZE = 1.5


def blob_stack(folder: Path, origins: dict[str, list[str]], n: int = 3, optics: bool = True) -> Path:
    """A smooth spot in every image, at (x, y) = (3, -2) from the centre; a STAR file with the given columns."""
    line = np.arange(16) - 8
    image = np.exp(-((line[None, :] - 3) ** 2 + (line[:, None] + 2) ** 2) / 4).astype(np.float32)
    write_mrc(folder / "x.mrcs", np.stack([image] * n), pixel_size=0)
    particles = {"rlnImageName": [f"{i}@x.mrcs" for i in range(1, n + 1)], "rlnOpticsGroup": ["1"] * n, **origins}
    group = {
        "rlnOpticsGroup": ["1"],
        "rlnVoltage": ["300"],
        "rlnSphericalAberration": ["2.7"],
        "rlnAmplitudeContrast": ["0.1"],
        "rlnImagePixelSize": [str(PIXEL_SIZE)],
        "rlnImageSize": ["16"],
        "rlnImageDimensionality": ["2"],
    }
    blocks = {"optics": group, "particles": particles} if optics else {"images": particles}
    text = star_text(blocks)
    (folder / "a.star").write_text(text if optics else text.replace("# version 30001", ""))
    return folder / "a.star"


def test_origins_in_angstrom_and_in_pixels(tmp_path: Path) -> None:
    x, y = ["-4.5", "0", "3"], ["3", "0", "-1.5"]
    expected = np.array([[3, -2], [0, 0], [-2, 1]], float)
    stack = open_stack(blob_stack(tmp_path, {"rlnOriginXAngst": x, "rlnOriginYAngst": y}))
    assert stack.known_shifts_px is not None
    assert stack.known_shifts_px.dtype == np.float64
    np.testing.assert_array_equal(stack.known_shifts_px, expected)
    pixels = {"rlnOriginX": ["-3", "0", "2"], "rlnOriginY": ["2", "0", "-1"]}
    for optics in (True, False):
        np.testing.assert_array_equal(open_stack(blob_stack(tmp_path, pixels, optics=optics)).known_shifts_px, expected)
    # Å where both stand
    both = {"rlnOriginXAngst": x, "rlnOriginYAngst": y, "rlnOriginX": ["9", "9", "9"]}
    np.testing.assert_array_equal(open_stack(blob_stack(tmp_path, both)).known_shifts_px, expected)


def test_words_about_origins_name_the_columns_of_the_table_in_their_unit(tmp_path: Path) -> None:
    in_angstrom = {"rlnOriginXAngst": ["1"] * 3, "rlnOriginYAngst": ["1"] * 3}
    in_px = {"rlnOriginX": ["1"] * 3, "rlnOriginY": ["1"] * 3}
    for columns, optics, name, amount in (
        (in_angstrom, True, "rlnOriginXAngst", "+4.5 Å (+3 px)"),
        (in_angstrom | in_px, True, "rlnOriginXAngst", "+4.5 Å (+3 px)"),
        ({}, True, "rlnOriginXAngst", "+4.5 Å (+3 px)"),
        (in_px, True, "rlnOriginX", "+3 px (+4.5 Å)"),
        (in_px, False, "rlnOriginX", "+3 px"),
        ({}, False, "rlnOriginX", "+3 px"),
    ):
        found = open_stack(blob_stack(tmp_path, columns, optics=optics)).origin_columns
        assert (found.x, found.y) == (name, name.replace("X", "Y"))
        assert found.amount(3.0) == amount
    assert ParticleStack.from_array(np.zeros((3, 8, 8)), 2.0).origin_columns.amount(-1.0) == "-1 px (-2 Å)"


def test_centred_by_its_origin_the_particle_stands_in_the_centre(tmp_path: Path) -> None:
    stack = open_stack(blob_stack(tmp_path, {"rlnOriginXAngst": ["-4.5"] * 3, "rlnOriginYAngst": ["3"] * 3}))
    raw = stack.read([0])
    assert np.unravel_index(raw[0].argmax(), (16, 16)) == (6, 11)  # the stack gives images as they are in the file
    assert stack.known_shifts_px is not None
    centred = shift_images(raw, stack.known_shifts_px[:1])
    assert np.unravel_index(centred[0].argmax(), (16, 16)) == (8, 8)


@pytest.mark.parametrize("zero", ["0", "0.000000", "-0"])
def test_no_origin_and_origins_of_zero_are_none(tmp_path: Path, zero: str) -> None:
    assert open_stack(blob_stack(tmp_path, {})).known_shifts_px is None
    columns = {"rlnOriginXAngst": [zero] * 3, "rlnOriginYAngst": [zero] * 3}
    assert open_stack(blob_stack(tmp_path, columns)).known_shifts_px is None
    # nor do they need a pixel size
    assert open_stack(blob_stack(tmp_path, columns, optics=False)).known_shifts_px is None
    assert ParticleStack.from_array(np.random.default_rng(0).normal(size=(2, 8, 8))).known_shifts_px is None


def test_origins_that_cannot_be_used(tmp_path: Path) -> None:
    path = blob_stack(tmp_path, {f"rlnOrigin{axis}Angst": ["0", "3", "0"] for axis in "XY"}, optics=False)
    with pytest.raises(InputError, match=r"_rlnOriginXAngst is in Å, and the pixel size is not known; add _rln"):
        open_stack(path)
    path = blob_stack(tmp_path, {"rlnOriginX": ["0", "1", "0"], "rlnOriginY": ["0", "-9", "12"]})
    message = r"a\.star: data_particles: row 2: the origin \(1, -9\) px lies outside the box of 16 px \(2 such rows\)"
    with pytest.raises(InputError, match=message):
        open_stack(path)
    path = blob_stack(tmp_path, {"rlnOriginX": ["0", "nan", "0"], "rlnOriginY": ["0"] * 3})
    with pytest.raises(InputError, match=r"row 2, _rlnOriginX: 'nan' is not a finite number"):
        open_stack(path)


@pytest.mark.parametrize("unit", ["Angst", ""])
@pytest.mark.parametrize(("axis", "other"), ["XY", "YX"])
@pytest.mark.parametrize("value", ["1", "0"])
def test_half_an_origin_is_refused(tmp_path: Path, unit: str, axis: str, other: str, value: str) -> None:
    columns = {f"rlnOrigin{axis}{unit}": [value] * 3}
    if unit:  # an axis in px does not make up for one in Å
        columns[f"rlnOrigin{other}"] = ["1"] * 3
    message = (
        rf"a\.star: data_particles: there is a column _rlnOrigin{axis}{unit} but no _rlnOrigin{other}{unit}, and an "
        "origin has both; add the missing column, or remove the other"
    )
    with pytest.raises(InputError, match=message):
        open_stack(blob_stack(tmp_path, columns))


@pytest.mark.skipif(shutil.which("relion_stack_create") is None, reason="RELION is not installed")
@pytest.mark.parametrize("old", [True, False])
def test_relion_moves_the_same_way(tmp_path: Path, rng: np.random.Generator, old: bool) -> None:
    shifts = np.array([[3, -2], [-1, 4], [0, 5]])
    origins = -shifts if old else -shifts * PIXEL_SIZE
    names = ("rlnOriginX", "rlnOriginY") if old else ("rlnOriginXAngst", "rlnOriginYAngst")
    columns = {name: [str(v) for v in column] for name, column in zip(names, origins.T, strict=True)}
    columns |= {"rlnAnglePsi": ["0"] * 3}
    if old:
        columns |= {"rlnMagnification": ["10000"] * 3, "rlnDetectorPixelSize": [str(PIXEL_SIZE)] * 3}
        columns |= {"rlnDefocusU": ["10000"] * 3, "rlnDefocusV": ["10000"] * 3, "rlnDefocusAngle": ["0"] * 3}
        columns |= {"rlnVoltage": ["300"] * 3, "rlnSphericalAberration": ["2"] * 3, "rlnAmplitudeContrast": ["0.1"] * 3}
    path = blob_stack(tmp_path, columns, optics=not old)
    write_mrc(tmp_path / "x.mrcs", rng.standard_normal((3, 16, 16)).astype(np.float32), pixel_size=PIXEL_SIZE)
    stack = open_stack(path, ctf=False)
    np.testing.assert_allclose(stack.known_shifts_px, shifts, atol=1e-6)
    command = ["relion_stack_create", "--i", "a.star", "--o", "moved", "--apply_transformation"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    theirs = mrcfile.read(tmp_path / "moved.mrcs")
    ours = shift_images(stack.read([0, 1, 2]), shifts)
    # what comes in over the edge is RELION's own choice
    np.testing.assert_allclose(ours[:, 5:-5, 5:-5], theirs[:, 5:-5, 5:-5], atol=1e-4)


def test_denoised_images_are_centred_and_the_way_there_is_kept(tmp_path: Path) -> None:
    columns = {"rlnOriginX": ["-3", "0", "2"], "rlnOriginY": ["2", "0", "-1"]}
    stack = open_stack(blob_stack(tmp_path, columns))
    found = np.array([[3.25, -2.0], [0.0, 0.0], [-1.5, 1.0]])  # the origins of the input and what was found besides
    write_denoised_star(tmp_path / "b.star", stack, shifts_px=found)
    written = read_star(tmp_path / "b.star").blocks["particles"]
    assert not {"rlnOriginX", "rlnOriginY"} & set(written.columns)
    assert written.texts("rlnOriginXAngst") == written.texts("rlnOriginYAngst") == ["0.0"] * 3
    assert written.texts("mfvdmSourceOriginXAngst") == ["-4.875", "0.0", "2.25"]
    assert written.texts("mfvdmSourceOriginYAngst") == ["3.0", "0.0", "-1.5"]
    # put back in the place of RELION's columns, beside the images of the input, they centre those
    back = {"rlnOriginXAngst": written.texts("mfvdmSourceOriginXAngst"),
            "rlnOriginYAngst": written.texts("mfvdmSourceOriginYAngst")}  # fmt: skip
    np.testing.assert_array_equal(open_stack(blob_stack(tmp_path, back)).known_shifts_px, found)


@pytest.mark.parametrize("optics", [True, False])
def test_origins_found_are_written_beside_the_images_of_the_input(tmp_path: Path, optics: bool) -> None:
    columns = {"rlnOriginX": ["-3", "0", "2"], "rlnOriginY": ["2", "0", "-1"]}
    stack = open_stack(blob_stack(tmp_path, columns, optics=optics))
    found = np.array([[3.25, -2.0], [0.0, 0.0], [-1.5, 1.0]])
    write_observed_star(tmp_path / "observed.star", stack, found)
    again = open_stack(tmp_path / "observed.star")
    np.testing.assert_array_equal(again.known_shifts_px, found)
    np.testing.assert_array_equal(again.read(np.arange(3)), stack.read(np.arange(3)))
    assert stack.star is not None
    assert again.star is not None
    kept, written = (find_particles(star).particles for star in (stack.star, again.star))
    unit = "Angst" if optics else ""
    assert set(written.columns) - set(kept.columns) == ({"rlnOriginXAngst", "rlnOriginYAngst"} if optics else set())
    assert float(written.texts(f"rlnOriginX{unit}")[0]) == pytest.approx(-3.25 * (PIXEL_SIZE if optics else 1))


def test_origins_that_cannot_be_written(tmp_path: Path) -> None:
    stack = open_stack(blob_stack(tmp_path, {}))
    with pytest.raises(ParameterError, match=r"shifts_px must be finite numbers of shape \(3, 2\), x and y"):
        write_observed_star(tmp_path / "c.star", stack, np.zeros((2, 2)))
    with pytest.raises(ParameterError, match="the images of the stack are in no file, and no table can name them"):
        write_observed_star(tmp_path / "c.star", ParticleStack.from_array(np.zeros((3, 8, 8))), np.zeros((3, 2)))


def test_origins_in_angstrom_need_a_pixel_size(tmp_path: Path) -> None:
    path = blob_stack(tmp_path, {})
    path.write_text(path.read_text().replace("_rlnImagePixelSize", "_rlnOther"))
    with pytest.raises(ParameterError, match="the pixel size is not known, but origins are in Å; give one"):
        write_observed_star(tmp_path / "c.star", open_stack(path), np.zeros((3, 2)))


def test_without_shifts_the_origins_stay(tmp_path: Path) -> None:
    columns = {"rlnOriginXAngst": ["-4.5", "0", "3"], "rlnOriginYAngst": ["3", "0", "-1.5"]}
    write_denoised_star(tmp_path / "b.star", open_stack(blob_stack(tmp_path, columns)))
    written = read_star(tmp_path / "b.star").blocks["particles"]
    assert written.texts("rlnOriginXAngst") == columns["rlnOriginXAngst"]
    assert "mfvdmSourceOriginXAngst" not in written


def test_shifts_that_do_not_fit_the_stack(tmp_path: Path) -> None:
    stack = open_stack(blob_stack(tmp_path, {}))
    for wrong in (np.zeros((2, 2)), np.full((3, 2), np.nan)):
        with pytest.raises(ParameterError, match=r"shifts_px must be finite numbers of shape \(3, 2\), x and y"):
            write_denoised_star(tmp_path / "b.star", stack, shifts_px=wrong)


@pytest.mark.parametrize(
    ("name", "scale"),
    [("aspire_sample_relion30.star", None), ("aspire_sample_relion31.star", "Angst")],
)
def test_origins_of_real_tables(name: str, scale: str | None, tmp_path: Path) -> None:
    path = shared_data("small_real_stacks", name)
    (tmp_path / "sample.mrcs").symlink_to(shared_data("small_real_stacks", "aspire_sample_17x200.mrcs"))
    stack = open_stack(path, project_dir=tmp_path)
    assert stack.star is not None
    table = next(block for block in stack.star.blocks.values() if "rlnImageName" in block)
    unit = 1.0 if scale is None else stack.pixel_size
    assert unit is not None
    expected = [-table.floats(f"rlnOrigin{axis}{scale or ''}") / unit for axis in "XY"]
    assert stack.known_shifts_px is not None
    np.testing.assert_allclose(stack.known_shifts_px, np.stack(expected, axis=1))


def test_origins_that_the_images_take_back_are_warned_about() -> None:
    rng = np.random.default_rng(0)
    true = 2 * rng.normal(size=(300, 2))
    assert not warn_about_origins(None, true)
    assert not warn_about_origins(0 * true, true)
    assert not warn_about_origins(true, true)
    assert not warn_about_origins(true + rng.normal(size=true.shape), true)  # what was known is coarse: a fifth
    for wrong in (-true, rng.permutation(true)):
        with pytest.warns(MfvdmWarning, match=r"^a\.star: \d+% of the origins that the input gives are taken back by"):
            assert warn_about_origins(wrong, true, where="a.star: ")


@pytest.mark.parametrize(("factor", "text"), [(2.0, "twice what .* halve"), (0.5, "half of what .* double")])
def test_origins_of_another_binning_are_warned_about(factor: float, text: str) -> None:
    rng = np.random.default_rng(0)
    true = 2 * rng.normal(size=(300, 2))
    found = true + 0.5 * rng.normal(size=true.shape)
    columns = OriginColumns("rlnOriginXAngst", "rlnOriginYAngst")
    message = rf"^a\.star: the origins .* are about {text} both columns, rlnOriginXAngst and rlnOriginYAngst$"
    with pytest.warns(MfvdmWarning, match=message):
        assert warn_about_origins(factor * true, found, columns, "a.star: ")
    for other in (true, 1.3 * true, 0.75 * true, true + 2 * rng.normal(size=true.shape)):
        assert not warn_about_origins(other, found)


@pytest.mark.parametrize("spread", [1.5, 3.0, 6.0])
def test_wrong_signs_and_exchanged_columns_are_seen_whatever_the_size(spread: float) -> None:
    settings = SimulationSettings(snr=0.1, shift_std_px=spread)
    simulated = simulate_stack(synthetic_particle(48), 5.0, 600, settings, seed=1)
    images, true = simulated.read(np.arange(600)), simulated.shifts_px
    noise, rng = estimate_noise(images), np.random.default_rng(0)
    assert not warn_if_misplaced(images, true, noise, 20.0)
    assert measure_ways(images, true, 20.0).max() < 0
    assert measure_ways(images, rng.permutation(true), 20.0).max() < CERTAIN
    assert measure_ways(images, true + rng.normal(size=true.shape), 20.0).max() < CERTAIN
    for way, wrong, remedy in WAYS:
        given = true @ np.array(way)  # the inverse of each is its transpose
        columns = OriginColumns(x="rlnOriginXAngst", y="rlnOriginYAngst")
        remedy = remedy.format(x=columns.x, y=columns.y)
        text = rf"^a\.star: the origins that the input gives {wrong}: .*; {remedy} \(a particle .* {columns.x}\)$"
        with pytest.warns(MfvdmWarning, match=text):
            assert warn_if_misplaced(images, given, noise, 20.0, columns, "a.star: ")


def test_the_measure_of_ways_is_that_of_its_definition(rng: np.random.Generator) -> None:
    images = (rng.normal(size=(70, 12, 12)) + 5).astype(np.float32)
    shifts = rng.normal(0, 2, (70, 2))
    found = measure_ways(images, shifts, 4.5, 5.0)
    for place in (0, 3, 5):
        expected = reference_way(images - 5.0, shifts, np.array(WAYS[place][0]), 4.5, GROUPS)
        assert found[place] == pytest.approx(expected, rel=1e-3)
    np.testing.assert_array_equal(found, measure_ways(images, shifts, 4.5, 5.0, threads=2))
    assert found[0] == pytest.approx(-measure_ways(images, -shifts, 4.5, 5.0)[0], rel=1e-6)
    assert not measure_ways(images[:31], shifts[:31], 4.5).any()  # too few to tell


def test_the_measure_of_an_offset_is_that_of_its_definition(rng: np.random.Generator) -> None:
    images = (rng.normal(size=(70, 13, 13)) + 5).astype(np.float32)
    images[:, 7:10, 3:6] += 1.0
    place, certainty, is_round = measure_offset(images, None, 5.0)
    assert is_round
    assert place.tolist() == [-2.0, 2.0]
    assert certainty == pytest.approx(reference_half_turn(images - 5.0, place, GROUPS), rel=1e-4)
    again, same, _ = measure_offset(images, np.zeros((70, 2)), 5.0)
    assert again.tolist() == [-2.0, 2.0]
    assert same == pytest.approx(certainty, rel=1e-3)
    assert measure_offset(images[:31], None)[1] == 0


@pytest.mark.parametrize("offset", [(12.0, 0.0), (-5.0, 9.0), (2.5, -3.0)])
def test_particles_that_all_stand_off_alike_are_told(offset: tuple[float, float]) -> None:
    settings = SimulationSettings(snr=0.1, shift_std_px=1.5)
    simulated = simulate_stack(synthetic_particle(48), 5.0, 600, settings, seed=1)
    images, true = simulated.read(np.arange(600)), simulated.shifts_px
    given, noise = true - offset, estimate_noise(images)
    with pytest.warns(MfvdmWarning, match=r"^a\.star: all particles stand about .* leave them out$") as told:
        assert warn_if_misplaced(images, given, noise, 20.0, where="a.star: ")
    x, y = (0 - measure_offset(images, given)[0]).tolist()
    assert f"another box, binning or pixel size; add {x:+g} px to rlnOriginX and {y:+g} px to" in str(told[0].message)
    columns = OriginColumns("rlnOriginXAngst", "rlnOriginYAngst", in_angstrom=True, pixel_size=5.0)
    with pytest.warns(MfvdmWarning, match=re.escape(f"add {5 * x:+g} Å ({x:+g} px) to rlnOriginXAngst and ")):
        assert warn_if_misplaced(images, given, noise, 20.0, columns)
    assert not warn_if_misplaced(images, given - [x, y], noise, 20.0)  # as it says
    assert np.abs(measure_offset(images, given)[0] - offset).max() <= 1.0
    moved = shift_images(images, given)
    with pytest.warns(
        MfvdmWarning, match=r"px off the centre, at x .* extract them again where they stand, or give origins"
    ):
        assert warn_if_misplaced(moved, None, noise, 20.0)


def test_the_measure_by_power_is_that_of_its_definition(rng: np.random.Generator) -> None:
    images = (rng.normal(size=(70, 13, 13)) + 5).astype(np.float32)
    images[:, 7:10, 3:6] += rng.choice([-1.5, 1.5], 70)[:, None, None].astype(np.float32)
    shifts = rng.normal(0, 0.5, (70, 2))
    found = measure_offset_of_power(images, shifts, NoiseModel(1.0, 5.0))
    groups = reference_power(images - 5.0, shifts, 1.0, GROUPS)
    assert found.certainty == pytest.approx(reference_half_turn(groups, found.place, GROUPS, one_each=True), rel=1e-3)
    assert np.abs(found.place - [-2.0, 2.0]).max() <= 0.5
    again = measure_offset_of_power(images, shifts, NoiseModel(1.0, 5.0), threads=2)
    assert (again.place.tolist(), again.certainty) == (found.place.tolist(), found.certainty)
    assert measure_offset(images, shifts, 5.0).certainty < found.certainty
    assert measure_offset_of_power(images[:31], None, NoiseModel(1.0, 5.0)).certainty == 0


@pytest.mark.parametrize("falloff", [1.0, 4.0])
def test_few_faint_particles_that_stand_off_are_told_by_their_power(falloff: float) -> None:
    settings = SimulationSettings(snr=0.02, shift_std_px=2.0, noise_falloff=falloff)
    simulated = simulate_stack(synthetic_particle(65), 5.0, 300, settings, seed=1)
    images = simulated.read(np.arange(300))
    noise = estimate_noise_power(images, estimate_noise(images), 28.0)
    given = np.tile([-10.0, 0.0], (300, 1))
    assert measure_offset(images, given).certainty < CERTAIN_PLACE
    with pytest.warns(
        MfvdmWarning, match=r"^all particles stand about (9|10) px off the centre, at x \+(9|9\.5|10), y"
    ):
        assert warn_if_misplaced(images, given, noise, 28.0)
    assert not warn_if_misplaced(images, None, noise, 28.0)
    assert not warn_if_misplaced(images, simulated.shifts_px, noise, 28.0)


def test_more_images_than_are_needed_are_not_all_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = simulate_stack(synthetic_particle(48), 5.0, 400, SimulationSettings(snr=0.1), seed=1)
    images, given = simulated.read(np.arange(400)), np.tile([0.0, 7.0], (400, 1))
    noise = estimate_noise(images)
    monkeypatch.setattr("mfvdm_fast.imaging.origins.MOST_FOR_POWER", 100)
    some = np.linspace(0, 399, 100).astype(np.int64)
    found, expected = (measure_offset_of_power(images[r], given[r], noise) for r in (slice(None), some))
    assert found.certainty == expected.certainty
    np.testing.assert_allclose(found.place, [0.0, -7.0], atol=1.0)


def test_large_boxes_are_compared_on_a_coarser_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = simulate_stack(synthetic_particle(65), 5.0, 400, SimulationSettings(snr=0.1, shift_std_px=2.0), seed=1)
    images, given = simulated.read(np.arange(400)), simulated.shifts_px[:, ::-1]
    fine, moved = measure_ways(images, given, 28.0), measure_offset(images, simulated.shifts_px - [0.0, 9.0])
    monkeypatch.setattr("mfvdm_fast.imaging.origins.LARGEST_GRID", 48)
    np.testing.assert_allclose(measure_ways(images, given, 28.0), fine, atol=2.0)
    assert fine.argmax() == 3
    place, certainty, _ = measure_offset(images, simulated.shifts_px - [0.0, 9.0])
    np.testing.assert_allclose(place, moved[0], atol=1.4)
    assert certainty == pytest.approx(moved[1], rel=0.2)


def test_a_view_that_is_not_round_stands_nowhere(rng: np.random.Generator) -> None:
    clean = simulate_stack(synthetic_particle(65), 5.0, 8, SimulationSettings(), seed=1).read_ctf(np.arange(8))
    places, certain = [], []
    for view in clean:
        images = np.repeat(view[None], 100, axis=0)
        images = (images + 3 * view.std() * rng.normal(size=images.shape)).astype(np.float32)
        place, certainty, is_round = measure_offset(images, None)
        assert not is_round
        assert not warn_if_misplaced(images, None, estimate_noise(images), 28.0)
        places.append(np.hypot(*place))
        certain.append(certainty)
    assert max(places) > 5
    assert certain == [0.0] * 8


def test_origins_of_the_wrong_sign_are_warned_about_once() -> None:
    simulated = simulate_stack(synthetic_particle(33), 4.0, 500, SimulationSettings(snr=0.2, shift_std_px=1.0))
    stack = ParticleStack.from_array(simulated.read(np.arange(500)), 4.0, simulated.ctf)
    stack.known_shifts_px = -simulated.shifts_px
    with pytest.warns(MfvdmWarning, match=r"^the origins that the input gives have the wrong sign") as told:
        denoise(stack, preset(n_matchings=1), threads=1)
    assert len(told) == 1
