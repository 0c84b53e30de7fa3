"""What a benchmark measures: time of the wall and of the processor, peak memory, and what the machine gives at best."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

COPIED = 64 * 2**20  # bytes of the arrays copied by each thread: far beyond the caches
SGEMM = 1024
LEAST_SEEN = 0.2  # seconds: in less, hundredths of a second, in which the kernel counts the machine, say nothing


@dataclass(frozen=True)
class Work:
    """What a stage cannot do without: floating-point operations, or bytes to and from memory, and how they are counted.

    A fused multiply-add counts as two, and an operation in float64 as two.
    """

    how: str
    flops: float = 0.0
    bytes: float = 0.0


@dataclass(frozen=True)
class Roof:
    """What so many threads give at best: float32 matrix products, and copies of large arrays (read plus written)."""

    flops_per_s: float
    bytes_per_s: float

    def share(self, work: Work, seconds: float) -> tuple[float, str]:
        """The part of the roof that is reached, and which roof: the one under which the work takes longer."""
        compute, copy = work.flops / self.flops_per_s, work.bytes / self.bytes_per_s
        return (compute / seconds, "sgemm") if compute >= copy else (copy / seconds, "copy")


def measure_roof(threads: int, rounds: int = 7) -> Roof:
    """Best of ``rounds``, every thread with matrices of its own; BLAS must be held at one thread.

    Time is the processor's over the number of threads: other programs on the machine take nothing away from the roof.
    """
    rng = np.random.default_rng(0)
    factors = [rng.standard_normal((SGEMM, SGEMM), np.float32) for _ in range(threads)]
    products = [np.empty_like(a) for a in factors]
    sources = [np.ones(COPIED // 4, np.float32) for _ in range(threads)]
    targets = [np.empty_like(a) for a in sources]
    with ThreadPoolExecutor(threads) as pool:

        def best(call: Callable[[int], Any]) -> float:
            def one_round() -> float:
                start = time.process_time()
                list(pool.map(call, range(threads)))
                return (time.process_time() - start) / threads

            return min(one_round() for _ in range(rounds))

        compute = best(lambda t: np.matmul(factors[t], factors[t], out=products[t]))
        copy = best(lambda t: np.copyto(targets[t], sources[t]))
    return Roof(threads * 2 * SGEMM**3 / compute, threads * 2 * COPIED / copy)


@dataclass(frozen=True)
class Times:
    """Of one call: seconds of the wall and of the processor.

    ``at_work``: threads that ran, or would have run had other programs left them a core, on average; ``elsewhere``:
    cores that other programs had meanwhile, or other machines on the same host. None where that cannot be known.
    """

    wall: float
    cpu: float
    at_work: float | None
    elsewhere: float | None


def measure_call(call: Callable[[], Any]) -> Times:
    """Times of one call."""
    busy, ready, cpu, wall = _busy(), _ready(), time.process_time(), time.perf_counter()
    call()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    ready_after, busy_after = _ready(), _busy()
    seen = ready is not None and ready_after is not None and wall > LEAST_SEEN / 10
    at_work = (ready_after - ready) / wall if seen else None  # type: ignore[operator]
    known = busy is not None and busy_after is not None and wall > LEAST_SEEN
    elsewhere = max(0.0, busy_after - busy - cpu) / wall if known else None  # type: ignore[operator]
    return Times(wall, cpu, at_work, elsewhere)


def _ready() -> float | None:
    """Seconds that the threads of this process have run, or waited for a core."""
    total = 0
    with suppress(OSError, ValueError):
        for file in Path("/proc/self/task").glob("*/schedstat"):
            ran, waited = file.read_text().split()[:2]
            total += int(ran) + int(waited)
    return total / 1e9 if total else None


def _busy() -> float | None:
    """Seconds that all cores have been in use, by whomever, since the machine was started."""
    with suppress(OSError, ValueError, AttributeError):
        user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().split()[1:9])
        return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")
    return None


def _status(field: str) -> int | None:
    """A size in /proc/self/status, bytes; None where there is no such file."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return 1024 * int(line.split()[1])
    return None


def with_peak(call: Callable[[], Any]) -> tuple[Any, int | None]:
    """The result, and the bytes by which the process grew at most during the call; None where that cannot be known."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # give back what earlier benchmarks left, or it would be used unseen
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    except OSError:
        return call(), None
    before = _status("VmRSS")
    result = call()
    peak = _status("VmHWM")
    return result, None if peak is None or before is None else max(0, peak - before)
