"""An output folder in which nothing half-done ever stands under its final name."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
import threading
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from ..errors import MfvdmError, MfvdmWarning, OutputError, ParameterError
from .disk import check_free_space, disk_error, is_full

# What each file of an output folder holds.
OUTPUT_FILES = {
    "denoised.mrcs": "the denoised images (n, L, L), float32, in the order of the input table",
    "denoised.star": "the input table with the names of the denoised images",
    "neighbors.npz": "indices, angles (rad), mirrored, affinity, each (n, K), best neighbour first",
    "manifest.json": "input digest, parameters and results in numbers; the same for every run; written last",
    "timings.json": "seconds by stage; the only file that differs between two runs",
}
_LAST = "manifest.json"
_PREFIX = ".mfvdm-partial-"


@contextlib.contextmanager
def _hold_interrupts() -> Iterator[list[int]]:
    """SIGINT and SIGTERM do nothing inside, for moments that must not be cut in two; yields those that came."""
    held = list[int]()
    if threading.current_thread() is not threading.main_thread():  # only there are signals handled
        yield held
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ours = {number: handler for number, handler in before.items() if callable(handler)}  # what is deaf stays so
    for number in ours:
        signal.signal(number, lambda number, frame: held.append(number))
    try:
        yield held
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)


class OutputFolder:
    """Write files to temporary places and rename them all into ``path`` when the ``with`` block ends well.

    On any exception, Ctrl-C included, the temporary files (and folders made for them) are removed and older outputs
    stay as they were. Until then no other run on this machine may write there. ``names`` are the files that may be
    written; with ``overwrite`` those of an older run that this one did not write are removed, so that no two runs are
    mixed. The manifest goes last: where it stands, the rest is complete. ``bytes_needed`` is compared with the free
    space at the start.

    Raises OutputError, before the block runs, when the folder cannot be made or written to, when one of ``names``
    exists and ``overwrite`` is False, when another run writes there, or when space is short; and when the disk fills
    up.

    >>> folder = tempfile.TemporaryDirectory()
    >>> with OutputFolder(folder.name + "/run") as out:
    ...     _ = out.path("manifest.json").write_text("{}")
    >>> os.listdir(folder.name + "/run")
    ['manifest.json']
    >>> folder.cleanup()
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        names: Iterable[str] = tuple(OUTPUT_FILES),
        bytes_needed: int | None = None,
    ) -> None:
        self.folder = Path(path)
        self.names = tuple(names)
        self._overwrite = overwrite
        self._bytes_needed = bytes_needed
        self._made: list[Path] = []
        self._partial: Path | None = None
        self._lock: int | None = None

    def path(self, name: str) -> Path:
        """Where to write the file ``name`` for now. Raises ParameterError when it is not one of ``names``."""
        if name not in self.names or self._partial is None:
            raise ParameterError(
                f"{name!r} is not an output of this folder in use; its outputs are {', '.join(self.names)}"
            )
        return self._partial / name

    def __enter__(self) -> OutputFolder:
        with _hold_interrupts() as held:
            try:
                self._refuse_existing()
                if self._bytes_needed is not None:
                    check_free_space(self.folder, self._bytes_needed)
                self._make_folder()
                self._lock_folder()
                self._partial = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self.folder))
            except OutputError:
                self._clean()
                raise
            except OSError as error:
                self._clean()
                raise disk_error(self.folder, error, self._bytes_needed) from error
        if held:
            self._clean()
            raise KeyboardInterrupt
        if any(path != self._partial for path in self.folder.glob(f"{_PREFIX}*")):
            warnings.warn(
                f"{self.folder}: holds what killed runs left ({_PREFIX}*, hidden); remove it, unless a run on another "
                "machine writes here",
                MfvdmWarning,
                stacklevel=2,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _hold_interrupts():  # with an error or without, what comes now comes too late
            self._end(error)

    def _end(self, error: BaseException | None) -> None:
        """Commit, or tidy up after ``error``, and raise what is to be said of it in our words."""
        done, partial = False, self._partial
        try:
            if error is None:
                self._commit()
                done = True
        except OSError as failure:
            if self._is_ours(failure):
                raise disk_error(self.folder, failure, self._bytes_needed) from failure
            raise
        finally:
            self._clean(keep_folders=done)
        if isinstance(error, OSError) and self._is_ours(error):
            raise disk_error(self.folder, error, self._bytes_needed) from error
        if isinstance(error, OutputError) and str(partial) in str(error):  # a place that is gone by now
            raise OutputError(str(error).replace(str(partial), str(self.folder))) from error

    def _is_ours(self, error: OSError) -> bool:
        """Whether the system says something about this folder that is not yet in our words."""
        if isinstance(error, MfvdmError):
            return False
        if error.filename is None:
            return is_full(error)
        return Path(os.fsdecode(error.filename)).is_relative_to(self.folder)

    def _refuse_existing(self) -> None:
        if os.path.lexists(self.folder) and not self.folder.is_dir():
            what = "a file" if os.path.exists(self.folder) else "a link that leads nowhere"
            raise OutputError(f"{self.folder}: is {what}, an output folder is needed; choose another name")
        found = next((name for name in self.names if (self.folder / name).exists()), None)
        if found is not None and not self._overwrite:
            raise OutputError(
                f"{self.folder / found}: exists already; give --overwrite to replace it, or another folder"
            )

    def _make_folder(self) -> None:
        missing = [path for path in [self.folder, *self.folder.parents] if not path.exists()]
        for path in reversed(missing):
            path.mkdir()
            self._made.append(path)

    def _lock_folder(self) -> None:
        """Keep other runs of this machine out until the end, however that comes."""
        self._lock = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(
                f"{self.folder}: another run is writing here; wait for its end, or choose another folder"
            ) from error
        except OSError:  # a file system without locks
            pass

    def _commit(self) -> None:
        self._refuse_existing()  # another run may have finished here meanwhile
        written = [name for name in self.names if self.path(name).exists()]
        for name in self.names:
            if name == _LAST or name not in written:
                (self.folder / name).unlink(missing_ok=True)
        for name in sorted(written, key=lambda name: name == _LAST):
            os.replace(self.path(name), self.folder / name)

    def _clean(self, keep_folders: bool = False) -> None:
        if self._partial is not None:
            shutil.rmtree(self._partial, ignore_errors=True)
            self._partial = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        if not keep_folders:
            for path in reversed(self._made):
                with contextlib.suppress(OSError):  # something else was put there
                    path.rmdir()
