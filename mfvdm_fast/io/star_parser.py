"""From the bytes of a STAR file to its tables.

Rows are cut with ``bytes.split``, many lines at a time; only where a quote or a comment may begin, or a table ends, is
the text read line by line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NoReturn

import numpy as np

from ..errors import InputError
from .star_table import Cells, StarTable

_FIRST_PIECE, _LAST_PIECE = 1 << 15, 1 << 19  # bytes cut at once; small first, since most tables are short
_TOKEN = re.compile(rb"""'.*?'(?=\s|$)|".*?"(?=\s|$)|\#.*|\S+""")
_MARKS = (b"'", b'"', b"#")
_OPENERS = tuple(blank + mark for blank in (b" ", b"\t", b"\n", b"\r", b"\v", b"\f") for mark in _MARKS)
_KEYWORDS = (b"_", b"data_", b"loop_", b";")


def parse_star(data: bytes, source: str) -> dict[str, StarTable]:
    """The blocks of a STAR text in the order of the file. Raises InputError naming ``source`` and the line."""
    if b"\0" in data:
        raise InputError(f"{source}: not a STAR text (it has NUL bytes); give the .star file, or the stack as .mrcs")
    tables = {table.name: table for table in _Reader(data.removeprefix(b"\xef\xbb\xbf"), source).tables()}
    if not tables:
        raise InputError(f"{source}: no data_ block in this file; give a STAR file such as RELION writes")
    return tables


class _Reader:
    """A position in the text, and what is read from there."""

    def __init__(self, data: bytes, source: str) -> None:
        self.data = data
        self.source = source
        self.position = 0
        self.line = 0
        self.comments: list[str] = []  # since the last thing that is not a comment

    def fail(self, message: str) -> NoReturn:
        raise InputError(f"{self.source}, line {self.line}: {message}")

    def tables(self) -> Iterator[StarTable]:
        name: str | None = None
        names: set[str] = set()
        columns: dict[str, Cells] = {}
        is_loop = False
        comments: tuple[str, ...] = ()
        while self.position < len(self.data):
            tokens = self.next_tokens()
            if not tokens:
                continue
            first = tokens[0]
            if first.startswith(b"data_") and len(tokens) == 1:
                if name is not None:
                    yield StarTable(name, columns, is_loop, comments, self.source)
                name, columns, is_loop, comments = _text(first[5:]), {}, False, tuple(self.comments)
                if name in names:
                    self.fail(f"a second block named data_{name}; block names must differ: rename or remove one")
                names.add(name)
            elif name is None:
                self.fail(f"{_text(first)[:40]!r} before the first data_ block; is this a STAR file?")
            elif first == b"loop_" and len(tokens) == 1:
                if columns:
                    self.fail(f"data_{name} has more than one table; give each loop a data_ block of its own")
                columns, is_loop = self.loop(name), True
                continue  # comments behind the last row belong to the next block
            else:
                if is_loop:
                    self.fail(f"{_text(first)[:40]!r} after the loop of data_{name}; expected a row or a data_ block")
                self.pair(tokens, columns)
            self.comments.clear()
        if name is not None:
            yield StarTable(name, columns, is_loop, comments, self.source)

    def next_tokens(self) -> list[bytes]:
        """The values of the next line; comments are put aside."""
        end = self.data.find(b"\n", self.position)
        end = len(self.data) if end < 0 else end
        line = self.data[self.position : end]
        self.position, self.line = end + 1, self.line + 1
        if line.startswith(b";"):
            self.fail("a text field over several lines (;) is not supported; put the value on one line")
        if not any(mark in line for mark in _MARKS):
            return line.split()
        tokens: list[bytes] = []
        for token in _TOKEN.findall(line):
            if token.startswith(b"#"):
                if not tokens:
                    self.comments.append(_text(line.strip()))
                break
            if token.startswith((b"'", b'"')) and (len(token) == 1 or token[-1:] != token[:1]):
                self.fail(f"a quote is opened and not closed: {_text(token)[:40]!r}; close it or take it out")
            tokens.append(token)
        return tokens

    def pair(self, tokens: Sequence[bytes], columns: dict[str, Cells]) -> None:
        if not tokens[0].startswith(b"_") or len(tokens) != 2:
            line = _text(b" ".join(tokens))[:60]
            self.fail(f"expected loop_, data_... or a pair '_name value', found {line!r}; correct the file")
        name = _text(tokens[0][1:])
        if name in columns:
            self.fail(f"_{name} stands twice in this block; remove one")
        columns[name] = np.array([tokens[1]], dtype="S")

    def loop(self, block: str) -> dict[str, Cells]:
        names: list[str] = []
        self.comments.clear()
        while self.position < len(self.data):
            before = self.position, self.line
            tokens = self.next_tokens()
            if tokens and not tokens[0].startswith(b"_"):
                self.position, self.line = before
                break
            if len(tokens) > 1:
                self.fail(f"a column name stands alone in a loop_, found {_text(b' '.join(tokens))[:60]!r}")
            names.extend(_text(token[1:]) for token in tokens)
        if not names:
            self.fail(f"the loop_ of data_{block} has no columns; correct the file")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            self.fail(f"column _{twice[0]} stands twice in the loop_ of data_{block}; remove one")
        return self.rows(names)

    def rows(self, names: list[str]) -> dict[str, Cells]:
        pieces: list[list[Cells]] = []
        size, ended = _FIRST_PIECE, False
        while self.position < len(self.data) and not ended:
            newline = self.data.find(b"\n", self.position + size)
            rows, ended = self.piece(len(self.data) if newline < 0 else newline + 1, len(names))
            if rows:
                pieces.append([np.array(column, dtype="S") for column in zip(*rows, strict=True)])
            size = min(2 * size, _LAST_PIECE)
        if not pieces:
            return {name: np.empty(0, dtype="S1") for name in names}
        return {name: np.concatenate(parts) for name, parts in zip(names, zip(*pieces, strict=True), strict=True)}

    def piece(self, end: int, width: int) -> tuple[list[list[bytes]], bool]:
        """The rows up to ``end``, and whether the table ends before it."""
        text = self.data[self.position : end]
        # The byte before the piece is a line break.
        marked = any(mark in text for mark in _MARKS) and any(opener in b"\n" + text for opener in _OPENERS)
        if not marked:
            rows = [row for row in map(bytes.split, text.split(b"\n")) if row]
            if all(len(row) == width for row in rows) and not any(row[0].startswith(_KEYWORDS) for row in rows):
                self.position, self.line = end, self.line + text.count(b"\n")
                self.comments.clear()
                return rows, False
        return self.piece_by_line(end, width)

    def piece_by_line(self, end: int, width: int) -> tuple[list[list[bytes]], bool]:
        rows: list[list[bytes]] = []
        while self.position < end:
            before = self.position, self.line
            tokens = self.next_tokens()
            if not tokens:
                continue
            if tokens[0].startswith(b"_") or (len(tokens) == 1 and tokens[0].startswith((b"data_", b"loop_"))):
                self.position, self.line = before
                return rows, True
            if len(tokens) != width:
                self.fail(f"{len(tokens)} values where the loop_ has {width} columns; cut off, or an unquoted blank?")
            rows.append(tokens)
            self.comments.clear()
        return rows, False


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
