"""``mfvdm-fast simulate``: every option, every refusal, and what RELION says of the files."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from mfvdm_fast import SimulationSettings, simulate_stack, synthetic_particle
from mfvdm_fast.cli.defocus_file import read_defocus_list
from mfvdm_fast.io.mrc import MrcStackWriter
from mfvdm_fast.io.stack import open_stack
from mfvdm_fast.io.star import read_star
from mfvdm_fast.synthetic import resize_volume

from .cli_runs import BOX_SIZE, N_PARTICLES, Cli, all_bytes, write_stack
from .conftest import shared_data


def test_simulated_files_are_the_simulated_stack(simulated: Path) -> None:
    settings = SimulationSettings(snr=0.3, n_defocus_groups=3)
    expected = simulate_stack(synthetic_particle(BOX_SIZE), 4.0, N_PARTICLES, settings)
    rows = np.arange(N_PARTICLES)
    stack = open_stack(simulated / "particles.star")
    assert stack.pixel_size == 4.0
    np.testing.assert_array_equal(stack.read(rows), expected.read(rows))
    np.testing.assert_array_equal(open_stack(simulated / "clean.mrcs").read(rows), expected.read_clean(rows))
    assert stack.ctf is not None
    assert expected.ctf is not None
    for name, values in vars(expected.ctf).items():
        np.testing.assert_array_equal(getattr(stack.ctf, name), values)
    truth = np.load(simulated / "truth.npz")
    np.testing.assert_array_equal(truth["rotations"], expected.rotations)
    np.testing.assert_array_equal(truth["viewing_directions"], expected.rotations[:, :, 2])
    np.testing.assert_array_equal(truth["defocus_group"], expected.defocus_group)
    assert truth["noise_variance"] == expected.noise_variance
    assert (truth["snr"], truth["pixel_size"], truth["seed"]) == (0.3, 4.0, 0)
    assert json.loads((simulated / "simulation.json").read_text())["settings"]["snr"] == 0.3


def test_simulations_repeat_and_differ_by_seed(
    cli: Cli, simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = []
    write = MrcStackWriter.write

    def count(self: MrcStackWriter, images: Any, rows: Any = None) -> None:
        batches.append(len(images))
        write(self, images, rows)

    monkeypatch.setattr(MrcStackWriter, "write", count)
    monkeypatch.setattr("mfvdm_fast.cli.arguments._CHUNK_BYTES", 100 * 4 * BOX_SIZE**2)
    same = ["-n", str(N_PARTICLES), "-L", str(BOX_SIZE), "--snr", "0.3", "--defocus-groups", "3", "--threads", "1"]
    assert cli("simulate", "-o", tmp_path / "again", *same).code == 0
    assert batches == [100, 100, 50, 50]  # never all in memory
    assert all_bytes(tmp_path / "again") == all_bytes(simulated)
    assert cli("simulate", "-o", tmp_path / "other", *same, "--seed", "1").code == 0
    other = all_bytes(tmp_path / "other")
    assert all(other[name] != content for name, content in all_bytes(simulated).items())


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (["--snr", "2"], SimulationSettings(snr=2.0)),
        (["--no-ctf"], SimulationSettings(ctf=False)),
        (
            ["--defocus", "5000", "9000", "--defocus-groups", "4", "--voltage", "300", "--cs", "2.7"],
            SimulationSettings(n_defocus_groups=4, defocus_min_angstrom=5000.0, defocus_max_angstrom=9000.0,
                               voltage_kv=300.0, cs_mm=2.7),
        ),
        (
            ["--amplitude-contrast", "0.07", "--shift", "1.5", "--contrast", "0.2"],
            SimulationSettings(amplitude_contrast=0.07, shift_std_px=1.5, contrast_std=0.2),
        ),
        (["--noise-falloff", "4", "--junk", "0.5"], SimulationSettings(noise_falloff=4.0, junk_fraction=0.5)),
    ],
)  # fmt: skip
def test_every_option_of_simulate(options: list[str], settings: SimulationSettings, cli: Cli, tmp_path: Path) -> None:
    done = cli("simulate", "-o", tmp_path, "-n", "6", "-L", "24", "--pixel-size", "5", *options)
    assert done.code == 0
    expected = simulate_stack(synthetic_particle(24), 5.0, 6, settings)
    stack = open_stack(tmp_path / "particles.star")
    np.testing.assert_array_equal(stack.read(np.arange(6)), expected.read(np.arange(6)))
    assert stack.pixel_size == 5.0
    assert (stack.ctf is None) == (not settings.ctf)
    assert f"SNR {settings.snr:g}" in done.out
    assert ("no CTF" in done.out) == (not settings.ctf)
    assert (f"{expected.junk.sum()} of them junk" in done.out) == (settings.junk_fraction > 0)
    with np.load(tmp_path / "truth.npz") as truth:
        np.testing.assert_array_equal(truth["junk"], expected.junk)
        np.testing.assert_array_equal(truth["junk_kind"], expected.junk_kind)
        np.testing.assert_array_equal(truth["shifts_px"], expected.shifts_px)


def test_a_map_keeps_its_box_or_gets_another(cli: Cli, tmp_path: Path) -> None:
    volume = synthetic_particle(32, seed=4)
    write_stack(tmp_path / "map.mrc", volume, 2.5)
    for options, density, pixel_size in (
        ([], volume, 2.5),
        (["-L", "24"], *resize_volume(volume, 2.5, 24)),
        (["-L", "24", "--pixel-size", "3"], *resize_volume(volume, 3.0, 24)),
    ):
        assert cli("simulate", "--volume", tmp_path / "map.mrc", "-o", tmp_path / "out", "-n", "3", "--overwrite",
                   *options).code == 0  # fmt: skip
        stack = open_stack(tmp_path / "out" / "particles.star")
        assert stack.pixel_size == pytest.approx(pixel_size)
        expected = simulate_stack(density, pixel_size, 3)
        np.testing.assert_array_equal(stack.read([0, 1, 2]), expected.read(np.arange(3)))


def test_a_real_map(cli: Cli, tmp_path: Path) -> None:
    path = shared_data("volumes", "ribosome70S_65px_5A.mrc")
    assert cli("simulate", "--volume", path, "-o", tmp_path, "-n", "3").code == 0
    stack = open_stack(tmp_path / "particles.star")
    assert (stack.box_size, stack.pixel_size) == (65, 5.0)


def test_no_box_is_simulated_that_denoise_refuses(cli: Cli, tmp_path: Path) -> None:
    map_path = write_stack(tmp_path / "map.mrc", synthetic_particle(15), 8.0)
    done = cli("simulate", "--volume", map_path, "-o", tmp_path / "out", "-n", "30")
    assert done.code == 2
    assert (
        f"--box-size must be at least 16 px, which are needed to see a particle, got 15, the box of {map_path};"
        in (done.errors[0])
    )
    for size in ("15", "16"):
        made = cli("simulate", "--volume", map_path, "-o", tmp_path / f"out{size}", "-n", "30", "-L", size)
        assert made.code == (0 if size == "16" else 2)
    assert cli("denoise", tmp_path / "out16" / "particles.star", "-o", tmp_path / "d", "--dry-run").code == 0


def test_maps_that_are_no_maps(cli: Cli, tmp_path: Path) -> None:
    write_stack(tmp_path / "flat.mrc", np.random.default_rng(0).normal(size=(8, 16, 16)))
    write_stack(tmp_path / "empty.mrc", np.ones((16, 16, 16)))
    with MrcStackWriter(tmp_path / "unscaled.mrc", 16, 16) as writer:
        writer.write(synthetic_particle(16))
    for name, text in (
        ("flat.mrc", "flat.mrc: volume must be a cube of at least 8 voxels a side, got shape (8, 16, 16)"),
        ("empty.mrc", "empty.mrc: volume must not be constant"),
        ("unscaled.mrc", "unscaled.mrc: the header gives no voxel size; give it with --pixel-size"),
        ("gone.mrc", "gone.mrc: cannot be read"),
    ):
        done = cli("simulate", "--volume", tmp_path / name, "-o", tmp_path / "out", "-n", "3")
        assert done.code == 3
        assert text in done.errors[0]
    assert cli("simulate", "--volume", tmp_path / "unscaled.mrc", "-o", tmp_path / "out", "-n", "3", "--pixel-size",
               "2").code == 0  # fmt: skip


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["-n", "0"], "--particles must be a whole number of at least 1, got 0"),
        (["-n", "5", "--snr", "0"], "--snr must be above 0"),
        (["-n", "5", "--seed", "-1"], "--seed must be a whole number of at least 0, got -1"),
        (["-n", "5", "--defocus-groups", "0"], "--defocus-groups must be a whole number of at least 1, got 0"),
        (["-n", "5", "--defocus", "9000", "5000"], "--defocus must be MIN MAX with MIN at most MAX, got 9000 5000"),
        (["-n", "5", "--defocus", "nan", "5000"], "--defocus must be two finite numbers in Å, MIN MAX, got nan 5000"),
        (["-n", "5", "--defocus", "5000", "inf"], "--defocus must be two finite numbers in Å, MIN MAX, got 5000 inf"),
        (["-n", "5", "--voltage", "nan"], "--voltage must be a finite number, got nan; leave it out"),
        (["-n", "5", "--shift", "inf"], "--shift must be a finite number, got inf"),
        (["-n", "5", "--contrast", "inf"], "--contrast must be a finite number, got inf"),
        (["-n", "5", "--voltage", "300000"], "voltage_kv must be at most 10000 kV"),
        (["-n", "5", "-L", "4"], "--box-size must be at least 16 px, which are needed to see a particle, got 4; 64 is"),
        (["-n", "5", "-L", "15"], "--box-size must be at least 16 px, which are needed to see a particle, got 15;"),
        (["-n", "5", "--pixel-size", "0"], "--pixel-size must be above 0 Å"),
        (["-n", "5", "--shift", "-1"], "--shift must be 0 px or more"),
        (["-n", "5", "--contrast", "-1"], "--contrast must be 0 or more"),
        (["-n", "5", "--noise-falloff", "0"], "--noise-falloff must be above 0; 1 is white noise"),
        (["-n", "5", "--junk", "1"], "--junk must be at least 0 and below 1"),
        (
            ["-n", "5", "--volume", "a.mrc", "--shape", "small"],
            "--shape is of the built-in particle, got 'small'",
        ),
        (["-n", "5", "--defocus-list", "a.csv", "--no-ctf"], "--defocus-list means nothing in images without CTF"),
        (["-n", "5", "--defocus-list", "a.csv", "--defocus-groups", "3"], "--defocus-list takes the place of a range"),
        (["-n", "5", "--defocus-list", "a.csv", "--defocus", "1", "2"], "--defocus-list takes the place of a range"),
    ],
)
def test_parameters_of_simulate(options: list[str], text: str, cli: Cli, tmp_path: Path) -> None:
    done = cli("simulate", "-o", tmp_path / "out", *options)
    assert done.code == 2
    assert text in done.errors[0]
    assert list(tmp_path.iterdir()) == []


def test_another_built_in_particle(cli: Cli, tmp_path: Path) -> None:
    assert cli("simulate", "-o", tmp_path, "-n", "2", "-L", "24", "--shape", "small").code == 0
    expected = simulate_stack(synthetic_particle(24, shape="small"), 4.0, 2)
    np.testing.assert_array_equal(open_stack(tmp_path / "clean.mrcs").read([0, 1]), expected.read_clean(np.arange(2)))
    assert json.loads((tmp_path / "simulation.json").read_text())["volume"] == "built-in, small"


def test_a_list_of_defocus_values(cli: Cli, tmp_path: Path) -> None:
    table = "defocus_u_angstrom,defocus_v_angstrom,defocus_angle_deg,n_particles,note\n"
    (tmp_path / "list.csv").write_text(table + "9000,9500,45,1,a\n20000,21000,-30,0,b\n30000,30000,0,3,c\n")
    out = tmp_path / "out"
    done = cli("simulate", "-o", out, "-n", "40", "-L", "16", "--defocus-list", tmp_path / "list.csv")
    assert done.code == 0
    assert "3 defocus groups" in done.out
    assert json.loads((out / "simulation.json").read_text())["defocus_list"] == "list.csv"
    ctf = open_stack(out / "particles.star").ctf
    assert ctf is not None
    found = {(u, v, round(np.rad2deg(angle), 6)) for u, v, angle in zip(
        ctf.defocus_u_angstrom, ctf.defocus_v_angstrom, ctf.defocus_angle, strict=True)}  # fmt: skip
    assert found == {(9000.0, 9500.0, 45.0), (30000.0, 30000.0, 0.0)}


def test_the_defocus_values_of_a_real_session() -> None:
    found = read_defocus_list(shared_data("metadata", "empiar10028_defocus.csv"))
    assert len(found) == 1081
    assert 5000 < found.defocus_u_angstrom @ found.share < 30000


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "list.csv: cannot be read as CSV ("),
        (b"\xff\xfe", "list.csv: cannot be read as CSV ("),
        (b"", "list.csv: needs a header line with a column defocus_u_angstrom and at least one row below it"),
        (
            b"defocus_u_angstrom\n",
            "list.csv: needs a header line with a column defocus_u_angstrom and at least one row",
        ),
        (b"10000\n20000\n", "list.csv: needs a header line with a column defocus_u_angstrom"),
        (
            b"defocus_u_angstrom\n1e4\nmuch\n",
            "list.csv, line 3: defocus_u_angstrom must be a finite number, got 'much'; correct it, or remove the line",
        ),
        (
            b"\xef\xbb\xbfdefocus_u_angstrom,n_particles\n\n1e4\n",  # the mark and the empty line of a spreadsheet
            "list.csv, line 3: n_particles must be a finite number of 0 or more, got nothing",
        ),
        (b"defocus_u_angstrom\nnan\n", "list.csv, line 2: defocus_u_angstrom must be a finite number, got 'nan'"),
        (
            b"defocus_u_angstrom,defocus_v_angstrom\n1e4,1e4\n1e4,inf\n",
            "list.csv, line 3: defocus_v_angstrom must be a finite number, got 'inf'",
        ),
        (
            b"defocus_u_angstrom,n_particles\n1e4,2\n1e4,-1\n",
            "list.csv, line 3: n_particles must be a finite number of 0 or more, got '-1'",
        ),
        (
            b"defocus_u_angstrom,n_particles\n1e4,0\n",
            "list.csv: n_particles is 0 in every line, and nothing could be drawn; give numbers of particles",
        ),
    ],
)
def test_defocus_lists_that_are_none(content: bytes | None, text: str, cli: Cli, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "list.csv").write_bytes(content)
    done = cli("simulate", "-o", tmp_path / "out", "-n", "3", "--defocus-list", tmp_path / "list.csv")
    assert done.code == 3
    assert text in done.errors[0]
    assert not (tmp_path / "out").exists()


def test_origins_bring_the_particle_back(cli: Cli, tmp_path: Path) -> None:
    options = ("-n", "3", "-L", "16", "--pixel-size", "2", "--shift", "1.5", "--no-ctf", "--snr", "inf")
    assert cli("simulate", "-o", tmp_path / "plain", *options).code == 0
    assert cli("simulate", "-o", tmp_path / "told", *options, "--write-origins").code == 0
    assert "rlnOriginXAngst" not in read_star(tmp_path / "plain" / "particles.star").blocks["particles"]
    table = read_star(tmp_path / "told" / "particles.star").blocks["particles"]
    origins = np.array([table.texts(f"rlnOrigin{axis}Angst") for axis in "XY"], float).T / 2.0
    images = open_stack(tmp_path / "told" / "particles.star").read([0, 1, 2])
    centred = [ndimage.fourier_shift(np.fft.fft2(im), o[::-1]) for im, o in zip(images, origins, strict=True)]
    assert json.loads((tmp_path / "told" / "simulation.json").read_text())["settings"]["snr"] == "inf"
    still = simulate_stack(synthetic_particle(16), 2.0, 3, SimulationSettings(ctf=False)).read_clean(np.arange(3))
    np.testing.assert_allclose(np.fft.ifft2(centred).real, still, atol=1e-3 * still.max())


def test_junk_off_the_centre_has_no_origin(cli: Cli, tmp_path: Path) -> None:
    """It may lie outside of the box, where no program wants an origin."""
    options = ("-n", "40", "-L", "16", "--shift", "1", "--junk", "0.5", "--write-origins")
    assert cli("simulate", "-o", tmp_path / "out", *options).code == 0
    table = read_star(tmp_path / "out" / "particles.star").blocks["particles"]
    origins = np.array([table.texts(f"rlnOrigin{axis}Angst") for axis in "XY"], float).T
    junk = np.load(tmp_path / "out" / "truth.npz")["junk"]
    assert not origins[junk].any()
    assert origins[~junk].all()


def test_relion_opens_a_simulated_stack(simulated: Path, tmp_path: Path) -> None:
    if shutil.which("relion_star_handler") is None or shutil.which("relion_stack_create") is None:
        pytest.skip("RELION is not installed")
    folder = shutil.copytree(simulated, tmp_path / "project")
    for command in (
        ["relion_star_handler", "--i", "particles.star", "--check_duplicates", "rlnImageName", "--o", "checked.star"],
        ["relion_stack_create", "--i", "particles.star", "--o", "again"],
    ):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "ERROR" not in done.stderr
    rows = np.arange(N_PARTICLES)
    before, after = open_stack(folder / "particles.star"), open_stack(folder / "again.star")
    np.testing.assert_array_equal(after.read(rows), before.read(rows))
    assert after.ctf is not None
    assert before.ctf is not None
    np.testing.assert_allclose(after.ctf.defocus_u_angstrom, before.ctf.defocus_u_angstrom)
