"""MRC image stacks: a strict look at the header, contiguous reading, and a streaming writer.

Format: Cheng et al., J. Struct. Biol. 192 (2015) 146 (MRC2014). The byte count is checked before anything else is
believed, since a truncated stack is the commonest broken input.
"""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError, MfvdmWarning, OutputError, ParameterError, counted
from .disk import disk_error

HEADER_BYTES = 1024
LABEL = b"mfvdm_fast"  # no clock time: two runs must be byte-equal
MODE_DTYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_MODE_NAMES = "0 (int8), 1 (int16), 2 (float32), 6 (uint16), 12 (float16)"


@dataclass(frozen=True)
class MrcHeader:
    """What is needed to read an image stack: ``n_images`` images of (ny, nx) pixels of ``dtype`` (byte order included).

    ``pixel_size`` is in Å, None when the header has no cell. ``is_volume`` is True when the header calls the file a
    three-dimensional map with equal edges (space group 1, a cell as deep as it is wide).
    """

    path: Path
    n_images: int
    ny: int
    nx: int
    mode: int
    dtype: np.dtype[np.generic]
    data_offset: int
    pixel_size: float | None
    is_volume: bool

    @property
    def image_bytes(self) -> int:
        return self.ny * self.nx * self.dtype.itemsize


def read_header(path: str | os.PathLike[str]) -> MrcHeader:
    """Read and check the header of a stack of square images (``.mrc`` or ``.mrcs``, either byte order).

    Raises InputError when the file is missing, is not MRC, is shorter than its header says, has a mode other than
    0, 1, 2, 6 or 12, or its images are not square. A file that is longer than needed gives a MfvdmWarning.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> with MrcStackWriter(folder.name + "/a.mrcs", 3, 16, pixel_size=1.5) as writer:
    ...     writer.write(np.ones((3, 16, 16), np.float32))
    >>> header = read_header(folder.name + "/a.mrcs")
    >>> header.n_images, header.nx, header.mode, header.pixel_size
    (3, 16, 2, 1.5)
    >>> folder.cleanup()
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            raw = file.read(HEADER_BYTES)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the name and the permissions") from error
    if len(raw) < HEADER_BYTES:
        raise InputError(
            f"{path}: an MRC file starts with a header of {HEADER_BYTES} bytes, this file has "
            f"{counted(len(raw), 'byte')}; it is empty or cut off: copy it again"
        )
    fields, order = _decode(raw, path)
    header = _interpret(fields, order, path)
    _check_size(header, size)
    return header


def _decode(raw: bytes, path: Path) -> tuple[np.ndarray, str]:
    """The header record in the byte order in which it makes sense.

    The machine stamp is not asked: programs leave it empty or wrong. A width of 1 to 65,535 pixels read in the wrong
    order is at least 65,536, so the width alone decides.
    """
    for order in "<>":
        fields = np.frombuffer(raw, HEADER_DTYPE.newbyteorder(order))[0]
        if 0 < fields["nx"] < 65536 and 0 < fields["ny"] < 65536 and fields["nz"] > 0 and fields["nsymbt"] >= 0:
            return fields, order
    nx, ny, nz = np.frombuffer(raw, "<i4", 3).tolist()
    raise InputError(
        f"{path}: not an MRC image stack: its header gives {counted(nz, 'image')} of {ny} x {nx} pixels; "
        "give a .mrc or .mrcs file, or the STAR file that names it"
    )


def _interpret(fields: np.ndarray, order: str, path: Path) -> MrcHeader:
    nx, ny, nz, mode = (int(fields[name]) for name in ("nx", "ny", "nz", "mode"))
    if mode not in MODE_DTYPES:
        raise InputError(f"{path}: MRC mode {mode} cannot be read; accepted modes are {_MODE_NAMES}: convert the stack")
    if nx != ny:
        raise InputError(f"{path}: images must be square, these are {ny} rows x {nx} columns; crop or pad them first")
    width, mx = float(fields["cella"]["x"]), int(fields["mx"])
    sound = mx > 0 and np.isfinite(width) and width > 0
    return MrcHeader(
        path=path,
        n_images=nz,
        ny=ny,
        nx=nx,
        mode=mode,
        dtype=np.dtype(order + MODE_DTYPES[mode]),
        data_offset=HEADER_BYTES + int(fields["nsymbt"]),
        # The header stores float32: six digits are all that it means to say.
        pixel_size=float(f"{width / mx:.6g}") if sound else None,
        is_volume=nx == nz and int(fields["ispg"]) == 1 and int(fields["mz"]) == nz,
    )


def _check_size(header: MrcHeader, size: int) -> None:
    expected = header.data_offset + header.n_images * header.image_bytes
    if size < expected:
        whole = max(0, (size - header.data_offset) // header.image_bytes)
        raise InputError(
            f"{header.path}: truncated: {counted(header.n_images, 'image')} of {header.ny} x {header.nx} pixels "
            f"(mode {header.mode}) need {expected} bytes, the file has {counted(size, 'byte')} "
            f"(whole images: {whole}); copy it again or write it anew"
        )
    if size > expected:
        warnings.warn(
            f"{header.path}: {size - expected} bytes follow the last of {counted(header.n_images, 'image')} "
            f"({expected} bytes expected, {size} found); they are left out",
            MfvdmWarning,
            stacklevel=3,
        )


def read_run(file: BinaryIO, header: MrcHeader, first: int, out: NDArray[np.float32]) -> None:
    """Read the images ``first``, ``first + 1``, ... into ``out`` (b, L, L) float32, C-contiguous, with one read.

    ``file`` is the stack opened for reading. Raises InputError when the file ends early (it changed after its header
    was checked).
    """
    file.seek(header.data_offset + first * header.image_bytes)
    if header.dtype == out.dtype:
        got = file.readinto(out.data.cast("B"))  # type: ignore[attr-defined]
    else:
        raw = bytearray(out.size * header.dtype.itemsize)
        got = file.readinto(raw)  # type: ignore[attr-defined]
        if got == len(raw):
            out[...] = np.frombuffer(raw, header.dtype).reshape(out.shape)
    if got != out.size * header.dtype.itemsize:
        raise InputError(
            f"{header.path}: ended while images {first + 1} to {first + len(out)} were read ({got} of "
            f"{out.size * header.dtype.itemsize} bytes); was it changed during the run?"
        )


class MrcStackWriter:
    """Write ``n_images`` images of (L, L) float32 to ``path``, a batch at a time; nothing is held in memory.

    The file has a temporary name in the same folder until the ``with`` block ends well. ``pixel_size`` is in Å/px;
    None leaves it 0 (unknown). The statistics in the header do not depend on how the images were batched.

    Raises ParameterError for a batch of the wrong shape, rows out of range or written twice, or pixels that are not
    finite; OutputError when the file cannot be written or images are missing at the end.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> with MrcStackWriter(folder.name + "/a.mrcs", 2, 16, pixel_size=1.5) as writer:
    ...     writer.write(np.zeros((1, 16, 16)))
    ...     writer.write(np.ones((1, 16, 16)))
    >>> folder.cleanup()
    """

    def __init__(
        self, path: str | os.PathLike[str], n_images: int, box_size: int, pixel_size: float | None = None
    ) -> None:
        if n_images < 1 or box_size < 1:
            raise ParameterError(
                f"a stack needs at least one image of at least one pixel, got n_images={n_images}, box_size={box_size}"
            )
        if pixel_size is not None and not (np.isfinite(pixel_size) and pixel_size > 0):
            raise ParameterError(f"pixel_size must be positive (Å/px), or None when unknown, got {pixel_size}")
        self.path = Path(path)
        self._partial = self.path.with_name(f".{self.path.name}.partial")
        self._shape = (n_images, box_size, box_size)
        self._pixel_size = pixel_size or 0.0
        self._written = np.zeros(n_images, bool)
        # Per image, summed in row order at the end, so that the header does not depend on the batches.
        self._stats = np.zeros((n_images, 4))  # min, max, sum, sum of squares
        self._next = 0
        with self._explained():
            self._file = open(self._partial, "wb")  # noqa: SIM115 - closed in __exit__
            self._file.write(bytes(HEADER_BYTES))

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise disk_error(self.path, error, HEADER_BYTES + 4 * math.prod(self._shape)) from error

    def write(self, images: ArrayLike, rows: ArrayLike | None = None) -> None:
        """Write a batch (b, L, L) of any real dtype, in the places ``rows`` (b,) or after the last batch."""
        with np.errstate(over="ignore"):  # found below, as pixels that are not finite
            batch = np.ascontiguousarray(images, dtype="<f4")
        box = self._shape[1]
        if batch.shape[1:] != (box, box) or batch.ndim != 3:
            raise ParameterError(f"{self.path}: images must have shape (b, {box}, {box}), got {batch.shape}")
        places = self._places(len(batch), rows)
        for image, row in zip(batch, places.tolist(), strict=True):
            wide = image.astype(np.float64).ravel()
            self._stats[row] = image.min(), image.max(), wide.sum(), np.square(wide).sum()
        if not np.isfinite(self._stats[places]).all():
            bad = places[~np.isfinite(self._stats[places]).all(axis=1)]
            raise ParameterError(f"{self.path}: image {bad[0] + 1} has pixels that are not finite; nothing was written")
        runs = np.flatnonzero(np.diff(places) != 1) + 1
        with self._explained():
            for part in np.split(np.arange(len(batch)), runs):
                if len(part):
                    self._file.seek(HEADER_BYTES + int(places[part[0]]) * batch[0].nbytes)
                    self._file.write(batch[part[0] : part[-1] + 1].data)
        self._written[places] = True
        self._next = int(places[-1]) + 1 if len(places) else self._next

    def _places(self, count: int, rows: ArrayLike | None) -> NDArray[np.int64]:
        places = np.arange(self._next, self._next + count) if rows is None else np.asarray(rows, np.int64)
        if places.shape != (count,):
            raise ParameterError(f"{self.path}: {count} images need {count} rows, got shape {places.shape}")
        if count and not (places.min() >= 0 and places.max() < self._shape[0]):
            raise ParameterError(
                f"{self.path}: rows {places.min()} to {places.max()} do not fit a stack of {self._shape[0]} images"
            )
        if len(np.unique(places)) != count or self._written[places].any():
            raise ParameterError(
                f"{self.path}: an image between rows {places.min()} and {places.max()} is written twice"
            )
        return places

    def _header(self) -> bytes:
        n_images, box, _ = self._shape
        header = np.zeros((), HEADER_DTYPE.newbyteorder("<"))
        header["nx"], header["ny"], header["nz"], header["mode"] = box, box, n_images, 2
        header["mx"], header["my"], header["mz"] = box, box, 1
        edge = box * self._pixel_size
        header["cella"] = (edge, edge, self._pixel_size)
        header["cellb"] = (90, 90, 90)
        header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
        pixels = n_images * box * box
        mean = self._stats[:, 2].sum() / pixels
        header["dmin"], header["dmax"], header["dmean"] = self._stats[:, 0].min(), self._stats[:, 1].max(), mean
        header["rms"] = np.sqrt(max(0.0, self._stats[:, 3].sum() / pixels - mean**2))
        header["nversion"], header["map"], header["machst"] = 20141, b"MAP ", (0x44, 0x44, 0, 0)
        header["nlabl"] = 1
        header["label"][0] = LABEL
        return header.tobytes()

    def __enter__(self) -> MrcStackWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            # A second failure of a full disk while closing must not hide the first.
            with contextlib.suppress(OSError):
                self._file.close()
            self._partial.unlink(missing_ok=True)

    def _finish(self) -> None:
        missing = np.flatnonzero(~self._written)
        if len(missing):
            raise OutputError(
                f"{self.path}: {len(missing)} of {self._shape[0]} images were not written (first: {missing[0] + 1}); "
                "the file is not kept"
            )
        with self._explained():
            self._file.seek(0)
            self._file.write(self._header())
            self._file.close()
            os.replace(self._partial, self.path)
