"""One STAR table, loss-free: every cell is kept as the bytes that stand in the file, quotes included."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, ParameterError
from ..records import FloatArray, IndexArray

Cells = NDArray[np.bytes_]
VERSION_LINE = "# version 30001"
# A cell that nobody takes for anything but a value.
_PLAIN = re.compile(rb"""(?!data_|loop_|save_|global_|stop_)[^\s\0#'"_;$][^\s\0]*""")


@dataclass(frozen=True)
class StarTable:
    """One block of a STAR file: columns by name (without the underscore), each (n,) cells verbatim, quotes included.

    ``comments`` are the comment lines in front of the block; ``source`` is what messages call the file.

    >>> table = StarTable("particles").with_column("rlnImageName", ["1@a b.mrcs"]).with_column("rlnDefocusU", ["1e4"])
    >>> table.cells("rlnImageName")
    array([b"'1@a b.mrcs'"], dtype='|S12')
    >>> table.texts("rlnImageName"), table.floats("rlnDefocusU")
    (['1@a b.mrcs'], array([10000.]))
    """

    name: str
    columns: Mapping[str, Cells] = field(default_factory=dict)
    is_loop: bool = True
    comments: tuple[str, ...] = (VERSION_LINE,)
    source: str = "STAR table"

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def __contains__(self, column: str) -> bool:
        return column in self.columns

    @property
    def label(self) -> str:
        """File and block, for messages."""
        return f"{self.source}: data_{self.name}"

    def cells(self, column: str) -> Cells:
        """The cells of a column (n,), verbatim. Raises InputError when there is no such column."""
        if column not in self.columns:
            raise InputError(
                f"{self.label} has no column _{column}; its columns are {', '.join(self.columns) or 'none'}"
            )
        return self.columns[column]

    def texts(self, column: str) -> list[str]:
        """The cells of a column as text, without the quotes. Bytes that are not UTF-8 survive as file names do."""
        cells = self.cells(column).tolist()
        return [(_unquote(cell) if cell[:1] in b"'\"" else cell).decode("utf-8", "surrogateescape") for cell in cells]

    def floats(self, column: str) -> FloatArray:
        """A column as float64 (n,). Raises InputError naming the first row (1-based) that is not a finite number."""
        cells = self.cells(column)
        try:
            values = cells.astype(np.float64)
        except ValueError:
            values = np.array([_number(cell) for cell in cells.tolist()])
        # Python reads 1_000 as a number; no other STAR reader does.
        bad = ~np.isfinite(values) | (np.char.find(cells, b"_") >= 0 if b"_" in cells.tobytes() else False)
        if bad.any():
            self._refuse(column, int(np.flatnonzero(bad)[0]), int(bad.sum()), "a finite number")
        return values

    def integers(self, column: str) -> IndexArray:
        """A column as int64 (n,). Raises InputError naming the first row (1-based) that is not a whole number."""
        values = self.floats(column)
        bad = (values != np.floor(values)) | (np.abs(values) > 2**53)
        if bad.any():
            self._refuse(column, int(np.flatnonzero(bad)[0]), int(bad.sum()), "a whole number")
        return values.astype(np.int64)

    def _refuse(self, column: str, row: int, count: int, wanted: str) -> None:
        more = f" (and {count - 1} more such rows)" if count > 1 else ""
        value = self.texts(column)[row]
        raise InputError(f"{self.label}: row {row + 1}, _{column}: {value!r} is not {wanted}{more}; correct the file")

    def with_column(self, column: str, values: Iterable[str] | Cells) -> StarTable:
        """A copy with a column replaced or added at the end; text is quoted where needed, cells are kept."""
        if isinstance(values, np.ndarray) and values.dtype.kind == "S":
            cells = values
        else:
            cells = np.array([quote(value) for value in values], dtype="S")
        if self.columns and len(cells) != len(self):
            raise ParameterError(f"{self.label}: column _{column} has {len(cells)} values for {len(self)} rows")
        return replace(self, columns={**self.columns, column: cells})

    def without(self, columns: Iterable[str]) -> StarTable:
        """A copy without the given columns; names that are not there are passed over."""
        gone = set(columns)
        return replace(self, columns={name: cells for name, cells in self.columns.items() if name not in gone})

    def take(self, rows: NDArray[np.generic] | slice) -> StarTable:
        """A copy with the given rows only (any NumPy index that keeps one dimension)."""
        return replace(self, columns={name: cells[rows] for name, cells in self.columns.items()})


def quote(value: str) -> bytes:
    """A text as one STAR cell, in quotes where it would be read differently without.

    Raises ParameterError for text that no cell can hold (line breaks, NUL, both kinds of closing quote).

    >>> quote("1@a.mrcs"), quote("two words"), quote("#1"), quote("it's"), quote("")
    (b'1@a.mrcs', b"'two words'", b"'#1'", b"it's", b"''")
    """
    cell = value.encode("utf-8", "surrogateescape")
    if _PLAIN.fullmatch(cell):
        return cell
    if not any(char in cell for char in b"\n\r\v\f\0"):
        for mark in sorted((b"'", b'"'), key=lambda mark: mark in cell):
            # Only a quote with a blank behind it closes; some readers take # for one.
            if not any(mark + after in cell for after in (b" ", b"\t", b"#")):
                return mark + cell + mark
    raise ParameterError(
        f"{value!r} cannot be written in a STAR cell; take out line breaks and quotes followed by blanks"
    )


def _unquote(cell: bytes) -> bytes:
    return cell[1:-1] if len(cell) > 1 and cell[:1] in (b"'", b'"') and cell[-1:] == cell[:1] else cell


def _number(cell: bytes) -> float:
    try:
        return float(_unquote(cell))
    except ValueError:
        return float("nan")
