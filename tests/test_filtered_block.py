"""A block of vectors under polynomials of the graph: whatever number of threads shares the work."""

from __future__ import annotations

import doctest
from typing import Any

import numpy as np
import pytest

from mfvdm_fast.graph import filtered_block
from mfvdm_fast.graph.arrangement import ArrangedGraph, arrange_graph
from mfvdm_fast.graph.filtered_block import PANELS_AT_ONCE, FilteredBlock, add_up, independent_directions
from mfvdm_fast.graph.frequency_graph import build_frequency_graph, real_matrix
from mfvdm_fast.records import Coefficients

from .reference.eigenbasis import sphere_table

N, WIDTH = 1500, 140  # the last of five panels is not full


@pytest.fixture(scope="module")
def arranged() -> ArrangedGraph:
    return arrange_graph(build_frequency_graph(sphere_table(N, 12, noise=0.2)))


@pytest.fixture
def vectors(rng: np.random.Generator) -> Coefficients:
    return (rng.normal(size=(N, WIDTH)) + 1j * rng.normal(size=(N, WIDTH))).astype(np.complex64)


def test_filtered_vectors_equal_twin(arranged: ArrangedGraph, vectors: Coefficients) -> None:
    block, everything = FilteredBlock(arranged, 2, WIDTH, 2), np.arange(N)
    block.filter(vectors.__getitem__, 0.1, 0.5, 2)
    own = np.stack([vectors.real[arranged.order], vectors.imag[arranged.order]], axis=1).reshape(2 * N, WIDTH)
    shuffled = np.arange(2 * N).reshape(2, N).T.ravel()
    matrix = real_matrix(arranged.graph, 2)[shuffled][:, shuffled]
    once = (matrix @ own - 0.1 * own) / 0.5
    twice = 2 * (matrix @ once - 0.1 * once) / 0.5 - own
    np.testing.assert_allclose(block.rows(block.x, everything), twice, atol=2e-4)
    np.testing.assert_allclose(block.rows(block.sx, everything), matrix @ twice, atol=2e-4)
    block.filter(vectors.__getitem__, 0.1, 0.5, 1)
    np.testing.assert_allclose(block.rows(block.x, everything), once, atol=2e-4)
    np.testing.assert_allclose(block.rows(block.sx, everything), matrix @ once, atol=2e-4)


@pytest.mark.parametrize("k", [0, 3])
def test_threads_do_not_matter(arranged: ArrangedGraph, vectors: Coefficients, k: int) -> None:
    """With two threads one panel of five is left for both; with six, one for all, after four at once (k = 3)."""
    found = []
    for threads in (1, 2, 6):
        block = FilteredBlock(arranged, k, WIDTH, threads)
        assert block.at_once == min(threads, PANELS_AT_ONCE, len(block.x))
        block.filter(vectors.__getitem__, 0.1, 0.5, 3)
        rotation, values = block.ritz()
        blocks = (block.rows(panels, np.arange(N)) for panels in (block.x, block.sx))
        found.append((*blocks, rotation, values, *block.rotate(rotation, values)))
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_panels_one_at_a_time_where_kernels_cannot_overlap(
    arranged: ArrangedGraph, vectors: Coefficients, monkeypatch: pytest.MonkeyPatch
) -> None:
    side_by_side = FilteredBlock(arranged, 1, WIDTH, 2)
    monkeypatch.setattr(filtered_block, "may_overlap", lambda: False)
    in_turn = FilteredBlock(arranged, 1, WIDTH, 2)
    assert (side_by_side.at_once, in_turn.at_once) == (2, 1)
    for block in (side_by_side, in_turn):
        block.filter(vectors.__getitem__, 0.1, 0.5, 3)
    blocks = [block.rows(block.x, np.arange(N)) for block in (side_by_side, in_turn)]
    np.testing.assert_array_equal(*blocks)


def test_an_error_in_one_panel_surfaces(
    arranged: ArrangedGraph, vectors: Coefficients, monkeypatch: pytest.MonkeyPatch
) -> None:
    polynomial, calls = filtered_block.filter_panel, list[int]()

    def fail(*args: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise MemoryError("no room for a panel")
        polynomial(*args)

    monkeypatch.setattr(filtered_block, "filter_panel", fail)
    with pytest.raises(MemoryError, match="no room for a panel"):
        FilteredBlock(arranged, 1, WIDTH, 2).filter(vectors.__getitem__, 0.1, 0.5, 3)


def test_independent_directions(rng: np.random.Generator) -> None:
    vectors = rng.normal(size=(50, 4)) @ rng.normal(size=(4, 6))
    gram = vectors.T @ vectors
    found = independent_directions(gram)
    assert found.shape == (6, 4)
    np.testing.assert_allclose(found.T @ gram @ found, np.eye(4), atol=1e-8)


def test_matrices_are_added_in_order(rng: np.random.Generator) -> None:
    parts = [rng.normal(size=(130, 7)) for _ in range(5)]
    expected = parts[0] + parts[1] + parts[2] + parts[3] + parts[4]
    kept = parts[0].copy()
    for threads in (1, 2):
        np.testing.assert_array_equal(add_up(parts, threads), expected)
    np.testing.assert_array_equal(parts[0], kept)


def test_examples() -> None:
    assert doctest.testmod(filtered_block).attempted >= 2
    assert doctest.testmod(filtered_block).failed == 0
