"""MRC stacks and STAR tables written field by field, without the package's own writers."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

MODES = {"int8": 0, "int16": 1, "float32": 2, "uint16": 6, "float16": 12}


def write_mrc(
    path: Path,
    images: np.ndarray,
    *,
    order: str = "<",
    extended: bytes = b"",
    pixel_size: float = 0.0,
    stamp: bool = True,
) -> Path:
    """Images (n, rows, columns) as MRC2014 in byte order ``<`` or ``>``, with an extended header."""
    n, rows, columns = images.shape
    header = bytearray(1024)
    struct.pack_into(order + "4i", header, 0, columns, rows, n, MODES[images.dtype.name])
    struct.pack_into(order + "3i", header, 28, columns, rows, 1)
    struct.pack_into(order + "6f", header, 40, columns * pixel_size, rows * pixel_size, pixel_size, 90, 90, 90)
    struct.pack_into(order + "3i", header, 64, 1, 2, 3)
    struct.pack_into(order + "2i", header, 88, 0, len(extended))
    if stamp:
        header[208:212] = b"MAP "
        header[212:214] = b"\x44\x44" if order == "<" else b"\x11\x11"
    path.write_bytes(bytes(header) + extended + images.astype(images.dtype.newbyteorder(order)).tobytes())
    return path


def star_text(blocks: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    """Loops of plain cells, one for each block."""
    parts = []
    for name, columns in blocks.items():
        rows = zip(*columns.values(), strict=True)
        head = "".join(f"_{column} #{i}\n" for i, column in enumerate(columns, 1))
        parts.append(
            f"\n# version 30001\n\ndata_{name}\n\nloop_\n{head}" + "".join(" ".join(row) + "\n" for row in rows)
        )
    return "\n".join(parts)
