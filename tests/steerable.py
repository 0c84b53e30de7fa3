"""Small sets of steerable features for tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mfvdm_fast.records import Coefficients, FloatArray, SteerableCoefficients


def frequencies(features: SteerableCoefficients) -> FloatArray:
    """The angular frequency of every column."""
    return np.repeat(np.arange(features.k_max + 1), np.diff(features.offsets)).astype(float)


def random_features(
    rng: np.random.Generator, n: int, sizes: Sequence[int], spread: float = 1.0
) -> SteerableCoefficients:
    """n particles with p_k = sizes[k], of norm 1; small ``spread`` means that they resemble each other.

    Each is a common particle plus ``spread`` times a normal deviate, turned and (half of them) mirrored.
    """
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    features = SteerableCoefficients(np.zeros((n, offsets[-1]), np.complex64), offsets)
    k = frequencies(features)
    shape = (n + 1, int(offsets[-1]))
    draws = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) * np.exp(-k / 6)
    packed = draws[-1] + spread * draws[:-1] if spread < 1 else draws[:-1]
    packed[:, k == 0] = packed[:, k == 0].real
    packed = np.where(rng.random((n, 1)) < 0.5, packed.conj(), packed)
    packed *= np.exp(-1j * k * rng.uniform(-np.pi, np.pi, (n, 1)))
    norm = np.sqrt((np.abs(packed) ** 2 * np.where(k == 0, 1, 2)).sum(axis=1))
    return SteerableCoefficients((packed / norm[:, None]).astype(np.complex64), offsets)


def turned(features: SteerableCoefficients, angles: FloatArray) -> SteerableCoefficients:
    """Every particle turned by its own angle."""
    phases = np.exp(-1j * frequencies(features) * np.asarray(angles)[:, None])
    return SteerableCoefficients((features.packed * phases).astype(np.complex64), features.offsets)


def with_rows(features: SteerableCoefficients, packed: Coefficients) -> SteerableCoefficients:
    """The same layout with other particles."""
    return SteerableCoefficients(np.ascontiguousarray(packed, np.complex64), features.offsets)
