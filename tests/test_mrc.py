"""MRC headers and stacks, against `mrcfile`, a field-by-field writer and RELION."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from mfvdm_fast.errors import InputError, MfvdmWarning, OutputError, ParameterError
from mfvdm_fast.io.disk import check_free_space, disk_error
from mfvdm_fast.io.mrc import MrcStackWriter, read_header, read_run

from .conftest import shared_data
from .reference.io import MODES, write_mrc


def pixels(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    low, high = (0, 200) if dtype.startswith("u") else (-100, 100)
    return rng.integers(low, high, shape).astype(dtype)


def read_all(path: Path) -> np.ndarray:
    header = read_header(path)
    out = np.empty((header.n_images, header.ny, header.nx), np.float32)
    with open(path, "rb") as file:
        read_run(file, header, 0, out)
    return out


@pytest.mark.parametrize("dtype", MODES)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("box", "extended", "stamp"), [(8, b"", True), (9, b"x" * 320, True), (9, b"", False)])
def test_reads_every_mode_and_byte_order(
    tmp_path: Path, rng: np.random.Generator, dtype: str, order: str, box: int, extended: bytes, stamp: bool
) -> None:
    images = pixels(rng, (5, box, box), dtype)
    path = write_mrc(tmp_path / "a.mrcs", images, order=order, extended=extended, pixel_size=1.34, stamp=stamp)
    header = read_header(path)
    assert (header.n_images, header.ny, header.nx, header.mode) == (5, box, box, MODES[dtype])
    assert header.data_offset == 1024 + len(extended)
    assert header.pixel_size == 1.34
    assert not header.is_volume
    np.testing.assert_array_equal(read_all(path), images.astype(np.float32))
    out = np.empty((2, box, box), np.float32)
    with open(path, "rb") as file:
        read_run(file, header, 3, out)
    np.testing.assert_array_equal(out, images[3:])


def test_header_without_a_cell_has_no_pixel_size(tmp_path: Path) -> None:
    assert read_header(write_mrc(tmp_path / "a.mrc", np.ones((1, 4, 4), np.float32))).pixel_size is None


@pytest.mark.parametrize("dtype", MODES)
def test_reads_what_mrcfile_writes(tmp_path: Path, rng: np.random.Generator, dtype: str) -> None:
    images = pixels(rng, (3, 6, 6), dtype)
    with mrcfile.new(tmp_path / "a.mrcs") as file:
        file.set_data(images)
        file.set_image_stack()
    np.testing.assert_array_equal(read_all(tmp_path / "a.mrcs"), images.astype(np.float32))


@pytest.mark.parametrize(
    "name",
    [
        "small_real_stacks/aspire_sample_17x200.mrcs",
        "small_real_stacks/empiar_10076_7.mrc",
        "small_real_stacks/relion31.mrcs",
        "apoferritin/apoferritin_64_sub1000_f16.mrcs",
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # mrcfile about an empty machine stamp
def test_real_stacks_as_mrcfile_reads_them(name: str) -> None:
    path = shared_data(name)
    with mrcfile.open(path, permissive=True) as file:
        np.testing.assert_array_equal(read_all(path), file.data.astype(np.float32))


def test_volume_is_told_from_stack() -> None:
    assert read_header(shared_data("volumes", "ribosome70S_65px_5A.mrc")).is_volume
    assert not read_header(shared_data("small_real_stacks", "aspire_sample_17x200.mrcs")).is_volume


def test_truncated_file_names_the_byte_counts(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "a.mrcs", np.ones((4, 8, 8), np.float32))
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(InputError, match=r"a\.mrcs: truncated: 4 images of 8 x 8 .* need 2048 bytes, the file has 1748 "
                       r"bytes \(whole images: 2\); copy it again"):  # fmt: skip
        read_header(path)


def test_longer_file_gives_a_warning(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "a.mrcs", np.ones((4, 8, 8), np.float32))
    path.write_bytes(path.read_bytes() + b"tail")
    with pytest.warns(MfvdmWarning, match=r"4 bytes follow the last of 4 images \(2048 bytes expected, 2052 found"):
        assert read_header(path).n_images == 4


@pytest.mark.parametrize("mode", [3, 4, 101])
def test_other_modes_are_refused(tmp_path: Path, mode: int) -> None:
    path = write_mrc(tmp_path / "a.mrcs", np.ones((4, 8, 8), np.float32))
    data = bytearray(path.read_bytes())
    data[12:16] = mode.to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(
        InputError, match=rf"MRC mode {mode} cannot be read; accepted modes are 0 \(int8\).*12 \(float16\)"
    ):
        read_header(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "header of 1024 bytes, this file has 0 bytes"),
        (
            b"data_particles\n\nloop_\n" * 100,
            r"not an MRC image stack: its header gives \d+ images of \d+ x \d+ pixels",
        ),
        (bytes(4096), "not an MRC image stack: its header gives 0 images of 0 x 0 pixels"),
    ],
)
def test_what_is_not_mrc_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.mrcs"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_header(path)


def test_missing_file_and_images_that_are_not_square(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.mrcs: cannot be read \(No such file or directory\)"):
        read_header(tmp_path / "nowhere.mrcs")
    path = write_mrc(tmp_path / "a.mrcs", np.ones((4, 8, 6), np.float32))
    with pytest.raises(InputError, match="must be square, these are 8 rows x 6 columns"):
        read_header(path)


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_file_that_shrinks_during_the_run(tmp_path: Path, dtype: str) -> None:
    path = write_mrc(tmp_path / "a.mrcs", np.ones((4, 8, 8), dtype))
    header = read_header(path)
    path.write_bytes(path.read_bytes()[:1100])
    with pytest.raises(InputError, match="ended while images 2 to 4 were read"), open(path, "rb") as file:
        read_run(file, header, 1, np.empty((3, 8, 8), np.float32))


def write_ours(path: Path, images: np.ndarray, pixel_size: float | None = 1.34, batch: int = 2) -> Path:
    with MrcStackWriter(path, len(images), images.shape[1], pixel_size) as writer:
        for first in range(0, len(images), batch):
            writer.write(images[first : first + batch])
    return path


def test_header_is_the_one_of_mrcfile(tmp_path: Path, rng: np.random.Generator) -> None:
    images = rng.normal(3, 2, (5, 9, 9)).astype(np.float32)
    ours = write_ours(tmp_path / "ours.mrcs", images)
    with mrcfile.new(tmp_path / "theirs.mrcs") as file:
        file.set_data(images)
        file.set_image_stack()
        file.voxel_size = 1.34
        file.update_header_stats()
        theirs = file.header.copy()
    report = io.StringIO()
    assert mrcfile.validate(ours, print_file=report), report.getvalue()
    with mrcfile.open(ours) as file:
        assert file.is_image_stack()
        np.testing.assert_array_equal(file.data, images)
        for name in theirs.dtype.names:
            if name in ("dmean", "rms"):
                np.testing.assert_allclose(file.header[name], theirs[name], rtol=1e-5)
            elif name != "label":
                assert file.header[name].tobytes() == theirs[name].tobytes(), name
        assert [label for label in file.header.label.tolist() if label] == [b"mfvdm_fast"]


def test_bytes_do_not_depend_on_batches_order_or_run(tmp_path: Path, rng: np.random.Generator) -> None:
    images = rng.normal(size=(7, 10, 10)).astype(np.float32)
    expected = write_ours(tmp_path / "a.mrcs", images, batch=7).read_bytes()
    for batch in (1, 3):
        assert write_ours(tmp_path / "b.mrcs", images, batch=batch).read_bytes() == expected
    rows = rng.permutation(7)
    with MrcStackWriter(tmp_path / "c.mrcs", 7, 10, 1.34) as writer:
        writer.write(images[rows[:4]].astype(np.float64), rows[:4])
        writer.write(np.empty((0, 10, 10)))
        writer.write(images[rows[4:]], rows[4:])
    assert (tmp_path / "c.mrcs").read_bytes() == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mrcs", "b.mrcs", "c.mrcs"]


def test_pixel_size_is_written_or_left_unknown(tmp_path: Path) -> None:
    images = np.arange(32.0).reshape(2, 4, 4)
    assert read_header(write_ours(tmp_path / "a.mrcs", images)).pixel_size == 1.34
    assert read_header(write_ours(tmp_path / "a.mrcs", images, pixel_size=None)).pixel_size is None


def test_relion_reads_the_stack(tmp_path: Path, rng: np.random.Generator) -> None:
    program = shutil.which("relion_image_handler")
    if program is None:
        pytest.skip("relion_image_handler is not installed")
    images = rng.normal(1, 2, (3, 16, 16)).astype(np.float32)
    write_ours(tmp_path / "a.mrcs", images)
    done = subprocess.run(
        [program, "--i", "a.mrcs", "--stats"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    lines = [line for line in done.stdout.splitlines() if "@a.mrcs" in line]
    assert len(lines) == 3
    for line, image in zip(lines, images, strict=True):
        words = line.replace("=", " ").split()
        assert float(words[words.index("avg") + 1]) == pytest.approx(float(image.mean()), abs=1e-4)
        assert float(words[words.index("angpix") + 1]) == pytest.approx(1.34)


def test_writer_refuses_what_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "a.mrcs"
    with pytest.raises(ParameterError, match="got n_images=0, box_size=4"):
        MrcStackWriter(path, 0, 4)
    with pytest.raises(ParameterError, match=r"pixel_size must be positive \(Å/px\), or None when unknown, got -1"):
        MrcStackWriter(path, 1, 4, -1)
    ones = np.ones((2, 4, 4))
    bad = ones.copy()
    bad[1, 0, 0] = 1e300
    cases: list[tuple[np.ndarray, object, str]] = [
        (np.ones((2, 4, 5)), None, r"images must have shape \(b, 4, 4\), got \(2, 4, 5\)"),
        (bad, None, "image 2 has pixels that are not finite"),
        (ones, [0], r"2 images need 2 rows, got shape \(1,\)"),
        (ones, [1, 3], "rows 1 to 3 do not fit a stack of 3 images"),
        (ones, [1, 1], "an image between rows 1 and 1 is written twice"),
    ]
    for images, rows, message in cases:
        with pytest.raises(ParameterError, match=message), MrcStackWriter(path, 3, 4) as writer:
            writer.write(images, rows)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_unfinished_stack_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"2 of 3 images were not written \(first: 2\)"):  # noqa: SIM117
        with MrcStackWriter(tmp_path / "a.mrcs", 3, 4) as writer:
            writer.write(np.ones((1, 4, 4)))
    with pytest.raises(KeyboardInterrupt), MrcStackWriter(tmp_path / "a.mrcs", 3, 4):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"a\.mrcs: cannot be written \(No such file or directory\)"):
        MrcStackWriter(tmp_path / "nowhere" / "a.mrcs", 3, 4)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_full_disk(tmp_path: Path) -> None:
    (tmp_path / ".a.mrcs.partial").symlink_to("/dev/full")
    message = r"a\.mrcs: the disk or quota is full \(the run needs about 263168 bytes\)"
    with pytest.raises(OutputError, match=message), MrcStackWriter(tmp_path / "a.mrcs", 1, 256) as writer:
        writer.write(np.ones((1, 256, 256)))
    assert list(tmp_path.iterdir()) == []


def test_free_space_is_compared(tmp_path: Path) -> None:
    check_free_space(tmp_path / "not" / "yet", 1)
    with pytest.raises(OutputError, match=r"about 1000000000000000000 bytes are needed and \d+ are free on this disk"):
        check_free_space(tmp_path, 10**18)
    assert "the disk or quota is full; nothing" in str(disk_error("a", OSError(28, "No space left on device")))
