"""The searches as the pipeline calls them: tables, conventions, invariances, errors."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from mfvdm_fast.errors import InputError, ParameterError
from mfvdm_fast.neighbors import search
from mfvdm_fast.neighbors.align import align_pairs
from mfvdm_fast.neighbors.search import search_affinity, search_neighbors
from mfvdm_fast.records import NeighborTable, SteerableCoefficients

from .compare import assert_same_neighbors
from .reference import distance as slow
from .steerable import random_features, turned, with_rows

SIZES = (4, 5, 4, 3, 3, 2, 1)


def slow_table(features: SteerableCoefficients, n_neighbors: int) -> NeighborTable:
    """The twin: best on a grid that is fine enough to stand for the circle; angles of those."""
    indices, mirrored, scores = slow.best_candidates(slow.rotation_scores(features, 1000), n_neighbors)
    return NeighborTable(indices, mirrored, align_pairs(features, indices, mirrored)[0], scores)


@pytest.mark.parametrize("sizes", [SIZES, (0, 2, 2), (3, 3, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)])
def test_matches_the_twin(rng: np.random.Generator, sizes: tuple[int, ...]) -> None:
    features = random_features(rng, 80, sizes)
    found = search_neighbors(features, 10)
    assert_same_neighbors(found, slow_table(features, 10), score_atol=1e-4)
    assert found.indices.dtype == np.int64
    assert found.mirrored.dtype == bool
    assert found.angles.dtype == found.scores.dtype == np.float64
    assert (np.diff(found.scores, axis=1) <= 0).all()


def test_turned_and_mirrored_copies_find_each_other(rng: np.random.Generator) -> None:
    base = random_features(rng, 50, SIZES)
    true, flags = rng.uniform(-np.pi, np.pi, 50), rng.random(50) < 0.5
    copies = turned(with_rows(base, np.where(flags[:, None], base.packed.conj(), base.packed)), true)
    table = search_neighbors(with_rows(base, np.concatenate([copies.packed, base.packed])), 3)
    np.testing.assert_array_equal(table.indices[:, 0], np.roll(np.arange(100), 50))
    np.testing.assert_array_equal(table.mirrored[:, 0], np.tile(flags, 2))
    np.testing.assert_allclose(table.angles[:50, 0], true, atol=2e-5)
    np.testing.assert_allclose(table.angles[50:, 0], np.where(flags, true, -true), atol=2e-5)
    np.testing.assert_allclose(table.scores[:, 0], 1, atol=1e-6)


def test_turning_particles_turns_the_angles_and_leaves_the_rest(rng: np.random.Generator) -> None:
    features = random_features(rng, 120, SIZES)
    table = search_neighbors(features, 6)
    turn = rng.uniform(-np.pi, np.pi, 120)
    turned_table = search_neighbors(turned(features, turn), 6)
    angles = table.angles + turn[:, None] - np.where(table.mirrored, -1, 1) * turn[table.indices]
    expected = NeighborTable(table.indices, table.mirrored, angles, table.scores)
    assert_same_neighbors(turned_table, expected)


def test_mirroring_all_particles_negates_the_angles(rng: np.random.Generator) -> None:
    features = random_features(rng, 120, SIZES)
    table, other = search_neighbors(features, 6), search_neighbors(with_rows(features, features.packed.conj()), 6)
    np.testing.assert_array_equal(table.indices, other.indices)
    np.testing.assert_array_equal(table.mirrored, other.mirrored)
    np.testing.assert_allclose(table.angles, -other.angles, atol=1e-6)


def test_mirroring_one_particle_toggles_its_flags(rng: np.random.Generator) -> None:
    features = random_features(rng, 90, SIZES)
    packed = features.packed.copy()
    packed[7] = packed[7].conj()
    table, other = search_neighbors(features, 5), search_neighbors(with_rows(features, packed), 5)
    np.testing.assert_array_equal(table.indices, other.indices)
    concerned = (table.indices == 7) | (np.arange(90) == 7)[:, None]
    np.testing.assert_array_equal(table.mirrored ^ concerned, other.mirrored)


def test_exact_ties_in_the_table_go_to_the_smaller_index_then_to_the_plain_one(rng: np.random.Generator) -> None:
    base = random_features(rng, 12, SIZES)
    features = with_rows(base, np.concatenate([base.packed.real] * 4))
    table = search_neighbors(features, 6)
    for i in range(48):
        copies = [j for j in range(i % 12, 48, 12) if j != i]
        assert table.indices[i].tolist() == [j for j in copies for _ in range(2)]
        assert table.mirrored[i].tolist() == [False, True] * 3


def test_affinity_matches_the_twin(rng: np.random.Generator) -> None:
    features = random_features(rng, 130, (0, 6, 6, 6))
    indices, mirrored, scores = search_affinity(features, 9)
    expected = slow.best_candidates(slow.affinities(features), 9)
    unknown = np.zeros(indices.shape)
    assert_same_neighbors(
        NeighborTable(indices, mirrored, unknown, scores), NeighborTable(*expected[:2], unknown, expected[2])
    )


def test_affinity_of_one_frequency_squares_its_modulus(rng: np.random.Generator) -> None:
    """With k~ = 1 (VDM) the order is that of |z_1|."""
    features = random_features(rng, 60, (0, 8))
    indices, mirrored, scores = search_affinity(features, 4)
    c = slow.pair_coefficients(features)[:, 1]
    np.testing.assert_allclose(scores, np.abs(c[mirrored.astype(int), np.arange(60)[:, None], indices]) ** 2, rtol=1e-5)


def test_bits_do_not_depend_on_threads_precision_or_layout(rng: np.random.Generator) -> None:
    features = random_features(rng, 150, SIZES)
    features.packed.flags.writeable = False
    wide = SteerableCoefficients(np.asfortranarray(features.packed.astype(complex)), features.offsets.astype(np.int32))
    for function in (search_neighbors, search_affinity):
        one, two, other = function(features, 5, threads=1), function(features, 5, threads=2), function(wide, 5)
        for a, b, c in zip(_arrays(one), _arrays(two), _arrays(other), strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(a, c)


def _arrays(result: NeighborTable | tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    if isinstance(result, NeighborTable):
        return result.indices, result.mirrored, result.angles, result.scores
    return result


@pytest.mark.parametrize("function", [search_neighbors, search_affinity])
def test_what_cannot_be_searched_is_refused(rng: np.random.Generator, function: object) -> None:
    assert callable(function)
    features = random_features(rng, 30, SIZES)
    with pytest.raises(
        ParameterError, match=r"n_neighbors = 50 needs at least 51 particles, got 30; lower n_neighbors"
    ):
        function(features, 50)
    with pytest.raises(ParameterError, match="fewer particles than neighbours"):
        function(features, 30)
    for wrong in (0, -3, 2.5, "7"):
        with pytest.raises(ParameterError, match="n_neighbors must be a whole number of at least 1"):
            function(features, wrong)
    broken = features.packed.copy()
    broken[4, 2] = np.nan
    with pytest.raises(InputError, match=r"features\[4\] holds nan in component 2"):
        function(with_rows(features, broken), 5)
    with pytest.raises(ParameterError, match="threads"):
        function(features, 5, threads=0)
    assert len(_arrays(function(features, 29))[0]) == 30


def test_progress_and_its_errors_pass_through(rng: np.random.Generator) -> None:
    heard: list[tuple[int, int]] = []
    features = random_features(rng, 200, SIZES)
    search_neighbors(features, 5, progress=lambda done, total: heard.append((done, total)))
    search_affinity(features, 5, progress=lambda done, total: heard.append((done, total)))
    assert heard.count((0, 10)) == heard.count((10, 10)) == 2

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search_neighbors(features, 5, progress=stop)


def test_examples_in_the_docstrings() -> None:
    result = doctest.testmod(search)
    assert result.attempted > 0
    assert result.failed == 0
