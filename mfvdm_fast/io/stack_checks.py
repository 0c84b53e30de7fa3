"""What a particle stack is refused for: pixels, headers and origins that cannot be right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import InputError, counted
from ..records import FloatArray, Images, IndexArray
from .image_names import ImageNames
from .mrc import MrcHeader

_NAMED = 5  # how many bad images a message names


def refuse_bad_pixels(images: Images, rows: IndexArray, n_particles: int, name: Callable[[int], str]) -> None:
    """Raise InputError when one of the images (b, L, L) has pixels that are no numbers, or all the same.

    ``rows`` (b,) of the ``n_particles`` were read, and of the others nothing is known; ``name(row)`` is what the
    message calls an image.

    >>> refuse_bad_pixels(np.eye(4, dtype=np.float32)[None], np.arange(1), 1, str)
    """
    seen = "" if len(rows) >= n_particles else f" ({len(rows)} of {n_particles} images were looked at)"
    flat = images.reshape(len(rows), images.shape[1] ** 2)
    # Constant images are rare: the first image row sorts out nearly all others.
    suspects = np.flatnonzero((images[:, 0] == images[:, 0, :1]).all(axis=1))
    constant = suspects[(flat[suspects] == flat[suspects, :1]).all(axis=1)]
    if not np.isfinite(images).all():
        counts = (~np.isfinite(flat)).sum(axis=1)
        bad = np.flatnonzero(counts)
        listing = ", ".join(f"{name(int(rows[i]))} ({counted(int(counts[i]), 'pixel')})" for i in bad[:_NAMED])
        raise InputError(
            f"{listing}{_more(len(bad))}: pixels that are NaN, infinite or too large for float32{seen}; "
            "extract the particles again or leave these out"
        )
    if len(constant):
        listing = ", ".join(f"{name(int(rows[i]))} (all {flat[i, 0]:g})" for i in constant[:_NAMED])
        raise InputError(
            f"{listing}{_more(len(constant))}: every pixel has the same value{seen}; leave these images out of the "
            "stack"
        )


def _more(count: int) -> str:
    return f" and {count - _NAMED} more" if count > _NAMED else ""


def check_origins(shifts: FloatArray | None, box_size: int, label: str) -> None:
    """Raise InputError when a centre (n, 2), in px from the pixel L // 2, lies outside its box.

    >>> check_origins(np.array([[3.0, -2.0]]), 16, "a.star")
    """
    outside = np.empty(0, np.int64) if shifts is None else np.flatnonzero((np.abs(shifts) > box_size / 2).any(axis=1))
    if shifts is not None and len(outside):
        x, y = -shifts[outside[0]]
        raise InputError(
            f"{label}: row {outside[0] + 1}: the origin ({x:g}, {y:g}) px lies outside the box of {box_size} px "
            f"({counted(len(outside), 'such row')}); extract the particles again, or correct the origins or the pixel "
            "size"
        )


def check_headers(headers: tuple[MrcHeader, ...], names: ImageNames, label: str, box_size: int | None) -> None:
    """Raise InputError when the stacks differ in their boxes, or from ``box_size``, or have no image of some name.

    ``box_size`` is that of the table, ``label`` what the message calls it.
    """
    other = next((header for header in headers if header.nx != headers[0].nx), None)
    if other is not None:
        raise InputError(
            f"{label}: images must all have one box size: {headers[0].path} has {headers[0].nx} px, "
            f"{other.path} has {other.nx} px; rescale or split the particles"
        )
    if box_size is not None and box_size != headers[0].nx:
        raise InputError(
            f"{label}: _rlnImageSize is {box_size} px, the images in {headers[0].path} have {headers[0].nx} px; "
            "correct data_optics (the pixel size too, if the images were rescaled)"
        )
    held = np.array([header.n_images for header in headers])[names.file_of]
    beyond = np.flatnonzero(names.index >= held)
    if len(beyond):
        row = int(beyond[0])
        more = f" (and {counted(len(beyond) - 1, 'more such row')})" if len(beyond) > 1 else ""
        raise InputError(
            f"{label}: row {row + 1} names image {names.index[row] + 1} of {headers[names.file_of[row]].path}, which "
            f"holds {counted(int(held[row]), 'image')}{more}; is it the right stack?"
        )
