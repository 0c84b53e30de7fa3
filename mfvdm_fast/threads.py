"""How many threads to use, and how to use them without disturbing anybody else's setting."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import operator
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from .errors import ParameterError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_CGROUP_ROOT = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")
_PAUSE = 5e-4  # s, between two looks for work that a waiting thread may do


def container_quota(root: Path = _CGROUP_ROOT, own: Path = _OWN_CGROUP) -> int | None:
    """Whole cores granted to this process by its control groups (version 2 or 1), or None when there is no limit.

    ``root`` is where control groups are mounted, ``own`` the list of the groups of this process. A group is held by the
    limits of all groups above it, so the least one counts; part of a core counts as one when it is all there is.
    """
    groups = [("", "/")]  # inside a container the mounted root is the container's own group
    with contextlib.suppress(OSError):
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "" or "cpu" in controllers.split(","):
                groups.append((controllers, path))
    quotas: list[float] = []
    for controllers, path in groups:
        for group in (Path(path), *Path(path).parents):
            for base in (root, root / "cpu", root / (controllers or "unified")):
                quotas += _group_quota(base / str(group).lstrip("/"))
    return max(1, math.floor(min(quotas))) if quotas else None


def _group_quota(folder: Path) -> list[float]:
    """The limit of one control group as a list of one number of cores, or of none."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text().split()[:2]  # "max" is a ValueError: no limit
        return [int(quota) / int(period)]
    with contextlib.suppress(OSError, ValueError):
        granted = int((folder / "cpu.cfs_quota_us").read_text())
        return [granted / int((folder / "cpu.cfs_period_us").read_text())] if granted > 0 else []
    return []


def available_threads() -> int:
    """Cores this process may use: affinity, container quota and OMP_NUM_THREADS, whichever is least.

    >>> available_threads() >= 1
    True
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [affinity]
    quota = container_quota()
    if quota is not None:
        limits.append(quota)
    omp = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if omp.isdigit() and int(omp) > 0:
        limits.append(int(omp))
    return min(limits)


def resolve_threads(threads: int | None = None) -> int:
    """The number of threads to use; ``None`` means :func:`available_threads`.

    More threads than cores are cut to the cores that exist, since every kernel gives the same bits for any count.
    Raises ParameterError when ``threads`` is not a whole number of at least 1.

    >>> resolve_threads(1)
    1
    """
    if threads is None:
        return available_threads()
    try:
        count = 0 if isinstance(threads, bool) else operator.index(threads)
    except TypeError:
        count = 0
    if count < 1:
        raise ParameterError(
            f"threads must be a whole number of at least 1, got {threads!r}; leave it out to use all cores"
        )
    return min(count, os.cpu_count() or 1)


_BLAS_LOCK = threading.Lock()
_BLAS_BEFORE: list[list[int]] = []  # settings to restore, one entry for each block inside; the first one counts


@functools.cache
def _blas_libraries() -> list[Any]:
    """The BLAS libraries of this process; looking for them takes over 1 ms, so once."""
    import scipy.linalg.cython_blas  # noqa: F401  # loads the BLAS that compiled kernels call
    from threadpoolctl import ThreadpoolController

    return [library for library in ThreadpoolController().lib_controllers if library.user_api == "blas"]


def _set_blas_threads(libraries: list[Any], counts: list[int]) -> None:
    for library, count in zip(libraries, counts, strict=True):
        # From 3.8 on, threadpoolctl lets only one Python thread change OpenBLAS and ignores all others in silence; the
        # counting in _blas_at_one makes that needless, and a setting that is ignored would be left changed for good.
        setter = getattr(library, "_real_set_num_threads", library.set_num_threads)
        setter(count)


@contextlib.contextmanager
def _blas_at_one() -> Iterator[None]:
    """Hold BLAS at one thread while anybody is inside; the last to leave restores what the first one found.

    The setting belongs to the whole process: without counting, two overlapping blocks would restore each other's 1.
    Only BLAS built on OpenMP has one setting for each calling thread.
    """
    per_thread = [b for b in _blas_libraries() if getattr(b, "threading_layer", "") == "openmp"]
    shared = [b for b in _blas_libraries() if b not in per_thread]
    own_before = [library.num_threads for library in per_thread]
    _set_blas_threads(per_thread, [1] * len(per_thread))
    with _BLAS_LOCK:
        _BLAS_BEFORE.append([library.num_threads for library in shared])
        _set_blas_threads(shared, [1] * len(shared))
    try:
        yield
    finally:
        with _BLAS_LOCK:
            before = _BLAS_BEFORE.pop()
            if not _BLAS_BEFORE:
                _set_blas_threads(shared, before)
        _set_blas_threads(per_thread, own_before)


@contextlib.contextmanager
def use_threads(threads: int | None = None) -> Iterator[int]:
    """Run a block with ``threads`` Numba threads and single-threaded BLAS; both settings are restored afterwards.

    BLAS is held at one thread because the kernels call it from inside their own parallel regions. Blocks may be nested
    and may overlap in several Python threads. Yields the number of threads in use: never more than Numba was started
    with. Raises ParameterError as :func:`resolve_threads` does.

    >>> with use_threads(1) as count:
    ...     count
    1
    """
    with _blas_at_one(), use_kernel_threads(resolve_threads(threads)) as count:
        yield count


@contextlib.contextmanager
def use_kernel_threads(threads: int) -> Iterator[int]:
    """Run a block with ``threads`` Numba threads, or all that Numba was started with; for pieces of shared work.

    >>> with use_kernel_threads(1) as count:
    ...     count
    1
    """
    import numba

    count = min(threads, numba.config.NUMBA_NUM_THREADS)
    before = numba.get_num_threads()  # Numba's setting belongs to the calling thread alone
    numba.set_num_threads(count)
    try:
        yield count
    finally:
        numba.set_num_threads(before)


def may_overlap() -> bool:
    """Whether parallel kernels of several Python threads run side by side, once one of them has run.

    Numba's own thread layer lets them in one at a time.
    """
    import numba

    try:
        return numba.threading_layer() != "workqueue"
    except ValueError:  # not known yet
        return False


class _Helpers:
    """Threads that stay for the next piece of work: to start them takes as long as a small piece.

    An interrupt may come at any place, so that a program must be able to end without them: they are daemons, and wait
    for work whenever nothing is done. (``ThreadPoolExecutor`` waits forever for a thread whose start is interrupted.)
    """

    def __init__(self) -> None:
        self._tasks: SimpleQueue[tuple[Future[None], Callable[[], None]]] = SimpleQueue()
        self._started = 0

    def submit(self, work: Callable[[], None], count: int) -> Future[None]:
        """Have ``work`` done by one of ``count`` threads, or of those that there are if these are more."""
        while self._started < min(count, os.cpu_count() or 1):
            self._started += 1
            threading.Thread(target=self._serve, name=f"mfvdm_fast_{self._started}", daemon=True).start()
        future: Future[None] = Future()
        self._tasks.put((future, work))
        return future

    def help(self) -> None:
        """Do one piece of work that no thread has begun, if there is any."""
        with contextlib.suppress(Empty):
            self._do(*self._tasks.get_nowait())

    def _serve(self) -> None:
        while True:
            self._do(*self._tasks.get())

    @staticmethod
    def _do(future: Future[None], work: Callable[[], None]) -> None:
        if future.set_running_or_notify_cancel():
            try:
                work()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(None)


@functools.cache
def _helpers() -> _Helpers:
    return _Helpers()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.cache_clear)  # threads do not survive a fork


def map_in_order(work: Callable[[_Item], _Result], items: Iterable[_Item], threads: int) -> list[_Result]:
    """``work`` on every item, with ``threads`` of them at once; results in the order of the items.

    For work in NumPy and BLAS, which let other Python threads run meanwhile. The calling thread takes part, with the
    first item and what is left by then; a thread that waits takes part in what others hand out, so that calls may be
    nested. When a piece fails, no further ones are begun and its error is raised.

    >>> map_in_order(lambda x: x * x, range(4), 2)
    [0, 1, 4, 9]
    """
    todo = list(items)
    if threads == 1 or len(todo) < 2:
        return list(map(work, todo))
    results: list[Any] = [None] * len(todo)
    left = iter(range(1, len(todo)))  # one thread at a time takes the next

    def take(first: Iterable[int] = ()) -> None:
        try:
            for i in itertools.chain(first, left):
                results[i] = work(todo[i])
        except BaseException:
            for _ in left:
                pass
            raise

    count, helpers = min(threads, len(todo)) - 1, list[Future[None]]()
    try:
        for _ in range(count):
            helpers.append(_helpers().submit(take, count))
        take([0])
    finally:
        # One that has not begun is not needed any more; nothing may go on after the return.
        for _ in left:
            pass
        errors = [_outcome(helper) for helper in helpers if not helper.cancel()]
    for error in errors:
        if error is not None:
            raise error
    return results


def _outcome(helper: Future[None]) -> BaseException | None:
    """The error of a piece of work, or an interrupt that came meanwhile: it is waited for all the same.

    Whoever waits helps: the piece may have handed out others. What waits began before what it waits for was handed out,
    so that no two can wait for each other.
    """
    interrupt: KeyboardInterrupt | None = None
    while True:
        try:
            with contextlib.suppress(TimeoutError):
                return helper.exception(_PAUSE) or interrupt
            _helpers().help()
        except KeyboardInterrupt as now:
            interrupt = now
