"""Templates in cells: the nearest pivot of each, the candidates that cells give, and what matching with them finds."""

from __future__ import annotations

import numpy as np
import pytest

from mfvdm_fast.neighbors.cells import CANDIDATES, PER_CELL, Cells, divide_in_cells
from mfvdm_fast.neighbors.match import match_neighbors
from mfvdm_fast.records import FloatArray, IndexArray, SteerableCoefficients

from .reference import matching as slow
from .steerable import random_features, turned, with_rows

SIZES = (4, 3, 3, 2)
N, K = 600, 6


def of_views(rng: np.random.Generator, n: int = N) -> SteerableCoefficients:
    """Features that vary smoothly with a view on the sphere, turned in plane and half of them mirrored."""
    views = rng.normal(size=(n, 3))
    views /= np.linalg.norm(views, axis=1)[:, None]
    products = np.concatenate([views, views[:, [0, 0, 1]] * views[:, [1, 2, 2]], views**2], axis=1)
    random = random_features(rng, products.shape[1], SIZES)
    features = with_rows(random, products @ random.packed)
    packed = np.where(rng.random(n)[:, None] < 0.5, features.packed.conj(), features.packed)
    return turned(with_rows(features, packed), rng.uniform(-np.pi, np.pi, n))


def observe(rng: np.random.Generator, templates: SteerableCoefficients, noise: float) -> SteerableCoefficients:
    size = np.abs(templates.packed).std()
    return with_rows(templates, templates.packed + noise * size * random_features(rng, N, SIZES).packed)


def power_of(observed: SteerableCoefficients) -> FloatArray:
    return np.asarray(np.mean(np.abs(observed.packed) ** 2, axis=0))


def test_each_template_belongs_to_the_nearest_pivot(rng: np.random.Generator) -> None:
    templates, power = of_views(rng), rng.uniform(0.5, 2, sum(SIZES))
    cells = divide_in_cells(templates, power)
    distance = slow.nearest_pivots(templates, power, cells.pivots, 720)
    cell = np.repeat(np.arange(len(cells.pivots)), np.diff(cells.starts))
    found = distance[cells.members % 2, cells.members // 2, cell]
    least = distance.min(axis=(0, 2))[cells.members // 2]
    assert np.mean(found <= least + 1e-4) > 0.99  # of the six that are nearest at a few angles
    assert (np.sort(cells.members // 2) == np.arange(N)).all()
    assert len(cells.pivots) == N // PER_CELL
    own = found[np.isin(cells.members // 2, cells.pivots)]
    np.testing.assert_allclose(own, 0, atol=1e-4)


@pytest.mark.parametrize(("noise", "least"), [(0.1, 0.99), (1.0, 0.9)])
def test_what_matching_finds_with_cells(rng: np.random.Generator, noise: float, least: float) -> None:
    """Nearly all of the best of all templates, with the very scores and angles of the full comparison."""
    templates = of_views(rng)
    observed, own = observe(rng, templates, noise), np.arange(N)
    cells = divide_in_cells(templates, power_of(observed))
    table, full = (match_neighbors(observed, templates, own, K, cells=given) for given in (cells, None))
    every = match_neighbors(observed, templates, own, N - 1)
    assert (table.indices != own[:, None]).all()
    found = []
    for i in range(N):
        code = 2 * table.indices[i] + table.mirrored[i]
        assert len(set(code)) == K
        found.append(np.isin(2 * full.indices[i] + full.mirrored[i], code).mean())
        known = {2 * j + m: (s, a) for j, m, s, a in zip(
            every.indices[i], every.mirrored[i], every.scores[i], every.angles[i], strict=True)}  # fmt: skip
        here = [q for q, c in enumerate(code) if c in known]
        np.testing.assert_allclose([known[code[q]][0] for q in here], table.scores[i][here], rtol=1e-5)
        np.testing.assert_allclose([known[code[q]][1] for q in here], table.angles[i][here], atol=1e-6)
    assert np.mean(found) > least
    assert (np.diff(table.scores, axis=1) <= 0).all()


def test_cells_that_hold_all_templates_change_nothing(rng: np.random.Generator) -> None:
    """As many candidates as there are templates: the full comparison."""
    templates = of_views(rng)
    observed, own, count = observe(rng, templates, 0.5), np.arange(N), N // 2
    cells = divide_in_cells(templates, power_of(observed))
    table, full = (match_neighbors(observed, templates, own, count, cells=given) for given in (cells, None))
    for name in ("indices", "mirrored", "angles", "scores"):
        np.testing.assert_array_equal(getattr(table, name), getattr(full, name))


def lists(cells: Cells, leads: IndexArray, own: int) -> list[int]:
    """The members of the cells in the order of ``leads``, one by one."""
    codes = []
    for lead in leads.tolist():
        for member in cells.members[cells.starts[lead // 2] : cells.starts[lead // 2 + 1]].tolist():
            if member // 2 != own:
                codes.append(member ^ (lead % 2))
    return codes


def test_candidates_come_from_the_best_cells(rng: np.random.Generator) -> None:
    templates = of_views(rng)
    observed, own = observe(rng, templates, 0.5), np.arange(N)
    cells, n_best = divide_in_cells(templates, power_of(observed)), 20
    codes = cells.candidates(observed.packed, templates.packed, templates.offsets, own, n_best)
    assert codes.shape == (N, CANDIDATES * n_best)
    scores, _ = slow.rotation_scores(observed, with_rows(templates, templates.packed[cells.pivots]), 16, 0.5)
    flat = scores.transpose(1, 2, 0).reshape(N, -1)
    same = 0
    for i in range(N):
        expected = lists(cells, np.argsort(-flat[i], kind="stable"), i)[: codes.shape[1]]
        same += codes[i].tolist() == expected
    assert same > 0.98 * N  # float32 against float64: a tie now and then


def test_where_the_best_cells_are_too_small_all_are_compared(rng: np.random.Generator) -> None:
    templates = of_views(rng)
    observed, own, n_best = observe(rng, templates, 0.5), np.arange(N), 2 * K + 8
    # Every pivot but the last is alone in its cell.
    n_cells = N // PER_CELL
    small = Cells(np.arange(n_cells), np.append(np.arange(n_cells), N), 2 * np.arange(N))
    codes = small.candidates(observed.packed, templates.packed, templates.offsets, own, n_best)
    alone = (codes >= 0).sum(axis=1) <= n_best
    assert 0.2 < alone.mean() < 1
    assert (codes[:, :n_best] >= 0).all()
    table, full = (match_neighbors(observed, templates, own, K, cells=given) for given in (small, None))
    for name in ("indices", "mirrored", "angles", "scores"):
        np.testing.assert_array_equal(getattr(table, name)[alone], getattr(full, name)[alone])
    assert (table.indices != own[:, None]).all()


def test_cells_do_not_depend_on_threads(rng: np.random.Generator) -> None:
    templates = of_views(rng)
    observed, own = observe(rng, templates, 0.5), np.arange(N)
    found = []
    for threads in (1, 2):
        cells = divide_in_cells(templates, power_of(observed), threads)
        table = match_neighbors(observed, templates, own, K, cells=cells, threads=threads)
        found.append((cells.pivots, cells.starts, cells.members, table.indices, table.angles, table.scores))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
