"""``mfvdm-fast denoise``: its outputs, and that every option reaches the pipeline."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mfvdm_fast
from mfvdm_fast import (
    DenoiseParams,
    DenoiseResult,
    ParticleStack,
    SimulationSettings,
    simulate_stack,
    synthetic_particle,
)
from mfvdm_fast.budget import predict
from mfvdm_fast.cli import denoise as command
from mfvdm_fast.cli.arguments import row_chunks
from mfvdm_fast.cli.summary import estimate_snr
from mfvdm_fast.imaging.ctf import phase_flip_images
from mfvdm_fast.io.mrc import MrcStackWriter
from mfvdm_fast.io.stack import open_stack
from mfvdm_fast.io.star import StarFile, read_star, write_star
from mfvdm_fast.pipeline import denoise

from .cli_runs import BOX_SIZE, N_PARTICLES, Cli, all_bytes, write_small_star, write_stack
from .conftest import shared_data

WRITTEN = list(command.FILES)
SMALL = DenoiseParams(n_neighbors=8, n_frequencies=2, n_eigenvectors=8)


@pytest.fixture(scope="module")
def result(simulated: Path) -> DenoiseResult:
    return denoise(open_stack(simulated / "particles.star"), SMALL, threads=1)


def test_outputs_are_what_the_pipeline_found(denoised: Path, result: DenoiseResult) -> None:
    assert {path.name for path in denoised.iterdir()} == set(WRITTEN)
    stack = open_stack(denoised / "denoised.star")
    assert (stack.n_particles, stack.box_size, stack.pixel_size, stack.ctf) == (N_PARTICLES, BOX_SIZE, 4.0, None)
    np.testing.assert_array_equal(stack.read(np.arange(N_PARTICLES)), result.images())
    for name, table in (("neighbors", result.neighbors), ("initial_neighbors", result.initial_neighbors)):
        assert table is not None
        written = np.load(denoised / f"{name}.npz")
        np.testing.assert_array_equal(written["indices"], table.indices)
        np.testing.assert_array_equal(written["mirrored"], table.mirrored)
        np.testing.assert_array_equal(written["angles"], table.angles)
        np.testing.assert_array_equal(written["affinity"], table.scores)
    values = json.loads((denoised / "eigenvalues.json").read_text())
    assert {int(k): v for k, v in values.items()} == {k: v.tolist() for k, v in result.eigenvalues.items()}
    assert (denoised / "contact_sheet.png").read_bytes()[:4] == b"\x89PNG"
    assert set(json.loads((denoised / "timings.json").read_text())["seconds"]) >= {"expand", "search", "write"}


def test_the_manifest_says_what_was_done(simulated: Path, denoised: Path, result: DenoiseResult) -> None:
    manifest = json.loads((denoised / "manifest.json").read_text())
    assert manifest["version"] == mfvdm_fast.__version__
    assert manifest["input"] == {
        "file": "particles.star",
        "sha256": open_stack(simulated / "particles.star").digest(),
        "n_particles": N_PARTICLES,
        "box_size": BOX_SIZE,
        "pixel_size": 4.0,
        "inverted": False,
        "phase_flipped": False,
    }
    assert manifest["parameters"]["n_neighbors"] == 8
    assert manifest["parameters"]["seed"] == 0
    estimated = manifest["estimated"]
    assert estimated["noise_sigma"] ** 2 == pytest.approx(result.noise.variance)
    assert estimated["radius_px"] == result.support.radius_px
    assert estimated["n_ctfs"] == 3
    assert estimated["snr"] == pytest.approx(0.3, rel=0.25)
    assert manifest["warnings"] == []


def test_the_snr_of_a_large_box_is_that_of_its_pixels() -> None:
    simulated = simulate_stack(synthetic_particle(150), 2.0, 80, SimulationSettings(snr=0.3), threads=1)
    images = simulated.read(np.arange(80))
    found = denoise(ParticleStack.from_array(images, 2.0, simulated.ctf), SMALL, threads=1)
    assert found.basis.box_size < 150  # a coarser grid
    assert estimate_snr(found) == pytest.approx(0.3, rel=0.25)


def test_of_noise_no_junk_is_claimed(cli: Cli, simulated: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).normal(size=(300, 33, 33)).astype(np.float32)
    done = cli.denoise(write_stack(tmp_path / "a.mrcs", noise), "-o", tmp_path / "out")
    assert "a.mrcs: 0% of the images are likelier to show a particle than nothing but noise" in done.err
    assert "junk:        not told from particles, as there may be none at all (see the warnings)" in done.out
    numbers = json.loads((tmp_path / "out" / "manifest.json").read_text())["estimated"]
    assert numbers["may_be_noise"]
    assert numbers["n_junk"] > 0
    of_particles = cli.denoise(simulated / "particles.star", "-o", tmp_path / "good")
    assert "likely no good particle" in of_particles.out
    assert not json.loads((tmp_path / "good" / "manifest.json").read_text())["estimated"]["may_be_noise"]


def test_shifts_that_noise_hides_are_not_denied(cli: Cli, simulated: Path, tmp_path: Path) -> None:
    make = ("simulate", "-n", "150", "-L", "32", "--snr", "0.03", "--threads", "1", "-o", tmp_path / "noisy")
    assert cli(*make).code == 0
    hidden, clear = (
        cli("denoise", folder / "particles.star", "-o", tmp_path / name, "--threads", "1").out
        for folder, name in ((tmp_path / "noisy", "hidden"), (simulated, "clear"))
    )
    assert "not seen to be off the middle of the boxes, but in so much noise that would hardly be seen" in hidden
    assert "not seen to be off the middle of the boxes\n" in clear
    assert "hardly a particle stands out from the noise, so that many of them may be of other views" in hidden
    assert "hardly a particle" not in clear


def test_the_summary_names_findings_and_files(cli: Cli, simulated: Path, tmp_path: Path) -> None:
    done = cli.denoise(simulated / "particles.star", "-o", tmp_path / "out", "--particle-diameter", "100")
    assert done.code == 0
    for text in (
        f"{N_PARTICLES} of {BOX_SIZE} px at 4 Å/px; CTF corrected, 3 different ones",
        "σ 0.",
        "SNR about 0.",
        "radius 12.5 px (50 Å)",
        "angular frequencies",
        "8 of each particle, not refined as they agree well, so --frequencies and --eigenvectors had no effect (",
        ", matched ",
        f"written to {tmp_path / 'out'}:",
        *WRITTEN,
    ):
        assert text in done.out
    assert "warnings:" not in done.out
    assert "fills the box" not in done.out
    assert "search: done" in done.err  # progress as log lines
    assert "n_frequencies = 2 has no effect: the first neighbours agree so well that they are not refined" in done.err
    idle = cli.denoise(simulated / "particles.star", "-o", tmp_path / "idle", "--matchings", "0", "--no-centre")
    assert "boxes, with --matchings 0 anyway: --no-centre had no effect" in idle.out
    assert "centre = False has no effect: nothing is matched (--matchings 0), so nobody looks where the" in idle.err
    assert "fills the box: if the particle is smaller, give --particle-diameter" in cli.denoise(
        simulated / "particles.star", "-o", tmp_path / "full"
    ).out  # fmt: skip


@pytest.mark.parametrize("options", [[], ["--threads", "2"], ["--max-memory", "least"]])
def test_the_same_bytes_for_any_run_threads_and_memory(
    options: list[str], cli: Cli, simulated: Path, denoised: Path, tmp_path: Path
) -> None:
    budget = predict(N_PARTICLES, BOX_SIZE, SMALL)
    assert budget.least_memory_bytes < budget.memory_bytes
    options = [str(budget.least_memory_bytes) if word == "least" else word for word in options]
    done = cli.denoise(simulated / "particles.star", "-o", tmp_path / "out", *options)
    assert done.code == 0
    assert all_bytes(tmp_path / "out") == all_bytes(denoised)


def test_images_are_written_in_chunks(
    simulated: Path, denoised: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = []
    write = MrcStackWriter.write

    def count(self: MrcStackWriter, images: Any, rows: Any = None) -> None:
        batches.append(len(images))
        write(self, images, rows)

    monkeypatch.setattr("mfvdm_fast.cli.arguments._CHUNK_BYTES", 40 * 4 * BOX_SIZE**2)
    monkeypatch.setattr(MrcStackWriter, "write", count)
    assert cli.denoise(simulated / "particles.star", "-o", tmp_path / "out").code == 0
    assert batches == [20] * 7 + [10]  # of which two exist at once
    assert all_bytes(tmp_path / "out") == all_bytes(denoised)


def test_chunks_hold_at_least_one_image() -> None:
    assert [rows.tolist() for rows in row_chunks(2, 10_000)] == [[0], [1]]


def test_a_shuffled_table_gives_the_matching_rows(cli: Cli, simulated: Path, published: Path, tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(N_PARTICLES)
    star = write_small_star(simulated / "particles.star", tmp_path / "shuffled.star", order)
    done = cli.denoise(star, "-o", tmp_path / "out", "--truth", simulated, "--preset", "paper")
    assert done.code == 0
    assert "expand: done" in done.err  # in whatever order the images are read
    images = open_stack(tmp_path / "out" / "denoised.star").read(np.arange(N_PARTICLES))
    expected = open_stack(published / "denoised.star").read(order)
    assert np.linalg.norm(images - expected) < 0.02 * np.linalg.norm(expected)
    first = np.load(tmp_path / "out" / "initial_neighbors.npz")["indices"]
    before = np.load(published / "initial_neighbors.npz")["indices"]
    np.testing.assert_array_equal(np.sort(order[first]), np.sort(before[order]))
    names = read_star(tmp_path / "out" / "denoised.star").blocks["particles"].texts("rlnImageOriginalName")
    assert [int(name.partition("@")[0]) - 1 for name in names] == order.tolist()
    scores = [
        json.loads(cli("evaluate", out, "--truth", simulated, "--json").out) for out in (tmp_path / "out", published)
    ]
    assert scores[0]["images"]["noisy"] == pytest.approx(scores[1]["images"]["noisy"])
    assert scores[0]["images"]["denoised"] == pytest.approx(scores[1]["images"]["denoised"], rel=0.01)
    assert scores[0]["neighbors"]["initial"] == pytest.approx(scores[1]["neighbors"]["initial"])


def check_option(options: list[str], name: str, value: object, runs: tuple[Cli, Path, Path, Path]) -> None:
    """A run with an option differs from the one in ``before`` in that parameter, and in its images."""
    cli, star, before, out = runs
    assert cli.denoise(star, "-o", out, *options).code == 0
    old, new = (json.loads((folder / "manifest.json").read_text()) for folder in (before, out))
    left_out = {"n_neighbors": None, "n_frequencies": 6, "n_eigenvectors": 50} if value == "cwf" else {}
    paper = old["parameters"]["method"] == "spectral"
    left_out |= {"n_frequencies": 10 if paper else 6} if value is False and name == "refine" else {}
    assert new["parameters"] == {**old["parameters"], name: value, **left_out}
    assert (out / "denoised.mrcs").read_bytes() != (before / "denoised.mrcs").read_bytes()
    has_ctf = "rlnDefocusU" in read_star(out / "denoised.star").blocks["particles"]
    assert has_ctf == (name == "ctf")


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        (["--method", "cwf"], "method", "cwf"),
        (["--matchings", "3"], "n_matchings", 3),
        (["--restoration-eigenvectors", "10"], "n_restoration_eigenvectors", 10),
        (["--neighbors", "6"], "n_neighbors", 6),
        (["--particle-diameter", "80"], "particle_diameter_angstrom", 80.0),
        (["--no-ctf"], "ctf", False),
        (["--whiten"], "whiten", True),
        (["--seed", "3"], "seed", 3),
    ],
)
def test_every_option_reaches_the_pipeline(
    options: list[str], name: str, value: object, cli: Cli, simulated: Path, denoised: Path, tmp_path: Path
) -> None:
    check_option(options, name, value, (cli, simulated / "particles.star", denoised, tmp_path))
    for table in ("neighbors.npz", "initial_neighbors.npz"):
        assert (tmp_path / table).exists() == (value != "cwf")


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        (["--frequencies", "1"], "n_frequencies", 1),
        (["--eigenvectors", "6"], "n_eigenvectors", 6),
        (["--no-refine"], "refine", False),
        (["--basis", "fourier_bessel"], "basis", "fourier_bessel"),
        (["--solver", "eigsh"], "solver", "eigsh"),
    ],
)
def test_every_option_reaches_the_published_method(
    options: list[str], name: str, value: object, cli: Cli, simulated: Path, published: Path, tmp_path: Path
) -> None:
    options = ["--preset", "paper", *options]
    check_option(options, name, value, (cli, simulated / "particles.star", published, tmp_path))
    assert (tmp_path / "initial_neighbors.npz").exists() == (name != "refine")


def test_no_whiten_overrules_the_estimate(cli: Cli, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    spectrum = np.fft.rfft2(rng.normal(size=(60, 32, 32)))
    spectrum /= 1 + 30 * np.hypot(np.fft.fftfreq(32)[:, None], np.fft.rfftfreq(32)[None, :])
    blob = 0.5 * np.exp(-((np.arange(32) - 16.0) ** 2) / 20)
    images = np.fft.irfft2(spectrum) + blob[:, None] * blob[None, :] * rng.uniform(1, 3, (60, 1, 1))
    stack = write_stack(tmp_path / "coloured.mrcs", images.astype(np.float32))
    said = [cli.denoise(stack, "-o", tmp_path / f"out{len(o)}", *o).out for o in ((), ("--no-whiten",))]
    assert "not white, was whitened" in said[0]
    assert "not whitened" in said[1]


def test_inverted_input_is_warned_about_and_invert_corrects_it(
    cli: Cli, simulated: Path, denoised: Path, tmp_path: Path
) -> None:
    images = open_stack(simulated / "particles.mrcs").read(np.arange(N_PARTICLES))
    write_stack(tmp_path / "black.mrcs", -images)
    names = [f"{i}@{tmp_path / 'black.mrcs'}" for i in range(1, N_PARTICLES + 1)]
    star = write_small_star(simulated / "particles.star", tmp_path / "black.star", rlnImageName=names)
    plain, inverted = (cli.denoise(star, "-o", tmp_path / f"out{len(o)}", *o) for o in ((), ("--invert",)))
    assert plain.code == inverted.code == 0
    assert len(plain.warnings) == 1
    assert "the particles are darker than their background" in plain.warnings[0]
    assert "--invert" in plain.out.partition("warnings:")[2]
    assert len(json.loads((tmp_path / "out0" / "manifest.json").read_text())["warnings"]) == 1
    assert inverted.warnings == []
    assert json.loads((tmp_path / "out1" / "manifest.json").read_text())["input"]["inverted"] is True
    assert (tmp_path / "out1" / "denoised.mrcs").read_bytes() == (denoised / "denoised.mrcs").read_bytes()


def test_phase_flipped_images_are_told_by_a_column_or_an_option(cli: Cli, project: Path) -> None:
    stack = open_stack("particles.star")
    assert stack.ctf is not None
    flipped = phase_flip_images(stack.read(np.arange(N_PARTICLES)), stack.ctf, stack.pixel_size)
    star = read_star("particles.star")
    Path("flipped").mkdir()
    write_stack(Path("flipped", "particles.mrcs"), flipped)
    write_star("flipped/untold.star", star)
    optics = star.blocks["optics"].with_column("rlnCtfDataArePhaseFlipped", ["1"])
    write_star("flipped/told.star", StarFile("", {**star.blocks, "optics": optics}))

    def images(name: str, *options: str) -> np.ndarray:
        out = Path("out", *name.split(), *options)
        assert cli.denoise(name, "-o", out, "--method", "cwf", "--preset", "default", *options).code == 0
        manifest = json.loads((out / "manifest.json").read_text())
        assert manifest["input"]["phase_flipped"] == ("told" in name and not ("un" in name and not options))
        written = read_star(out / "denoised.star").blocks
        assert "rlnCtfDataArePhaseFlipped" not in {*written["optics"].columns, *written["particles"].columns}
        return open_stack(out / "denoised.star").read(np.arange(N_PARTICLES)).astype(np.float64).ravel()

    right = images("particles.star")
    told, wrong = images("flipped/told.star"), images("flipped/untold.star")
    np.testing.assert_array_equal(images("flipped/untold.star", "--phase-flipped"), told)
    assert np.corrcoef(right, told)[0, 1] > 0.98
    assert np.corrcoef(right, wrong)[0, 1] < 0.95
    assert "phases:        flipped (rlnCtfDataArePhaseFlipped)" in cli("info", "flipped/told.star").out
    refused = cli("denoise", "particles.mrcs", "-o", "no", "--phase-flipped")
    assert refused.code == 2
    assert "--phase-flipped has no effect without a CTF, and there is none in the input, or it is not" in refused.err


def test_a_bare_stack_has_no_ctf_to_correct(cli: Cli, simulated: Path, tmp_path: Path) -> None:
    done = cli.denoise(simulated / "particles.mrcs", "-o", tmp_path / "out", "--truth", simulated / "truth.npz")
    assert done.code == 0
    assert "no CTF in the input, none corrected" in done.out
    stack = simulated / "particles.mrcs"
    for words in (["info", stack], ["denoise", stack, "-o", tmp_path / "no"]):
        refused = cli(*words, "--project-dir", simulated)
        assert refused.code == 2
        assert "error: --project-dir has no effect without a STAR file, in which the names of images" in refused.err
    assert cli("evaluate", tmp_path / "out", "--truth", simulated).code == 0


def test_odd_boxes_are_written_with_a_warning(cli: Cli, tmp_path: Path) -> None:
    assert cli("simulate", "-o", tmp_path / "odd", "-n", "60", "-L", "33", "--snr", "1").code == 0
    done = cli.denoise(tmp_path / "odd" / "particles.star", "-o", tmp_path / "out")
    assert done.code == 0
    assert [line for line in done.warnings if "the box is odd (33 px)" in line] == done.warnings != []


def test_names_start_at_the_project_folder_when_it_is_given(
    cli: Cli, simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(simulated.parent)
    out = Path("job") / tmp_path.name
    assert cli.denoise("simulated/particles.star", "-o", out, "--project-dir", ".").code == 0
    names = read_star(out / "denoised.star").blocks["particles"].texts("rlnImageName")
    assert names[0] == f"000001@job/{tmp_path.name}/denoised.mrcs"
    assert open_stack(out / "denoised.star").n_particles == N_PARTICLES
    done = cli.denoise("simulated/particles.star", "-o", tmp_path / "outside", "--project-dir", ".")
    assert done.code == 0
    names = read_star(tmp_path / "outside" / "denoised.star").blocks["particles"].texts("rlnImageName")
    assert names[0] == "000001@denoised.mrcs"


@pytest.fixture
def project(simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder to work in, with the simulated stack."""
    for name in ("particles.star", "particles.mrcs"):
        (tmp_path / name).symlink_to(simulated / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def relion(program: str, *arguments: str) -> str:
    """What a program of RELION prints, started in the current folder; skips without it."""
    if shutil.which(program) is None:
        pytest.skip("RELION is not installed")
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_names_start_where_those_of_the_input_do(
    cli: Cli, project: Path, simulated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = cli.denoise("particles.star", "-o", "a/job", "--method", "cwf")
    assert f"image names in denoised.star count from {project}: start RELION there\n" in done.out
    names = read_star("a/job/denoised.star").blocks["particles"].texts("rlnImageName")
    assert names[0] == "000001@a/job/denoised.mrcs"
    outside = cli.denoise("particles.mrcs", "-o", "a/job", "--method", "cwf", "--overwrite")  # a stack without names
    assert f"image names in denoised.star count from {project / 'a' / 'job'}: start RELION there\n" in outside.out
    cli.denoise("particles.star", "-o", "a/job", "--method", "cwf", "--overwrite")
    wrong = simulated.parent / f"{project.name}-other"  # another project, with outputs of the same name
    (wrong / "a" / "job").mkdir(parents=True)
    write_stack(wrong / "a" / "job" / "denoised.mrcs", np.zeros((N_PARTICLES, BOX_SIZE, BOX_SIZE)))
    monkeypatch.chdir(wrong)
    assert open_stack(project / "a" / "job" / "denoised.star").paths[1] == project / "a" / "job" / "denoised.mrcs"
    monkeypatch.chdir(project)
    assert "(x,y,z,n)= 32 x 32 x 1 x 1" in relion("relion_image_handler", "--i", "a/job/denoised.star", "--stats")


def test_input_images_are_selected_by_their_scores(cli: Cli, project: Path) -> None:
    done = cli.denoise("particles.star", "-o", "out")
    assert f"image names in denoised.star and observed.star count from {project}: start RELION there\n" in done.out
    stars = read_star("particles.star"), read_star("out/observed.star")
    before, after = (star.blocks["particles"] for star in stars)
    assert set(after.columns) - set(before.columns) == {"rlnLogLikeliContribution", "mfvdmJunk"}
    for name in before.columns:
        np.testing.assert_array_equal(after.cells(name), before.cells(name))
    score = after.floats("rlnLogLikeliContribution")
    least = float(np.median(score))
    select = ("--select", "rlnLogLikeliContribution", "--minval", repr(least))
    relion("relion_star_handler", "--i", "out/observed.star", "--o", "good.star", *select)
    good = open_stack("good.star")
    assert good.n_particles == N_PARTICLES // 2
    assert good.ctf is not None
    np.testing.assert_array_equal(good.read([0]), open_stack("particles.star").read(np.flatnonzero(score >= least)[:1]))
    assert cli.denoise("good.star", "-o", "again").code == 0
    again = read_star("again/observed.star").blocks["particles"]
    np.testing.assert_allclose(again.floats("mfvdmSourceLogLikeliContribution"), score[score >= least], atol=1e-4)


def test_scores_of_a_bare_stack_stand_in_a_table_of_their_own(cli: Cli, project: Path) -> None:
    assert cli.denoise("particles.mrcs", "-o", "out").code == 0
    observed = open_stack("out/observed.star")
    np.testing.assert_array_equal(observed.read([0, 7]), open_stack("particles.mrcs").read([0, 7]))
    assert (observed.ctf, observed.pixel_size) == (None, 4.0)
    assert observed.star is not None
    assert len(observed.star.blocks["particles"].floats("rlnLogLikeliContribution")) == N_PARTICLES


def test_overwrite_replaces_and_its_absence_refuses(cli: Cli, simulated: Path, denoised: Path, tmp_path: Path) -> None:
    assert cli.denoise(simulated / "particles.star", "-o", tmp_path, "--seed", "3").code == 0
    before = all_bytes(tmp_path)
    refused = cli.denoise(simulated / "particles.star", "-o", tmp_path)
    assert refused.code == 4
    assert "exists already; give --overwrite" in refused.errors[0]
    assert all_bytes(tmp_path) == before
    assert cli.denoise(simulated / "particles.star", "-o", tmp_path, "--overwrite").code == 0
    assert all_bytes(tmp_path) == all_bytes(denoised)


def test_a_dry_run_prints_the_budget_and_writes_nothing(cli: Cli, simulated: Path, tmp_path: Path) -> None:
    done = cli("denoise", simulated / "particles.star", "-o", tmp_path / "out", "--dry-run", "--neighbors", "8")
    assert done.code == 0
    assert [line.partition(":")[0] for line in done.out.splitlines()] == ["memory", "time", "disk"]
    assert not (tmp_path / "out").exists()
    options = ("--dry-run", "--neighbors", "8", "--matchings", "10", "--neighbors", "100")
    more = cli("denoise", simulated / "particles.star", "-o", tmp_path / "out", *options)
    assert more.out != done.out


def test_the_shell_of_real_apoferritin_is_seen(cli: Cli, tmp_path: Path) -> None:
    star = shared_data("apoferritin", "apoferritin_64_sub1000.star")
    done = cli("denoise", star, "-o", tmp_path, "--particle-diameter", "150", "--no-refine", "--threads", "1")
    assert done.code == 0, done.err
    assert done.warnings == []
    images = open_stack(tmp_path / "denoised.star").read(np.arange(1000))
    line = np.arange(64) - 32
    radius = np.hypot(line[:, None], line[None, :])
    shell, middle = images[:, abs(radius - 17) < 2].mean(axis=1), images[:, radius < 7].mean(axis=1)
    assert np.mean(shell > middle) > 0.8  # about 16 % of the particles are junk
