"""Observed particles against templates: the twin, planted turns and mirrors, invariances, errors."""

from __future__ import annotations

import doctest
from dataclasses import replace

import numpy as np
import pytest

from mfvdm_fast.errors import InputError, ParameterError
from mfvdm_fast.kernels import matching
from mfvdm_fast.neighbors import match
from mfvdm_fast.neighbors.match import match_neighbors
from mfvdm_fast.records import IndexArray, NeighborTable, SteerableCoefficients

from .compare import assert_same_angles, assert_same_neighbors
from .reference import matching as slow
from .steerable import random_features, turned, with_rows

SIZES = (4, 5, 4, 3, 3, 2, 1)
LAYOUTS = [
    SIZES,
    (0, 2, 2),
    (3,),
    (0, 1),
    (2, 0, 3, 0, 0, 2),
    (3, 3, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2),
]


def sides(
    rng: np.random.Generator, n_rows: int, n_templates: int, sizes: tuple[int, ...] = SIZES
) -> tuple[SteerableCoefficients, SteerableCoefficients, IndexArray]:
    """Templates of different power, noisy observations of some of them, and of which."""
    templates = random_features(rng, n_templates, sizes)
    templates = with_rows(templates, templates.packed * rng.uniform(0.5, 2, (n_templates, 1)))
    own = rng.permutation(n_templates)[:n_rows]
    observed = with_rows(templates, templates.packed[own] + random_features(rng, n_rows, sizes).packed)
    return turned(observed, rng.uniform(-np.pi, np.pi, n_rows)), templates, own


def arrays(table: NeighborTable) -> tuple[np.ndarray, ...]:
    return table.indices, table.mirrored, table.angles, table.scores


@pytest.mark.parametrize("sizes", LAYOUTS)
@pytest.mark.parametrize(("n_rows", "n_templates"), [(1, 12), (67, 80), (80, 67)])
def test_the_grid_matches_the_twin(
    rng: np.random.Generator, sizes: tuple[int, ...], n_rows: int, n_templates: int
) -> None:
    """Every pair, at the very angles of the grid: (g + 1/2) 2 pi / grid_size."""
    n_rows = min(n_rows, n_templates)
    observed, templates, own = sides(rng, n_rows, n_templates, sizes)
    found, codes = matching.match_by_rotation(
        observed.packed, templates.packed, templates.offsets, own, 2 * (n_templates - 1)
    )
    expected, _ = slow.rotation_scores(observed, templates, matching.grid_size(len(sizes) - 1), 0.5)
    rows = np.arange(n_rows)[:, None]
    np.testing.assert_allclose(found, expected[codes % 2, rows, codes // 2], atol=1e-5)
    assert (np.diff(found, axis=1) <= 0).all()
    for i in range(n_rows):
        assert sorted(codes[i]) == [code for code in range(2 * n_templates) if code // 2 != own[i]]


def test_the_grid_has_four_angles_per_period_of_the_highest_frequency() -> None:
    assert [matching.grid_size(k) for k in (0, 1, 4, 5, 16, 17)] == [16, 16, 16, 32, 64, 80]


@pytest.mark.parametrize("sizes", LAYOUTS)
def test_matches_the_twin(rng: np.random.Generator, sizes: tuple[int, ...]) -> None:
    observed, templates, own = sides(rng, 25, 50, sizes)
    found = match_neighbors(observed, templates, own, 10)
    scores, angles = slow.rotation_scores(observed, templates, 1000)
    codes, best = slow.best_templates(scores, own, 10)
    indices, mirrored = codes // 2, codes % 2 == 1
    where = angles[codes % 2, np.arange(25)[:, None], indices]
    # The twin takes an angle at random where all are the same.
    angle_atol = None if len(sizes) == 1 else 5e-3
    assert_same_rows(found, NeighborTable(indices, mirrored, where, best), own, angle_atol)
    assert found.indices.dtype == np.int64
    assert found.mirrored.dtype == bool
    assert found.angles.dtype == found.scores.dtype == np.float64


def assert_same_rows(
    found: NeighborTable, expected: NeighborTable, own: IndexArray, angle_atol: float | None = 1e-3
) -> None:
    """As ``assert_same_neighbors``, for rows that belong to other particles than 0, 1, 2 ..."""
    assert (found.indices != own[:, None]).all(), "a row lists its own template"
    ours, theirs = (replace(table, indices=table.indices + len(own)) for table in (found, expected))
    assert_same_neighbors(ours, theirs, score_atol=5e-4, angle_atol=angle_atol)


def test_planted_turns_and_mirrors_are_found(rng: np.random.Generator) -> None:
    """Each particle is another one's template, turned by a known angle and mirrored or not, and noisy."""
    templates = random_features(rng, 150, SIZES)
    own, planted = np.arange(60), rng.permutation(150)
    planted = planted[planted >= 60][:60]
    flags, true = rng.random(60) < 0.5, rng.uniform(-np.pi, np.pi, 60)
    copies = np.where(flags[:, None], templates.packed[planted].conj(), templates.packed[planted])
    observed = turned(with_rows(templates, 3 * copies), true)
    table = match_neighbors(observed, templates, own, 4)
    np.testing.assert_array_equal(table.indices[:, 0], planted)
    np.testing.assert_array_equal(table.mirrored[:, 0], flags)
    assert_same_angles(table.angles[:, 0], true, atol=1e-4)
    np.testing.assert_allclose(table.scores[:, 0], 3, atol=1e-5)


def test_the_own_template_is_left_out_plain_and_mirrored(rng: np.random.Generator) -> None:
    templates = random_features(rng, 90, SIZES)
    own = rng.permutation(90)[:40]
    observed = with_rows(templates, templates.packed[own])
    table = match_neighbors(observed, templates, own, 89)
    assert (table.indices != own[:, None]).all()
    other = match_neighbors(observed, templates, (own + 1) % 90, 1)
    np.testing.assert_array_equal(other.indices[:, 0], own)


def test_without_particles_all_templates_take_part(rng: np.random.Generator) -> None:
    observed, templates, own = sides(rng, 30, 40)
    free = match_neighbors(observed, templates, None, 5)
    bound = match_neighbors(observed, templates, own, 5)
    assert (free.indices == own[:, None]).any(axis=1).sum() > 15
    assert not (bound.indices == own[:, None]).any()
    for row in range(30):  # but for the own template, the same in the same order
        rest = free.indices[row] != own[row]
        kept = int(rest.sum())
        np.testing.assert_array_equal(free.indices[row][rest], bound.indices[row][:kept])
        np.testing.assert_allclose(free.scores[row][rest], bound.scores[row][:kept], rtol=1e-5)


def test_a_penalty_in_frequency_zero_makes_scores_negative_and_decides(rng: np.random.Generator) -> None:
    observed, templates, own = sides(rng, 30, 70)
    penalty = rng.uniform(20, 30, 70)
    offsets = np.append(0, templates.offsets[1:] + 1)
    a = np.concatenate([np.full((30, 1), -1.0), observed.packed], axis=1)
    b = np.concatenate([penalty[:, None], templates.packed], axis=1)
    table = match_neighbors(SteerableCoefficients(a, offsets), SteerableCoefficients(b, offsets), own, 5)
    _, expected = slow.best_templates(slow.rotation_scores(observed, templates, 1000)[0] - penalty, own, 5)
    assert (table.scores < 0).all()
    np.testing.assert_allclose(table.scores, expected, atol=5e-4)


def test_the_same_features_on_both_sides_give_a_symmetric_table(rng: np.random.Generator) -> None:
    features = random_features(rng, 40, SIZES)
    table = match_neighbors(features, features, np.arange(40), 39)
    scores = np.full((40, 40), np.nan)
    plain = ~table.mirrored
    scores[np.nonzero(plain)[0], table.indices[plain]] = table.scores[plain]
    both = np.isfinite(scores) & np.isfinite(scores.T)
    assert both.sum() > 400
    np.testing.assert_allclose(scores[both], scores.T[both], atol=1e-5)


def test_turning_particles_and_templates_turns_the_angles(rng: np.random.Generator) -> None:
    observed, templates, own = sides(rng, 70, 100)
    table = match_neighbors(observed, templates, own, 6)
    here, there = rng.uniform(-np.pi, np.pi, 70), rng.uniform(-np.pi, np.pi, 100)
    found = match_neighbors(turned(observed, here), turned(templates, there), own, 6)
    angles = table.angles + here[:, None] - np.where(table.mirrored, -1, 1) * there[table.indices]
    assert_same_rows(found, NeighborTable(table.indices, table.mirrored, angles, table.scores), own)


def test_exact_ties_go_to_the_smaller_index_then_to_the_plain_one(rng: np.random.Generator) -> None:
    base = random_features(rng, 12, SIZES)
    templates = with_rows(base, np.concatenate([base.packed.real] * 4))
    table = match_neighbors(templates, templates, np.arange(48), 6)
    for i in range(48):
        copies = [j for j in range(i % 12, 48, 12) if j != i]
        assert table.indices[i].tolist() == [j for j in copies for _ in range(2)]
        assert table.mirrored[i].tolist() == [False, True] * 3


def test_bits_do_not_depend_on_threads_rows_precision_or_layout(rng: np.random.Generator) -> None:
    observed, templates, own = sides(rng, 150, 200)
    for array in (observed.packed, templates.packed, own):
        array.flags.writeable = False
    one = match_neighbors(observed, templates, own, 7, threads=1)
    wide = SteerableCoefficients(np.asfortranarray(templates.packed.astype(complex)), templates.offsets.astype(int))
    every_other = SteerableCoefficients(np.repeat(observed.packed, 2, axis=0)[::2], observed.offsets.astype(np.int32))
    others = [
        match_neighbors(observed, templates, own, 7, threads=2),
        match_neighbors(every_other, wide, own.astype(np.uint16).tolist(), 7),
    ]
    for other in others:
        for a, b in zip(arrays(one), arrays(other), strict=True):
            np.testing.assert_array_equal(a, b)
    some = rng.permutation(150)[:31]
    part = match_neighbors(with_rows(observed, observed.packed[some]), templates, own[some], 7)
    for a, b in zip(arrays(part), arrays(one), strict=True):
        np.testing.assert_array_equal(a, b[some])


def test_sides_that_cannot_be_matched_are_refused(rng: np.random.Generator) -> None:
    observed, templates, own = sides(rng, 10, 30)
    broken = templates.packed.copy()
    broken[4, 2] = np.nan
    with pytest.raises(InputError, match=r"templates: features\[4\] holds nan in component 2"):
        match_neighbors(observed, with_rows(templates, broken), own, 5)
    broken = observed.packed.copy()
    broken[7, 5] = np.inf
    with pytest.raises(InputError, match=r"observed: features\[7\] holds inf in component 5"):
        match_neighbors(with_rows(observed, broken), templates, own, 5)
    other = SteerableCoefficients(templates.packed, np.array([0, 4, 8, 13, 16, 19, 21, 22]))
    with pytest.raises(InputError, match=r"observed has offsets \[0, 4, 9, .*templates \[0, 4, 8, .*same components"):
        match_neighbors(observed, other, own, 5)
    fewer = random_features(rng, 30, SIZES[:-1])
    with pytest.raises(InputError, match="give both in the same components"):
        match_neighbors(observed, fewer, own, 5)


def test_particles_that_do_not_fit_are_refused(rng: np.random.Generator) -> None:
    observed, templates, own = sides(rng, 10, 30)
    for wrong, shown in ((own[:9], r"\(9,\) of int64"), (own[:, None], r"\(10, 1\)"), (own / 1, "float64")):
        with pytest.raises(
            ParameterError, match=rf"particles must be 10 whole numbers, .*{shown}.*; give the template"
        ):
            match_neighbors(observed, templates, wrong, 5)
    for value in (-1, 30):
        outside = own.copy()
        outside[3] = value
        with pytest.raises(ParameterError, match=rf"particles\[3\] is {value}, but templates are numbered 0 to 29"):
            match_neighbors(observed, templates, outside, 5)
    repeated = own.copy()
    repeated[8] = repeated[2]
    with pytest.raises(ParameterError, match=rf"particles names {own[2]} 2 times; give every observed particle once"):
        match_neighbors(observed, templates, repeated, 5)


def test_numbers_of_neighbors_and_threads_are_checked(rng: np.random.Generator) -> None:
    observed, templates, own = sides(rng, 10, 30)
    with pytest.raises(ParameterError, match="n_neighbors = 30 needs at least 31 particles, got 30"):
        match_neighbors(observed, templates, own, 30)
    for wrong in (0, -3, 2.5, "7"):
        with pytest.raises(ParameterError, match="n_neighbors must be a whole number of at least 1"):
            match_neighbors(observed, templates, own, wrong)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="threads"):
        match_neighbors(observed, templates, own, 5, threads=0)
    assert match_neighbors(observed, templates, own, 29).indices.shape == (10, 29)


def test_progress_and_its_errors_pass_through(rng: np.random.Generator) -> None:
    observed, templates, own = sides(rng, 1600, 1600)
    heard: list[tuple[int, int]] = []
    match_neighbors(observed, templates, own, 5, threads=1, progress=lambda done, total: heard.append((done, total)))
    assert heard == [(0, 100), (64, 100), (100, 100)]

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        match_neighbors(observed, templates, own, 5, progress=stop)


@pytest.mark.parametrize("module", [match, matching])
def test_examples_in_the_docstrings(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0
