"""Small checks of arguments that several stages share. Each returns the value in the form the stage works with."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import InputError, MfvdmError, ParameterError
from .records import Images, IndexArray, SteerableCoefficients

SMALLEST_BOX = 16  # px, in which a particle can be told from noise

T = TypeVar("T")


def check_numbers(
    name: str, values: ArrayLike, kinds: str = "fiub", error: type[MfvdmError] = InputError
) -> NDArray[Any]:
    """``values`` as an array whose dtype is of one of the NumPy ``kinds``; not copied when it is one already.

    Raises InputError, or another ``error``, for strings, objects, and lists of lists of several lengths.

    >>> check_numbers("volume", [[1, 2], [3, 4]]).shape
    (2, 2)
    """
    try:
        array = np.asarray(values)
    except ValueError:
        raise error(f"{name} must hold numbers, got lists of several lengths: make them of one length") from None
    if array.dtype.kind not in kinds:
        rule = "numbers" if "c" in kinds else "real numbers"
        raise error(f"{name} must hold {rule}, got {array.dtype}; convert them to float32 first")
    return array


def check_images(name: str, images: ArrayLike) -> Images:
    """``images`` as a contiguous float32 array (n, L, L); not copied when it is one already.

    Raises InputError when the shape is another, the values are not real numbers, or one is NaN or infinite.

    >>> check_images("images", [[[0, 1], [2, 3]]]).dtype
    dtype('float32')
    """
    array = check_numbers(name, images)
    if array.ndim != 3 or array.shape[1] != array.shape[2] or array.shape[1] == 0:
        raise InputError(f"{name} must have shape (n, L, L), got {array.shape}; give a stack of square images")
    with np.errstate(over="ignore", invalid="ignore"):
        array = np.ascontiguousarray(array, np.float32)
        if np.isfinite(array.sum()):  # NaN and infinity survive a sum; large numbers may overflow in it
            return array
        sums = array.sum(axis=(1, 2), dtype=np.float64)
    if not np.isfinite(sums).all():
        row = int(np.flatnonzero(~np.isfinite(sums))[0])
        raise InputError(f"{name}[{row}] holds NaN or infinity; leave this particle out, or repair it")
    return array


def check_coefficients(name: str, coefs: SteerableCoefficients) -> tuple[NDArray[Any], IndexArray]:
    """``packed`` (n, P) and ``offsets`` as int64 of coefficients that hold numbers and whose offsets fit them.

    Raises ParameterError when they are no SteerableCoefficients, InputError for the rest.

    >>> check_coefficients("coefs", SteerableCoefficients(np.zeros((2, 3), np.complex64), np.array([0, 1, 3])))[1]
    array([0, 1, 3])
    """
    check_kind(name, coefs, SteerableCoefficients, "make them of an array (n, P) and the offsets of its basis")
    packed = check_numbers(f"{name}.packed", coefs.packed, "fiubc")
    offsets = check_numbers(f"{name}.offsets", coefs.offsets)
    whole = packed.ndim == 2 and offsets.ndim == 1 and len(offsets) > 1 and offsets.dtype.kind in "iu"
    if not whole or (np.diff(offsets) < 0).any() or offsets[0] != 0:
        raise InputError(
            f"{name} must be (n, sum p_k) with whole offsets ascending from 0, got shape {packed.shape} and offsets "
            f"{offsets.tolist()}; build them as records.SteerableCoefficients says"
        )
    if offsets[-1] != packed.shape[1] or packed.shape[1] == 0:
        raise InputError(
            f"the offsets of {name} end at {offsets[-1]}, but the array has {packed.shape[1]} columns; "
            "they must agree and be at least 1 (when no principal component is left, there is no signal to compare)"
        )
    return packed, offsets.astype(np.int64)


def check_rows(rows: ArrayLike, n_particles: int, instead: str = "") -> IndexArray:
    """``rows`` (b,) as int64. Raises ParameterError unless they are whole numbers that name particles.

    ``instead`` is what else may be given, for the message.

    >>> check_rows([2, 0], 3)
    array([2, 0])
    """
    try:
        wanted = np.asarray(rows)
    except ValueError:  # lists of several lengths
        wanted = np.empty(())
    whole = wanted.ndim == 1 and (not len(wanted) or wanted.dtype.kind in "iu")
    if not whole or (len(wanted) and not 0 <= wanted.min() <= wanted.max() < n_particles):
        raise ParameterError(
            f"rows must be {instead}whole numbers from 0 to {n_particles - 1} in one dimension, such as [0, 5], got "
            f"{rows!r:.80}"
        )
    return wanted.astype(np.int64)


def as_number(value: object) -> float:
    """``value`` as a float; NaN when it is no number.

    >>> as_number(3), as_number("3")
    (3.0, nan)
    """
    if isinstance(value, (bool, np.bool_, str, bytes, list, tuple)) or np.ndim(value):  # type: ignore[arg-type]
        return math.nan
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan


def check_positive(name: str, value: float, hint: str = "") -> float:
    """``value`` as a float. Raises ParameterError, with a ``hint``, unless it is a finite number above 0.

    >>> check_positive("pixel_size", 3)
    3.0
    """
    number = as_number(value)
    if not (math.isfinite(number) and number > 0):
        raise ParameterError(f"{name} must be a finite number above 0, got {value!r}{hint and f'; {hint}'}")
    return number


def check_whole(name: str, value: int, minimum: int = 1, hint: str = "") -> int:
    """``value`` as an int. Raises ParameterError, with a ``hint``, unless it is a whole number of at least ``minimum``.

    >>> check_whole("n_neighbors", 50)
    50
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < minimum:
        rule = f"a whole number of at least {minimum}"
        raise ParameterError(f"{name} must be {rule}, got {value!r:.80}{hint and f'; {hint}'}")
    return number


def check_choice(name: str, value: str, choices: Collection[str]) -> str:
    """``value`` itself. Raises ParameterError unless it is one of ``choices``.

    >>> check_choice("preset", "paper", ("default", "paper"))
    'paper'
    """
    if not isinstance(value, str) or value not in choices:
        raise ParameterError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r:.80}")
    return value


def check_switch(name: str, value: bool | None, *, optional: bool = False) -> Any:
    """``value`` as a bool. Raises ParameterError unless it is True or False, or None where it is ``optional``.

    >>> check_switch("ctf", np.bool_(False))
    False
    """
    if not (isinstance(value, (bool, np.bool_)) or (optional and value is None)):
        rule = "True, False or None" if optional else "True or False"
        raise ParameterError(f"{name} must be {rule}, got {value!r:.80}; give a Python bool, without quotes")
    return None if value is None else bool(value)


def check_kind(name: str, value: T, kind: type[T], hint: str) -> T:
    """``value`` itself. Raises ParameterError, with a ``hint`` of how to make one, unless it is of that ``kind``.

    >>> check_kind("params", 3, int, "count them")
    3
    """
    if not isinstance(value, kind):
        raise ParameterError(f"{name} must be {kind.__name__}, got {type(value).__name__}: {hint}")
    return value


def check_path(name: str, value: str | os.PathLike[str], hint: str) -> Path:
    """``value`` as a path. Raises ParameterError, with a ``hint`` of what to do, unless it is a str or a Path.

    >>> check_path("path", "a.star", "give its name").suffix
    '.star'
    """
    if not isinstance(value, (str, os.PathLike)):
        raise ParameterError(f"{name} must be a str or a Path, got {type(value).__name__}; {hint}")
    return Path(value)
