"""Fixtures of all benchmarks, and the table at the end: printed, and written to ``.benchmarks/results.md``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inputs import Chain
from measure import Roof, Times, Work, measure_call, measure_roof, with_peak
from pytest_benchmark.fixture import BenchmarkFixture
from table import Row, markdown, slow_pairs
from threadpoolctl import threadpool_limits

ROWS = pytest.StashKey[list[Row]]()
ROOFS = pytest.StashKey[dict[int, Roof]]()
START = pytest.StashKey[float]()
TABLE = Path(".benchmarks", "results.md")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS], config.stash[ROOFS], config.stash[START] = [], {}, time.monotonic()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    rows = config.stash[ROWS]
    if not rows:
        return
    report = markdown(rows, config.stash[ROOFS], time.monotonic() - config.stash[START])
    path = config.rootpath / TABLE
    path.parent.mkdir(exist_ok=True)
    path.write_text(report)
    terminalreporter.write_line("")
    terminalreporter.write_line(report)
    for line in slow_pairs(rows):
        terminalreporter.write_line(f"two threads less than 1.8 times as fast as one: {line}")
    terminalreporter.write_line(f"written to {path}")


@pytest.fixture(scope="session", autouse=True)
def roofs(request: pytest.FixtureRequest) -> Iterator[None]:
    """BLAS at one thread throughout, and what one and two threads give, measured before anything else."""
    with threadpool_limits(1, "blas"):
        for threads in (1, 2):
            request.config.stash[ROOFS][threads] = measure_roof(threads)
        yield


@pytest.fixture(scope="session")
def chain() -> Chain:
    """The stages of one job, each made when first asked for."""
    return Chain()


class Recorder:
    """Check, then time one call, and leave a row in the table."""

    def __init__(self, benchmark: BenchmarkFixture, rows: list[Row]) -> None:
        self.benchmark, self.rows = benchmark, rows

    def __call__(
        self,
        stage: str,
        size: str,
        call: Callable[[], Any],
        *,
        threads: int = 1,
        by: str = "mfvdm_fast",
        check: Callable[[Any], None] | None = None,
        work: Work | Callable[[Any], Work] | None = None,
        rounds: int = 3,
    ) -> None:
        """The first call compiles and is checked; time is the best of ``rounds`` later ones. Peers get one thread."""
        if by != "mfvdm_fast":
            call = threadpool_limits.wrap(1)(call)  # now that their libraries are loaded
        result, peak = with_peak(call)
        if check is not None:
            check(result)
        counted = work(result) if callable(work) else work
        del result
        times: list[Times] = []
        self.benchmark.pedantic(lambda: times.append(measure_call(call)), rounds=rounds)
        if self.benchmark.stats is not None:
            best = min(times, key=lambda one: one.wall)
            cpu = min(one.cpu for one in times)
            self.add(Row(stage, by, size, threads, best.wall, cpu, peak, counted, best.at_work, best.elsewhere))

    def add(self, row: Row) -> None:
        """Leave a row that was measured elsewhere."""
        self.rows.append(row)
        self.benchmark.extra_info.update(stage=row.stage, by=row.by, size=row.size, threads=row.threads, cpu_s=row.cpu)


@pytest.fixture
def record(benchmark: BenchmarkFixture, request: pytest.FixtureRequest) -> Recorder:
    """See :class:`Recorder`."""
    return Recorder(benchmark, request.config.stash[ROWS])


@pytest.fixture(scope="session")
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
