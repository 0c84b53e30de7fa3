"""Matching within random groups: what all pairs would give, of the pairs that share a group."""

from __future__ import annotations

import numpy as np
import pytest

from mfvdm_fast.errors import ParameterError
from mfvdm_fast.neighbors import groups
from mfvdm_fast.neighbors.groups import match_in_groups, merge_tables, n_compared, random_groups
from mfvdm_fast.neighbors.match import match_neighbors
from mfvdm_fast.records import NeighborTable, SteerableCoefficients

N, K = 240, 4
OFFSETS = np.array([0, 2, 4, 6])


@pytest.fixture(scope="module")
def features() -> SteerableCoefficients:
    rng = np.random.default_rng(5)
    packed = (rng.normal(size=(N, 6)) + 1j * rng.normal(size=(N, 6))).astype(np.complex64)
    packed[:, :2].imag = 0
    return SteerableCoefficients(packed, OFFSETS)


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "ALL_UP_TO", 160)


HALF = np.arange(0, N, 2)


def halves(features: SteerableCoefficients) -> SteerableCoefficients:
    return SteerableCoefficients(features.packed[HALF], OFFSETS)


def test_few_particles_are_matched_with_all(features: SteerableCoefficients) -> None:
    found = match_in_groups(halves(features), features, HALF, K)
    expected = match_neighbors(halves(features), features, HALF, K)
    for name in ("indices", "mirrored", "angles", "scores"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_the_best_that_share_a_group_are_found(features: SteerableCoefficients, small_groups: None) -> None:
    found = match_in_groups(halves(features), features, HALF, K, seed=3)
    everyone = match_neighbors(halves(features), features, HALF, N - 1)
    rounds = list(random_groups(N, 3))
    group = np.zeros((len(rounds), N), np.int64)
    for one, number in zip(rounds, group, strict=True):
        assert len(one) == 6
        np.testing.assert_array_equal(np.sort(np.concatenate(one)), np.arange(N))
        for place, members in enumerate(one):
            number[members] = place
    for row, i in enumerate(HALF):
        kept = np.zeros(N - 1, bool)
        for count, number in zip((K, K // 2, K // 2, K // 2), group, strict=True):
            kept[np.flatnonzero(number[everyone.indices[row]] == number[i])[:count]] = True
        for name in ("indices", "mirrored"):
            np.testing.assert_array_equal(getattr(found, name)[row], getattr(everyone, name)[row][kept][:K])
        np.testing.assert_allclose(found.scores[row], everyone.scores[row][kept][:K], rtol=1e-5)
    assert (found.indices != everyone.indices[:, :K]).any()


def test_seed_and_threads(features: SteerableCoefficients, small_groups: None) -> None:
    one, two, other = (
        match_in_groups(halves(features), features, HALF, K, seed=seed, threads=threads)
        for seed, threads in ((0, 1), (0, 2), (1, 1))
    )
    for name in ("indices", "mirrored", "angles", "scores"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert (one.indices != other.indices).any()


def test_progress_rises_to_the_end(features: SteerableCoefficients, small_groups: None) -> None:
    seen: list[tuple[int, int]] = []
    match_in_groups(halves(features), features, HALF, K, progress=lambda done, total: seen.append((done, total)))
    done = [first for first, _ in seen]
    assert done == sorted(done)
    assert done[0] == 0
    assert seen[-1][0] == seen[-1][1]


def test_how_many_are_compared(small_groups: None) -> None:
    assert [n_compared(n) for n in (100, 160, 5000)] == [100, 160, 160]


def test_merged_tables_hold_each_entry_once() -> None:
    def table(indices: list[int], mirrored: list[bool], scores: list[float]) -> NeighborTable:
        return NeighborTable(*(np.array([part]) for part in (indices, mirrored, [0.1 * i for i in indices], scores)))

    first = table([5, 2, 7], [False, True, False], [0.9, 0.8, 0.1])
    merged = merge_tables(first, table([5, 2, 4], [False, False, True], [0.9, 0.8, 0.5]))
    assert merged.indices.tolist() == [[5, 2, 2]]
    assert merged.mirrored.tolist() == [[False, False, True]]
    np.testing.assert_allclose(merged.angles, [[0.5, 0.2, 0.2]])


def test_groups_too_small(features: SteerableCoefficients, small_groups: None) -> None:
    with pytest.raises(ParameterError, match="groups of 40 particles cannot give 40 neighbours each: ask for fewer"):
        match_in_groups(halves(features), features, HALF, 40)
