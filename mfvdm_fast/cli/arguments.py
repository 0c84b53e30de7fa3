"""Arguments that several subcommands share."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import ParameterError
from ..records import IndexArray

_CHUNK_BYTES = 32 * 2**20
_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def _folder(text: str) -> Path:
    if not text:  # a variable of the shell that was never set
        raise argparse.ArgumentTypeError("the name is empty; give that of a folder ('.' is this one)")
    return Path(text)


def add_output(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """``-o DIR`` and ``--overwrite``."""
    text = "output folder" + (f" (default: {default})" if default else "")
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=_folder, default=default, required=default is None, help=text
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the outputs of an earlier run")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """``--threads N``."""
    parser.add_argument(
        "--threads",
        metavar="N",
        type=int,
        help="threads, 1 or more; the results do not depend on it (default: all cores)",
    )


def parse_memory(text: str) -> int:
    """Bytes of a size such as ``1500M`` or ``2G`` (MiB and GiB, of 1024); ParameterError for anything else.

    >>> parse_memory("1.5K")
    1536
    """
    match = re.fullmatch(r"(\d+(?:\.\d*)?) *([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    size = round(float(match[1]) * 1024 ** _UNITS[match[2].upper()]) if match else 0
    if size < 1:
        raise ParameterError(f"max_memory must be a size above 0 such as 1500M or 2G, got {text!r}")
    return size


def row_chunks(n_images: int, box_size: int, part: int = 1) -> Iterator[IndexArray]:
    """Runs of rows whose images take about 32 MB, or that part of it.

    >>> [len(rows) for rows in row_chunks(40, 1024, part=2)]
    [4, 4, 4, 4, 4, 4, 4, 4, 4, 4]
    """
    step = max(1, _CHUNK_BYTES // part // (4 * box_size**2))
    for first in range(0, n_images, step):
        yield np.arange(first, min(first + step, n_images), dtype=np.int64)
