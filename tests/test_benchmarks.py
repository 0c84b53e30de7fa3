"""The benchmarks, which nobody runs every day, still find what they import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_every_benchmark_can_be_collected() -> None:
    files = sorted(path.name for path in (ROOT / "benchmarks").glob("bench_*.py"))
    if not files:
        pytest.skip("there are no benchmarks beside these tests")
    options = ("--collect-only", "-q", "-o", "addopts=", "-o", "python_files=bench_*.py", "-p", "no:cacheprovider")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "benchmarks", *options], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(name in done.stdout for name in files)
