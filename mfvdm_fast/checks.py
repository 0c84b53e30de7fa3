"""Small checks of arguments that several stages share. Each returns the value in the form the stage works with."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from .errors import InputError, ParameterError
from .records import CtfParameters, Images

SMALLEST_BOX = 16  # px, in which a particle can be told from noise
POSSIBLE_DEFOCUS = 50.0, 1e6  # Å, of the largest of a stack: nothing is recorded so near to focus, or so far from it
USUAL_DEFOCUS = 500.0, 1e5  # Å, of the median
LEAST_WITHOUT_PLATE = 3000.0  # Å, the same where no phase plate gives contrast; 1 to 3 µm in nm are mostly below


def check_images(name: str, images: ArrayLike) -> Images:
    """``images`` as a contiguous float32 array (n, L, L); not copied when it is one already.

    Raises InputError when the shape is another, the values are not real numbers, or one is NaN or infinite.

    >>> check_images("images", [[[0, 1], [2, 3]]]).dtype
    dtype('float32')
    """
    array = np.asarray(images)
    if array.ndim != 3 or array.shape[1] != array.shape[2] or array.shape[1] == 0:
        raise InputError(f"{name} must have shape (n, L, L), got {array.shape}; give a stack of square images")
    if array.dtype.kind not in "fiub":
        raise InputError(f"{name} must hold real numbers, got {array.dtype}; convert them to float32 first")
    with np.errstate(over="ignore", invalid="ignore"):
        array = np.ascontiguousarray(array, np.float32)
        sums = array.sum(axis=(1, 2), dtype=np.float64)  # NaN and infinity survive a sum
    if not np.isfinite(sums).all():
        row = int(np.flatnonzero(~np.isfinite(sums))[0])
        raise InputError(f"{name}[{row}] holds NaN or infinity; leave this particle out, or repair it")
    return array


def check_positive(name: str, value: float) -> float:
    """``value`` as a float. Raises ParameterError unless it is a finite number above 0.

    >>> check_positive("pixel_size", 3)
    3.0
    """
    number = _number(value)
    if not (math.isfinite(number) and number > 0):
        raise ParameterError(f"{name} must be a finite number above 0, got {value!r}")
    return number


def check_fraction(name: str, value: float) -> float:
    """``value`` as a float. Raises ParameterError unless it lies above 0 and is at most 1.

    >>> check_fraction("energy", 0.99)
    0.99
    """
    number = _number(value)
    if not 0 < number <= 1:
        raise ParameterError(f"{name} must be a fraction above 0 and at most 1, got {value!r}")
    return number


def check_whole(name: str, value: int, minimum: int = 1) -> int:
    """``value`` as an int. Raises ParameterError unless it is a whole number of at least ``minimum``.

    >>> check_whole("n_neighbors", 50)
    50
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < minimum:
        raise ParameterError(f"{name} must be a whole number of at least {minimum}, got {value!r}")
    return number


def check_choice(name: str, value: str, choices: Collection[str]) -> str:
    """``value`` itself. Raises ParameterError unless it is one of ``choices``.

    >>> check_choice("preset", "paper", ("default", "paper"))
    'paper'
    """
    if value not in choices:
        raise ParameterError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def check_switch(name: str, value: bool | None, *, optional: bool = False) -> None:
    """Raise ParameterError unless ``value`` is True or False, or None where it is ``optional``.

    >>> check_switch("ctf", False)
    """
    if not (isinstance(value, bool) or (optional and value is None)):
        rule = "True, False or None" if optional else "True or False"
        raise ParameterError(f"{name} must be {rule}, got {value!r:.80}; give it without quotes, as a bool")


def check_path(name: str, value: str | os.PathLike[str], hint: str) -> Path:
    """``value`` as a path. Raises ParameterError, with a ``hint`` of what to do, unless it is a str or a Path.

    >>> check_path("path", "a.star", "give its name").suffix
    '.star'
    """
    if not isinstance(value, (str, os.PathLike)):
        raise ParameterError(f"{name} must be a str or a Path, got {type(value).__name__}; {hint}")
    return Path(value)


def check_defocus(ctf: CtfParameters) -> None:
    """Raise InputError where defocus can be in no unit but a wrong one, as in µm. In-focus (all 0) is let through.

    >>> check_defocus(CtfParameters(*np.full((9, 2), 1e4)))
    """
    defocus = np.abs([ctf.defocus_u_angstrom, ctf.defocus_v_angstrom])
    least, most = POSSIBLE_DEFOCUS
    largest = float(defocus.max(initial=0.0))
    if 0 < largest < least or np.median(defocus) > most:
        near = "µm" if largest < least else "pm"
        raise InputError(
            f"the defocus (rlnDefocusU, rlnDefocusV; defocus_u_angstrom) is {defocus.min():.4g} to {largest:.4g}, and "
            f"must be in Å: 10000 for 1 µm, between {least:.0f} and {most:.0f}; is it in {near}? Correct the values, "
            "or correct no CTF (ctf=False, --no-ctf)"
        )


def doubt_about_defocus(ctf: CtfParameters) -> str:
    """What is odd about the defocus of a stack as a whole, and what to do; empty where nothing is.

    >>> doubt_about_defocus(CtfParameters(*np.full((9, 2), 1e4)))
    ''
    """
    mean = 0.5 * (ctf.defocus_u_angstrom + ctf.defocus_v_angstrom)
    median, (least, most) = float(np.median(np.abs(mean))), USUAL_DEFOCUS
    plate = bool(ctf.phase_shift.any())
    columns = "(rlnDefocusU, rlnDefocusV; defocus_u_angstrom)"
    if median > most or median < (least if plate else LEAST_WITHOUT_PLATE):
        rule, unit = f"hardly any stack is below {least:g}", "nm or µm"
        if median > most:
            rule, unit = f"hardly any stack is above {most:.0f}", "another unit"
        elif not plate:
            rule = f"without a phase plate (rlnPhaseShift) hardly any stack is below {LEAST_WITHOUT_PLATE:g}"
        return (
            f"the median of the defocus {columns} is {median:.4g} Å, and {rule} Å: is it in {unit}? It must be in Å "
            "(10000 for 1 µm), else the CTF is undone wrongly: correct the values"
        )
    negative = float(np.mean(mean < 0))
    if negative > 0.5:
        return (
            f"{negative:.0%} of the defocus values {columns} are negative, and underfocus must be positive: if the "
            "program that wrote them counts the other way, change their signs, else contrast comes out reversed"
        )
    return ""


def _number(value: object) -> float:
    """``value`` as a float; NaN when it is no number."""
    if isinstance(value, (bool, str, bytes)) or np.ndim(value):  # type: ignore[arg-type]
        return math.nan
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan
