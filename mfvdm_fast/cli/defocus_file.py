"""The file of ``simulate --defocus-list``: defocus values of a real session, as CSV."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from ..errors import InputError, ParameterError
from ..imperfections import DefocusList, make_defocus_list

_U, _V, _ANGLE, _WEIGHT = "defocus_u_angstrom", "defocus_v_angstrom", "defocus_angle_deg", "n_particles"


def read_defocus_list(path: str | Path) -> DefocusList:
    """Defocus values from a CSV file with a header line.

    Columns: defocus_u_angstrom, and where present defocus_v_angstrom, defocus_angle_deg and n_particles (how often the
    values are drawn); others are ignored. Raises InputError.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error}); give a table with a header line") from error
    if not rows or _U not in rows[0]:
        raise InputError(f"{path}: needs a header line with a column {_U} and at least one row below it")
    columns = {name: _numbers(path, rows, name) for name in (_U, _V, _ANGLE, _WEIGHT) if name in rows[0]}
    angle = columns.get(_ANGLE)
    try:
        return make_defocus_list(
            columns[_U], columns.get(_V), None if angle is None else np.deg2rad(angle), columns.get(_WEIGHT)
        )
    except ParameterError as error:
        raise InputError(f"{path}: {error}") from error


def _numbers(path: str | Path, rows: list[dict[str, str]], name: str) -> list[float]:
    found = []
    for line, row in enumerate(rows, start=2):
        try:
            found.append(float(row[name]))
        except (TypeError, ValueError):
            raise InputError(f"{path}, line {line}: {name} must be a number, got {row[name]!r}") from None
    return found
