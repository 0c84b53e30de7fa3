"""What the command line does with its surroundings, log lines, warnings and signals; all is put back at the end."""

from __future__ import annotations

import contextlib
import io
import logging
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

from ..errors import MfvdmWarning

_SAME_WISH = 3.0  # s from one interrupt to the next that counts


@contextlib.contextmanager
def console(verbose: bool = False) -> Iterator[list[str]]:
    """Log lines and warnings go to standard error, one line each; SIGTERM stops a run as Ctrl-C does, and
    either of them once.

    Yields the list of the warnings shown so far; each text is shown once.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without Greek letters is no reason to fail
    with _log_lines(verbose), _warning_lines() as shown, _interrupt_once():
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
def _interrupt_once() -> Iterator[None]:
    """SIGINT and SIGTERM stop the run; what follows soon after is the same wish, and must not stop the tidying up."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return

    last = -_SAME_WISH

    def stop(number: int, frame: object) -> None:
        nonlocal last
        if time.monotonic() - last >= _SAME_WISH:
            last = time.monotonic()
            raise KeyboardInterrupt

    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, stop)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # what a shell starts in its background is deaf
        before[signal.SIGINT] = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
