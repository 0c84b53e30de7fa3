"""The search with leading components: what they are, and that the list is still that of all components."""

from __future__ import annotations

import doctest

import numpy as np

from mfvdm_fast.kernels.pairs import pack_lanes
from mfvdm_fast.kernels.peaks import align_lanes, heights_of_lanes
from mfvdm_fast.neighbors import features as module
from mfvdm_fast.neighbors.features import FEW, HIGHEST, MOST, SHARE, best_codes, leading_part
from mfvdm_fast.neighbors.search import search_neighbors
from mfvdm_fast.records import SteerableCoefficients

from .reference import distance as slow
from .steerable import frequencies, random_features, with_rows

MANY = tuple(max(1, 18 - k // 2) for k in range(26))  # 312 components, k up to 25


def energies(features: SteerableCoefficients) -> np.ndarray:
    weight = np.where(frequencies(features) == 0, 1, 2)
    return (np.abs(features.packed.astype(np.complex128)) ** 2).sum(axis=0) * weight


def tilted(rng: np.random.Generator, n: int, sizes: tuple[int, ...], step: float) -> SteerableCoefficients:
    """Particles whose components fall off by ``step`` from one to the next within each frequency."""
    features = random_features(rng, n, sizes, 0.6)
    q = np.arange(features.packed.shape[1]) - np.repeat(features.offsets[:-1], sizes)
    packed = features.packed * np.exp(-step * q - frequencies(features) / 10)
    weight = np.where(frequencies(features) == 0, 1, 2)
    return with_rows(features, packed / np.sqrt((np.abs(packed) ** 2) @ weight)[:, None])


def test_the_leading_part_holds_the_largest_components_up_to_its_limits(rng: np.random.Generator) -> None:
    features = tilted(rng, 200, MANY, 0.2)
    part, offsets = leading_part(features.packed, features.offsets)
    energy, k = energies(features), frequencies(features)
    ranked = np.argsort(-energy)
    enough = ranked[: np.flatnonzero(np.cumsum(energy[ranked]) >= SHARE * energy.sum())[0] + 1]
    kept = np.sort(enough[k[enough] <= HIGHEST])
    assert FEW < len(kept) < MOST
    assert offsets.tolist() == [0, *np.cumsum(np.bincount(k[kept].astype(int)))]
    ratio = part / features.packed[:, kept]
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1], ratio.shape), rtol=1e-4)
    weight = np.where(k[kept] == 0, 1, 2)
    np.testing.assert_allclose((np.abs(part) ** 2) @ weight, 1, rtol=1e-5)


def test_no_more_than_the_most_and_nothing_above_the_highest_frequency(rng: np.random.Generator) -> None:
    features = random_features(rng, 50, MANY)
    part, offsets = leading_part(features.packed, features.offsets)
    assert part.shape[1] == MOST
    assert len(offsets) - 2 <= HIGHEST
    high = (0,) * (HIGHEST + 1) + (4,) * 20  # all of it above: nothing can be left out
    features = random_features(rng, 50, high)
    assert leading_part(features.packed, features.offsets)[0] is features.packed
    few = random_features(rng, 50, (FEW,))
    assert leading_part(few.packed, few.offsets)[0] is few.packed


def test_a_particle_without_leading_components_stays_finite(rng: np.random.Generator) -> None:
    features = tilted(rng, 60, MANY, 0.4)
    features.packed[3, : features.offsets[20]] = 0
    assert np.isfinite(leading_part(features.packed, features.offsets)[0].view(np.float32)).all()


def test_the_list_is_that_of_all_components(rng: np.random.Generator) -> None:
    """Also of particles at random, without near neighbours: few are missed, and what takes their place is as good."""
    n, n_neighbors = 400, 20
    features = tilted(rng, n, MANY, 0.4)
    table = search_neighbors(features, n_neighbors)
    indices, mirrored, scores = slow.best_candidates(slow.rotation_scores(features, 400), n_neighbors)
    found, expected = 2 * table.indices + table.mirrored, 2 * indices + mirrored
    shared = np.mean([np.isin(a, b).mean() for a, b in zip(expected, found, strict=True)])
    assert shared > 0.95
    np.testing.assert_allclose(table.scores, scores, atol=0.01)
    assert scores.mean() - table.scores.mean() < 3e-4


def test_best_codes_are_those_of_a_sort(rng: np.random.Generator) -> None:
    codes = np.array([rng.permutation(40)[:12] for _ in range(300)])
    for dtype in (np.float32, np.float64):
        scores = rng.integers(0, 5, codes.shape).astype(dtype)  # many ties
        scores[:, 3] = -np.inf  # of what is no candidate
        for count in (1, 5, 12, 20):
            found, place = best_codes(codes, scores, count)
            for row in range(len(codes)):
                expected = sorted(zip(-scores[row], codes[row], strict=True))[:count]
                assert found[row].tolist() == [code for _, code in expected]
            np.testing.assert_array_equal(np.take_along_axis(codes, place, axis=1), found)


def test_of_equal_candidates_the_first_places_are_best() -> None:
    codes, scores = np.full((2, 6), -1), np.full((2, 6), -np.inf, np.float32)
    codes[1, 4], scores[1, 4] = 7, 1.0
    assert best_codes(codes, scores, 3)[1].tolist() == [[0, 1, 2], [4, 0, 1]]


def test_heights_from_the_grid_are_close_to_those_of_the_alignment(rng: np.random.Generator) -> None:
    features = random_features(rng, 60, MANY)
    indices, mirrored = rng.integers(0, 60, (60, 30)), rng.random((60, 30)) < 0.5
    lanes = pack_lanes([(features.packed, None)], features.offsets)
    heights = heights_of_lanes(lanes, features.k_max, indices, mirrored)
    _, exact = align_lanes(lanes, features.k_max, indices, mirrored)
    assert np.abs(heights - exact).max() < 5e-3
    assert np.abs(heights - exact).mean() < 5e-4


def test_examples_in_the_docstrings() -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
