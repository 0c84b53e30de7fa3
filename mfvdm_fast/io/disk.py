"""Disk space: asked for before long work, explained when it runs out all the same."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from ..errors import OutputError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def is_full(error: OSError) -> bool:
    """Whether the disk, the quota or the largest file size is the trouble."""
    return error.errno in _FULL


def check_free_space(path: str | os.PathLike[str], bytes_needed: int) -> None:
    """Raise OutputError when the disk of ``path`` (or of its nearest existing parent) has less than ``bytes_needed``.

    >>> check_free_space(".", 1)
    """
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    usage = shutil.disk_usage(place)
    if usage.total and usage.free < bytes_needed:  # without any space: no disk, as /proc, which refuses to be written
        raise OutputError(
            f"{path}: about {bytes_needed} bytes are needed and {usage.free} are free on this disk; "
            "free some space or choose an output folder on another disk"
        )


def disk_error(path: str | os.PathLike[str], error: OSError, bytes_needed: int | None = None) -> OutputError:
    """The OutputError that says what went wrong while writing below ``path``, and what to do."""
    if is_full(error):
        needed = "" if bytes_needed is None else f" (the run needs about {bytes_needed} bytes)"
        return OutputError(
            f"{path}: the disk or quota is full{needed}; nothing unfinished was kept: "
            "free some space or choose an output folder on another disk, then run again"
        )
    return OutputError(
        f"{path}: cannot be written ({error.strerror or error}); check the permissions or choose another folder"
    )
