"""The all-pairs kernels against their twins, and what must not change their answer."""

from __future__ import annotations

import doctest
import itertools

import numpy as np
import pytest
from numba import prange

from mfvdm_fast.kernels import affinity, distance, pairs
from mfvdm_fast.kernels._jit import kernel
from mfvdm_fast.kernels._tiles import Claims, free_claims, next_tile
from mfvdm_fast.kernels.affinity import nearest_by_affinity
from mfvdm_fast.kernels.distance import grid_size, nearest_by_rotation
from mfvdm_fast.kernels.topk import EMPTY
from mfvdm_fast.records import SteerableCoefficients
from mfvdm_fast.threads import use_threads

from .reference import distance as slow
from .steerable import random_features, with_rows

LAYOUTS = {
    "usual": (4, 5, 4, 3, 3, 2, 1),
    "two groups, two chunks of angles": (3, 3, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1),
    "gaps": (2, 0, 3, 0, 0, 1, 0, 0, 0, 2),
    "no frequency 0": (0, 3, 2, 2),
    "frequency 0 alone": (5,),
    "one odd frequency": (0, 0, 0, 4),
    "four groups": tuple([1] * 31),
}
SEARCHES = {"rotation": nearest_by_rotation, "affinity": nearest_by_affinity}


def slow_scores(kind: str, features: SteerableCoefficients) -> np.ndarray:
    if kind == "affinity":
        return slow.affinities(features)
    return slow.rotation_scores(features, grid_size(features.k_max))


def assert_matches_twin(kind: str, features: SteerableCoefficients, n_best: int) -> None:
    """Same scores to float32; every code has the score that it claims in the twin, and none comes twice."""
    scores, codes = SEARCHES[kind](features.packed, features.offsets, n_best)
    expected = slow_scores(kind, features)
    _, _, best = slow.best_candidates(expected, n_best)
    tolerance = 2e-6 * max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(scores, best, atol=tolerance, rtol=0)
    claimed = expected[codes % 2, np.arange(len(codes))[:, None], codes // 2]
    np.testing.assert_allclose(scores, claimed, atol=tolerance, rtol=0)
    assert all(len(set(row)) == n_best for row in codes.tolist())
    assert (codes // 2 != np.arange(len(codes))[:, None]).all()


@pytest.mark.parametrize("kind", SEARCHES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_matches_the_twin(rng: np.random.Generator, kind: str, layout: str) -> None:
    assert_matches_twin(kind, random_features(rng, 150, LAYOUTS[layout]), 12)


@pytest.mark.parametrize("kind", SEARCHES)
@pytest.mark.parametrize("n", [2, 3, 63, 64, 65, 129])
def test_matches_the_twin_for_any_number_of_particles(rng: np.random.Generator, kind: str, n: int) -> None:
    assert_matches_twin(kind, random_features(rng, n, LAYOUTS["usual"]), min(5, 2 * (n - 1)))


@pytest.mark.parametrize("kind", SEARCHES)
@pytest.mark.parametrize("spread", [0.05, 0.5])
def test_matches_the_twin_where_bounds_are_tight_and_where_they_prune(
    rng: np.random.Generator, kind: str, spread: float
) -> None:
    groups = [random_features(rng, 60, LAYOUTS["usual"], spread).packed for _ in range(6)]
    features = random_features(rng, 360, LAYOUTS["usual"])
    assert_matches_twin(kind, with_rows(features, rng.permutation(np.concatenate(groups))), 20)


@pytest.mark.parametrize("kind", SEARCHES)
def test_negative_scores_and_unequal_norms(rng: np.random.Generator, kind: str) -> None:
    features = random_features(rng, 100, (3, 1, 1))
    packed = features.packed * rng.uniform(0.01, 30, (100, 1))
    packed[:, :3] = np.where(np.arange(100)[:, None] % 10 == 0, -np.abs(packed[:, :3]), np.abs(packed[:, :3]))
    assert_matches_twin(kind, with_rows(features, packed), 99)


@pytest.mark.parametrize("kind", SEARCHES)
def test_ties_go_to_the_smaller_index_then_to_the_plain_one(rng: np.random.Generator, kind: str) -> None:
    """Copies of the same particles, and mirror-symmetric (real) ones: groups of equal scores, cut by the list's end."""
    base = random_features(rng, 24, (2, 3, 2))
    real = base.packed[:12].real
    packed = np.concatenate([base.packed[12:], real, real, base.packed[12:], base.packed[12:].conj()] * 2)
    features = with_rows(base, packed)
    _, codes = SEARCHES[kind](features.packed, features.offsets, 11)
    indices, mirrored, _ = slow.best_candidates(slow_scores(kind, features).round(5), 11)
    np.testing.assert_array_equal(codes, 2 * indices + mirrored)


@pytest.mark.parametrize("kind", SEARCHES)
def test_equal_particles_are_all_ties(kind: str) -> None:
    _, codes = SEARCHES[kind](np.ones((70, 3), np.complex64), np.array([0, 1, 2, 3]), 4)
    np.testing.assert_array_equal(codes[2:], np.tile([0, 1, 2, 3], (68, 1)))
    np.testing.assert_array_equal(codes[:2], [[2, 3, 4, 5], [0, 1, 4, 5]])


@pytest.mark.parametrize("kind", SEARCHES)
def test_bits_do_not_depend_on_threads_groups_or_the_order_of_particles(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    features = random_features(rng, 1200, LAYOUTS["usual"], 0.7)
    with use_threads(1):
        scores, codes = SEARCHES[kind](features.packed, features.offsets, 15)
    for size in (1, 2):  # blocks per group
        monkeypatch.setattr(pairs, "GROUP", size)
        with use_threads(1):
            grouped = SEARCHES[kind](features.packed, features.offsets, 15)
        np.testing.assert_array_equal(scores, grouped[0])
        np.testing.assert_array_equal(codes, grouped[1])
    with use_threads(2):
        again = SEARCHES[kind](features.packed, features.offsets, 15)
    np.testing.assert_array_equal(scores, again[0])
    np.testing.assert_array_equal(codes, again[1])
    order = rng.permutation(1200)
    shuffled, renamed = SEARCHES[kind](features.packed[order], features.offsets, 15)
    np.testing.assert_array_equal(shuffled, scores[order])
    np.testing.assert_array_equal(2 * order[renamed // 2] + renamed % 2, codes[order])


@pytest.mark.parametrize("kind", SEARCHES)
def test_read_only_and_strided_features(rng: np.random.Generator, kind: str) -> None:
    features = random_features(rng, 80, LAYOUTS["usual"])
    expected = SEARCHES[kind](features.packed, features.offsets, 5)
    wide = np.zeros((80, 2 * features.packed.shape[1]), np.complex64)
    wide[:, ::2] = features.packed
    for packed in (features.packed.copy(), wide[:, ::2], np.asfortranarray(features.packed)):
        packed.flags.writeable = False
        for found, wanted in zip(SEARCHES[kind](packed, features.offsets, 5), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("k_max", [0, 1, 15, 16, 40])
def test_the_grid_has_at_least_four_angles_per_frequency(k_max: int) -> None:
    assert grid_size(k_max) >= 4 * k_max
    assert grid_size(k_max) % 4 == 0


@pytest.mark.parametrize("n_groups", [1, 2, 3, 7, 8, 20])
def test_tiles_are_every_pair_of_groups_once_and_neighbours_share_none(n_groups: int) -> None:
    tiles = pairs.order_tiles(n_groups).tolist()
    assert sorted(map(tuple, tiles)) == list(itertools.combinations_with_replacement(range(n_groups), 2))
    for one, two in itertools.pairwise(tiles):
        assert not set(one) & set(two) or one[0] ^ one[1] != two[0] ^ two[1]  # but where the distance goes up


@kernel
def swap(sums: np.ndarray, a: int, b: int) -> None:
    for _ in range(2000):  # what two threads read and write at once gets lost
        x, y = sums[a] + 1, sums[b] + 1
        sums[a], sums[b] = y, x


@kernel(parallel=True)
def _walk(tiles: np.ndarray, claims: Claims, sums: np.ndarray, seen: np.ndarray, threads: int) -> None:
    for _ in prange(threads):
        t = next_tile(tiles, claims, -1)
        while t >= 0:
            swap(sums, tiles[t, 0], tiles[t, 1])
            seen[t] += 1
            t = next_tile(tiles, claims, t)


@pytest.mark.parametrize("n_groups", [1, 2, 5, 60])
def test_threads_share_tiles_but_no_group(n_groups: int) -> None:
    tiles = pairs.order_tiles(n_groups)
    for threads in (1, 2, 4):
        claims = free_claims(tiles, n_groups)
        sums, seen = np.zeros(n_groups, np.int64), np.zeros(len(tiles), np.int64)
        with use_threads(threads):
            _walk(tiles, claims, sums, seen, threads)
        assert (seen == 1).all()
        assert sums.sum() == 2000 * (2 * len(tiles) - n_groups)  # the tile of a group with itself counts once
        assert claims.taken.all()
        assert not claims.busy.any()
        assert claims.lock[0] == 0


def test_no_tile_is_given_out_whose_groups_are_in_use() -> None:
    tiles = np.array([[0, 0], [0, 1], [2, 3], [1, 1]])
    claims = free_claims(tiles, 4)
    assert [next_tile(tiles, claims, -1) for _ in range(4)] == [0, 2, 3, -1]
    assert next_tile(tiles, claims, 2) == -1  # 0 and 1 are held
    assert next_tile(tiles, claims, 0) == -1
    assert next_tile(tiles, claims, 3) == 1  # whoever held the last of them
    assert next_tile(tiles, claims, 1) == -1
    assert not claims.busy.any()


@pytest.mark.parametrize(("n_blocks", "size"), [(1, 1), (5, 1), (7, 3), (16, 8)])
def test_tiles_hold_every_pair_of_blocks_once(n_blocks: int, size: int) -> None:
    tiles = pairs.order_tiles(-(-n_blocks // size))
    everything = np.concatenate([pairs.blocks_of_tile(tile, size, n_blocks) for tile in tiles]).tolist()
    assert sorted(map(tuple, everything)) == list(itertools.combinations_with_replacement(range(n_blocks), 2))


@pytest.mark.parametrize("n", [1, 64, 65, 1000])
def test_the_order_of_clusters_names_every_particle_once(rng: np.random.Generator, n: int) -> None:
    order = pairs.cluster_order(random_features(rng, n, LAYOUTS["usual"]).packed)
    np.testing.assert_array_equal(np.sort(order), np.arange(n))


def test_the_order_of_clusters_puts_similar_particles_into_one_block(rng: np.random.Generator) -> None:
    packed = np.concatenate([random_features(rng, 64, LAYOUTS["usual"], 0.02).packed for _ in range(4)])
    shuffle = rng.permutation(256)
    kinds = (shuffle // 64)[pairs.cluster_order(packed[shuffle])].reshape(4, 64)
    assert (kinds == kinds[:, :1]).all()


def test_lists_fill_up_completely(rng: np.random.Generator) -> None:
    """Twice n - 1 candidates exist, and all of them fit."""
    features = random_features(rng, 40, LAYOUTS["usual"])
    for search in SEARCHES.values():
        _, codes = search(features.packed, features.offsets, 78)
        assert (codes < EMPTY).all()
        assert all(sorted(row) == [c for c in range(80) if c // 2 != i] for i, row in enumerate(codes.tolist()))


def test_progress_counts_tiles_up_to_the_total(rng: np.random.Generator) -> None:
    heard: list[tuple[int, int]] = []
    features = random_features(rng, 300, (2, 2))
    with use_threads(1):
        nearest_by_rotation(features.packed, features.offsets, 3, lambda done, total: heard.append((done, total)))
    assert heard[0] == (0, 15)
    assert heard[-1] == (15, 15)
    assert all(a[0] < b[0] for a, b in itertools.pairwise(heard))


def test_examples_in_the_docstrings() -> None:
    for module in (distance, affinity):
        result = doctest.testmod(module)
        assert result.attempted > 0
        assert result.failed == 0
