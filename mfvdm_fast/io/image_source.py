"""Where the pixels of a particle stack come from: MRC files or an array. Read in runs of neighbouring images."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..records import Images, IndexArray
from .mrc import MrcHeader, read_run

_PIECE = 1 << 20  # bytes


class ImageSource(Protocol):
    """What :class:`~mfvdm_fast.io.stack.ParticleStack` needs: images by row, cheapest in the order ``order``."""

    @property
    def box_size(self) -> int: ...

    @property
    def order(self) -> IndexArray:
        """The rows (n,) in the order in which the images lie in the files."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that hold the images."""

    def fill(self, rows: IndexArray, out: Images) -> None:
        """Read the images of ``rows`` (b,) into ``out`` (b, L, L)."""

    def name(self, row: int) -> str:
        """What messages call an image; numbers are 1-based."""

    def update(self, digest: hashlib._Hash, stop: threading.Event) -> None:
        """Feed the bytes of the images (and headers of their files) to a hash, or some of them once ``stop`` is set."""


@dataclass(frozen=True)
class ArraySource:
    """Images (n, L, L) of any real dtype, cast to float32 as they are read."""

    images: NDArray[Any]

    @property
    def box_size(self) -> int:
        return int(self.images.shape[1])

    @property
    def order(self) -> IndexArray:
        return np.arange(len(self.images))

    @property
    def paths(self) -> tuple[Path, ...]:
        return ()

    def fill(self, rows: IndexArray, out: Images) -> None:
        in_one_piece = len(rows) > 0 and bool((np.diff(rows) == 1).all())
        part = slice(int(rows[0]), int(rows[-1]) + 1) if in_one_piece else rows
        with np.errstate(over="ignore"):  # found by the caller, as pixels that are not finite
            out[...] = self.images[part]

    def name(self, row: int) -> str:
        return f"image {row + 1} of the array"

    def update(self, digest: hashlib._Hash, stop: threading.Event) -> None:
        digest.update(repr((self.images.shape, self.images.dtype.str)).encode())
        for image in self.images:
            if stop.is_set():
                return
            digest.update(np.ascontiguousarray(image).data)


@dataclass(frozen=True)
class FileSource:
    """Images ``index[row]`` (0-based) of the files ``headers[file_of[row]]``, whose boxes are all the same."""

    headers: tuple[MrcHeader, ...]
    file_of: IndexArray
    index: IndexArray

    @property
    def box_size(self) -> int:
        return self.headers[0].nx

    @property
    def order(self) -> IndexArray:
        return np.lexsort((self.index, self.file_of))

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(header.path for header in self.headers)

    def fill(self, rows: IndexArray, out: Images) -> None:
        for number, places in self._by_file(rows):
            header, index = self.headers[number], self.index[rows[places]]
            # A run is contiguous in the file and in the output, so that one read serves it.
            breaks = np.flatnonzero((np.diff(index) != 1) | (np.diff(places) != 1)) + 1
            bounds = [0, *breaks.tolist(), len(places)]
            with _explained(header.path), open(header.path, "rb") as file:
                for first, last in itertools.pairwise(bounds):
                    place = int(places[first])
                    read_run(file, header, int(index[first]), out[place : place + last - first])

    def _by_file(self, rows: IndexArray) -> Iterator[tuple[int, IndexArray]]:
        """Each file needed, and the places in ``rows`` that want it, in the order of its images."""
        order = np.lexsort((self.index[rows], self.file_of[rows]))
        files = self.file_of[rows][order]
        for places in np.split(order, np.flatnonzero(np.diff(files)) + 1):
            if len(places):
                yield int(self.file_of[rows[places[0]]]), places

    def name(self, row: int) -> str:
        return f"image {int(self.index[row]) + 1} of {self.headers[int(self.file_of[row])].path}"

    def update(self, digest: hashlib._Hash, stop: threading.Event) -> None:
        for number, places in self._by_file(np.arange(len(self.index))):
            header, index = self.headers[number], self.index[places]
            starts = header.data_offset + index * header.image_bytes
            # Of a large file the table may name few images: only these are read.
            last = np.append(np.diff(index) != 1, True)  # of a run of neighbours
            first = np.roll(last, 1)
            runs = zip(starts[first].tolist(), (starts[last] + header.image_bytes).tolist(), strict=True)
            update_from_file(digest, header.path, stop, [(0, header.data_offset), *runs])


def update_from_file(
    digest: hashlib._Hash, path: Path, stop: threading.Event, parts: Sequence[tuple[int, int]] | None = None
) -> None:
    """Feed ``parts`` (first byte, end) of a file, or all of it, to a hash, a mebibyte at a time, until ``stop``."""
    with _explained(path), open(path, "rb") as file:
        for first, end in parts or [(0, path.stat().st_size)]:
            file.seek(first)
            while first < end and not stop.is_set() and (piece := file.read(min(_PIECE, end - first))):
                digest.update(piece)
                first += len(piece)


def file_stamp(path: Path) -> tuple[int, int, int] | None:
    """Which file it is, its size, and when it was last written to; None for what is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); was it removed?") from error
