"""The whole job from disk to disk, the import, and the first start of all, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
from conftest import Recorder
from inputs import MAP, PIXEL, SNR, N, particle
from table import Row

from mfvdm_fast.cli.main import main
from mfvdm_fast.params import PRESETS

TIMED = """
import json, sys, time
from pathlib import Path
start, code = time.perf_counter(), 0
{}
cpu, wall, peak = time.process_time(), time.perf_counter() - start, 0
for line in Path("/proc/self/status").read_text().splitlines() if Path("/proc/self/status").exists() else ():
    if line.startswith("VmHWM"):  # not ru_maxrss, which starts at that of the process that started this one
        peak = 1024 * int(line.split()[1])
print(json.dumps({{"code": code, "cpu": cpu, "wall": wall, "peak": peak}}))
"""
JOB = TIMED.format('from mfvdm_fast.cli.main import main; code = main(["denoise", *sys.argv[1:], "--overwrite"])')
IMPORT = TIMED.format("import mfvdm_fast")
SIZES = {65: N, 129: N // 5}  # box: particles
SMALL = (300, 48)  # particles, box: a job that is nothing but compilation and start


def simulate(n: int, box_size: int, folder: Path) -> Path:
    """A simulated stack on disk; the path of its STAR file."""
    volume, pixel_size = folder / "map.mrc", PIXEL * 65 / box_size
    folder.mkdir(parents=True, exist_ok=True)
    if MAP is not None:
        with mrcfile.new(volume) as file:
            file.set_data(particle(box_size))
            file.voxel_size = pixel_size
    code = main(["simulate", "-n", str(n), "-L", str(box_size), "--pixel-size", str(pixel_size), "--snr", str(SNR),
                 *(["--volume", str(volume)] if MAP else []), "-o", str(folder / "simulated")])  # fmt: skip
    assert code == 0
    return folder / "simulated" / "particles.star"


def run_job(star: Path, output: Path, *options: str, **environment: str) -> dict[str, Any]:
    """CPU-seconds, wall-clock seconds and peak memory of one job, and the stages' seconds."""
    command = [sys.executable, "-c", JOB, str(star), "-o", str(output), *options]
    found = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | environment)
    usage: dict[str, Any] = json.loads(found.stdout.strip().splitlines()[-1])
    assert usage["code"] == 0, found.stderr
    return usage | {"stages": json.loads((output / "timings.json").read_text())["seconds"]}


@pytest.fixture(scope="session")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("stacks")
    return {box_size: simulate(n, box_size, folder / str(box_size)) for box_size, n in SIZES.items()}


def leave_row(record: Recorder, stage: str, size: str, threads: int, usage: dict[str, Any]) -> None:
    record.add(Row(stage, "mfvdm_fast", size, threads, usage["wall"], usage["cpu"], usage["peak"] or None))
    record.benchmark.extra_info.update(usage)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("box_size", SIZES)
@pytest.mark.parametrize("name", PRESETS)
def test_whole_job(
    record: Recorder, stacks: dict[int, Path], tmp_path: Path, name: str, box_size: int, threads: int
) -> None:
    options = ("--preset", name, "--threads", str(threads))
    usage = record.benchmark.pedantic(run_job, (stacks[box_size], tmp_path / "out", *options), rounds=1)
    with (
        mrcfile.mmap(tmp_path / "out" / "denoised.mrcs") as found,
        mrcfile.mmap(stacks[box_size].with_name("clean.mrcs")) as clean,
    ):
        first, truth = np.asarray(found.data[:200]).ravel(), np.asarray(clean.data[:200]).ravel()
    assert np.corrcoef(first, truth)[0, 1] > 0.8
    leave_row(record, f"whole job, {name}", f"n = {SIZES[box_size]:,}, {box_size} px", threads, usage)


def test_import(record: Recorder) -> None:
    found = record.benchmark.pedantic(
        lambda: json.loads(subprocess.run([sys.executable, "-c", IMPORT], check=True, capture_output=True).stdout),
        rounds=5,
    )
    leave_row(record, "import", "", 1, found)


def test_start(record: Recorder, tmp_path: Path) -> None:
    """A small job with an empty folder for machine code, then again."""
    star = simulate(*SMALL, tmp_path / "small")
    size = f"n = {SMALL[0]}, {SMALL[1]} px"
    for name in PRESETS:
        cache = {"MFVDM_CACHE_DIR": str(tmp_path / f"cache of {name}")}
        cold = run_job(star, tmp_path / "out", "--preset", name, "--threads", "1", **cache)
        leave_row(record, f"cold start, {name}", size, 1, cold)
    again = (star, tmp_path / "out", "--preset", name, "--threads", "1")
    warm = record.benchmark.pedantic(run_job, again, cache, rounds=1)
    leave_row(record, f"the same, warm, {name}", size, 1, warm)
    assert warm["cpu"] < cold["cpu"]
