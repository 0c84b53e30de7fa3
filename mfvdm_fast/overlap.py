"""Work that goes on beside other work: reading, writing, and what else waits for a disk."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeVar

from .threads import map_in_order

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def overlap(items: Iterable[_Item], work: Callable[[_Item], _Result], threads: int) -> Iterator[_Result]:
    """``work`` on every item, one after the other, while the calling thread makes the next item.

    Two items exist at once. Errors of either are raised, when both have come to an end.

    >>> list(overlap(iter("ab"), str.upper, 2))
    ['A', 'B']
    """
    source, end = iter(items), object()
    item: Any = next(source, end)
    while item is not end:
        calls: list[Callable[[], Any]] = [partial(next, source, end), partial(work, item)]
        item, result = map_in_order(lambda call: call(), calls, threads)
        yield result


@contextlib.contextmanager
def beside(work: Callable[[threading.Event], object]) -> Iterator[None]:
    """Have ``work`` done by another thread beside what is done inside, and wait for it, or raise its error, at the end.

    When that fails or is interrupted, at any time, the event that ``work`` was given is set: it should then end soon.

    >>> with beside(lambda stop: print("there")):
    ...     pass
    there
    """
    stop, done, errors = threading.Event(), threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            work(stop)
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()  # a thread whose join was interrupted cannot be joined again

    threading.Thread(target=run, name="mfvdm_fast_beside", daemon=True).start()
    try:
        yield
        done.wait()
    finally:
        stop.set()
        done.wait()
    for error in errors:
        raise error
