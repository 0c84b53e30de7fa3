"""What the command line does with its surroundings, log lines, warnings and signals; all is put back at the end."""

from __future__ import annotations

import contextlib
import io
import logging
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

from ..errors import MfvdmWarning


@contextlib.contextmanager
def console(verbose: bool = False) -> Iterator[list[str]]:
    """Log lines and warnings go to standard error, one line each; SIGTERM stops a run as Ctrl-C does.

    Yields the list of the warnings shown so far; each text is shown once.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without Greek letters is no reason to fail
    with _log_lines(verbose), _warning_lines() as shown, _terminate_as_interrupt():
        yield shown


@contextlib.contextmanager
def _log_lines(verbose: bool) -> Iterator[None]:
    logger = logging.getLogger(__package__.partition(".")[0])
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


@contextlib.contextmanager
def _warning_lines() -> Iterator[list[str]]:
    shown: list[str] = []
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Any, category: Any, filename: str, lineno: int, file: TextIO | None = None,
                 line: str | None = None) -> None:  # fmt: skip
            if not issubclass(category, MfvdmWarning):
                usual(message, category, filename, lineno, file, line)
                return
            text = " ".join(str(message).split())
            if text not in shown:
                shown.append(text)
                print(f"warning: {text}", file=sys.stderr)

        warnings.simplefilter("always", MfvdmWarning)
        warnings.showwarning = show  # type: ignore[assignment]
        yield shown


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
