"""Output folders that are whole or not there, and the files in them."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import pytest

from mfvdm_fast.errors import InputError, MfvdmWarning, OutputError, ParameterError
from mfvdm_fast.io.denoised_star import write_denoised_star
from mfvdm_fast.io.mrc import MrcStackWriter
from mfvdm_fast.io.output_folder import OUTPUT_FILES, OutputFolder
from mfvdm_fast.io.outputs import warn_odd_box, write_manifest, write_neighbors, write_timings
from mfvdm_fast.io.particle_table import find_particles
from mfvdm_fast.io.stack import ParticleStack, open_stack
from mfvdm_fast.io.star import read_star

from .conftest import shared_data
from .reference.io import star_text, write_mrc

CTF_COLUMNS = {
    "rlnDefocusU",
    "rlnDefocusV",
    "rlnDefocusAngle",
    "rlnPhaseShift",
    "rlnCtfBfactor",
    "rlnCtfScalefactor",
    "rlnCtfDataAreCtfPremultiplied",
}


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def fail_in(folder: Path, error: BaseException, overwrite: bool = False) -> None:
    with OutputFolder(folder, overwrite=overwrite) as out:
        out.path("denoised.star").write_text("half")
        raise error


def run(
    folder: Path, text: str, names: tuple[str, ...] = ("denoised.star", "manifest.json"), overwrite: bool = False
) -> None:
    with OutputFolder(folder, overwrite=overwrite) as out:
        for name in names:
            out.path(name).write_text(text)
            assert not (folder / name).exists() or (folder / name).read_text() != text


def test_outputs_appear_at_the_end_and_are_not_overwritten_unasked(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    run(folder, "one")
    assert files(folder) == {"denoised.star": "one", "manifest.json": "one"}
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(
        OutputError, match=r"denoised\.star: exists already; give --overwrite to replace it, or another"
    ):
        run(folder, "two")
    run(folder, "two", ("timings.json", "manifest.json"), overwrite=True)
    # The table of the first run would not belong to the second one's manifest.
    assert files(folder) == {"timings.json": "two", "manifest.json": "two", "notes.txt": "mine"}


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), InputError("bad"), RuntimeError("worse"), FileNotFoundError(2, "not ours", "y")]
)
def test_nothing_is_left_of_a_run_that_failed(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        fail_in(tmp_path / "a" / "b", error)
    assert caught.value is error
    assert list(tmp_path.iterdir()) == []
    run(tmp_path / "old", "one")
    with pytest.raises(type(error)):
        fail_in(tmp_path / "old", error, overwrite=True)
    assert files(tmp_path / "old") == {"denoised.star": "one", "manifest.json": "one"}


def fill_disk(folder: Path, bytes_needed: int | None, error: str) -> None:
    with OutputFolder(folder, bytes_needed=bytes_needed) as out:
        path = out.path("manifest.json")
        path.symlink_to("/dev/full")
        if error == "system":
            path.write_text("x")
        write_manifest(path, {})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_full_disk_is_explained(tmp_path: Path) -> None:
    message = r"a: the disk or quota is full \(the run needs about 1000 bytes\); nothing unfinished was kept: free some"
    with pytest.raises(OutputError, match=message):
        fill_disk(tmp_path / "a", 1000, "system")
    with pytest.raises(OutputError, match=r"manifest\.json: the disk or quota is full; nothing") as caught:
        fill_disk(tmp_path, None, "ours")
    assert str(caught.value).startswith(f"{tmp_path / 'manifest.json'}: ")  # not the place that is removed again
    assert list(tmp_path.iterdir()) == []


def test_folders_with_something_else_in_them_stay(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupt_beside(tmp_path / "a", "mine.txt")
    assert files(tmp_path / "a") == {"mine.txt": "mine"}


def interrupt_beside(folder: Path, name: str) -> None:
    with OutputFolder(folder):
        (folder / name).write_text("mine")
        raise KeyboardInterrupt


def test_space_is_asked_for_first(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="about 1000000000000000000 bytes are needed"):
        OutputFolder(tmp_path / "a", bytes_needed=10**18).__enter__()
    assert list(tmp_path.iterdir()) == []


def test_folders_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="file: is a file, an output folder is needed"):
        OutputFolder(tmp_path / "file").__enter__()
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(OutputError, match="link: is a link that leads nowhere, an output folder is needed"):
        OutputFolder(tmp_path / "link").__enter__()
    (tmp_path / "link").unlink()
    with pytest.raises(OutputError, match=r"aaa: cannot be written \(File name too long\)"):
        OutputFolder(tmp_path / ("a" * 300)).__enter__()
    with pytest.raises(OutputError, match=r"file/below: cannot be written \(Not a directory\); check the permissions"):
        OutputFolder(tmp_path / "file" / "below").__enter__()

    def refuse(**_: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", "x")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(OutputError, match=r"new: cannot be written \(Permission denied\)"):
        OutputFolder(tmp_path / "new").__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_errors_while_renaming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: Path, target: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system", os.fspath(target))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError, match=r"a: cannot be written \(Read-only file system\)"):
        run(tmp_path / "a", "one")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_another_run_was_quicker(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"manifest\.json: exists already"):
        finish_late(tmp_path / "a")
    assert files(tmp_path / "a") == {"manifest.json": "quick"}


def finish_late(folder: Path) -> None:
    with OutputFolder(folder) as out:
        out.path("manifest.json").write_text("slow")
        (folder / "manifest.json").write_text("quick")


def test_only_declared_names_are_written(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "a", names=["sheet.png"]) as out:
        out.path("sheet.png").write_text("x")
        with pytest.raises(
            ParameterError, match=r"'denoised\.star' is not an output of this folder.*outputs are sheet\.png"
        ):
            out.path("denoised.star")
    with pytest.raises(ParameterError, match=r"'sheet\.png' is not an output of this folder in use"):
        out.path("sheet.png")
    assert files(tmp_path / "a") == {"sheet.png": "x"}
    assert list(OUTPUT_FILES) == ["denoised.mrcs", "denoised.star", "neighbors.npz", "manifest.json", "timings.json"]


def test_interrupts_wait_for_the_renames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "a", "old")
    replace = os.replace

    def interrupted(source: Path, target: Path) -> None:
        replace(source, target)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(os, "replace", interrupted)
    before = signal.getsignal(signal.SIGINT)
    run(tmp_path / "a", "new", overwrite=True)
    assert files(tmp_path / "a") == {"denoised.star": "new", "manifest.json": "new"}
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("place", ["os.mkdir", "tempfile.mkdtemp", "fcntl.flock"])
def test_interrupts_while_the_folder_is_made_leave_nothing(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, name = place.split(".")
    usual = getattr(sys.modules[module], name)

    def interrupted(*args: Any, **options: Any) -> Any:
        found = usual(*args, **options)
        os.kill(os.getpid(), signal.SIGINT)
        return found

    monkeypatch.setattr(sys.modules[module], name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        OutputFolder(tmp_path / "a" / "b").__enter__()
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
    run(tmp_path / "a", "one")


def test_one_run_at_a_time_writes_to_a_folder(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "a") as out:
        out.path("denoised.star").write_text("first")
        for overwrite in (False, True):
            with pytest.raises(OutputError, match=r"a: another run is writing here; wait for its end, or choose"):
                OutputFolder(tmp_path / "a", overwrite=overwrite).__enter__()
    assert files(tmp_path / "a") == {"denoised.star": "first"}
    run(tmp_path / "a", "second", overwrite=True)


def test_file_systems_without_locks_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    run(tmp_path / "a", "one")
    assert files(tmp_path / "a") == {"denoised.star": "one", "manifest.json": "one"}


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="this system has no /proc")
def test_what_is_no_disk_has_no_space_to_speak_of() -> None:
    with pytest.raises(OutputError, match=r"/proc/new: cannot be written \(No such file or directory\); check"):
        OutputFolder("/proc/new", bytes_needed=1000).__enter__()


def test_what_a_killed_run_left_is_named(tmp_path: Path) -> None:
    (tmp_path / ".mfvdm-partial-old").mkdir()
    with pytest.warns(MfvdmWarning, match=r": holds what killed runs left \(\.mfvdm-partial-\*, hidden\); remove it"):
        run(tmp_path, "one")
    assert (tmp_path / ".mfvdm-partial-old").exists()


def test_neighbors_come_back_and_bytes_repeat(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = {
        "indices": rng.integers(0, 9, (9, 4)),
        "angles": rng.uniform(-np.pi, np.pi, (9, 4)),
        "mirrored": rng.random((9, 4)) < 0.5,
        "affinity": rng.random((9, 4)),
    }
    path, other = tmp_path / "a.npz", tmp_path / "b.npz"
    write_neighbors(path, **arrays)
    with np.load(path) as loaded:
        assert sorted(loaded) == sorted(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(loaded[name], array)
            assert loaded[name].dtype == array.dtype
    write_neighbors(other, **{name: np.asfortranarray(array) for name, array in arrays.items()})
    assert path.read_bytes() == other.read_bytes()
    with zipfile.ZipFile(path) as archive:  # the date that np.savez takes from the library is not promised
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    with pytest.raises(ParameterError, match=r"must have one shape \(n, K\), got .*'angles': \(9, 3\)"):
        write_neighbors(path, **{**arrays, "angles": arrays["angles"][:, 1:]})
    with pytest.raises(OutputError, match=r"a\.npz: cannot be written \(No such file or directory\)"):
        write_neighbors(tmp_path / "nowhere" / "a.npz", **arrays)


def test_manifest_is_sorted_plain_json(tmp_path: Path) -> None:
    content = {"b": np.float64(0.1), "a": {"z": np.arange(2), "y": Path("x/y")}, "c": [None, True, "Å"]}
    write_manifest(tmp_path / "a.json", content)
    write_manifest(tmp_path / "b.json", dict(reversed(content.items())))
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text == (tmp_path / "b.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"a": {"y": "x/y", "z": [0, 1]}, "b": 0.1, "c": [None, True, "Å"]}
    assert text.index('"a"') < text.index('"b"')
    for value in (float("nan"), {1, 2}, 1j):
        with pytest.raises(ParameterError, match=r"a\.json: a value cannot be written as JSON"):
            write_manifest(tmp_path / "a.json", {"x": value})
    with pytest.raises(OutputError, match="cannot be written"):
        write_manifest(tmp_path / "nowhere" / "a.json", {})
    write_timings(tmp_path / "t.json", {"read": 0.12345, "solve": np.float64(2)})
    assert json.loads((tmp_path / "t.json").read_text()) == {"seconds": {"read": 0.123, "solve": 2.0}}


def test_odd_box_gives_a_warning() -> None:
    with pytest.warns(MfvdmWarning, match=r"the box is odd \(129 px\): RELION's extraction refuses odd boxes"):
        warn_odd_box(129)
    warn_odd_box(128)


def real_stack(name: str, folder: Path) -> ParticleStack:
    """A stack of the shared data; the ASPIRE tables call their images by another name than the file has."""
    path = shared_data(name)
    if "aspire" in name:
        (folder / "sample.mrcs").symlink_to(shared_data("small_real_stacks", "aspire_sample_17x200.mrcs"))
    return open_stack(path, project_dir=folder if path.suffix == ".star" else None)


def write_outputs(stack: ParticleStack, folder: Path) -> None:
    with OutputFolder(folder) as out:
        with MrcStackWriter(out.path("denoised.mrcs"), stack.n_particles, stack.box_size, stack.pixel_size) as writer:
            for rows, images in stack.chunks(100):
                writer.write(images, rows)
        write_denoised_star(out.path("denoised.star"), stack)


REAL = [
    "small_real_stacks/aspire_sample_relion30.star",
    "small_real_stacks/aspire_sample_relion31.star",
    "small_real_stacks/relion31.star",
    "small_real_stacks/empiar_10076_7.star",
    "small_real_stacks/relion31.mrcs",
    "apoferritin/apoferritin_64_sub1000.star",
]


@pytest.mark.parametrize("name", REAL)
def test_nothing_of_a_real_table_is_lost(name: str, tmp_path: Path) -> None:
    stack = real_stack(name, tmp_path)
    write_outputs(stack, tmp_path / "out")
    again = open_stack(tmp_path / "out" / "denoised.star")
    assert (again.n_particles, again.box_size, again.pixel_size) == (
        stack.n_particles,
        stack.box_size,
        stack.pixel_size,
    )
    assert again.ctf is None
    np.testing.assert_array_equal(again.read([0, 3]), stack.read([0, 3]))
    blocks = list(gemmi.cif.read(str(tmp_path / "out" / "denoised.star")))
    assert [block.name for block in blocks] == ["optics", "particles"]
    assert again.star is not None
    written = again.star.blocks["particles"]
    assert written.texts("rlnImageName") == [f"{i:06d}@denoised.mrcs" for i in range(1, stack.n_particles + 1)]
    assert not CTF_COLUMNS & {*written.columns, *again.star.blocks["optics"].columns}
    assert all(group.endswith("_denoised") for group in again.star.blocks["optics"].texts("rlnOpticsGroupName"))
    if stack.star is None:
        return
    before = find_particles(stack.star)
    source = "mfvdmSourceImageName" if "rlnImageOriginalName" in before.particles else "rlnImageOriginalName"
    assert written.texts(source) == before.particles.texts("rlnImageName")
    moved = {"rlnImageName"} | CTF_COLUMNS
    if before.optics is None:
        moved |= {"rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast", "rlnOriginX", "rlnOriginY"}
    for column in set(before.particles.columns) - moved:
        np.testing.assert_array_equal(written.cells(column), before.particles.cells(column))
    if before.optics is not None:
        for column in set(before.optics.columns) - {"rlnOpticsGroupName"} - CTF_COLUMNS:
            np.testing.assert_array_equal(again.star.blocks["optics"].cells(column), before.optics.cells(column))


@pytest.mark.parametrize("name", REAL)
def test_relion_opens_the_table_and_its_images(name: str, tmp_path: Path) -> None:
    if shutil.which("relion_star_handler") is None or shutil.which("relion_stack_create") is None:
        pytest.skip("RELION is not installed")
    stack = real_stack(name, tmp_path)
    folder = tmp_path / "out"
    write_outputs(stack, folder)
    for command in (
        ["relion_star_handler", "--i", "denoised.star", "--check_duplicates", "rlnImageName", "--o", "checked.star"],
        ["relion_stack_create", "--i", "denoised.star", "--o", "again"],
    ):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "ERROR" not in done.stderr
    checked, written = (read_star(folder / file).blocks for file in ("checked.star", "denoised.star"))
    assert checked["particles"].texts("rlnImageName") == written["particles"].texts("rlnImageName")
    assert set(checked["particles"].columns) == set(written["particles"].columns)
    restacked = open_stack(folder / "again.mrcs")
    rows = np.arange(stack.n_particles)
    np.testing.assert_array_equal(restacked.read(rows), stack.read(rows))


def test_relion_30_table_is_brought_to_31(tmp_path: Path) -> None:
    stack = real_stack("small_real_stacks/aspire_sample_relion30.star", tmp_path)
    write_denoised_star(tmp_path / "a.star", stack)
    assert stack.star is not None
    before, after = stack.star.blocks["model_class_1"], read_star(tmp_path / "a.star").blocks
    optics = after["optics"]
    assert optics.texts("rlnVoltage") == ["300.000000", "200.000000"]
    assert optics.texts("rlnOpticsGroupName") == ["opticsGroup1_denoised", "opticsGroup2_denoised"]
    assert optics.floats("rlnImagePixelSize").tolist() == [stack.pixel_size] * 2
    voltages = optics.floats("rlnVoltage")[after["particles"].integers("rlnOpticsGroup") - 1]
    np.testing.assert_array_equal(voltages, before.floats("rlnVoltage"))
    assert stack.pixel_size is not None
    for axis in "XY":
        angstrom = after["particles"].floats(f"rlnOrigin{axis}Angst")
        np.testing.assert_array_equal(angstrom, before.floats(f"rlnOrigin{axis}") * stack.pixel_size)
    assert after["particles"].comments == ("# version 30001",)


def test_uncorrected_images_keep_their_ctf(tmp_path: Path) -> None:
    stack = open_stack(shared_data("small_real_stacks", "relion31.star"))
    write_denoised_star(tmp_path / "a.star", stack, images="sub/x.mrcs", ctf_corrected=False)
    particles = read_star(tmp_path / "a.star").blocks["particles"]
    assert stack.star is not None
    np.testing.assert_array_equal(particles.cells("rlnDefocusU"), stack.star.blocks["particles"].cells("rlnDefocusU"))
    assert particles.texts("rlnImageName")[0] == "000001@sub/x.mrcs"


def test_what_optics_need_is_taken_from_particles_or_marked(tmp_path: Path) -> None:
    write_mrc(tmp_path / "x.mrcs", np.arange(48, dtype=np.float32).reshape(3, 4, 4), pixel_size=0)
    optics = {"rlnOpticsGroup": ["2", "1", "3"], "rlnImagePixelSize": ["1.5"] * 3}
    particles = {
        "rlnImageName": ["1@x.mrcs", "2@x.mrcs", "3@x.mrcs"],
        "rlnOpticsGroup": ["1", "2", "2"],
        "rlnVoltage": ["120", "200", "200"],
        "rlnSphericalAberration": ["1", "2", "2"],
        "rlnAmplitudeContrast": ["0.1"] * 3,
        "rlnDefocusU": ["10000"] * 3,
    }
    general = {"x": ["1"]}
    (tmp_path / "a.star").write_text(star_text({"general": general, "particles": particles, "optics": optics}))
    write_denoised_star(tmp_path / "b.star", open_stack(tmp_path / "a.star"))
    blocks = read_star(tmp_path / "b.star").blocks
    assert list(blocks) == ["optics", "particles", "general"]
    assert blocks["optics"].texts("rlnVoltage") == ["200", "120", "300.0"]  # no particle is in group 3
    assert blocks["optics"].texts("rlnOpticsGroupName") == [f"opticsGroup{i}_denoised" for i in (2, 1, 3)]
    assert blocks["optics"].texts("rlnImageSize") == ["4"] * 3
    (tmp_path / "a.star").write_text(
        star_text({"x": {"rlnImageName": ["1@x.mrcs"], "rlnOriginX": ["2"], "rlnOriginY": ["0"]}})
    )
    with pytest.warns(MfvdmWarning, match=r"b\.star: the pixel size is not known and is written as 1 Å; correct"):
        write_denoised_star(tmp_path / "b.star", open_stack(tmp_path / "a.star"))
    blocks = read_star(tmp_path / "b.star").blocks
    assert blocks["optics"].texts("rlnImagePixelSize") == ["1.0"]
    assert blocks["particles"].texts("rlnOriginX") == ["2"]  # no Å without a pixel size
    assert blocks["optics"].comments == (
        "# version 30001",
        "# not known from the input, written since RELION asks for them: "
        "rlnVoltage, rlnSphericalAberration, rlnAmplitudeContrast",
    )
