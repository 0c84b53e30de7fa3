"""What cannot be right about the CTF parameters of a stack, and what is odd: units, signs, values that are missing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .errors import InputError
from .records import BoolArray, CtfParameters, FloatArray

POSSIBLE_DEFOCUS = 50.0, 1e6  # Å, of the largest of a stack: nothing is recorded so near to focus, or so far from it
USUAL_DEFOCUS = 500.0, 1e5  # Å, of the median
LEAST_WITHOUT_PLATE = 3000.0  # Å, the same where no phase plate gives contrast; 1 to 3 µm in nm are mostly below
FAR_BELOW = 1.5  # times: what parts values in nm from those in Å, whose largest is up to 6 times the smallest
NO_DEFOCUS = 1.0  # Å: less is 0, or in another unit
MOST_ASTIGMATISM = 4000.0, 4.0  # Å, and times the smaller value: beyond both nothing is astigmatism
HALF = 0.4, 0.6  # of the particles, between them each part of a focal pair
TIGHT = 3.0  # times: how much wider than each part of a focal pair is the gap between them
SAME_ASTIGMATISM = 3.0  # times: of one microscope; in other units the ratio is 10
PHASES_IN_RADIANS = 0.1, 3.2  # between them the largest of a stack, if it was meant in radians but taken for degrees
_UNITS = ("nm", 1e1), ("µm", 1e4), ("m", 1e10)  # in Å
_NAMED = 5  # how many particles a message names
_COLUMNS = "(rlnDefocusU, rlnDefocusV; defocus_u_angstrom)"


def check_defocus(ctf: CtfParameters) -> None:
    """Raise InputError where defocus can be in no unit but a wrong one, as in µm. In-focus (all 0) is let through.

    >>> check_defocus(CtfParameters(*np.full((9, 2), 1e4)))
    """
    defocus = np.abs([ctf.defocus_u_angstrom, ctf.defocus_v_angstrom])
    least, most = POSSIBLE_DEFOCUS
    largest = float(defocus.max(initial=0.0))
    if 0 < largest < least or np.median(defocus) > most:
        near = "pm" if largest >= least else "m" if largest * 1e10 < most else "µm"
        raise InputError(
            f"the defocus {_COLUMNS} is {defocus.min():.4g} to {largest:.4g}, and "
            f"must be in Å: 10000 for 1 µm, between {least:.0f} and {most:.0f}; is it in {near}? Correct the values, "
            "or correct no CTF (ctf=False, --no-ctf)"
        )


def doubts_about_ctf(ctf: CtfParameters) -> list[str]:
    """What is odd about the CTF parameters of a stack, and what to do; a text for each doubt.

    >>> doubts_about_ctf(CtfParameters(*np.full((9, 2), 1e4)))
    []
    """
    below, guess = _far_below(ctf)
    doubts = (
        _doubt_about_unit(ctf[~below]),
        _doubt_about_signs(ctf),
        _doubt_about_rows(ctf, below, guess),
        _doubt_about_astigmatism(ctf),
        _doubt_about_zeros(ctf),
        _doubt_about_phases(ctf),
    )
    return [doubt for doubt in doubts if doubt]


def _doubt_about_unit(ctf: CtfParameters) -> str:
    """The defocus of the stack as a whole is too small or too large for Å."""
    median, (least, most) = float(np.median(_size(ctf))), USUAL_DEFOCUS
    plate = bool(ctf.phase_shift.any())
    rule, unit = f"hardly any stack is below {least:g}", "nm or µm"
    if median > most:
        rule, unit = f"hardly any stack is above {most:.0f}", "another unit"
    elif median >= (least if plate else LEAST_WITHOUT_PLATE) or any(_is_focal_pair(ctf, part) for part in _parts(ctf)):
        return ""
    elif not plate:
        rule = f"without a phase plate (rlnPhaseShift) hardly any stack is below {LEAST_WITHOUT_PLATE:g}"
    return (
        f"the median of the defocus {_COLUMNS} is {median:.4g} Å, and {rule} Å: is it in {unit}? It must be in Å "
        "(10000 for 1 µm), else the CTF is undone wrongly: correct the values"
    )


def _doubt_about_signs(ctf: CtfParameters) -> str:
    negative = float(np.mean(ctf.defocus_u_angstrom + ctf.defocus_v_angstrom < 0))
    if negative <= 0.5:
        return ""
    return (
        f"{negative:.0%} of the defocus values {_COLUMNS} are negative, and underfocus must be positive: if the "
        "program that wrote them counts the other way, change their signs, else contrast comes out reversed"
    )


def _far_below(ctf: CtfParameters) -> tuple[BoolArray, str]:
    """The particles (n,) whose defocus lies far below that of all others, in another unit or 0, and a guess at why.

    With a phase plate defocus may be next to 0.
    """
    defocus = _size(ctf)
    least, most = (POSSIBLE_DEFOCUS[0], USUAL_DEFOCUS[0]) if ctf.phase_shift.any() else (LEAST_WITHOUT_PLATE, 0.0)
    for below in _parts(ctf):
        low, high = defocus[below], defocus[~below]
        unit = next((unit for unit, size in _UNITS if _lies_in(size * low, high)), "")
        odd = np.median(low) < least and high.min() > most and (unit or low.max() < NO_DEFOCUS)
        if odd and not _is_focal_pair(ctf, below):
            return below, f"is it in {unit}" if unit else "was it not estimated"
    return np.zeros(len(ctf), bool), ""


def _doubt_about_rows(ctf: CtfParameters, below: BoolArray, guess: str) -> str:
    if not below.any():
        return ""
    defocus = _size(ctf)
    return (
        f"the defocus {_COLUMNS} of {_particles(below)} is {_span(defocus[below])} Å, far below that of the others, "
        f"{_span(defocus[~below])} Å: {guess}? It must be in Å (10000 for 1 µm), else the CTF is undone wrongly: "
        "correct these rows, or leave them out (if they were taken so near to focus, all is well)"
    )


def _size(ctf: CtfParameters) -> FloatArray:
    """The larger of the two defocus values (n,), without its sign."""
    return np.maximum(np.abs(ctf.defocus_u_angstrom), np.abs(ctf.defocus_v_angstrom))


def _parts(ctf: CtfParameters) -> Iterator[BoolArray]:
    """The particles (n,) below each jump in the sorted defocus of a stack, the largest jump first."""
    defocus = _size(ctf)
    ordered = np.sort(defocus)
    ratio = ordered[1:] / np.maximum(ordered[:-1], 1e-3)
    jumps = np.argsort(-ratio, kind="stable")[: np.count_nonzero(ratio > FAR_BELOW)]
    return (defocus <= ordered[last] for last in jumps)


def _is_focal_pair(ctf: CtfParameters, below: BoolArray) -> bool:
    """Whether every particle was taken twice, near to focus (``below``) and far from it.

    A stack of which half is in nm looks alike. But what a microscope does twice it does each time as exactly, and with
    the same astigmatism; in nm both are a tenth.
    """
    defocus, astigmatism = _size(ctf), np.abs(ctf.defocus_u_angstrom - ctf.defocus_v_angstrom)
    low, high = defocus[below], defocus[~below]
    widest = max(float(np.ptp(np.quantile(part, (0.1, 0.9)))) for part in (low, high))
    return bool(
        HALF[0] < np.mean(below) < HALF[1]
        and low.min() >= USUAL_DEFOCUS[0]
        and TIGHT * widest < np.median(high) - np.median(low)
        and np.median(astigmatism[~below]) <= SAME_ASTIGMATISM * np.median(astigmatism[below])
    )


def _lies_in(values: FloatArray, others: FloatArray) -> bool:
    """Whether values lie where the ``others`` lie, and little beyond."""
    return bool(values.min() * FAR_BELOW > others.min() and values.max() < FAR_BELOW * others.max())


def _span(values: FloatArray) -> str:
    """The least and the largest of the values."""
    low, high = (f"{value:.0f}" if value >= 1000 else f"{value:.4g}" for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def _doubt_about_astigmatism(ctf: CtfParameters) -> str:
    """Particles of which one of the two defocus values is so far below the other that it is in another unit."""
    smaller, larger = np.sort(np.abs([ctf.defocus_u_angstrom, ctf.defocus_v_angstrom]), axis=0)
    most, times = MOST_ASTIGMATISM
    odd = (smaller > 0) & (larger - smaller > most) & (larger > times * smaller)
    if not odd.any():
        return ""
    ratio = float(np.median(larger[odd] / smaller[odd]))
    unit = next((unit for unit, size in _UNITS if size / times < ratio < size * times), "another unit")
    return (
        f"one of the two defocus values (rlnDefocusU, rlnDefocusV; defocus_u_angstrom, defocus_v_angstrom) of "
        f"{_particles(odd)} is {_span(smaller[odd])} Å and the other {_span(larger[odd])} Å, too far for astigmatism: "
        f"is one in {unit}? Both must be in Å (10000 for 1 µm), else the CTF is undone wrongly: correct them, or leave "
        "rlnDefocusV out"
    )


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
