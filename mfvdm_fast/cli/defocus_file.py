"""The file of ``simulate --defocus-list``: defocus values of a real session, as CSV."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..imperfections import DefocusList, make_defocus_list

_U, _V, _ANGLE, _WEIGHT = "defocus_u_angstrom", "defocus_v_angstrom", "defocus_angle_deg", "n_particles"


def read_defocus_list(path: str | Path) -> DefocusList:
    """Defocus values from a CSV file with a header line.

    Columns: defocus_u_angstrom, and where present defocus_v_angstrom, defocus_angle_deg and n_particles (how often the
    values are drawn); others are ignored. Raises InputError naming the line and the value.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error}); give a table with a header line") from error
    if not rows or _U not in rows[0][1]:
        raise InputError(f"{path}: needs a header line with a column {_U} and at least one row below it")
    columns = {name: _numbers(path, rows, name) for name in (_U, _V, _ANGLE, _WEIGHT) if name in rows[0][1]}
    angle, weight = columns.get(_ANGLE), columns.get(_WEIGHT)
    if weight is not None and not any(weight):
        raise InputError(f"{path}: {_WEIGHT} is 0 in every line, and nothing could be drawn; give numbers of particles")
    return make_defocus_list(columns[_U], columns.get(_V), None if angle is None else np.deg2rad(angle), weight)


def _numbers(path: str | Path, rows: list[tuple[int, dict[str, str]]], name: str) -> list[float]:
    rule, least = ("a finite number of 0 or more", 0.0) if name == _WEIGHT else ("a finite number", -math.inf)
    found = []
    for line, row in rows:
        try:
            value = float(row[name])
        except (TypeError, ValueError):  # a short line has None
            value = math.nan
        if not (math.isfinite(value) and value >= least):
            got = "nothing" if row[name] is None else repr(row[name])
            raise InputError(f"{path}, line {line}: {name} must be {rule}, got {got}; correct it, or remove the line")
        found.append(value)
    return found
