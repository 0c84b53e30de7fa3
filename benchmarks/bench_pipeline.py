"""The whole job from disk to disk, its stages, and the cost of importing the package.

Run with: make bench, or python -m pytest benchmarks/bench_pipeline.py --benchmark-only
CPU-seconds, peak memory and the seconds of each stage stand in ``extra_info`` of the benchmark's JSON and are printed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from mfvdm_fast.cli.main import main

SIZES = [(2_000, 65), (10_000, 65), (2_000, 129)]

JOB = """
import json, resource, sys
from mfvdm_fast.cli.main import main
code = main(["denoise", sys.argv[1], "-o", sys.argv[2], "--threads", sys.argv[3], "--overwrite"])
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"code": code, "cpu_s": usage.ru_utime + usage.ru_stime, "peak_mb": usage.ru_maxrss / 1024}))
"""


@pytest.fixture(scope="module", params=SIZES, ids=lambda size: f"n={size[0]}-L={size[1]}")
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    n, box_size = request.param
    folder = tmp_path_factory.mktemp("stack")
    pixel_size = 5.0 * 65 / box_size
    code = main(["simulate", "-n", str(n), "-L", str(box_size), "--pixel-size", str(pixel_size), "--snr", "0.05",
                 "-o", str(folder)])  # fmt: skip
    assert code == 0
    return folder / "particles.star"


def run_job(star: Path, output: Path, threads: int) -> dict[str, float]:
    command = [sys.executable, "-c", JOB, str(star), str(output), str(threads)]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(found.stdout.strip().splitlines()[-1]))


@pytest.mark.parametrize("threads", [1, 2])
def test_denoise(benchmark: BenchmarkFixture, stack: Path, tmp_path: Path, threads: int) -> None:
    run_job(stack, tmp_path / "warm", threads)  # compiles, once for all
    usage = benchmark.pedantic(run_job, (stack, tmp_path / "out", threads), rounds=1)
    assert usage["code"] == 0
    stages = json.loads((tmp_path / "out" / "timings.json").read_text())
    benchmark.extra_info.update(usage | {"stages": stages})
    print(f"\n{stack.parent.name} threads={threads}: {usage['cpu_s']:.1f} CPU-s, {usage['peak_mb']:.0f} MB, {stages}")


def test_import(benchmark: BenchmarkFixture) -> None:
    benchmark.pedantic(subprocess.run, ([sys.executable, "-c", "import mfvdm_fast"],), {"check": True}, rounds=5)
