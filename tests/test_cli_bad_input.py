"""Every bad input gets one line that says what is wrong, its exit code, and leaves no output behind."""

from __future__ import annotations

import errno
import shutil
import struct
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mfvdm_fast.io.mrc import MrcStackWriter
from mfvdm_fast.io.stack import open_stack
from mfvdm_fast.io.star import StarFile, read_star, write_star
from mfvdm_fast.io.star_table import StarTable

from .cli_runs import BOX_SIZE, FAST, N_PARTICLES, Cli, Outcome, with_block, write_small_star, write_stack

N_COLUMNS_AT, MODE_AT = 0, 12  # byte offsets in an MRC header


@pytest.fixture
def images(simulated: Path) -> np.ndarray:
    return open_stack(simulated / "particles.mrcs").read(np.arange(N_PARTICLES))


def patched(source: Path, target: Path, place: int, value: int) -> Path:
    """A copy of an MRC file with another whole number in its header."""
    shutil.copy(source, target)
    with open(target, "r+b") as file:
        file.seek(place)
        file.write(struct.pack("<i", value))
    return target


def optics(star: Path, **columns: list[str]) -> Path:
    """The STAR file with other optics columns; an empty list drops a column."""
    content = read_star(star)
    table = content.blocks["optics"]
    for name, values in columns.items():
        table = table.with_column(name, values) if values else table.without([name])
    write_star(star, with_block(content, table))
    return star


def two_boxes(simulated: Path, folder: Path) -> Path:
    names = [f"{i}@{simulated / 'particles.mrcs'}" for i in range(1, N_PARTICLES)] + [f"1@{folder / 'other.mrcs'}"]
    write_stack(folder / "other.mrcs", np.random.default_rng(0).normal(size=(2, 16, 16)))
    return write_small_star(simulated / "particles.star", folder / "a.star", rlnImageName=names)


def two_pixel_sizes(simulated: Path, folder: Path) -> Path:
    star = write_small_star(
        simulated / "particles.star", folder / "a.star", rlnOpticsGroup=["1", "2"] * (N_PARTICLES // 2)
    )
    content = read_star(star)
    table = content.blocks["optics"].take(np.array([0, 0]))
    table = table.with_column("rlnOpticsGroup", ["1", "2"]).with_column("rlnImagePixelSize", ["4.0", "4.2"])
    write_star(star, with_block(content, table))
    return star


def truncated(simulated: Path, folder: Path) -> Path:
    data = (simulated / "particles.mrcs").read_bytes()
    (folder / "a.mrcs").write_bytes(data[: len(data) // 2])
    return folder / "a.mrcs"


def beyond_the_end(simulated: Path, folder: Path) -> Path:
    names = [f"{i}@{simulated / 'particles.mrcs'}" for i in range(2, N_PARTICLES + 2)]
    return write_small_star(simulated / "particles.star", folder / "a.star", rlnImageName=names)


def no_particles(simulated: Path, folder: Path) -> Path:
    return write_small_star(simulated / "particles.star", folder / "a.star", np.arange(0))


def twice(simulated: Path, folder: Path) -> Path:
    rows = np.arange(N_PARTICLES)
    rows[7] = 3
    return write_small_star(simulated / "particles.star", folder / "a.star", rows)


def no_voltage(simulated: Path, folder: Path) -> Path:
    star = write_small_star(simulated / "particles.star", folder / "a.star")
    return optics(star, rlnVoltage=[], rlnAmplitudeContrast=[])


def no_defocus(simulated: Path, folder: Path) -> Path:
    return write_small_star(simulated / "particles.star", folder / "a.star", rlnDefocusU=[])


def micrometres(simulated: Path, folder: Path) -> Path:
    um = dict.fromkeys(("rlnDefocusU", "rlnDefocusV"), ["2.5"] * N_PARTICLES)
    return write_small_star(simulated / "particles.star", folder / "a.star", **um)


def few(simulated: Path, folder: Path) -> Path:
    return write_small_star(simulated / "particles.star", folder / "a.star", np.arange(8))


def missing_stack(simulated: Path, folder: Path) -> Path:
    table = StarTable("particles").with_column("rlnImageName", ["1@gone.mrcs"])
    write_star(folder / "a.star", StarFile("", {"particles": table}))
    return folder / "a.star"


BAD: dict[str, tuple[Callable[[Path, Path], Path], list[str]]] = {
    "missing file": (lambda s, f: f / "gone.star", ["gone.star: cannot be read (No such file or directory)"]),
    "missing stack": (missing_stack, ["row 1: there is no file 'gone.mrcs'", "start from the project folder or give"]),
    "folder": (lambda s, f: s, ["particles are read from .star, .mrcs, .mrc files"]),
    "truncated": (truncated, ["a.mrcs: truncated: 150 images of 32 x 32 pixels", "copy it again"]),
    "mode": (lambda s, f: patched(s / "particles.mrcs", f / "a.mrcs", MODE_AT, 4), ["MRC mode 4 cannot be read"]),
    "not square": (
        lambda s, f: patched(s / "particles.mrcs", f / "a.mrcs", N_COLUMNS_AT, 16),
        ["images must be square, these are 32 rows x 16 columns"],
    ),
    "box sizes": (two_boxes, ["images must all have one box size", "32 px", "16 px"]),
    "pixel sizes": (two_pixel_sizes, ["must all have one pixel size", "4 Å in optics group 1", "4.2 Å in optics"]),
    "beyond": (beyond_the_end, ["row 150 names image 151 of", "holds 150 images", "is it the right stack?"]),
    "no voltage": (no_voltage, ["the CTF is incomplete, missing: _rlnVoltage, _rlnAmplitudeContrast", "add these"]),
    "no defocus": (no_defocus, ["the CTF is incomplete, missing: _rlnDefocusU"]),
    "no particles": (no_particles, ["has no rows: there are no particles; was the selection empty?"]),
    "twice": (twice, ["the same image stands in more than one row (1 times): rows 4 and 8", "remove the duplicates"]),
    "micrometres": (micrometres, ["a.star: the defocus (rlnDefocusU, rlnDefocusV;", "2.5 to 2.5", "is it in µm?"]),
    "few": (
        few,
        [
            "a.star: the stack has 8 particles, but 8 neighbours are asked for each",
            "or fewer neighbours, at most 7 (n_neighbors, --n",
        ],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_headers_and_tables_are_checked_before_anything_is_made(
    name: str, cli: Cli, simulated: Path, tmp_path: Path
) -> None:
    make, texts = BAD[name]
    source = make(simulated, tmp_path)
    before = sorted(tmp_path.iterdir())
    done = cli.denoise(source, "-o", tmp_path / "out")
    assert_refused(done, 3, *texts)
    assert sorted(tmp_path.iterdir()) == before
    if name == "micrometres":
        assert texts[-1] in cli("info", source).out
    elif name != "few":
        assert cli("info", source).errors == done.errors


def assert_refused(done: Outcome, code: int, *texts: str) -> None:
    assert done.code == code
    assert done.out == ""
    assert len(done.errors) == 1
    assert "Traceback" not in done.err
    for text in texts:
        assert text in done.errors[0]


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        (np.nan, ["image 100 of", "(1 pixel): pixels that are NaN, infinite or too large for float32", "extract the"]),
        (np.inf, ["image 100 of", "(1 pixel): pixels that are NaN, infinite or too large for float32"]),
        (
            "constant",
            [
                "image 100 of",
                "(all 2.5): every pixel has the same value (",
                " of 150 images were looked at); leave these images out",
            ],
        ),
    ],
)
def test_bad_pixels_are_named(
    value: Any, texts: list[str], cli: Cli, simulated: Path, images: np.ndarray, tmp_path: Path
) -> None:
    source = tmp_path / "a.mrcs"
    shutil.copy(simulated / "particles.mrcs", source)
    image = images[99].copy()
    image[3, 4] = 0 if value == "constant" else value
    image[:] = 2.5 if value == "constant" else image
    with open(source, "r+b") as file:
        file.seek(1024 + 99 * image.nbytes)
        file.write(image.tobytes())
    done = cli.denoise(source, "-o", tmp_path / "out")
    assert_refused(done, 3, *texts)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mrcs"]


@pytest.mark.parametrize("more", [(), ("--preset", "paper"), ("--dry-run",)])
def test_a_stack_of_one_image_is_refused(more: tuple[str, ...], cli: Cli, images: np.ndarray, tmp_path: Path) -> None:
    source = write_stack(tmp_path / "a.mrcs", np.repeat(images[:1], 60, axis=0))
    done = cli.denoise(source, "-o", tmp_path / "out", *more)
    assert_refused(
        done, 3, "error: a.mrcs: the images are all alike: they differ from their mean by 0 of their", "check"
    )
    assert not (tmp_path / "out").exists()


def test_masked_images_have_no_noise(cli: Cli, images: np.ndarray, tmp_path: Path) -> None:
    line = np.arange(BOX_SIZE) - BOX_SIZE // 2
    source = write_stack(tmp_path / "a.mrcs", images * (np.hypot(line[:, None], line[None, :]) < 14))
    done = cli.denoise(source, "-o", tmp_path / "out")
    assert_refused(done, 3, "a.mrcs: the pixels outside", "cannot be estimated from masked images", "without a mask")
    assert not (tmp_path / "out").exists()


def test_copies_of_images_do_no_harm_and_are_told(cli: Cli, images: np.ndarray, tmp_path: Path) -> None:
    images[40:80] = images[:40]
    images[90:110] = images[90]
    source = write_stack(tmp_path / "a.mrcs", images)
    done = cli.denoise(source, "-o", tmp_path / "default")
    assert done.code == 0
    assert len(done.warnings) == 1
    assert "59 images are copies of another image in the stack, such as those of particles 1 and 41: each" in done.err
    assert np.isfinite(open_stack(tmp_path / "default" / "denoised.star").read(np.arange(N_PARTICLES))).all()
    assert cli.denoise(source, "-o", tmp_path / "out", "--preset", "paper").code == 0
    denoised = open_stack(tmp_path / "out" / "denoised.star").read(np.arange(N_PARTICLES))
    assert np.isfinite(denoised).all()
    assert np.linalg.norm(denoised[40:80] - denoised[:40]) < 0.1 * np.linalg.norm(denoised[:40])
    assert np.load(tmp_path / "out" / "initial_neighbors.npz")["indices"][0, 0] == 40


@pytest.mark.parametrize("threads", ["0", "-1"])
def test_threads_must_be_positive(threads: str, cli: Cli, simulated: Path, tmp_path: Path) -> None:
    for command in (["denoise", simulated / "particles.star"], ["simulate", "-n", "5"], ["demo", "-n", "5"]):
        done = cli(*command, "-o", tmp_path / "out", "--threads", threads)
        assert_refused(done, 2, f"--threads must be a whole number of at least 1, got {threads}; leave it out")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_output_folder(cli: Cli, simulated: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    for place, text in (("out", "is a file, an output folder is needed"), ("out/deeper", "Not a directory")):
        done = cli.denoise(simulated / "particles.star", "-o", tmp_path / place)
        assert_refused(done, 4, text)
        assert "search" not in done.err  # before the work
    assert (tmp_path / "out").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_too_little_disk_space_is_seen_before_the_work(
    cli: Cli, simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**6, 10**6 - 1000, 1000))
    for command in (["denoise", simulated / "particles.star", *FAST], ["simulate", "-n", "5"], ["demo", "-n", "60"]):
        done = cli(*command, "-o", tmp_path / "out")
        assert done.code == 4
        assert "bytes are needed and 1000 are free on this disk; free some space" in done.errors[0]
        assert "started" not in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["denoised.mrcs", "contact_sheet.png", "neighbors.npz", "eigenvalues.json"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_disk_that_fills_up_leaves_the_old_outputs(
    name: str, overwrite: bool, cli: Cli, simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if overwrite:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "manifest.json").write_text("old")

    def full(path: Any, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    target = {
        "denoised.mrcs": "mfvdm_fast.io.mrc.MrcStackWriter._header",
        "contact_sheet.png": "mfvdm_fast.cli.results.write_contact_sheet",
        "neighbors.npz": "numpy.lib.format.write_array",
        "eigenvalues.json": "pathlib.Path.write_text",
    }[name]
    monkeypatch.setattr(target, full)
    done = cli.denoise(simulated / "particles.star", "-o", tmp_path / "out", *(["--overwrite"] if overwrite else []))
    monkeypatch.undo()
    assert_refused(done, 4, "the disk or quota is full", "nothing unfinished was kept", "free some space")
    if overwrite:
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["manifest.json"]
        assert (tmp_path / "out" / "manifest.json").read_text() == "old"
    else:
        assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_while_simulating(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        """The stack's file on a disk with room for 20 kB."""

        def __init__(self, file: Any) -> None:
            self._file = file

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def write(self, data: Any) -> int:
            if self._file.tell() + memoryview(data).nbytes > 20_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return int(self._file.write(data))

    start = MrcStackWriter.__init__

    def begin(self: MrcStackWriter, *arguments: Any, **options: Any) -> None:
        start(self, *arguments, **options)
        self._file = Full(self._file)  # type: ignore[assignment]

    monkeypatch.setattr(MrcStackWriter, "__init__", begin)
    done = cli("simulate", "-o", tmp_path / "out", "-n", "20", "-L", "16")
    assert_refused(done, 4, "the disk or quota is full (the run needs about")
    assert list(tmp_path.iterdir()) == []
    assert cli("simulate", "-o", tmp_path / "out", "-n", "10", "-L", "16").code == 0  # as much as fits


def test_an_input_is_never_overwritten(cli: Cli, simulated: Path, tmp_path: Path) -> None:
    raw = tmp_path / "denoised.mrcs"
    shutil.copy(simulated / "particles.mrcs", raw)
    before = raw.read_bytes()
    done = cli.denoise(raw, "-o", tmp_path, "--overwrite")
    assert_refused(done, 4, "denoised.mrcs: this is an input of the run and would be overwritten", "give another -o")
    assert raw.read_bytes() == before
    assert list(tmp_path.iterdir()) == [raw]


def test_without_ctf_correction_an_incomplete_ctf_does_no_harm(cli: Cli, simulated: Path, tmp_path: Path) -> None:
    star = no_voltage(simulated, tmp_path)
    assert "run without CTF correction (ctf=False, --no-ctf)" in cli.denoise(star, "-o", tmp_path / "out").errors[0]
    assert cli.denoise(star, "-o", tmp_path / "out", "--no-ctf").code == 0
    particles = read_star(tmp_path / "out" / "denoised.star").blocks["particles"]
    assert "rlnDefocusU" in particles  # nothing was corrected: the next program may


def test_odd_rows_and_phases_are_told(cli: Cli, simulated: Path, tmp_path: Path) -> None:
    defocus = read_star(simulated / "particles.star").blocks["particles"].texts("rlnDefocusU")
    few = [repr(float(text) / 1e4) if row < 3 else text for row, text in enumerate(defocus)]
    other = {"rlnDefocusU": few, "rlnDefocusV": few, "rlnPhaseShift": ["1.57"] * N_PARTICLES}
    star = write_small_star(simulated / "particles.star", tmp_path / "a.star", **other)
    done, info = cli.denoise(star, "-o", tmp_path / "out", "--method", "cwf"), cli("info", star).out
    for text in (
        f"of 3 of {N_PARTICLES} particles (rows 1, 2, 3) is",
        "(rlnPhaseShift; phase_shift) are 1.57° at most",
    ):
        assert text in info
        assert [line for line in done.err.splitlines() if line.startswith("warning: a.star: the ") and text in line]


def test_odd_defocus_is_told(cli: Cli, simulated: Path, tmp_path: Path) -> None:
    other = {"rlnDefocusU": ["-15000"] * N_PARTICLES, "rlnDefocusV": ["-15000"] * N_PARTICLES}
    star = write_small_star(simulated / "particles.star", tmp_path / "a.star", **other)
    done = cli.denoise(star, "-o", tmp_path / "out", "--method", "cwf")
    assert "warning: a.star: 100% of the defocus values" in done.err
    assert "100% of the defocus values" in cli("info", star).out
    assert "defocus values" not in cli.denoise(star, "-o", tmp_path / "no", "--method", "cwf", "--no-ctf").err
