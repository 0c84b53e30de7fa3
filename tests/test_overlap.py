"""Work beside other work: the order, who does it, and what happens when one of the two fails."""

from __future__ import annotations

import doctest
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from mfvdm_fast import overlap as module
from mfvdm_fast.overlap import beside, overlap


@pytest.mark.parametrize("count", [1, 2])
def test_all_items_are_taken_in_order_and_made_by_the_calling_thread(count: int) -> None:
    made, taken = list[int](), list[int]()

    def items() -> Iterator[int]:
        for item in range(5):
            assert threading.current_thread() is threading.main_thread()
            made.append(item)
            yield item

    def work(item: int) -> int:
        assert made[-1] <= item + 1  # no more than two exist
        taken.append(item)
        return -item

    assert list(overlap(items(), work, count)) == [0, -1, -2, -3, -4]
    assert taken == made == list(range(5))
    assert list(overlap(iter(()), work, count)) == []


def test_the_next_item_is_made_beside_the_work() -> None:
    met = threading.Barrier(2, timeout=30)

    def items() -> Iterator[int]:
        for item in range(3):
            if item:
                met.wait()
            yield item

    def work(item: int) -> None:
        if item < 2:
            met.wait()

    assert list(overlap(items(), work, 2)) == [None] * 3


@pytest.mark.parametrize("making", [False, True])
def test_errors_of_either_are_raised(making: bool) -> None:
    def items() -> Iterator[int]:
        yield 0
        if making:
            raise ValueError("piece 1")
        yield 1

    def work(item: int) -> None:
        if not making:
            raise ValueError("piece 1")

    with pytest.raises(ValueError, match="piece 1"):
        list(overlap(items(), work, 2))


def test_what_goes_on_beside_is_waited_for_and_its_error_raised() -> None:
    met, done = threading.Barrier(2, timeout=30), list[bool]()

    def work(stop: threading.Event) -> None:
        met.wait()
        time.sleep(0.05)
        done.append(stop.is_set())

    with beside(work):
        met.wait()
    assert done == [False]

    def fail(stop: threading.Event) -> None:
        raise ValueError("beside")

    with pytest.raises(ValueError, match="beside"), beside(fail):
        pass
    with pytest.raises(KeyError), beside(fail):  # what failed inside comes first
        raise KeyError


def test_an_error_inside_stops_what_goes_on_beside() -> None:
    stopped = list[bool]()
    with pytest.raises(KeyError), beside(lambda stop: stopped.append(stop.wait(30))):
        raise KeyError
    assert stopped == [True]


def test_an_interrupt_while_waiting_stops_what_goes_on_beside() -> None:
    stopped, before = list[bool](), signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    try:
        with pytest.raises(KeyboardInterrupt), beside(lambda stop: stopped.append(stop.wait(30))):
            timer.start()
        assert stopped == [True]
    finally:
        signal.signal(signal.SIGINT, before)


def test_docstring_examples() -> None:
    result = doctest.testmod(module)
    assert result.attempted >= 2
    assert result.failed == 0
