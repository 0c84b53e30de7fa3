"""``rlnImageName``: ``000001@Extract/job005/a.mrcs`` to a file that exists and an image number."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from ..errors import InputError, counted
from ..records import IndexArray
from .star_table import StarTable

_PARENTS = 3  # how far above the STAR file the project folder is looked for
_DIGITS = 18  # what int64 holds, and more than any stack needs


@dataclass(frozen=True)
class ImageNames:
    """Where each of n images lies: in ``files[file_of[i]]``, as image number ``index[i]`` (0-based)."""

    files: tuple[Path, ...]  # in order of first mention
    file_of: IndexArray  # (n,)
    index: IndexArray  # (n,)


def resolve_image_names(table: StarTable, star_path: Path, project_dir: Path | None = None) -> ImageNames:
    """Find the file of every image of a table.

    A relative path is taken from ``project_dir`` if given, else from the current folder (where RELION is started), else
    from the STAR file's own folder and up to three folders above it: the first place where the file exists. A name
    whose folder, if it has one, is the end of the STAR file's own is looked for beside the STAR file before the current
    folder: it says that they belong together, and a stack of that name that happens to lie below the current folder
    would be the wrong one. Raises InputError for names that are not NUMBER@PATH with a number of at least 1, and for
    files that are nowhere.
    """
    names: dict[str, int] = {}
    first_rows: list[int] = []
    file_of = np.empty(len(table), np.int64)
    index = np.empty(len(table), np.int64)
    for row, text in enumerate(table.texts("rlnImageName")):
        number, at, name = text.partition("@")
        if not (at and name and number.isascii() and number.isdigit()):
            raise InputError(
                f"{table.label}: row {row + 1}: _rlnImageName {text!r} is not NUMBER@PATH, such as 000001@stack.mrcs; "
                "correct the name"
            )
        index[row] = int(number.lstrip("0")[:_DIGITS] or 0) - 1
        file_of[row] = names.setdefault(name, len(names))
        if len(names) > len(first_rows):
            first_rows.append(row)
    below = np.flatnonzero(index < 0)
    if len(below):
        raise InputError(
            f"{table.label}: row {below[0] + 1}: image number 0 in _rlnImageName; numbers start at 1: correct the name"
        )
    own = star_path.absolute().parent
    # The same file may be named in several ways.
    files: dict[str, tuple[int, Path]] = {}
    place_of = np.empty(len(names), np.int64)
    for k, name in enumerate(names):
        places = _places(name, own, project_dir)
        path = _find(name, places)
        if path is None:
            where = f"{table.label}: row {first_rows[k] + 1}"
            _refuse_missing(name, places, where, int((file_of == k).sum()))
        place_of[k] = files.setdefault(os.path.realpath(path), (len(files), path))[0]
    return ImageNames(tuple(path for _, path in files.values()), place_of[file_of], index)


def folder_of_names(table: StarTable, first_file: Path) -> Path | None:
    """The folder from which the name of the first image counts, whose file is known; None when it is absolute.

    >>> table = StarTable("particles").with_column("rlnImageName", ["1@Extract/job005/a.mrcs"])
    >>> print(folder_of_names(table, Path("/data/Extract/job005/a.mrcs")))
    /data
    """
    name = table.take(slice(1)).texts("rlnImageName")[0].partition("@")[2]
    return None if os.path.isabs(name) else first_file.parents[len(Path(name).parts) - 1]


def _places(name: str, own: Path, project_dir: Path | None) -> list[Path]:
    """Where a name in a STAR file of the folder ``own`` may start; absolute, so that changes of folder do no harm."""
    folder = tuple(filter(None, os.path.dirname(name).split("/")))  # "." stays: who writes ./ means the current folder
    start = len(own.parts) - len(folder)
    beside = [Path(*own.parts[:start])] if start > 0 and own.parts[start:] == folder else []
    places = [*([] if project_dir is None else [project_dir]), *beside, Path(), own, *list(own.parents)[:_PARENTS]]
    return list(dict.fromkeys(place.absolute() for place in places))


def _find(name: str, places: list[Path]) -> Path | None:
    # An absolute name swallows the place in front of it.
    return next((place / name for place in places if (place / name).is_file()), None)


def _refuse_missing(name: str, places: list[Path], where: str, count: int) -> NoReturn:
    looked = "" if os.path.isabs(name) else f"; looked below {', '.join(map(str, places))}"
    raise InputError(
        f"{where}: there is no file {name!r} (needed by {counted(count, 'particle')}){looked}: "
        "start from the project folder or give --project-dir"
    )


def refuse_duplicates(table: StarTable, names: ImageNames) -> None:
    """Raise InputError when the same image stands in two rows: it would be its own nearest neighbour."""
    order = np.lexsort((names.index, names.file_of))
    same = (np.diff(names.index[order]) == 0) & (np.diff(names.file_of[order]) == 0)
    if not same.any():
        return
    pairs = [(int(order[i]), int(order[i + 1])) for i in np.flatnonzero(same)[:5]]
    listing = "; ".join(f"rows {a + 1} and {b + 1} ({table.texts('rlnImageName')[a]})" for a, b in pairs)
    raise InputError(
        f"{table.label}: the same image stands in more than one row ({int(same.sum())} times): {listing}; "
        "remove the duplicates"
    )
