"""Writers of the small output files: neighbours, manifest, timings. Two runs give the same bytes (timings aside)."""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import MfvdmWarning, ParameterError
from .disk import disk_error

_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest a zip archive can say


def write_neighbors(
    path: str | os.PathLike[str], indices: ArrayLike, angles: ArrayLike, mirrored: ArrayLike, affinity: ArrayLike
) -> None:
    """Write a neighbour table, four arrays (n, K), as ``.npz`` for ``numpy.load``.

    ``indices`` int64, ``angles`` float64 radians, ``mirrored`` bool, ``affinity`` float64 (larger is closer). Raises
    ParameterError when the shapes differ, OutputError when the file cannot be written.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> write_neighbors(folder.name + "/neighbors.npz", [[1], [0]], [[0.5], [-0.5]], [[True], [True]], [[0.9], [0.9]])
    >>> np.load(folder.name + "/neighbors.npz")["angles"].tolist()
    [[0.5], [-0.5]]
    >>> folder.cleanup()
    """
    arrays = {
        "indices": np.asarray(indices, np.int64),
        "angles": np.asarray(angles, np.float64),
        "mirrored": np.asarray(mirrored, np.bool_),
        "affinity": np.asarray(affinity, np.float64),
    }
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) != 1 or len(shapes["indices"]) != 2:
        raise ParameterError(f"{path}: indices, angles, mirrored and affinity must have one shape (n, K), got {shapes}")
    try:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name, array in arrays.items():
                with archive.open(zipfile.ZipInfo(f"{name}.npy", _ZIP_DATE), "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
    except OSError as error:
        raise disk_error(path, error) from error


def write_manifest(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write ``content`` as JSON, keys sorted, without the time of day. NumPy numbers, arrays and paths are allowed.

    Raises ParameterError for values that JSON cannot hold (NaN and infinity too), OutputError when the file cannot be
    written.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> write_manifest(folder.name + "/manifest.json", {"n_particles": np.int64(3), "box_size": 64})
    >>> print(Path(folder.name, "manifest.json").read_text())
    {
      "box_size": 64,
      "n_particles": 3
    }
    <BLANKLINE>
    >>> folder.cleanup()
    """
    try:
        text = json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    except (TypeError, ValueError) as error:
        raise ParameterError(
            f"{path}: a value cannot be written as JSON: {error}; pass numbers, text, lists or dicts"
        ) from error
    try:
        Path(path).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise disk_error(path, error) from error


def write_timings(path: str | os.PathLike[str], seconds: Mapping[str, float]) -> None:
    """Write the seconds of each stage, to the millisecond, as JSON."""
    write_manifest(path, {"seconds": {name: round(float(value), 3) for name, value in seconds.items()}})


def _plain(value: object) -> object:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} {value!r:.60}")


def warn_odd_box(box_size: int) -> None:
    """MfvdmWarning when the box is odd: it is written as it is, but RELION refuses odd boxes when it extracts."""
    if box_size % 2:
        warnings.warn(
            f"the box is odd ({box_size} px): RELION's extraction refuses odd boxes; use an even one to go on there",
            MfvdmWarning,
            stacklevel=2,
        )
