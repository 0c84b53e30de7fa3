"""What the searches and the alignment ask of their features, checked before any long work."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..checks import check_coefficients, check_whole
from ..errors import InputError, ParameterError
from ..kernels.topk import best_places
from ..records import Coefficients, FloatArray, IndexArray, SteerableCoefficients

# Limits of the leading part of the features, see leading_part.
SHARE, HIGHEST, MOST, FEW, LEAST = 0.95, 16, 128, 32, 0.5

LARGEST, SMALLEST = 1e7, 1e-7  # squares of sums of squares stay inside float32


def check_features(features: SteerableCoefficients) -> tuple[Coefficients, IndexArray]:
    """``packed`` as contiguous complex64 and ``offsets`` as int64, of features that kernels can work with.

    Raises InputError when the offsets do not fit the array, there are no components, a value is NaN, infinite or above
    1e7, none reaches 1e-7, or frequency 0 is not real; ParameterError for what are no SteerableCoefficients.
    """
    packed, offsets = check_coefficients("features", features)
    with np.errstate(over="ignore", invalid="ignore"):
        packed = np.ascontiguousarray(packed, np.complex64)
        flat = packed.view(np.float32)
        largest = np.maximum(flat.max(initial=0), abs(flat.min(initial=0)))
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
    return packed, offsets


def best_codes(codes: IndexArray, scores: NDArray[np.floating], count: int) -> tuple[IndexArray, IndexArray]:
    """The ``count`` codes (n, K) of largest score in each row, and where they stood; ties go to the smaller code.

    >>> best_codes(np.array([[5, 3, 4]]), np.array([[1.0, 2.0, 2.0]]), 2)
    (array([[3, 4]]), array([[1, 2]]))
    """
    best = np.empty((len(codes), min(count, codes.shape[1])), np.int64)
    best_places(scores, codes, best)
    return np.take_along_axis(codes, best, axis=1), best


def check_n_neighbors(n_neighbors: int, n_particles: int) -> int:
    """``n_neighbors`` as an int. Raises ParameterError unless 1 <= n_neighbors < n_particles."""
    count = check_whole("n_neighbors", n_neighbors)
    if count >= n_particles:
        raise ParameterError(
            f"fewer particles than neighbours: n_neighbors = {count} needs at least {count + 1} particles, got "
            f"{n_particles}; lower n_neighbors or use more particles"
        )
    return count


def leading_part(packed: Coefficients, offsets: IndexArray) -> tuple[Coefficients, IndexArray]:
    """The components that carry most of the energy, and their offsets: what candidates are searched with.

    Components enter by their mean energy, largest first, until they hold 95 % of it or are 128, all of them from the
    frequencies up to 16. Every particle is scaled to the norm that it has with all components. 32 components or fewer
    are kept as they are, and so are those of which the leading ones would hold less than half the energy.

    >>> packed, offsets = leading_part(np.ones((2, 40), np.complex64), np.array([0, 40]))
    >>> packed.shape, offsets.tolist(), (packed.real**2).sum(axis=1).round().tolist()
    ((2, 38), [0, 38], [40.0, 40.0])
    """
    if packed.shape[1] <= FEW:
        return packed, offsets
    k = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    weights = np.where(k == 0, 1.0, 2.0).astype(np.float32)
    norms, energy = _norms(packed, weights)
    ranked = np.argsort(-energy, kind="stable")
    ranked = ranked[: int(np.searchsorted(np.cumsum(energy[ranked]), SHARE * energy.sum())) + 1]
    kept = np.sort(ranked[k[ranked] <= HIGHEST][:MOST])
    if energy[kept].sum() < LEAST * energy.sum():
        return packed, offsets
    part = np.take(packed, kept, axis=1)
    part *= (norms / np.maximum(_norms(part, weights[kept])[0], np.finfo(np.float32).tiny))[:, None]
    counts = np.bincount(k[kept])
    return part, np.append(0, np.cumsum(counts)).astype(np.int64)


def _norms(packed: Coefficients, weights: NDArray[np.float32]) -> tuple[NDArray[np.float32], FloatArray]:
    """Norm of each particle (n,) and energy of each component (p,), block by block; ``weights`` are 2 for k > 0."""
    norms, energy = np.empty(len(packed), np.float32), np.zeros(packed.shape[1])
    for start in range(0, len(packed), 4096):
        block = packed[start : start + 4096]
        power = (block.real**2 + block.imag**2) * weights
        norms[start : start + 4096] = np.sqrt(power.sum(axis=1, dtype=np.float64))
        energy += power.sum(axis=0, dtype=np.float64)
    return norms, energy
