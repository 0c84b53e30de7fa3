"""What the searches and the alignment ask of their features, checked before any long work."""

from __future__ import annotations

import numpy as np

from ..checks import check_whole
from ..errors import InputError, ParameterError
from ..records import Coefficients, IndexArray, SteerableCoefficients

LARGEST, SMALLEST = 1e7, 1e-7  # squares of sums of squares stay inside float32


def check_features(features: SteerableCoefficients) -> tuple[Coefficients, IndexArray]:
    """``packed`` as contiguous complex64 and ``offsets`` as int64, of features that kernels can work with.

    Raises InputError when the offsets do not fit the array, there are no components, a value is NaN, infinite or above
    1e7, none reaches 1e-7, or frequency 0 is not real.
    """
    packed, offsets = np.asarray(features.packed), np.asarray(features.offsets)
    if packed.ndim != 2 or offsets.ndim != 1 or len(offsets) < 2 or (np.diff(offsets) < 0).any() or offsets[0] != 0:
        raise InputError(
            f"features must be (n, sum p_k) with offsets ascending from 0, got shape {packed.shape} and offsets "
            f"{offsets.tolist()}; build them as records.SteerableCoefficients says"
        )
    if offsets[-1] != packed.shape[1] or packed.shape[1] == 0:
        raise InputError(
            f"the offsets of the features end at {offsets[-1]}, but the array has {packed.shape[1]} columns; "
            "they must agree and be at least 1 (when no principal component is left, there is no signal to compare)"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        packed = np.ascontiguousarray(packed, np.complex64)
        flat = packed.view(np.float32)
        largest = np.abs(flat).max(initial=0)
    if not largest <= LARGEST:  # NaN included
        row, column = np.argwhere(~(np.abs(flat) <= LARGEST))[0]
        raise InputError(
            f"features[{row}] holds {flat[row, column]} in component {column // 2}; values must be finite and at most "
            f"{LARGEST:g}: leave this particle out or scale the features"
        )
    if largest < SMALLEST:
        raise InputError(
            f"no feature is larger than {largest:g}, and at least one must reach {SMALLEST:g}: scale the features"
        )
    zero = packed[:, : offsets[1]]
    imaginary = np.abs(zero.imag).max(initial=0)
    if imaginary > 1e-3 * np.abs(zero.real).max(initial=0):
        raise InputError(f"features of k = 0 must be real, got imaginary parts up to {imaginary:.3g}; see the offsets")
    return packed, offsets.astype(np.int64)


def check_n_neighbors(n_neighbors: int, n_particles: int) -> int:
    """``n_neighbors`` as an int. Raises ParameterError unless 1 <= n_neighbors < n_particles."""
    count = check_whole("n_neighbors", n_neighbors)
    if count >= n_particles:
        raise ParameterError(
            f"fewer particles than neighbours: n_neighbors = {count} needs at least {count + 1} particles, got "
            f"{n_particles}; lower n_neighbors or use more particles"
        )
    return count
