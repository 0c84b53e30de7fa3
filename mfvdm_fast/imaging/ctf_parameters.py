"""Parameters of contrast transfer functions: made from numbers, and checked."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_positive
from ..ctf_checks import check_defocus
from ..errors import ParameterError
from ..records import CtfParameters, FloatArray


def make_ctf(
    defocus_u_angstrom: ArrayLike,
    *,
    voltage_kv: ArrayLike = 300.0,
    cs_mm: ArrayLike = 2.7,
    amplitude_contrast: ArrayLike = 0.1,
    defocus_v_angstrom: ArrayLike | None = None,
    defocus_angle: ArrayLike = 0.0,
    **rest: ArrayLike,
) -> CtfParameters:
    """CTF parameters of n particles from numbers or (n,) arrays; V defaults to U, angles are radians.

    ``rest`` takes ``phase_shift`` (radians, 0), ``bfactor_angstrom2`` (0) and ``scale`` (1). Raises ParameterError
    naming the first particle whose values cannot be right, or the parameter that is no number or has a shape that does
    not go with the others; InputError for defocus that is not in Å.

    >>> len(make_ctf([10000.0, 12000.0], voltage_kv=200.0))
    2
    """
    values: dict[str, ArrayLike] = {
        "voltage_kv": voltage_kv,
        "cs_mm": cs_mm,
        "amplitude_contrast": amplitude_contrast,
        "defocus_u_angstrom": defocus_u_angstrom,
        "defocus_v_angstrom": defocus_u_angstrom if defocus_v_angstrom is None else defocus_v_angstrom,
        "defocus_angle": defocus_angle,
        "phase_shift": 0.0,
        "bfactor_angstrom2": 0.0,
        "scale": 1.0,
    }
    unknown = sorted(set(rest) - set(values))
    if unknown:
        raise ParameterError(f"{unknown[0]!r} is no CTF parameter; the parameters are {', '.join(values)}")
    arrays = {name: _numbers(name, value) for name, value in (values | rest).items()}
    try:
        columns = np.broadcast_arrays(*arrays.values())
    except ValueError as error:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items() if array.size != 1)
        raise ParameterError(
            f"CTF parameters must have one value, or one for each of n particles, got the shapes {shapes}; give arrays "
            "of one length"
        ) from error
    ctf = CtfParameters(**{name: np.array(column) for name, column in zip(values, columns, strict=True)})
    check_ctf(ctf)
    check_defocus(ctf)
    return ctf


def _numbers(name: str, value: ArrayLike) -> FloatArray:
    """``value`` (n,) as float64, n = 1 for a number; ParameterError unless it holds real numbers, one at least."""
    with suppress(ValueError):  # lists of lists of several lengths
        array = np.asarray(value)
        if array.dtype.kind in "iuf" and array.ndim <= 1 and array.size:
            return np.atleast_1d(array.astype(np.float64))
    raise ParameterError(
        f"CTF parameter {name} must be a number, or an array (n,) with one for each particle, got {value!r:.80}; "
        "convert it to numbers of that shape first"
    )


def check_ctf(ctf: CtfParameters) -> None:
    """Raise ParameterError naming the first particle whose CTF parameters cannot be right."""
    rules = (
        ("voltage_kv", "above 0 kV", lambda v: v > 0, "300 kV is 300, not 300000"),
        ("voltage_kv", "at most 10000 kV", lambda v: v <= 1e4, "give it in kV, not in volts"),
        ("cs_mm", "0 or more", lambda v: v >= 0, "give the spherical aberration in mm"),
        ("cs_mm", "at most 10 mm", lambda v: v <= 10, "give it in mm, usually 2.7, not in Å"),
        ("amplitude_contrast", "between 0 and 1", lambda v: (v >= 0) & (v <= 1), "usually 0.07 to 0.1 in ice"),
    )
    for field in fields(ctf):
        values = getattr(ctf, field.name)
        if values.shape != ctf.voltage_kv.shape or values.ndim != 1:
            raise ParameterError(
                f"CTF parameter {field.name} has shape {values.shape}, expected ({len(ctf)},): one value per particle"
            )
        _check_rule(field.name, values, np.isfinite(values), "a finite number", "correct this row of the input table")
    for name, rule, holds, hint in rules:
        values = getattr(ctf, name)
        _check_rule(name, values, holds(values), rule, hint)


def _check_rule(name: str, values: FloatArray, good: NDArray[np.bool_], rule: str, hint: str) -> None:
    if not good.all():
        row = int(np.argmin(good))
        raise ParameterError(f"CTF parameter {name} must be {rule}, got {values[row]:g} for particle {row}; {hint}")


def check_pixel_size(pixel_size: float | None) -> float:
    """``pixel_size`` in Å as a float; ParameterError when it is missing or not positive."""
    if pixel_size is None:
        raise ParameterError("pixel_size is missing, and the CTF needs it; give the size of one pixel in Å")
    return check_positive("pixel_size", pixel_size, "give the size of one pixel in Å")
