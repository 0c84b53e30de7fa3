"""Telling the user how far a run is: one callback type, and the two ways the command line shows it.

A stage calls ``progress(stage, done, total)``: first with ``done`` 0, last with ``done == total``, in between as often
as it likes. Listeners keep the pace down. An error raised by a listener stops the run: so a caller cancels it.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
Report = Callable[[int, int], None]  # of one stage

LOG_STEP = 0.1  # log lines of one stage are at least this fraction apart


def no_progress(stage: str, done: int, total: int) -> None:
    """The default listener: says nothing."""


def piece_of(report: Report, done: int, total: int) -> Report:
    """The report of one of ``total`` pieces of a stage, of which ``done`` are done, as that of the stage.

    >>> piece_of(lambda part, parts: print(part, parts), 1, 4)(8, 16)
    1500 4000
    """

    def part_done(part: int, parts: int) -> None:
        report(1000 * done + 1000 * part // max(parts, 1), 1000 * total)

    return part_done


class StageTimes:
    """Passes reports on and keeps the seconds from the first to the last report of each stage, in order of appearance.

    A stage reported again from the start is timed again, and its seconds add up.

    >>> times = StageTimes()
    >>> times("search", 0, 2), times("search", 2, 2)
    (None, None)
    >>> list(times.seconds)
    ['search']
    """

    def __init__(self, listener: Progress = no_progress, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds: dict[str, float] = {}
        self._listener = listener
        self._clock = clock
        self._last: dict[str, tuple[int, float]] = {}  # done and time of the latest report

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = self._clock()
        done_before, reported = self._last.get(stage, (done, now))
        if done < done_before:  # a new round: the pause since the last one is not this stage's
            reported = now
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - reported
        self._last[stage] = (done, now)
        self._listener(stage, done, total)


class LogProgress:
    """A log line at the start and the end of each stage, and after each tenth of it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started: dict[str, float] = {}
        self._logged: dict[str, float] = {}  # fraction of the latest line

    def __call__(self, stage: str, done: int, total: int) -> None:
        fraction = done / total if total > 0 else 1.0
        if stage not in self._started or fraction < self._logged[stage]:
            self._started[stage] = self._clock()
            self._logged[stage] = 0.0
            log.info("%s: started (%d)", stage, total)
        seconds = self._clock() - self._started[stage]
        if fraction >= 1.0:
            if self._logged[stage] < 1.0:
                log.info("%s: done, %.1f s", stage, seconds)
            self._logged[stage] = 1.0
        elif fraction >= self._logged[stage] + LOG_STEP:
            log.info("%s: %d of %d (%.0f %%), %.1f s", stage, done, total, 100 * fraction, seconds)
            self._logged[stage] = fraction


@contextlib.contextmanager
def _bars(stream: TextIO) -> Iterator[Progress]:
    """One bar for each stage on a terminal; taken down, and the cursor given back, whatever happens inside."""
    from rich import progress as rich_progress
    from rich.console import Console

    columns = ("{task.description}", rich_progress.BarColumn(), rich_progress.MofNCompleteColumn())
    bars = rich_progress.Progress(*columns, rich_progress.TimeElapsedColumn(), console=Console(file=stream))
    tasks: dict[str, rich_progress.TaskID] = {}

    def show(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total)
        bars.update(tasks[stage], completed=done, total=total)

    with bars:
        yield show


@contextlib.contextmanager
def console_progress(stream: TextIO | None = None) -> Iterator[StageTimes]:
    """Bars when ``stream`` (standard error by default) is a terminal, log lines at level INFO otherwise.

    Yields a :class:`StageTimes`: pass it to a stage as ``progress``, read its ``seconds`` at the end.

    >>> import io
    >>> with console_progress(io.StringIO()) as progress:
    ...     progress("search", 0, 1)
    """
    stream = sys.stderr if stream is None else stream
    if stream.isatty():
        with _bars(stream) as listener:
            yield StageTimes(listener)
    else:
        yield StageTimes(LogProgress())
