"""ParticleStack: every particle once, in any chunking, from any layout of files; bad input is named."""

from __future__ import annotations

import hashlib
import os
import threading
import tracemalloc
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from mfvdm_fast.errors import InputError, MfvdmWarning, ParameterError
from mfvdm_fast.io.stack import ParticleStack, open_stack
from mfvdm_fast.records import CtfParameters, ImageStack

from .conftest import shared_data
from .reference.io import MODES, star_text, write_mrc


def write_star(path: Path, names: list[str], **columns: list[str]) -> Path:
    path.write_text(star_text({"images": {"rlnImageName": names, **columns}}))
    return path


def collect(stack: ParticleStack, max_images: int) -> np.ndarray:
    images = np.full((stack.n_particles, stack.box_size, stack.box_size), np.nan, np.float32)
    for rows, chunk in stack.chunks(max_images):
        assert rows.dtype == np.int64
        assert chunk.dtype == np.float32
        assert len(rows) == len(chunk) <= max_images
        assert np.isnan(images[rows]).all()  # nobody comes twice
        images[rows] = chunk
    return images


@pytest.fixture
def scattered(tmp_path: Path, rng: np.random.Generator) -> tuple[Path, np.ndarray]:
    """Three stacks of different modes, 25 of their 30 images named in random order; the images in table order."""
    stacks = [
        write_mrc(tmp_path / f"{dtype}.mrcs", rng.normal(0, 50, (10, 8, 8)).astype(dtype), order=order, pixel_size=2.0)
        for dtype, order in (("float32", "<"), ("int16", ">"), ("float16", "<"))
    ]
    everything = []
    for path in stacks:
        with mrcfile.open(path) as file:
            everything.append(file.data.astype(np.float32))
    picks = rng.permutation(30)[:25]
    names = [f"{pick % 10 + 1:06d}@{stacks[pick // 10].name}" for pick in picks]
    return write_star(tmp_path / "a.star", names), np.concatenate(everything)[picks]


@pytest.mark.parametrize("max_images", [1, 2, 7, 25, 1000])
def test_every_particle_once_in_any_chunking(scattered: tuple[Path, np.ndarray], max_images: int) -> None:
    path, images = scattered
    stack = open_stack(path)
    assert isinstance(stack, ImageStack)
    np.testing.assert_array_equal(collect(stack, max_images), images)
    np.testing.assert_array_equal(collect(open_stack(path, invert=True), max_images), -images)


def test_chunks_come_in_the_order_of_the_files(tmp_path: Path) -> None:
    write_mrc(tmp_path / "a.mrcs", np.arange(4 * 16, dtype=np.float32).reshape(4, 4, 4))
    write_mrc(tmp_path / "b.mrcs", 100 + np.arange(2 * 16, dtype=np.float32).reshape(2, 4, 4))
    stack = open_stack(
        write_star(tmp_path / "a.star", [f"{i}@{n}.mrcs" for i, n in zip("421213", "aaabba", strict=True)])
    )
    firsts = [images[0, 0, 0] for _, images in stack.chunks(1)]
    assert firsts == [0, 16, 32, 48, 100, 116]
    assert [path.name for path in stack.paths] == ["a.star", "a.mrcs", "b.mrcs"]


def test_read_gives_the_rows_asked_for(scattered: tuple[Path, np.ndarray], rng: np.random.Generator) -> None:
    path, images = scattered
    stack = open_stack(path)
    for rows in ([], [3], [24, 0, 7, 7], rng.permutation(25)):
        np.testing.assert_array_equal(stack.read(rows), images[np.asarray(rows, int)])
    for bad in ([-1], [25], [[1]], 3, "a", None, [0.5], [True] * 25):
        with pytest.raises(ParameterError, match="rows must be whole numbers from 0 to 24 in one dimension, such as"):
            stack.read(bad)
    with pytest.raises(ParameterError, match="max_images must be a whole number of at least 1, got 0; 1000"):
        stack.chunks(0)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int8", "uint16", "int64"])
def test_arrays_of_any_real_dtype(dtype: str, rng: np.random.Generator, tmp_path: Path) -> None:
    images = rng.integers(0, 100, (7, 5, 5)).astype(dtype)
    np.save(tmp_path / "a.npy", images)
    strided = np.asfortranarray(np.repeat(images, 2, axis=0))[::2]
    read_only = images.copy()
    read_only.flags.writeable = False
    for array in (images, strided, read_only, np.load(tmp_path / "a.npy", mmap_mode="r"), images.tolist()):
        stack = ParticleStack.from_array(array, pixel_size=1.5)
        np.testing.assert_array_equal(collect(stack, 3), images.astype(np.float32))
        np.testing.assert_array_equal(stack.read([4, 1]), images[[4, 1]].astype(np.float32))
        assert (stack.n_particles, stack.box_size, stack.pixel_size, stack.ctf, stack.star) == (7, 5, 1.5, None, None)
        assert stack.optics_group.tolist() == [1] * 7


def test_arrays_that_are_no_stack(rng: np.random.Generator) -> None:
    for shape in ((4, 5), (2, 4, 5), (0, 4, 4)):
        with pytest.raises(InputError, match=r"images must have shape \(n, L, L\) with n and L at least 1, got \("):
            ParticleStack.from_array(np.zeros(shape))
    with pytest.raises(
        InputError, match="images must hold real numbers, got complex128; convert them to float32 first"
    ):
        ParticleStack.from_array(np.zeros((2, 4, 4), complex))
    images = rng.normal(size=(2, 4, 4))
    ctf = CtfParameters(*(np.ones(2) for _ in range(9)))
    for size, got in (
        (0, "0"),
        ("4", "'4'"),
        (np.ones(2), r"array\(\[1\., 1\.\]\)"),
        (np.ones(1), r"array\(\[1\.\]\)"),
    ):
        with pytest.raises(ParameterError, match=f"pixel_size must be a finite number above 0, got {got}"):
            ParticleStack.from_array(images, pixel_size=size)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="ctf must be CtfParameters, got dict: make them with make_ctf"):
        ParticleStack.from_array(images, 1.0, {"defocus_u_angstrom": [1e4, 1e4]})  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="phase_flipped has no effect without a CTF, and there is none in the inp"):
        ParticleStack.from_array(images, 1.0, phase_flipped=True)
    masked = np.ma.masked_greater(images, images.flat[3:9].min())
    with pytest.raises(InputError, match=rf"a masked array with {masked.mask.sum()} masked pixels, and masks are not"):
        ParticleStack.from_array(masked)
    np.testing.assert_array_equal(ParticleStack.from_array(np.ma.asarray(images)).read([0]), images[:1].astype("f4"))
    with pytest.raises(ParameterError, match="ctf has 1 entries for 2 images"):
        ParticleStack.from_array(images, pixel_size=1, ctf=ctf[:1])
    with pytest.raises(ParameterError, match="a ctf needs pixel_size"):
        ParticleStack.from_array(images, ctf=ctf)
    assert ParticleStack.from_array(images, 1.0, ctf).ctf is ctf
    assert ParticleStack.from_array(images, 1.0, ctf, phase_flipped=True).phase_flipped


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_memory_is_that_of_a_chunk(tmp_path: Path, dtype: str, rng: np.random.Generator) -> None:
    path = write_mrc(tmp_path / "a.mrcs", rng.normal(0, 50, (256, 64, 64)).astype(dtype))
    stack = open_stack(path)
    chunk_bytes = 16 * 64 * 64 * 4
    tracemalloc.start()
    try:
        for _, images in stack.chunks(16):
            del images
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The chunk, its raw bytes when they are of another dtype, and the test for bad pixels: not the stack's 16 chunks.
    assert chunk_bytes < peak < 2.2 * chunk_bytes


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("apoferritin/apoferritin_64_sub1000.star", (1000, 64, 3.0, True)),
        ("small_real_stacks/empiar_10076_7.star", (7, 320, pytest.approx(1.31, abs=1e-3), True)),
        ("small_real_stacks/relion31.star", (5, 256, 2.806, True)),
        ("small_real_stacks/relion31.mrcs", (5, 256, 1.0, False)),
        ("small_real_stacks/aspire_sample_17x200.mrcs", (17, 200, None, False)),
        ("small_real_stacks/empiar_10076_7.mrc", (7, 320, None, False)),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # mrcfile about an empty machine stamp
def test_real_stacks(name: str, expected: tuple[object, ...]) -> None:
    stack = open_stack(shared_data(name))
    assert (stack.n_particles, stack.box_size, stack.pixel_size, stack.ctf is not None) == expected
    with mrcfile.open(stack.paths[-1], permissive=True) as file:
        np.testing.assert_array_equal(collect(stack, 100), file.data.astype(np.float32))


def test_a_bare_name_is_looked_for_beside_the_star_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = tmp_path / "job"
    job.mkdir()
    for folder, number in ((tmp_path, 1), (job, 2)):
        write_mrc(folder / "x.mrcs", np.linspace(number, number + 0.5, 16, dtype=np.float32).reshape(1, 4, 4))
    star = write_star(job / "a.star", ["1@x.mrcs"])
    monkeypatch.chdir(tmp_path)
    assert int(open_stack(star).read([0])[0, 0, 0]) == 2
    assert int(open_stack(star, project_dir=tmp_path).read([0])[0, 0, 0]) == 1
    (job / "x.mrcs").unlink()
    assert int(open_stack(star).read([0])[0, 0, 0]) == 1


def test_paths_are_looked_for_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {name: tmp_path / name for name in ("project", "current", "job", "absolute")}
    star_folder = places["job"] / "Extract" / "job005"
    star_folder.mkdir(parents=True)
    for folder in ("project", "current", "absolute"):
        places[folder].mkdir()
    levels = {"project": 1, "current": 2, "job/Extract/job005": 3, "job/Extract": 4, "job": 5, ".": 6, "absolute": 7}
    for folder, number in levels.items():
        write_mrc(
            tmp_path / folder / "x.mrcs", np.linspace(number, number + 0.5, 16, dtype=np.float32).reshape(1, 4, 4)
        )
    star = write_star(star_folder / "a.star", ["1@./x.mrcs"])
    monkeypatch.chdir(places["current"])

    def level(project: Path | None = None) -> int:
        return int(open_stack(star, project_dir=project).read([0])[0, 0, 0])

    assert level(places["project"]) == 1
    for folder, expected in list(levels.items())[1:6]:
        assert level() == expected
        (tmp_path / folder / "x.mrcs").unlink()
    looked = r"looked below .*current, .*job005, .*Extract, .*: start from the project folder or give --project-dir"
    with pytest.raises(InputError, match=rf"there is no file '\./x\.mrcs' \(needed by 1 particle\); {looked}"):
        level()
    write_star(star, [f"1@{places['absolute']}/x.mrcs"])
    assert level() == 7
    write_star(star, [f"1@{places['absolute']}/y.mrcs"])
    with pytest.raises(InputError, match=r"no file '/.*/y\.mrcs' \(needed by 1 particle\): start"):
        level()
    with pytest.raises(ParameterError, match=r"project_dir has no effect without a STAR file, .*a\.mrcs is a stack al"):
        open_stack(tmp_path / "a.mrcs", project_dir=tmp_path)
    with pytest.raises(InputError, match="nowhere: project_dir is not a folder"):
        level(tmp_path / "nowhere")


def test_the_run_may_change_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mrc(tmp_path / "x.mrcs", np.arange(16, dtype=np.float32).reshape(1, 4, 4))
    write_star(tmp_path / "a.star", ["0000000000000000000000001@x.mrcs"])
    for name in ("a.star", "x.mrcs"):
        monkeypatch.chdir(tmp_path)
        stack = open_stack(name)
        monkeypatch.chdir("/")
        assert stack.read([0]).max() == 15
        assert len(stack.digest()) == 64


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["x.mrcs"], r"row 1: _rlnImageName 'x\.mrcs' is not NUMBER@PATH, such as 000001@stack\.mrcs"),
        (["1@x.mrcs", "one@x.mrcs"], r"row 2: _rlnImageName 'one@x\.mrcs' is not NUMBER@PATH"),
        (["1@"], r"row 1: _rlnImageName '1@' is not"),
        (["²@x.mrcs"], r"row 1: _rlnImageName '²@x\.mrcs' is not"),
        (["1@x.mrcs", "000000@x.mrcs"], r"row 2: image number 0 in _rlnImageName; numbers start at 1"),
        (
            ["1@x.mrcs", "4@x.mrcs", "9" * 5000 + "@x.mrcs"],
            r"row 2 names image 4 of .*x\.mrcs, which holds 3 images \(and 1 more such row\)",
        ),
        (
            ["1@x.mrcs", "2@x.mrcs", "000001@./x.mrcs", "2@link.mrcs"],
            r"more than one row \(2 times\): rows 1 and 3 \(1@x\.mrcs\); rows 2 and 4 \(2@x\.mrcs\); remove",
        ),
        (["1@x.mrcs", "1@wide.mrcs"], r"one box size: .*x\.mrcs has 4 px, .*wide\.mrcs has 6 px"),
    ],
)
def test_image_names_that_do_not_fit(tmp_path: Path, names: list[str], message: str) -> None:
    write_mrc(tmp_path / "x.mrcs", np.ones((3, 4, 4), np.float32))
    write_mrc(tmp_path / "wide.mrcs", np.ones((3, 6, 6), np.float32))
    os.symlink(tmp_path / "x.mrcs", tmp_path / "link.mrcs")
    with pytest.raises(InputError, match=message):
        open_stack(write_star(tmp_path / "a.star", names))


def test_table_and_stack_must_agree(tmp_path: Path) -> None:
    write_mrc(tmp_path / "x.mrcs", np.ones((3, 4, 4), np.float32), pixel_size=3.0)
    star = write_star(tmp_path / "a.star", ["1@x.mrcs"], rlnImageSize=["8"])
    with pytest.raises(
        InputError, match=r"_rlnImageSize is 8 px, the images in .*x\.mrcs have 4 px; correct data_optics"
    ):
        open_stack(star)
    ctf = {
        "rlnVoltage": ["300"],
        "rlnSphericalAberration": ["2"],
        "rlnAmplitudeContrast": ["0.1"],
        "rlnDefocusU": ["1e4"],
    }
    write_star(star, ["1@x.mrcs"], **ctf)
    with pytest.raises(InputError, match="a CTF needs the pixel size, and there is none; add _rlnImagePixelSize"):
        open_stack(star)
    write_star(star, ["1@x.mrcs"])
    assert open_stack(star).pixel_size == 3.0  # nothing else says it


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.tif", r"particles are read from \.star, \.mrcs, \.mrc files, this is '\.tif'$"),
        ("a", r"files, this is a name without any$"),
        ("a.cs", r"this is '\.cs'; of a cryoSPARC job write a STAR file first, with csparc2star\.py of"),
        ("a.mrcs", r"a\.mrcs: cannot be read"),
        ("a.star", r"a\.star: cannot be read"),
    ],
)
def test_files_that_are_no_particles(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_stack(tmp_path / name)


def test_a_map_is_no_stack() -> None:
    with pytest.warns(MfvdmWarning, match="by its header a three-dimensional map; its 65 sections are taken as images"):
        open_stack(shared_data("volumes", "ribosome70S_65px_5A.mrc"))


@pytest.mark.parametrize("max_images", [2, 100])
def test_pixels_that_are_not_finite(tmp_path: Path, max_images: int, rng: np.random.Generator) -> None:
    images = rng.normal(size=(12, 4, 4)).astype(np.float32)
    images[6, 1, 2] = np.nan
    images[7, :2] = np.inf
    write_mrc(tmp_path / "x.mrcs", images)
    message = r"image 7 of .*x\.mrcs \(1 pixel\), image 8 of .*x\.mrcs \(8 pixels\): pixels that are NaN, infinite"
    for path in (tmp_path / "x.mrcs", write_star(tmp_path / "a.star", [f"{i}@x.mrcs" for i in range(12, 0, -1)])):
        stack = open_stack(path)
        with pytest.raises(InputError, match=message):
            collect(stack, max_images)
        with pytest.raises(InputError, match=r"image 7 of"):
            stack.read([6 if path.suffix == ".mrcs" else 5])
    wide = np.where(np.arange(16).reshape(4, 4) == 0, 1e300, 1.0)
    with pytest.raises(InputError, match=r"image 1 of the array \(1 pixel\), .*image 5 .* and 1 more: pixels"):
        collect(ParticleStack.from_array(np.array([wide] * 6)), 6)


def test_constant_images_are_named(rng: np.random.Generator) -> None:
    images = rng.normal(size=(5, 4, 4))
    images[2] = 3.5
    images[4, 0] = 0  # only its first row is constant
    with pytest.raises(InputError, match=r"^image 3 of the array \(all 3\.5\): every pixel has the same value; leave"):
        collect(ParticleStack.from_array(images), 10)
    looked_at = r"every pixel has the same value \(3 of 5 images were looked at\); leave these images out of the stack$"
    with pytest.raises(InputError, match=looked_at):
        collect(ParticleStack.from_array(images), 3)
    images[3, 0, 0] = np.nan
    with pytest.raises(InputError, match=r"too large for float32 \(2 of 5 images were looked at\); extract the"):
        ParticleStack.from_array(images).read([3, 4])
    np.testing.assert_array_equal(ParticleStack.from_array(images).read([4])[0], images[4].astype(np.float32))


def test_stack_that_vanishes_during_the_run(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "x.mrcs", np.arange(16, dtype=np.float32).reshape(1, 4, 4))
    stack = open_stack(path)
    path.unlink()
    with pytest.raises(InputError, match=r"x\.mrcs: cannot be read \(No such file or directory\); was it removed\?"):
        stack.read([0])


def test_digest_follows_every_byte_that_is_used(tmp_path: Path, scattered: tuple[Path, np.ndarray]) -> None:
    path, images = scattered
    stack = open_stack(path)
    names = [name.split("@") for name in path.read_text().split() if "@" in name]
    pieces = [path.read_bytes()]
    for file in stack.paths[1:]:
        data, held = file.read_bytes(), sorted(int(number) - 1 for number, name in names if name == file.name)
        size = (len(data) - 1024) // 10
        pieces += [data[:1024], *(data[1024 + i * size : 1024 + (i + 1) * size] for i in held)]
    assert stack.digest() == open_stack(path).digest() == hashlib.sha256(b"".join(pieces)).hexdigest()

    def change(byte: int) -> str:
        data = bytearray(file.read_bytes())
        data[byte] ^= 1
        file.write_bytes(data)
        return open_stack(path).digest()

    left_out = next(i for i in range(10) if i not in held)
    assert change(1024 + left_out * size) == stack.digest()
    changed = [change(1024 + held[0] * size), change(1024 + (held[-1] + 1) * size - 1), change(300)]
    path.write_text(path.read_text() + "\n")
    assert len({stack.digest(), *changed, open_stack(path).digest()}) == 5
    array = ParticleStack.from_array(images)
    assert array.digest() == ParticleStack.from_array(np.asfortranarray(images)).digest()
    assert array.digest() != ParticleStack.from_array(images[::-1]).digest()


def test_digest_can_be_stopped(scattered: tuple[Path, np.ndarray]) -> None:
    stop = threading.Event()
    stop.set()
    for stack in (open_stack(scattered[0]), ParticleStack.from_array(scattered[1])):
        assert stack.digest(stop) == ""
        assert len(stack.digest()) == 64  # what was left out is not kept


def test_digest_of_a_star_file_that_is_gone(scattered: tuple[Path, np.ndarray]) -> None:
    stack = open_stack(scattered[0])
    scattered[0].unlink()
    with pytest.raises(InputError, match=r"\.star: cannot be read \(No such file or directory\); was it removed\?"):
        stack.digest()


@pytest.mark.parametrize("dtype", MODES)
def test_bare_stacks_of_every_mode(tmp_path: Path, dtype: str, rng: np.random.Generator) -> None:
    images = rng.integers(0, 100, (5, 6, 6)).astype(dtype)
    stack = open_stack(write_mrc(tmp_path / "A.MRC", images, pixel_size=1.1))
    np.testing.assert_array_equal(collect(stack, 2), images.astype(np.float32))
    assert (stack.pixel_size, stack.ctf, stack.star) == (1.1, None, None)
