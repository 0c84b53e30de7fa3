"""Progress: timings of stages, rate-limited log lines, and bars that are always taken down."""

from __future__ import annotations

import doctest
import io
import itertools
import logging

import pytest

from mfvdm_fast import progress as module
from mfvdm_fast.progress import LogProgress, StageTimes, console_progress, no_progress


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_stage_times_add_up_and_reports_are_passed_on() -> None:
    clock, heard = Clock(), []
    times = StageTimes(lambda *report: heard.append(report), clock)
    reports = [("search", 0, 4), ("search", 2, 4), ("search", 4, 4), ("solve", 0, 1), ("solve", 1, 1)]
    for report in reports:
        times(*report)
        clock.now += 2.5
    assert heard == reports
    assert times.seconds == {"search": 5.0, "solve": 2.5}
    clock.now += 100
    for done in (0, 4):  # a second round: the pause before it does not count
        times("search", done, 4)
        clock.now += 1
    assert times.seconds == {"search": 6.0, "solve": 2.5}
    assert list(times.seconds) == ["search", "solve"]


def test_an_error_of_the_listener_stops_the_run() -> None:
    def cancel(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        StageTimes(cancel)("search", 0, 1)
    assert no_progress("search", 0, 1) is None  # type: ignore[func-returns-value]


def test_log_lines_at_start_end_and_each_tenth(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    with caplog.at_level(logging.INFO, "mfvdm_fast.progress"):
        listener = LogProgress(clock)
        for done in range(1001):
            listener("search", done, 1000)
            clock.now += 0.01
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "search: started (1000)"
    assert lines[1] == "search: 100 of 1000 (10 %), 1.0 s"
    assert lines[-1] == "search: done, 10.0 s"
    assert len(lines) <= 11
    assert len(set(lines)) == len(lines)


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ([(0, 0)], ["s: started (0)", "s: done, 0.0 s"]),
        ([(0, 0), (0, 0)], ["s: started (0)", "s: done, 0.0 s"]),
        ([(3, 10)], ["s: started (10)", "s: 3 of 10 (30 %), 0.0 s"]),
        ([(2, 2), (2, 2)], ["s: started (2)", "s: done, 0.0 s"]),
        ([(0, 2), (2, 2), (0, 2), (2, 2)], ["s: started (2)", "s: done, 0.0 s"] * 2),
    ],
)
def test_log_lines_of_odd_sequences(
    reports: list[tuple[int, int]], expected: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "mfvdm_fast.progress"):
        listener = LogProgress(Clock())
        for done, total in reports:
            listener("s", done, total)
    assert [record.getMessage() for record in caplog.records] == expected


def test_console_logs_when_the_stream_is_no_terminal(caplog: pytest.LogCaptureFixture) -> None:
    stream = io.StringIO()
    with caplog.at_level(logging.INFO, "mfvdm_fast.progress"), console_progress(stream) as progress:
        for done in (0, 1):
            progress("write", done, 1)
    assert stream.getvalue() == ""
    assert [record.getMessage().split(",")[0] for record in caplog.records] == ["write: started (1)", "write: done"]
    assert list(progress.seconds) == ["write"]


def test_console_draws_bars_on_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    stream = Terminal()
    with caplog.at_level(logging.INFO), console_progress(stream) as progress:
        for stage, done in itertools.product(("search", "solve"), (0, 3, 7)):
            progress(stage, done, 7)
    assert "search" in stream.getvalue()
    assert "7/7" in stream.getvalue()
    assert caplog.records == []


def test_an_error_inside_takes_the_bars_down_and_gives_the_cursor_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()

    def fail() -> None:
        with console_progress(stream) as progress:
            progress("search", 1, 2)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert stream.getvalue().count(hide) == stream.getvalue().count(show) == 1
    assert stream.getvalue().rindex(show) > stream.getvalue().rindex(hide)


def test_docstring_examples() -> None:
    result = doctest.testmod(module)
    assert result.attempted >= 5
    assert result.failed == 0
