"""How many threads are used, that no setting is left changed, and that two callers may come at once."""

from __future__ import annotations

import doctest
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mfvdm_fast
from mfvdm_fast import threads
from mfvdm_fast.errors import ParameterError
from mfvdm_fast.threads import (
    available_threads,
    container_quota,
    map_in_order,
    may_overlap,
    resolve_threads,
    use_threads,
)


def control_group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_no_control_group_means_no_quota(tmp_path: Path) -> None:
    assert container_quota(tmp_path, tmp_path / "missing") is None
    control_group(tmp_path, cpu__max="max 100000\n")
    assert container_quota(tmp_path, tmp_path / "missing") is None


def test_quota_of_version_2_container(tmp_path: Path) -> None:
    control_group(tmp_path, cpu__max="350000 100000\n")
    assert container_quota(tmp_path, tmp_path / "missing") == 3
    control_group(tmp_path, cpu__max="20000 100000\n")
    assert container_quota(tmp_path, tmp_path / "missing") == 1


def test_quota_of_a_group_above_counts(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/batch.slice/job7/step0\n")
    control_group(tmp_path / "batch.slice" / "job7" / "step0", cpu__max="max 100000\n")
    control_group(tmp_path / "batch.slice" / "job7", cpu__max="400000 100000\n")
    control_group(tmp_path / "batch.slice", cpu__max="800000 100000\n")
    control_group(tmp_path / "batch.slice" / "job8", cpu__max="100000 100000\n")
    assert container_quota(tmp_path, own) == 4


def test_quota_of_version_1(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("5:memory:/job\n4:cpu,cpuacct:/job\n")
    control_group(tmp_path / "cpu" / "job", cpu__cfs_quota_us="250000\n", cpu__cfs_period_us="100000\n")
    assert container_quota(tmp_path, own) == 2
    control_group(tmp_path / "cpu" / "job", cpu__cfs_quota_us="-1\n")
    assert container_quota(tmp_path, own) is None


def test_the_least_limit_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "container_quota", lambda: None)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert available_threads() == 8
    monkeypatch.setattr(threads, "container_quota", lambda: 6)
    assert available_threads() == 6
    for setting, expected in (("4", 4), ("3,2", 3), ("64", 6), ("0", 6), ("many", 6), ("", 6)):
        monkeypatch.setenv("OMP_NUM_THREADS", setting)
        assert available_threads() == resolve_threads() == expected


def test_threads_are_cut_to_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert [resolve_threads(t) for t in (1, np.int64(3), 4, 100)] == [1, 3, 4, 4]


@pytest.mark.parametrize("wrong", [0, -1, 2.5, 2.0, float("nan"), "4", True, [1]])
def test_resolve_refuses(wrong: Any) -> None:
    with pytest.raises(ParameterError) as caught:
        resolve_threads(wrong)
    expected = f"threads must be a whole number of at least 1, got {wrong!r}; leave it out to use all cores"
    assert str(caught.value) == expected
    with pytest.raises(ParameterError, match="threads must be a whole number"), use_threads(wrong):
        pass


def blas_threads() -> list[int]:
    from threadpoolctl import threadpool_info

    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_settings_hold_inside_and_are_restored_even_after_an_error() -> None:
    import numba
    from threadpoolctl import threadpool_limits

    with use_threads():  # all BLAS libraries are loaded from here on
        pass
    with threadpool_limits(2, user_api="blas"):
        outside = (numba.get_num_threads(), blas_threads())
        assert set(outside[1]) == {2}
        with use_threads(1) as count:
            assert (count, numba.get_num_threads(), set(blas_threads())) == (1, 1, {1})
            with use_threads(2) as inner:  # nested
                assert numba.get_num_threads() == inner == min(2, numba.config.NUMBA_NUM_THREADS)
                assert set(blas_threads()) == {1}
            assert (numba.get_num_threads(), set(blas_threads())) == (1, {1})
        assert (numba.get_num_threads(), blas_threads()) == outside
        with pytest.raises(KeyError), use_threads(1):
            raise KeyError
        assert (numba.get_num_threads(), blas_threads()) == outside


def test_overlapping_blocks_of_two_threads_restore_blas() -> None:
    from threadpoolctl import threadpool_limits

    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with use_threads(1):
            entered.set()
            leave.wait(30)

    with threadpool_limits(2, user_api="blas"):
        thread = threading.Thread(target=other)
        with use_threads(1):
            thread.start()
            assert entered.wait(30)
        assert set(blas_threads()) == {1}  # the other one is still inside
        leave.set()
        thread.join()
        assert set(blas_threads()) == {2}


@pytest.mark.parametrize("layer", ["workqueue", "default"])
def test_two_python_threads_in_a_parallel_kernel_do_not_abort(layer: str, tmp_path: Path) -> None:
    script = tmp_path / "two_callers.py"
    script.write_text(
        textwrap.dedent("""\
        import threading
        import numba
        import numpy as np
        from mfvdm_fast.kernels._jit import kernel
        from mfvdm_fast.threads import use_threads

        @kernel(parallel=True)
        def fill(out):
            for i in numba.prange(out.shape[0]):
                out[i] = np.sqrt(i + 1.0)

        results = []
        def work():
            out = np.empty(5000)
            for _ in range(200):
                with use_threads(2):
                    fill(out)
            results.append(out)

        callers = [threading.Thread(target=work) for _ in range(4)]
        [c.start() for c in callers], [c.join() for c in callers]
        assert len(results) == 4 and all((r == np.sqrt(np.arange(5000) + 1.0)).all() for r in results)
        print(numba.threading_layer())
        """)
    )
    root = str(Path(mfvdm_fast.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": root, "NUMBA_THREADING_LAYER": layer, "MFVDM_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert layer in ("default", done.stdout.strip())


def test_a_parallel_kernel_can_be_called_by_another_kernel() -> None:
    import numba

    from mfvdm_fast.kernels._jit import kernel

    @kernel(parallel=True)
    def double(values, out):  # type: ignore[no-untyped-def]
        for i in numba.prange(values.shape[0]):
            out[i] = 2 * values[i]

    @kernel
    def quadruple(values):  # type: ignore[no-untyped-def]
        out = np.empty_like(values)
        double(values, out)
        double(out, out)
        return out

    assert double.__name__ == "double"
    assert quadruple(np.arange(3.0)).tolist() == [0, 4, 8]


def test_work_is_shared_and_comes_back_in_order() -> None:
    met = threading.Barrier(2, timeout=30)  # passed only by two pieces that run at once

    def work(item: int) -> int:
        if item < 2:
            met.wait()
        return 10 * item

    assert map_in_order(work, iter(range(50)), 2) == list(range(0, 500, 10))
    assert map_in_order(work, [], 2) == []


def test_calls_may_be_nested_deeper_than_there_are_threads() -> None:
    def work(depth: int) -> int:
        return 1 if depth == 0 else sum(map_in_order(work, [depth - 1] * 3, 4))

    assert map_in_order(work, [4] * 3, 4) == [81] * 3


def test_a_thread_that_waits_helps_with_what_others_hand_out(monkeypatch: pytest.MonkeyPatch) -> None:
    helpers = threads._Helpers()  # of which one is started
    monkeypatch.setattr(threads, "_helpers", lambda: helpers)
    begun, met = threading.Barrier(2, timeout=30), threading.Barrier(2, timeout=30)

    def meet(_: int) -> str:
        met.wait()
        return threading.current_thread().name

    def work(item: int) -> list[str]:
        begun.wait()
        return [] if threading.current_thread() is threading.main_thread() else map_in_order(meet, range(2), 2)

    names = [name for some in map_in_order(work, range(2), 2) for name in some]
    assert len(set(names)) == 2
    assert threading.main_thread().name in names


@pytest.mark.parametrize("in_helper", [False, True])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_stops_the_work_and_is_raised(in_helper: bool, error: type[BaseException]) -> None:
    met, done, running = threading.Barrier(2, timeout=30), list[int](), list[int]()

    def work(item: int) -> None:
        running.append(item)
        if item < 2:
            met.wait()
            if (threading.current_thread() is not threading.main_thread()) == in_helper:
                running.remove(item)
                raise error(f"piece {item}")
        done.append(item)
        running.remove(item)

    with pytest.raises(error, match="piece"):
        map_in_order(work, range(100_000), 2)
    assert len(done) < 100_000
    assert running == []  # nothing goes on behind the caller's back
    assert map_in_order(lambda x: -x, range(4), 2) == [0, -1, -2, -3]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_work_is_shared_in_a_forked_process_too() -> None:
    script = """
import os
from mfvdm_fast.threads import map_in_order
assert map_in_order(abs, range(4), 2) == [0, 1, 2, 3]
child = os.fork()
if child == 0:
    os._exit(0 if map_in_order(abs, range(-3, 1), 2) == [3, 2, 1, 0] else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], timeout=60, check=False)
    assert done.returncode == 0


def test_kernels_may_overlap_where_the_layer_lets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    for layer, expected in (("omp", True), ("tbb", True), ("workqueue", False)):
        monkeypatch.setattr(numba, "threading_layer", lambda layer=layer: layer)
        assert may_overlap() is expected

    def unknown() -> str:
        raise ValueError("Threading layer is not initialized.")

    monkeypatch.setattr(numba, "threading_layer", unknown)
    assert not may_overlap()


def test_docstring_examples() -> None:
    result = doctest.testmod(threads)
    assert result.attempted >= 3
    assert result.failed == 0


@pytest.mark.parametrize("given", [None, "active"])
def test_waiting_threads_give_their_core_away(given: str | None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    if given is not None:
        environment["OMP_WAIT_POLICY"] = given  # what the user says stands
    script = """
import os
import mfvdm_fast.errors
gomp = "gomp" in open("/proc/self/maps").read() if os.path.exists("/proc/self/maps") else False
print(os.environ["OMP_WAIT_POLICY"], gomp)
"""
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [given or "passive", "False"]  # set before the library is loaded


INTERRUPTED = """
import os, signal, sys, threading, time
from mfvdm_fast.threads import map_in_order

signal.signal(signal.SIGINT, signal.default_int_handler)
threading.Timer(float(sys.argv[1]), os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    while True:
        map_in_order(lambda _: time.sleep(1e-4), range(8), 2)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("seconds", [0.01, 0.05, 0.2])
def test_a_program_ends_when_shared_work_is_interrupted(seconds: float) -> None:
    command = [sys.executable, "-c", INTERRUPTED, str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
