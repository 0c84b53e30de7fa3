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
from .records import BoolArray, CtfParameters, FloatArray, Images

SMALLEST_BOX = 16  # px, in which a particle can be told from noise
POSSIBLE_DEFOCUS = 50.0, 1e6  # Å, of the largest of a stack: nothing is recorded so near to focus, or so far from it
USUAL_DEFOCUS = 500.0, 1e5  # Å, of the median
LEAST_WITHOUT_PLATE = 3000.0  # Å, the same where no phase plate gives contrast; 1 to 3 µm in nm are mostly below
FAR_BELOW = 1.5  # times: what parts values in nm from those in Å, whose largest is up to 6 times the smallest
PHASES_IN_RADIANS = 0.1, 3.2  # between them the largest of a stack, if it was meant in radians but taken for degrees
_NAMED = 5  # how many particles a message names


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
        raise ParameterError(f"{name} must be {rule}, got {value!r:.80}; give a Python bool, without quotes")


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


def doubts_about_ctf(ctf: CtfParameters) -> list[str]:
    """What is odd about the CTF parameters of a stack, and what to do; a text for each doubt.

    >>> doubts_about_ctf(CtfParameters(*np.full((9, 2), 1e4)))
    []
    """
    doubts = doubt_about_defocus(ctf), _doubt_about_rows(ctf), _doubt_about_zeros(ctf), _doubt_about_phases(ctf)
    return [doubt for doubt in doubts if doubt]


def _doubt_about_rows(ctf: CtfParameters) -> str:
    """Particles, fewer than half, whose defocus lies far below that of all others: in another unit, or 0.

    With a phase plate defocus may be next to 0.
    """
    defocus = np.maximum(np.abs(ctf.defocus_u_angstrom), np.abs(ctf.defocus_v_angstrom))
    ordered = np.sort(defocus)
    ratio = ordered[1:] / np.maximum(ordered[:-1], 1e-3)
    below = ratio[: (len(ordered) - 1) // 2]
    if not below.max(initial=0.0) > FAR_BELOW:
        return ""
    last = int(np.argmax(below))
    low, high = ordered[: last + 1], ordered[last + 1 :]
    least, most = (POSSIBLE_DEFOCUS[0], USUAL_DEFOCUS[0]) if ctf.phase_shift.any() else (LEAST_WITHOUT_PLATE, 0.0)
    unit = next((unit for unit, size in (("nm", 10), ("µm", 1e4)) if _lies_in(size * low, high)), "")
    if not (np.median(low) < least and high[0] > most and (unit or not low[-1])):
        return ""
    guess = f"is it in {unit}" if unit else "was it not estimated"
    return (
        f"the defocus (rlnDefocusU, rlnDefocusV; defocus_u_angstrom) of {_particles(defocus <= low[-1])} is "
        f"{_span(low)} Å, far below that of the others, {_span(high)} Å: {guess}? It must be in Å (10000 for 1 µm), "
        "else the CTF is undone wrongly: correct these rows, or leave them out (if they were taken so near to "
        "focus, all is well)"
    )


def _lies_in(values: FloatArray, others: FloatArray) -> bool:
    """Whether sorted values lie where the sorted ``others`` lie, and little beyond."""
    return bool(values[0] * FAR_BELOW > others[0] and values[-1] < FAR_BELOW * others[-1])


def _span(values: FloatArray) -> str:
    """The least and the largest of sorted values."""
    low, high = (f"{value:.0f}" if value >= 1000 else f"{value:.4g}" for value in (values[0], values[-1]))
    return low if low == high else f"{low} to {high}"


def _doubt_about_zeros(ctf: CtfParameters) -> str:
    """Particles of which one of the two defocus values is 0 and the other is not."""
    zero = (ctf.defocus_u_angstrom == 0) != (ctf.defocus_v_angstrom == 0)
    if not zero.any():
        return ""
    return (
        f"one of the two defocus values (rlnDefocusU, rlnDefocusV; defocus_u_angstrom, defocus_v_angstrom) of "
        f"{_particles(zero)} is 0 and the other is not: taken as told that is astigmatism as large as the defocus. If "
        "no astigmatism was estimated, both must be the same: correct them, or leave rlnDefocusV out"
    )


def _doubt_about_phases(ctf: CtfParameters) -> str:
    """Phase shifts so small that they are rather radians where degrees were meant."""
    largest = float(np.rad2deg(np.abs(ctf.phase_shift).max(initial=0.0)))
    least, most = PHASES_IN_RADIANS
    if not least <= largest <= most:
        return ""
    return (
        f"the phase shifts (rlnPhaseShift; phase_shift) are {largest:.3g}° at most, and phase plates give tens of "
        "degrees: are they in radians? rlnPhaseShift must be in degrees (90 for a quarter of a wave; phase_shift of "
        "make_ctf in radians), else the CTF is undone wrongly: correct the values"
    )


def _particles(chosen: BoolArray) -> str:
    """The ``chosen`` (n,) in words, counted from 1 as the rows of a table."""
    rows = np.flatnonzero(chosen)
    listing = ", ".join(str(row + 1) for row in rows[:_NAMED])
    more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    return f"{len(rows)} of {len(chosen)} particles ({'row' if len(rows) == 1 else 'rows'} {listing}{more})"


def _number(value: object) -> float:
    """``value`` as a float; NaN when it is no number."""
    if isinstance(value, (bool, str, bytes)) or np.ndim(value):  # type: ignore[arg-type]
        return math.nan
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan
