"""Angles of given pairs: the convention of NeighborTable, accuracy, invariances, and errors."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from mfvdm_fast.errors import InputError, ParameterError
from mfvdm_fast.neighbors import align
from mfvdm_fast.neighbors.align import align_pairs
from mfvdm_fast.records import SteerableCoefficients

from .compare import angle_distance, assert_same_angles
from .reference import distance as slow_distance
from .reference import peaks as slow_peaks
from .steerable import frequencies, random_features, turned, with_rows

SIZES = (4, 5, 4, 3, 3, 2, 1)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("sizes", [SIZES, (0, 3, 2), (2, 1), tuple([1] * 40)])
def test_a_turned_copy_gives_the_angle_of_the_turn(
    rng: np.random.Generator, sizes: tuple[int, ...], mirrored: bool
) -> None:
    """coef(i) = e^{-ik alpha} coef(j), or of its conjugate: the angle is +alpha, also at the ends of the circle."""
    base = random_features(rng, 40, sizes)
    true = np.concatenate([[np.pi, -np.pi, 0.0, 3.14159, -3.14159], rng.uniform(-np.pi, np.pi, 35)])
    copies = turned(with_rows(base, base.packed.conj() if mirrored else base.packed), true)
    both = with_rows(base, np.concatenate([copies.packed, base.packed]))
    partner = np.concatenate([np.arange(40, 80), np.arange(40)])[:, None]
    angles, scores = align_pairs(both, partner, np.full((80, 1), mirrored))
    assert np.degrees(angle_distance(angles[:40, 0], true)).max() < 1e-3
    back = true if mirrored else -true
    assert np.degrees(angle_distance(angles[40:, 0], back)).max() < 1e-3
    np.testing.assert_allclose(scores, 1, atol=1e-6)
    assert (angles > -np.pi).all()
    assert (angles <= np.pi).all()


def test_matches_a_dense_search(rng: np.random.Generator) -> None:
    features = random_features(rng, 30, SIZES)
    indices, mirrored = rng.integers(0, 30, (30, 6)), rng.random((30, 6)) < 0.5
    angles, scores = align_pairs(features, indices, mirrored)
    c = slow_distance.pair_coefficients(features)
    for i, t in np.ndindex(30, 6):
        expected, top = slow_peaks.peak(c[int(mirrored[i, t]), :, i, indices[i, t]])
        assert np.degrees(angle_distance(angles[i, t], expected)) < 0.01
        assert scores[i, t] == pytest.approx(top, abs=1e-6)


def test_turning_a_particle_turns_its_angles_and_leaves_the_scores(rng: np.random.Generator) -> None:
    features = random_features(rng, 50, SIZES)
    indices, mirrored = rng.integers(0, 50, (50, 4)), rng.random((50, 4)) < 0.5
    turn = rng.uniform(-np.pi, np.pi, 50)
    angles, scores = align_pairs(features, indices, mirrored)
    turned_angles, turned_scores = align_pairs(turned(features, turn), indices, mirrored)
    expected = angles + turn[:, None] - np.where(mirrored, -1, 1) * turn[indices]
    assert_same_angles(turned_angles, expected, atol=1e-4)
    np.testing.assert_allclose(turned_scores, scores, atol=2e-6)


def test_swapping_negates_plain_angles_and_keeps_mirrored_ones(rng: np.random.Generator) -> None:
    features = random_features(rng, 60, SIZES)
    swap = np.roll(np.arange(60), 30)
    for mirrored in (False, True):
        flags = np.full((60, 1), mirrored)
        angles, scores = align_pairs(features, swap[:, None], flags)
        assert_same_angles(angles[swap], angles if mirrored else -angles, atol=1e-5)
        np.testing.assert_allclose(scores[swap], scores, atol=1e-6)


def test_unnormalised_features_weigh_the_frequencies(rng: np.random.Generator) -> None:
    """Without frequency 0 the score is twice the sum of Eq. 9 at its argmax, for features of any size."""
    features = random_features(rng, 20, (0, 3, 3, 3))
    scaled = with_rows(features, features.packed * np.exp(-frequencies(features)) * 7)
    indices = np.roll(np.arange(20), 1)[:, None]
    angles, scores = align_pairs(scaled, indices, np.zeros((20, 1), bool))
    z = slow_distance.pair_coefficients(scaled)[0, 1:, np.arange(20), indices[:, 0]]
    k = np.arange(1, 4)
    np.testing.assert_allclose(scores[:, 0], 2 * (z * np.exp(1j * k * angles)).real.sum(axis=1), rtol=1e-5)
    grid = np.linspace(-np.pi, np.pi, 2001)
    dense = (np.exp(1j * np.outer(grid, k)) @ z.T).real.max(axis=0)
    assert (scores[:, 0] >= 2 * dense * (1 - 1e-6)).all()
    unweighted, _ = align_pairs(features, indices, np.zeros((20, 1), bool))
    assert angle_distance(unweighted, angles).max() > 1e-3


def test_bits_do_not_depend_on_threads_rows_or_layout(rng: np.random.Generator) -> None:
    features = random_features(rng, 70, SIZES)
    indices, mirrored = rng.integers(0, 70, (70, 3)), rng.random((70, 3)) < 0.5
    expected = align_pairs(features, indices, mirrored, threads=1)
    for array in (features.packed, indices, mirrored):
        array.flags.writeable = False
    np.testing.assert_array_equal(align_pairs(features, indices, mirrored, threads=2), expected)
    wide = SteerableCoefficients(np.asfortranarray(features.packed.astype(complex)), features.offsets)
    np.testing.assert_array_equal(align_pairs(wide, indices.astype(np.int32), mirrored), expected)
    columns = align_pairs(features, indices[:, ::2], mirrored[:, ::2])
    np.testing.assert_array_equal(columns, np.array(expected)[:, :, ::2])


def test_tables_that_cannot_be_used_are_refused(rng: np.random.Generator) -> None:
    features = random_features(rng, 5, SIZES)
    fine = np.zeros((5, 2), np.int64)
    flags = np.zeros((5, 2), bool)
    with pytest.raises(ParameterError, match=r"shape \(5, K\), got \(4, 2\) and \(5, 2\); give one row per particle"):
        align_pairs(features, fine[:4], flags)
    with pytest.raises(ParameterError, match=r"got \(5, 2\) and \(5, 1\)"):
        align_pairs(features, fine, flags[:, :1])
    with pytest.raises(ParameterError, match="whole numbers and mirrored True or False, got float64 and bool"):
        align_pairs(features, fine.astype(float), flags)
    with pytest.raises(ParameterError, match="got int64 and int64"):
        align_pairs(features, fine, fine)
    for wrong in (-1, 5):
        broken = fine.copy()
        broken[3, 1] = wrong
        with pytest.raises(ParameterError, match=rf"indices\[3, 1\] is {wrong}, but particles are numbered 0 to 4"):
            align_pairs(features, broken, flags)


def test_features_that_cannot_be_used_are_refused(rng: np.random.Generator) -> None:
    table = np.zeros((5, 1), np.int64), np.zeros((5, 1), bool)
    good = random_features(rng, 5, SIZES)
    for value, shown in ((np.nan, "nan"), (np.inf, "inf"), (1e9, "1e\\+09|1000000000")):
        broken = good.packed.copy()
        broken[2, 7] = value
        with pytest.raises(
            InputError, match=rf"features\[2\] holds ({shown}).* in component 7; .* leave this particle"
        ):
            align_pairs(with_rows(good, broken), *table)
    with pytest.raises(InputError, match=r"no feature is larger than 0, and at least one must reach 1e-07"):
        align_pairs(with_rows(good, 0 * good.packed), *table)
    with pytest.raises(InputError, match="k = 0 must be real, got imaginary parts up to"):
        align_pairs(with_rows(good, 1j * good.packed), *table)
    with pytest.raises(InputError, match="end at 22, but the array has 21 columns"):
        align_pairs(SteerableCoefficients(good.packed[:, 1:], good.offsets), *table)
    with pytest.raises(InputError, match=r"end at 0, but the array has 0 columns.*no principal component is left"):
        align_pairs(SteerableCoefficients(good.packed[:, :0], np.array([0, 0])), *table)
    for offsets in (good.offsets[::-1], good.offsets[:1], good.offsets[1:]):
        with pytest.raises(InputError, match="offsets ascending from 0"):
            align_pairs(SteerableCoefficients(good.packed, offsets), *table)


def test_examples_in_the_docstrings() -> None:
    result = doctest.testmod(align)
    assert result.attempted > 0
    assert result.failed == 0
