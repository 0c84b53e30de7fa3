"""The harness of the paper's tables, on a tiny cell: files, going on, scores, tables; and how peers are read."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import affine_transform

from mfvdm_fast import ParticleStack, open_stack
from mfvdm_fast.records import NeighborTable

from .conftest import shared_data

FOLDER = Path(__file__).parents[1] / "benchmarks" / "paper"
NAMES = ("cells", "peers", "methods", "run", "tables", "halfset_stacks", "independent", "halfsets")


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The modules of the harness, with one small cell in every table."""
    if not FOLDER.is_dir():
        pytest.skip("benchmarks/paper is not beside the tests: they run against an installed package")
    monkeypatch.syspath_prepend(str(FOLDER))
    modules = {name: importlib.import_module(name) for name in NAMES}
    cells = modules["cells"]
    small = {"tiny": cells.Cell("tiny", 0.3, box_size=24), "dirty": cells.Cell("dirty", 0.3, box_size=24,
             changes={"junk_fraction": 0.2})}  # fmt: skip
    monkeypatch.setitem(cells.TABLES["published"], "tiny", small["tiny"])
    monkeypatch.setitem(cells.TABLES["robustness"], "dirty", small["dirty"])
    for name, cell in small.items():
        monkeypatch.setitem(cells.CELLS, name, cell)
    yield modules
    for name in NAMES:
        sys.modules.pop(name)


def run(paper: dict[str, Any], out: Path, *options: str) -> None:
    paper["run"].main(["--out", str(out), "-n", "150", "--threads", "1", "--seeds", "0", *options])


def test_a_run_its_files_and_tables(
    paper: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = ["spca", "classavg", "cwf", "paper"]
    run(paper, tmp_path, "--cells", "tiny", "--methods", *methods)
    run(paper, tmp_path, "--cells", "dirty", "--methods", "paper")
    found = {path.name: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    expected = [("tiny", name) for name in methods] + [(cell, "constant") for cell in ("tiny", "dirty")]
    assert set(found) == {f"{cell}-n150-s0-{name}.json" for cell, name in [*expected, ("dirty", "paper")]}
    scores = {name: found[f"tiny-n150-s0-{name}.json"] for name in ("constant", *methods)}
    assert all(scores[name]["psnr_db"] > scores["constant"]["psnr_db"] for name in methods)
    assert scores["cwf"]["psnr_db"] > scores["spca"]["psnr_db"]
    near = scores["paper"]["neighbors"]
    assert sum(near["final"]["view_histogram"]) == 150 * 50
    assert sum(near["final"]["in_plane_histogram"]) == round(near["final"]["within_10_deg"] * 150 * 50)
    dirty = found["dirty-n150-s0-paper.json"]
    assert dirty["scored"] < 150
    assert 0 < dirty["neighbors"]["initial"]["junk_neighbors"] < 0.3
    assert sum(dirty["neighbors"]["final"]["view_histogram"]) < dirty["scored"] * 50

    paper["tables"].main(["--out", str(tmp_path)])
    text = (tmp_path / "results.md").read_text()
    row = f"| tiny | 150 | MFVDM (preset paper) | {near['initial']['within_10_deg']:.3f} | "
    assert row in text
    assert f"| {scores['cwf']['psnr_db']:.2f} |" in text
    assert "of the neighbours are junk" in text
    assert (tmp_path / "figure6.png").stat().st_size > 5000

    # A run that goes on makes what is missing and nothing else.
    (tmp_path / "tiny-n150-s0-cwf.json").unlink()
    monkeypatch.setitem(paper["methods"].METHODS, "paper", ("paper", lambda job: pytest.fail("run again")))
    capsys.readouterr()
    run(paper, tmp_path, "--cells", "tiny", "--methods", *methods)
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == ["tiny-n150-s0-cwf.json"]
    assert json.loads((tmp_path / "tiny-n150-s0-cwf.json").read_text())["psnr_db"] == scores["cwf"]["psnr_db"]


def test_what_cannot_run_is_left_out(paper: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(paper, tmp_path, "--cells", "tiny", "--methods", "aspire_cwf", "--aspire-python", "/bin/false")
    assert "aspire_cwf: left out, /bin/false has no aspire; install the extra 'peers'" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"this cell needs volumes/ribosome70S_65px_5A.mrc in the folder given with"):
        run(paper, tmp_path, "--cells", "A_05", "--methods", "cwf")


def test_every_method_is_in_the_legend(paper: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not every method has lists of neighbours, which the first panel shows."""
    curve = {"frequency": [0.01, 0.02], "frc": [0.9, 0.5]}
    both = {"lists": curve, "restored": curve}
    shown: list[str] = []

    def plot(path: Path, n_rows: int, n_columns: int, draw: Any) -> None:
        import matplotlib as mpl

        mpl.use("Agg")
        import matplotlib.pyplot as plt

        figure, panels = plt.subplots(n_rows, n_columns, squeeze=False)
        draw(panels)
        shown.extend(text.get_text() for text in panels[0][0].get_legend().get_texts())
        plt.close(figure)

    monkeypatch.setattr(paper["tables"], "_plot", plot)
    paper["tables"].half_figure({"halves": {"paper": [both], "cwf": [{"restored": curve}]}}, tmp_path)
    assert shown == [paper["methods"].METHODS[name][0] for name in ("cwf", "paper")]


def test_spread(paper: dict[str, Any]) -> None:
    spread = paper["tables"].spread
    assert [spread(values, 1) for values in ([], [2.0], [1.0, 2.0, 4.0])] == ["", "2.0", "2.3 ± 1.5"]


def test_every_cell_simulates(paper: dict[str, Any]) -> None:
    cells = paper["cells"]
    data = shared_data()
    seen = []
    for name, cell in cells.CELLS.items():
        if not name.startswith("B_") and not name.endswith(("_02", "_01")):
            stack = cells.simulate(cell, data, 3, 0, 1)
            assert stack.noise_variance == pytest.approx(stack.signal_variance / cell.snr)
            seen.append(stack.read(np.arange(3)))
    assert len(np.unique([images[0, 12, 12] for images in seen])) == len(seen)


def test_class_averages_are_turned_back(paper: dict[str, Any]) -> None:
    """Against the forward transform that RELION's own program agrees with."""
    rng = np.random.default_rng(0)
    y, x = np.indices((33, 33)) - 16
    blobs = [np.exp(-((x - a) ** 2 + (y - b) ** 2) / 18) for a, b in rng.uniform(-6, 6, (4, 2))]
    image = np.sum(blobs, axis=0)
    for psi in (0.3, -2.0):
        c, s = np.cos(psi), np.sin(psi)
        matrix, centre = np.array([[c, -s], [s, c]]), np.full(2, 16)
        in_class = affine_transform(image, matrix, centre - matrix @ centre, order=3)
        np.testing.assert_allclose(paper["peers"]._turned_back(in_class, psi), image, atol=0.02)


def test_average_of_aligned_copies_is_the_particle(paper: dict[str, Any]) -> None:
    """Turned and mirrored copies of one image, listed with their true angles, average to that image."""
    methods, cells = paper["methods"], paper["cells"]
    truth = cells.simulate(cells.Cell("plain", np.inf, box_size=24, changes={"ctf": False}), None, 60, 0, 1)
    rng = np.random.default_rng(1)
    images = truth.read(np.arange(60)) + np.float32(0.01) * rng.standard_normal((60, 24, 24), dtype=np.float32)
    given = methods.expand(methods.Job(ParticleStack.from_array(images, 5.0), 1.0, 1, Path(), ""))
    angles, mirrored = rng.uniform(-np.pi, np.pi, 60), rng.random(60) < 0.5
    copies = methods.steer(np.repeat(given.raw.packed[:1], 60, axis=0), given.raw.offsets, mirrored, angles)
    given.raw.packed[:] = copies
    # Copy i is the image mirrored, then turned: plain pairs differ by angle, mirrored ones by the sum.
    j = (np.arange(60)[:, None] + np.arange(1, 5)) % 60
    flag = mirrored[:, None] != mirrored[j]
    table = NeighborTable(j, flag, angles[:, None] + np.where(flag, 1, -1) * angles[j], np.ones(j.shape))
    averaged = methods.average_neighbors(given, table, with_itself=False)
    gain = np.vdot(copies, averaged).real / np.vdot(copies, copies).real
    assert 0.9 < gain <= 1.0
    np.testing.assert_allclose(averaged, gain * copies, atol=1e-4 * np.abs(copies).max())


def test_half_sets(paper: dict[str, Any], simulated: Path, tmp_path: Path) -> None:
    halfsets = paper["halfsets"]
    rng = np.random.default_rng(2)
    methods = paper["methods"]
    given = methods.expand(methods.Job(ParticleStack.from_array(open_stack(simulated / "particles.mrcs").read(
        np.arange(100)), 4.0), 1.0, 1, tmp_path, ""))  # fmt: skip
    one, other = (given.basis.expand(rng.standard_normal((200, 32, 32)).astype(np.float32)) for _ in range(2))
    frequency, same = halfsets.ring_correlation(given, one, one)
    np.testing.assert_allclose(same, 1.0, atol=1e-5)
    assert (np.diff(frequency) > 0).all()
    assert frequency[-1] == pytest.approx(given.basis.bandlimit, abs=0.5 / 32 + 1e-9)
    assert np.abs(halfsets.ring_correlation(given, one, other)[1]).max() < 4 / np.sqrt(200)
    # Equal below a frequency and unrelated beyond it.
    low = given.basis.radial_nodes < 0.1
    mixed = halfsets.ring_correlation(given, one, np.where(low, one, other))[1]
    assert (mixed[frequency < 0.08] > 0.999).all()
    assert np.abs(mixed[frequency > 0.12]).max() < 4 / np.sqrt(200)

    options = ["--methods", "random", "mfvdm_star", "--seeds", "0", "--threads", "1", "--out", str(tmp_path)]
    options += ["--data", str(simulated), "--star", "particles.star", "--twin-n", "120"]
    halfsets.main([*options, "--stacks", "real", "twin"])
    found = {name: json.loads((tmp_path / f"halves-s0-{name}.json").read_text()) for name in ("random", "mfvdm_star")}
    assert found["mfvdm_star"]["lists"]["bands"][0] > found["random"]["lists"]["bands"][0] + 0.1
    assert found["mfvdm_star"]["restored"]["bands"][0] > 0.5
    assert "restored" not in found["random"]
    assert found["mfvdm_star"]["independent"]["bands"][0] > 0.1
    twin = json.loads((tmp_path / "twin-s0-mfvdm_star.json").read_text())
    assert twin["truth"]["bands"][1] > 0.2
    assert twin["truth of lists"]["bands"][1] > 0.2
    paper["tables"].main(["--out", str(tmp_path)])
    text = (tmp_path / "results.md").read_text()
    assert f"| MFVDM* | {found['mfvdm_star']['lists']['bands'][0]:.3f} " in text
    assert "A simulated twin" in text


def test_independent_correlation(paper: dict[str, Any], simulated: Path, tmp_path: Path) -> None:
    """Clean particles agree with originals of others, noise does not, however well its halves agree."""
    methods, stacks = paper["methods"], paper["halfset_stacks"]
    particles = stacks.make_twin(200, threads=1)
    given = methods.expand(methods.Job(particles.stack, 1.0, 1, tmp_path, ""))
    side = np.random.default_rng(0).permutation(200) < 100
    clean = given.basis.expand(particles.clean, 1)
    rng = np.random.default_rng(1)
    noise = given.basis.expand(np.tile(rng.standard_normal(particles.clean[:100].shape), (2, 1, 1)).astype(np.float32))
    compare = paper["independent"].independent_correlation
    found = [compare(given, one - one.mean(axis=0), side, 1)[1] for one in (clean, noise)]
    assert found[0][1:8].mean() > 0.3
    assert abs(found[1][1:8].mean()) < 0.1


def test_scrambled_images_keep_their_amplitudes(paper: dict[str, Any], tmp_path: Path) -> None:
    stacks = paper["halfset_stacks"]
    given = stacks.make_twin(60, threads=1)
    mixed = stacks.scramble(given)
    images, rows = given.stack.read(np.arange(60)), np.arange(60)
    assert mixed.stack.read(rows).std() == pytest.approx(images.std(), rel=0.05)
    centred = [x - x.mean(axis=0) for x in (images, mixed.stack.read(rows))]
    assert abs(np.vdot(*centred)) < 0.1 * np.vdot(centred[0], centred[0])
