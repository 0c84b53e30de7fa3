"""The rows that the benchmarks leave behind, as a Markdown table."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from measure import Roof, Work

HEADER = (
    *("stage", "by", "size", "threads", "CPU s", "wall s", "peak MB"),
    *("of the roof", "2 threads / 1", "at work", "elsewhere"),
)


@dataclass(frozen=True)
class Row:
    """One measured stage; ``seconds`` of the wall and of the processor are the least of all rounds."""

    stage: str
    by: str  # "mfvdm_fast", or the peer
    size: str
    threads: int
    wall: float
    cpu: float
    peak: int | None = None  # bytes
    work: Work | None = None
    at_work: float | None = None  # threads, on average, and
    elsewhere: float | None = None  # cores that other programs had meanwhile: see measure.Times


def markdown(rows: list[Row], roofs: dict[int, Roof], seconds: float) -> str:
    """The whole report: machine, roofs, table, and how the work was counted."""
    load = f", load average {os.getloadavg()[0]:.1f} at the end" if hasattr(os, "getloadavg") else ""
    lines = ["# Benchmarks", "", f"{_machine()}; {seconds:.0f} s in all{load}.", ""]
    for threads, roof in sorted(roofs.items()):
        lines.append(
            f"- roof of {threads} thread{'s' if threads > 1 else ''}: sgemm {roof.flops_per_s / 1e9:.0f} GFlop/s, "
            f"copy {roof.bytes_per_s / 1e9:.1f} GB/s (read + written)"
        )
    lines += [
        "- 2 threads / 1: seconds of the wall of one thread over those of two",
        "- at work: threads that ran, or waited for a core that other programs had, on average: what both cores give",
        "  to two threads when nothing else runs, unless memory makes them slower (CPU s then grows)",
        "- elsewhere: cores that other programs, or other machines on the same host, had meanwhile",
    ]
    lines += ["", "| " + " | ".join(HEADER) + " |", "|---" * len(HEADER) + "|"]
    lines += ["| " + " | ".join(_cells(row, rows, roofs)) + " |" for row in rows]
    counted = {row.stage: row.work.how for row in rows if row.work is not None}
    lines += ["", "How the work is counted:", ""]
    lines += [f"- {stage}: {how}" for stage, how in counted.items()]
    return "\n".join(lines) + "\n"


def slow_pairs(rows: list[Row], least: float = 1.8) -> list[str]:
    """Our own stages in which two threads are less than ``least`` times as fast as one."""
    found = []
    for row in rows:
        ratio = _ratio(row, rows)
        if ratio is not None and row.by == "mfvdm_fast" and ratio < least:
            found.append(
                f"{row.stage}, {row.size}: {ratio:.2f}{'' if row.at_work is None else f', at work {row.at_work:.2f}'}"
            )
    return found


def _ratio(row: Row, rows: list[Row]) -> float | None:
    one = [r for r in rows if (r.stage, r.by, r.size, r.threads) == (row.stage, row.by, row.size, 1)]
    return one[0].wall / row.wall if row.threads == 2 and one else None


def _cells(row: Row, rows: list[Row], roofs: dict[int, Roof]) -> list[str]:
    share, ratio = "", _ratio(row, rows)
    if row.work is not None and row.threads in roofs:
        # Of one thread the processor's time, which is the wall's on a quiet machine and better on a busy one.
        part, which = roofs[row.threads].share(row.work, row.cpu if row.threads == 1 else row.wall)
        share = f"{100 * part:.0f} % {which}"
    return [
        row.stage,
        row.by,
        row.size,
        str(row.threads),
        _seconds(row.cpu),
        _seconds(row.wall),
        "" if row.peak is None else f"{row.peak / 1e6:.0f}",
        share,
        "" if ratio is None else f"{ratio:.2f}",
        "" if row.at_work is None else f"{row.at_work:.2f}",
        "" if row.elsewhere is None else f"{row.elsewhere:.2f}",
    ]


def _seconds(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _machine() -> str:
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"
