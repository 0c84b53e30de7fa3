"""``mfvdm-fast evaluate``, ``info``, ``demo`` and ``warmup``."""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import mfvdm_fast.cli
from mfvdm_fast.cli.summary import _centres
from mfvdm_fast.io.mrc import MrcStackWriter
from mfvdm_fast.io.particle_table import find_particles
from mfvdm_fast.io.stack import open_stack
from mfvdm_fast.io.star import read_star, write_star
from mfvdm_fast.metrics import evaluate_images, evaluate_neighbors
from mfvdm_fast.params import preset
from mfvdm_fast.records import NeighborTable

from .cli_runs import FAST, N_PARTICLES, Cli, with_block, write_small_star, write_stack
from .conftest import shared_data

# evaluate


def test_the_table_is_what_the_metrics_say(cli: Cli, simulated: Path, denoised: Path) -> None:
    done = cli("evaluate", denoised, "--truth", simulated, "--json")
    scores = json.loads(done.out)
    table = np.load(denoised / "neighbors.npz")
    columns = [table[name] for name in ("indices", "mirrored", "angles", "affinity")]
    errors = evaluate_neighbors(NeighborTable(*columns), np.load(simulated / "truth.npz")["rotations"])
    close = errors.view_deg <= 10
    assert scores["neighbors"]["final"] == {
        "n_neighbors": 8,
        "within_10_deg": close.mean(),
        "mean_view_error_deg": errors.view_deg.mean(),
        "in_plane_below_5_deg": (errors.in_plane_deg[close] < 5).mean(),
    }
    assert set(scores["neighbors"]) == {"initial", "final"}
    rows = np.arange(N_PARTICLES)
    clean, noisy = (open_stack(simulated / name).read(rows) for name in ("clean.mrcs", "particles.mrcs"))
    images = open_stack(denoised / "denoised.mrcs").read(rows)
    constant = np.full_like(clean, clean.mean(dtype=np.float64))
    for name, stack in (("denoised", images), ("noisy", noisy), ("constant", constant)):
        expected = evaluate_images([clean], [stack], float(clean.max() - clean.min()))
        assert scores["images"][name] == pytest.approx(
            {"relative_mse": expected.relative_mse, "psnr_db": expected.psnr_db, "ssim": expected.ssim}, rel=1e-5
        )
    assert scores["images"]["denoised"]["relative_mse"] < 0.5 * scores["images"]["constant"]["relative_mse"]
    lines = cli("evaluate", denoised, "--truth", simulated).out.splitlines()
    assert [line.split()[0] for line in lines[:7]] == [
        "neighbours", "initial", "final", "images", "constant", "noisy", "denoised",
    ]  # fmt: skip
    assert f"{scores['images']['denoised']['psnr_db']:.2f}" in lines[6]
    assert "no fit" in lines[7]


@pytest.mark.parametrize(("unit", "told"), [(1e-9, " 1.000 "), (1e20, "e+39 ")])
def test_particles_in_other_units_leave_figures_that_can_be_read(
    cli: Cli, simulated: Path, denoised: Path, tmp_path: Path, unit: float, told: str
) -> None:
    folder = shutil.copytree(denoised, tmp_path / "denoised")
    write_stack(folder / "denoised.mrcs", open_stack(denoised / "denoised.mrcs").read(np.arange(N_PARTICLES)) * unit)
    lines = cli("evaluate", folder, "--truth", simulated).out.splitlines()
    head, line = (next(line for line in lines if name in line) for name in ("relMSE", "denoised"))
    assert len(line) == len(head)
    assert told in line


def test_pairs_that_are_all_far_apart_have_no_in_plane_share(
    cli: Cli, simulated: Path, denoised: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(denoised, tmp_path / "denoised")
    (folder / "initial_neighbors.npz").unlink()
    rotations = np.load(simulated / "truth.npz")["rotations"]
    farthest = np.argmin(abs(rotations[:, :, 2] @ rotations[:, :, 2].T), axis=1)[:, None]
    nothing = np.zeros(farthest.shape)
    np.savez(folder / "neighbors.npz", indices=farthest, mirrored=nothing > 0, angles=nothing, affinity=nothing)
    scores = json.loads(cli("evaluate", folder, "--truth", simulated, "--json").out)
    assert scores["neighbors"]["final"]["in_plane_below_5_deg"] == scores["neighbors"]["final"]["within_10_deg"] == 0.0
    assert set(scores["neighbors"]) == {"final"}


def test_folders_that_do_not_belong_together(cli: Cli, simulated: Path, denoised: Path, tmp_path: Path) -> None:
    for name, size in (("fewer", ["-n", "100", "-L", "32"]), ("smaller", ["-n", str(N_PARTICLES), "-L", "24"])):
        assert cli("simulate", "-o", tmp_path / name, *size).code == 0
    broken, mixed, other = (shutil.copytree(simulated, tmp_path / name) for name in ("broken", "mixed", "other"))
    (broken / "truth.npz").write_text("nothing")
    shutil.copy(tmp_path / "fewer" / "clean.mrcs", mixed / "clean.mrcs")
    half, torn = (shutil.copytree(denoised, tmp_path / name) for name in ("half", "torn"))
    (half / "neighbors.npz").unlink()
    np.savez(
        torn / "neighbors.npz",
        **{name: np.zeros((3, 2), int) for name in ("indices", "mirrored", "angles", "affinity")},
    )
    (other / "particles.mrcs").rename(other / "else.mrcs")
    star = write_small_star(
        simulated / "particles.star", tmp_path / "else.star",
        rlnImageName=[f"{i}@{other / 'else.mrcs'}" for i in range(1, N_PARTICLES + 1)],
    )  # fmt: skip
    for arguments, text in (
        (
            ["evaluate", simulated, "--truth", simulated],
            "has no denoised.star; give an output folder of 'mfvdm-fast den",
        ),
        (
            ["evaluate", denoised, "--truth", denoised],
            "has no truth.npz; give an output folder of 'mfvdm-fast simulate'",
        ),
        (
            ["evaluate", denoised, "--truth", tmp_path / "fewer"],
            "this simulation has 100 particles, the particles given",
        ),
        (["evaluate", denoised, "--truth", tmp_path / "smaller"], "this simulation has images of 24 px"),
        (["evaluate", denoised, "--truth", broken], "truth.npz: cannot be read"),
        (["evaluate", denoised, "--truth", mixed], "hold 150, 100 and 150 particles, which must be equal"),
        (["evaluate", half, "--truth", simulated], "neighbors.npz: cannot be read as a neighbour table"),
        (["evaluate", torn, "--truth", simulated], "holds neighbours of 3 particles, denoised.star has 150"),
        (["denoise", star, "-o", tmp_path / "out", "--truth", simulated, *FAST], "their images in "),
        (
            ["denoise", simulated / "particles.mrcs", "-o", tmp_path / "out", "--truth", tmp_path / "fewer", *FAST],
            "this simulation has 100 particles, the particles given have 150",
        ),
    ):
        done = cli(*arguments)
        assert done.code == 3, arguments
        assert text in done.errors[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options",
    [["--seed", "1"], ["--snr", "0.2"], ["--junk", "0.1"], ["--shape", "elongated"], ["--defocus-groups", "4"],
     ["--defocus-list", "list.csv"], ["--pixel-size", "4.1"]],
)  # fmt: skip
def test_the_truth_of_another_simulation_of_the_same_size_is_refused(
    options: list[str], cli: Cli, simulated: Path, denoised: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.csv").write_text("defocus_u_angstrom\n20000\n")
    size = ["-n", str(N_PARTICLES), "-L", "32", "--threads", "1"]
    usual = {"--snr": "0.3", "--defocus-groups": "3"}
    left = [word for name, value in usual.items() for word in (name, value) if name not in options]
    if "--defocus-list" in options:
        left = ["--snr", "0.3"]
    assert cli("simulate", "-o", "other", *size, *left, *options).code == 0
    marks = [str(np.load(folder / "truth.npz")["simulation"]) for folder in (simulated, Path("other"))]
    text = (
        f"this simulation has the mark {marks[1]}, the particles given have {marks[0]} (_mfvdmSimulation), so they are"
    )
    done = cli("evaluate", denoised, "--truth", "other")
    assert done.code == 3
    assert text in done.errors[0]
    assert "give the output folder of the 'simulate' that made these particles" in done.errors[0]
    refused = cli("denoise", simulated / "particles.star", "-o", "out", "--truth", "other", "--dry-run")
    assert text in refused.errors[0]


def test_a_truth_or_a_table_without_a_mark_is_taken(cli: Cli, simulated: Path, denoised: Path, tmp_path: Path) -> None:
    unmarked = shutil.copytree(simulated, tmp_path / "simulated")
    content = dict(np.load(simulated / "truth.npz"))
    del content["simulation"]
    np.savez(unmarked / "truth.npz", **content)
    assert cli("evaluate", denoised, "--truth", unmarked).code == 0
    bare = shutil.copytree(denoised, tmp_path / "denoised")
    star = read_star(bare / "denoised.star")
    assert star.blocks["optics"].texts("mfvdmSimulation") == [str(np.load(simulated / "truth.npz")["simulation"])]
    write_star(bare / "denoised.star", with_block(star, star.blocks["optics"].without(["mfvdmSimulation"])))
    assert cli("evaluate", bare, "--truth", simulated).code == 0


# info


def test_junk_is_left_out_and_shows_in_the_score(cli: Cli, tmp_path: Path) -> None:
    made = ("-n", "300", "-L", "32", "--snr", "0.3", "--junk", "0.2", "--threads", "1")
    assert cli("simulate", "-o", tmp_path / "in", *made).code == 0
    assert cli.denoise(tmp_path / "in" / "particles.star", "-o", tmp_path / "out").code == 0
    junk = np.load(tmp_path / "in" / "truth.npz")["junk"]
    scores = json.loads(cli("evaluate", tmp_path / "out", "--truth", tmp_path / "in", "--json").out)
    assert (scores["n_junk"], scores["n_particles"]) == (junk.sum(), 300 - junk.sum())
    printed = cli("evaluate", tmp_path / "out", "--truth", tmp_path / "in").out
    assert f"({junk.sum()} of junk left out)" in printed
    table = find_particles(read_star(tmp_path / "out" / "denoised.star"))
    score, flag = table.floats("rlnLogLikeliContribution"), table.floats("mfvdmJunk")
    assert score is not None
    assert flag is not None
    assert score[flag == 1].max() < score[flag == 0].min()
    hits = flag[junk].sum()
    assert hits > 0.8 * flag.sum() > 0  # hardly anything but junk
    found = scores["junk"]
    assert f"junk: area under ROC {found['area_under_roc']:.3f}; {found['flagged']} flagged, precision" in printed
    assert found["flagged"] == flag.sum()
    assert (found["precision"], found["recall"]) == (hits / flag.sum(), hits / junk.sum())
    pairs = score[junk][:, None] < score[~junk][None, :]
    assert found["area_under_roc"] == pytest.approx(pairs.mean())
    assert found["area_under_roc"] > 0.85


def test_a_truth_of_junk_alone_has_nothing_to_score(cli: Cli, simulated: Path, denoised: Path, tmp_path: Path) -> None:
    shutil.copytree(simulated, tmp_path / "junk")
    content = dict(np.load(simulated / "truth.npz"))
    content["junk"] = np.ones(N_PARTICLES, bool)
    np.savez(tmp_path / "junk" / "truth.npz", **content)
    done = cli("evaluate", denoised, "--truth", tmp_path / "junk")
    assert done.code == 3
    assert "all 150 particles are junk; there is nothing to score" in done.errors[0]


def test_the_wiener_filter_alone_has_no_neighbours_to_score(cli: Cli, simulated: Path, tmp_path: Path) -> None:
    assert cli.denoise(simulated / "particles.star", "-o", tmp_path / "out", "--method", "cwf").code == 0
    done = cli("evaluate", tmp_path / "out", "--truth", simulated)
    assert done.code == 0
    assert "neighbours" not in done.out


def test_centred_particles_are_scored_against_centred_truth(cli: Cli, tmp_path: Path) -> None:
    made = ("-n", "200", "-L", "32", "--snr", "0.5", "--shift", "2", "--threads", "1")
    for name, options in (("told", ["--write-origins"]), ("silent", [])):
        assert cli("simulate", "-o", tmp_path / name, *made, *options).code == 0
        star = tmp_path / name / "particles.star"
        assert cli.denoise(star, "-o", tmp_path / f"{name}_out", "--truth", tmp_path / name).code == 0
    told, silent = (
        json.loads(cli("evaluate", tmp_path / f"{name}_out", "--truth", tmp_path / name, "--json").out)["images"]
        for name in ("told", "silent")
    )
    assert told["denoised"]["psnr_db"] > silent["denoised"]["psnr_db"] + 1


def test_centred_particles_that_were_moved_are_told(cli: Cli, simulated: Path, denoised: Path, tmp_path: Path) -> None:
    assert cli.denoise(simulated / "particles.star", "-o", tmp_path / "out", "--centre").code == 0
    scores = json.loads(cli("evaluate", tmp_path / "out", "--truth", simulated, "--json").out)
    table = find_particles(read_star(tmp_path / "out" / "denoised.star")).particles
    origins = [table.floats(f"mfvdmSourceOrigin{axis}Angst") for axis in "XY"]
    moved = float(np.sqrt(np.mean(np.square(origins)))) / 4.0
    assert scores["centres"] == {"shift_px": 0.0, "left_px": pytest.approx(moved, rel=1e-3)}
    printed = cli("evaluate", tmp_path / "out", "--truth", simulated).out
    assert f"centres: all stood in the middle, and were moved {moved:.2f} px off the middle" in printed
    assert "centres" not in cli("evaluate", denoised, "--truth", simulated).out


def test_info_of_a_simulated_stack(cli: Cli, simulated: Path) -> None:
    done = cli("info", simulated / "particles.star")
    lines = dict(line.split(":", 1) for line in done.out.splitlines())
    found = {name: text.strip() for name, text in lines.items()}
    assert done.code == 0
    assert found.pop("denoise").startswith("would run; memory: about ")
    assert found == {
        "particles": "150 in 1 file",
        "box": "32 px (128 Å)",
        "pixel size": "4 Å",
        "pixel type": "float32 (MRC mode 2)",
        "optics groups": "1: 1 (150 particles)",
        "CTF": "3 different, defocus 10000 to 40000 Å, astigmatism up to 0 Å",
        "microscope": "200 kV, Cs 2 mm, amplitude contrast 0.1",
        "contrast": "protein is white, as it should be",
    }


def test_info_of_other_stacks(cli: Cli, simulated: Path, tmp_path: Path) -> None:
    images = open_stack(simulated / "particles.mrcs").read(np.arange(N_PARTICLES))
    write_stack(tmp_path / "black.mrcs", -images[:20])
    noise = np.random.default_rng(0).normal(size=(60, 32, 32))
    write_stack(tmp_path / "noise.mrcs", noise)
    with MrcStackWriter(tmp_path / "unscaled.mrcs", 60, 32) as writer:
        writer.write(noise)
    noise[59] = 1.0
    write_stack(tmp_path / "constant.mrcs", noise)
    bare = write_small_star(
        simulated / "particles.star", tmp_path / "bare.star", rlnDefocusU=[], rlnDefocusV=[], rlnDefocusAngle=[]
    )
    odd = write_small_star(
        simulated / "particles.star",
        tmp_path / "odd.star",
        rlnDefocusU=["-5000"] * N_PARTICLES,
        rlnPhaseShift=["30", "60"] * (N_PARTICLES // 2),
        rlnCtfBfactor=["10"] * N_PARTICLES,
        rlnOpticsGroup=["1"] * N_PARTICLES,
    )
    for source, texts in (
        (
            tmp_path / "black.mrcs",
            ["protein is probably black: denoise with --invert", "would be refused: the stack has 20"],
        ),
        (tmp_path / "noise.mrcs", ["not clear from 60 images", "none (a bare stack has none; give its STAR file)"]),
        (tmp_path / "unscaled.mrcs", ["not known (give a STAR file, or correct the header)", "box:           32 px\n"]),
        (tmp_path / "constant.mrcs", ["every pixel has the same value", "would be refused, see above"]),
        (bare, ["none (the STAR file has no CTF columns)"]),
        (odd, ["phase shift 30 to 60°", "B-factor 10 Å²", "underfocus must be positive"]),
    ):
        done = cli("info", source)
        assert done.code == 0
        for text in texts:
            assert text in done.out


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("apoferritin/apoferritin_64_sub1000.star", 0, "float16 (MRC mode 12)"),
        ("small_real_stacks/empiar_10076_7.star", 0, "would be refused: the stack has 7 particles, of which too few"),
        ("small_real_stacks/aspire_sample_17x200.mrcs", 0, "the stack has 17 particles"),
        ("small_real_stacks/relion31.star", 0, "the stack has 5 particles"),
        ("small_real_stacks/aspire_sample_relion31.star", 3, "there is no file 'sample.mrcs' (needed by 17 particles)"),
        ("metadata/relion31.6opticsgroups.star", 3, "particles must all have one pixel size"),
        ("metadata/cryosparc_P12_J24_001_particles.cs", 3, "write a STAR file first, with csparc2star.py of"),
    ],
)
def test_real_files_say_what_is_wrong(name: str, code: int, text: str, cli: Cli, tmp_path: Path) -> None:
    path = shared_data(*name.split("/"))
    done = cli("info", path)
    assert done.code == code
    assert text in done.out + done.err
    if "apoferritin" not in name:
        refused = cli("denoise", path, "-o", tmp_path / "out")
        assert refused.code == 3
        assert text.removeprefix("would be refused: ") in refused.errors[0]
        assert not (tmp_path / "out").exists()


# demo and warmup


def test_demo_in_an_empty_folder(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("demo", "-n", "150", "--threads", "1")
    assert done.code == 0, done.err
    assert done.warnings == []
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    assert done.out.splitlines()[-1] == "look at demo/denoised/contact_sheet.png"
    assert Path("demo/denoised/contact_sheet.png").exists()
    assert "  denoised " in done.out
    assert "  initial " in done.out
    again = cli("demo", "-n", "200")
    assert again.code == 4
    assert "give --overwrite" in again.errors[0]
    refused = cli("demo", "-n", "12", "-o", "small")
    assert refused.code == 2
    assert "--particles must be at least 21, so that some are of one view, got 12" in refused.errors[0]
    assert not Path("small").exists()


def test_warmup_runs_everything_and_names_the_cache(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("warmup", "--threads", "1")
    assert done.code == 0
    assert "all kernels ran after" in done.out
    folder = done.out.partition("compiled kernels are kept in ")[2].strip()
    assert Path(folder).is_dir()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("mfvdm_fast.cli.warmup.cache_folder", lambda: None)
    monkeypatch.setattr("mfvdm_fast.cli.warmup.denoise", lambda *_, **__: SimpleNamespace(images=lambda: None))
    assert "set MFVDM_CACHE_DIR" in cli("warmup").out


def test_examples() -> None:
    names = [module.name for module in pkgutil.iter_modules(mfvdm_fast.cli.__path__)]
    tried = 0
    for name in names:
        done = doctest.testmod(importlib.import_module(f"mfvdm_fast.cli.{name}"))
        assert done.failed == 0
        tried += done.attempted
    assert tried >= 2


def test_one_is_no_plural(cli: Cli, simulated: Path, tmp_path: Path) -> None:
    star = write_small_star(simulated / "particles.star", tmp_path / "a.star", np.arange(1))
    done = cli("info", star)
    assert "1: 1 (1 particle)" in done.out
    assert "would be refused: the stack has a single particle" in done.out
    made = cli("simulate", "-n", "1", "-L", "16", "--defocus-groups", "1", "-o", tmp_path / "out", "--threads", "1")
    assert "1 particle of 16 px at 4 Å/px, SNR 0.05, 1 defocus group, seed 0" in made.out


def test_summary_tells_where_nobody_looked_for_centres() -> None:
    numbers = {"shift_px": None, "mostly_faint": False, "chosen": {"centre": False, "refine": True}}
    assert _centres(numbers, preset(), 99) == "not looked for in fewer than 100 particles (--centre does)"
    assert _centres(numbers, preset(), 100) == "not seen to be off the middle of the boxes"
    assert _centres(numbers, preset(centre=False), 99) == "taken to be in the middle of the boxes"
