"""The one place that decides how kernels are compiled, where their machine code is cached, and how they are entered.

Numba keys its on-disk cache on the text of the defining file alone, so an edit in a helper of another file would go
unseen. Here the cache folder carries a digest of every file in this package: any edit starts a fresh folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import threading
from collections.abc import Callable
from functools import cache, update_wrapper
from pathlib import Path
from typing import Any

import numba
from numba.core import config, types
from numba.extending import typeof_impl

# Contraction to fused multiply-adds only. NaN and infinity keep their meaning, so that bad input is never hidden, and
# without reassociation the sum that is written is the sum that is computed: the compiling run and the later ones from
# the cache pass different optimisers, and gave different last bits with it.
FASTMATH = {"contract", "nsz"}

_CONFIG_LOCK = threading.Lock()
_ENTRY_LOCK = threading.Lock()


def kernel_digest(folder: Path | None = None) -> str:
    """Hex digest over the names and bytes of all ``.py`` files in ``folder`` and the Numba version."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted((folder or Path(__file__).parent).glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _candidates() -> list[Path]:
    """Folders for machine code, best first; the shared temporary folder only below a folder that is ours alone."""
    chosen = [os.environ[name] for name in ("MFVDM_CACHE_DIR", "NUMBA_CACHE_DIR") if os.environ.get(name)]
    found = [Path(folder) for folder in chosen]
    with contextlib.suppress(RuntimeError):  # an account without a home folder
        found.append(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mfvdm_fast")
    user = os.getuid() if hasattr(os, "getuid") else None
    private = Path(tempfile.gettempdir()) / f"mfvdm_fast-{user}"
    with contextlib.suppress(OSError):
        private.mkdir(mode=0o700, exist_ok=True)
        status = private.lstat()
        # The cache holds code that will be run: never from a folder that somebody else made or may write.
        if user is None or (status.st_uid == user and not status.st_mode & 0o022):
            found.append(private)
    return found


@cache
def cache_folder() -> Path | None:
    """Folder for machine code: ``MFVDM_CACHE_DIR``, ``NUMBA_CACHE_DIR``, the user's cache folder, or the temporary one.

    The first one that can be written; None when there is none, and kernels are then compiled anew in each process.
    """
    digest = kernel_digest()
    return next((base / digest for base in _candidates() if _writable(base / digest)), None)


class ParallelKernel:
    """A parallel Numba function that two Python threads may call at once.

    Numba's own thread layer (``workqueue``, taken when there is no OpenMP library) aborts the process then: calls are
    let in one at a time with that layer, and until the layer is known.
    """

    def __init__(self, dispatcher: Any) -> None:
        self.dispatcher = dispatcher
        update_wrapper(self, dispatcher.py_func)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            one_at_a_time = numba.threading_layer() == "workqueue"
        except ValueError:  # no parallel kernel has run yet
            one_at_a_time = True
        with _ENTRY_LOCK if one_at_a_time else contextlib.nullcontext():
            return self.dispatcher(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name == "dispatcher":  # not yet set while unpickling
            raise AttributeError(name)
        return getattr(self.dispatcher, name)


@typeof_impl.register(ParallelKernel)
def _type_in_kernels(value: ParallelKernel, _: Any) -> Any:
    """Lets one kernel call another, parallel one: compiled code then goes straight to the dispatcher."""
    return types.Dispatcher(value.dispatcher)


def kernel(function: Callable[..., Any] | None = None, *, parallel: bool = False) -> Any:
    """Compile ``function`` on first call: no Python objects, GIL released, cached on disk.

    ``parallel=True`` lets ``numba.prange`` use several threads; each thread must own the rows that it writes.

    Write loops where one array goes into another: ``a[:] = b`` takes two seconds more to compile, most of them for the
    message about shapes that do not fit.
    """

    def decorate(func: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(
            func,
            parallel=parallel,
            nogil=True,
            fastmath=FASTMATH,
            error_model="numpy",
            # A helper is compiled into its caller, not linked: otherwise the run that compiles optimises across the
            # call, the later ones from the cache do not, and the last bits differ.
            forceinline=not parallel,
        )
        folder = cache_folder()
        if folder is not None:
            with _CONFIG_LOCK:  # two threads may import two kernel modules
                before = config.CACHE_DIR
                config.CACHE_DIR = str(folder)
                try:
                    dispatcher.enable_caching()
                finally:
                    config.CACHE_DIR = before
        return ParallelKernel(dispatcher) if parallel else dispatcher

    return decorate if function is None else decorate(function)
