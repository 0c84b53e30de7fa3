"""Closure of neighbour lists."""

from __future__ import annotations

import numpy as np

from mfvdm_fast.neighbors.agreement import measure_closure
from mfvdm_fast.records import NeighborTable

from .reference.eigenbasis import sphere_table


def closure(table: NeighborTable) -> float:
    """All triangles, by hand."""
    keys = [set(zip(row.tolist(), flags.tolist(), strict=True)) for row, flags in
            zip(table.indices, table.mirrored, strict=True)]  # fmt: skip
    hits = total = 0
    for i in range(table.n_particles):
        entries = list(zip(table.indices[i].tolist(), table.mirrored[i].tolist(), strict=True))
        for j, m in entries:
            for other, flag in entries:
                if (j, m) != (other, flag):
                    total += 1
                    hits += (other, m != flag) in keys[j]
    return hits / total


def test_closure_is_the_share_of_closed_triangles() -> None:
    table = sphere_table(300, 10, seed=1)
    assert abs(measure_closure(table) - closure(table)) < 0.01


def test_random_lists_do_not_close_and_true_ones_do() -> None:
    rng = np.random.default_rng(0)
    true = sphere_table(500, 12, seed=2)
    noise = NeighborTable(rng.integers(0, 500, (500, 12)), rng.random((500, 12)) < 0.5, true.angles, true.scores)
    assert measure_closure(noise) < 0.05 < 0.4 < measure_closure(true)


def test_mirrors_must_fit() -> None:
    table = sphere_table(500, 12, seed=2)
    flags = np.random.default_rng(0).random(table.mirrored.shape) < 0.5
    wrong = NeighborTable(table.indices, flags, table.angles, table.scores)
    assert measure_closure(wrong) < 0.7 * measure_closure(table)


def test_a_single_neighbour_makes_no_triangle() -> None:
    table = sphere_table(50, 1, seed=2)
    assert measure_closure(table) == 0.0


def test_some_lists_may_be_left_out() -> None:
    rng = np.random.default_rng(0)
    table = sphere_table(500, 12, seed=2)
    junk = np.arange(500) % 5 == 0
    table.indices[junk] = rng.integers(0, 500, (100, 12))
    good, of_all, of_junk = (measure_closure(table, rows=np.flatnonzero(rows)) for rows in (~junk, junk | ~junk, junk))
    assert of_junk < 0.1 < of_all + 0.05 < good
    assert measure_closure(table, rows=np.flatnonzero(junk & ~junk)) == 0.0
