"""The graph in another order of its nodes: the same operator, with neighbours side by side."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from mfvdm_fast.graph.arrangement import arrange_graph
from mfvdm_fast.graph.eigenbasis import SolverOptions, solve_eigenbasis
from mfvdm_fast.graph.frequency_graph import build_frequency_graph, real_matrix
from mfvdm_fast.records import FrequencyGraph, NeighborTable

from .reference.eigenbasis import sphere_table

N = 1500


@pytest.fixture(scope="module")
def graph() -> FrequencyGraph:
    return build_frequency_graph(sphere_table(N, 12, noise=0.2))


@pytest.mark.parametrize("k", [0, 3])
def test_it_is_the_same_operator(graph: FrequencyGraph, k: int) -> None:
    arranged = arrange_graph(graph)
    order = arranged.order if k == 0 else np.concatenate([arranged.order, arranged.order + N])
    difference = real_matrix(arranged.graph, k) - real_matrix(graph, k)[order][:, order]
    assert abs(difference).max() < 1e-12


def test_plain_edges_come_first_and_neighbours_are_close(graph: FrequencyGraph) -> None:
    arranged = arrange_graph(graph)
    rows = np.repeat(np.arange(N), np.diff(arranged.graph.indptr))
    place = np.arange(len(rows))
    np.testing.assert_array_equal(arranged.graph.mirrored, place >= arranged.splits[rows])
    assert graph.mirrored.any()
    assert arranged.columns.dtype == np.int32
    np.testing.assert_array_equal(arranged.columns, arranged.graph.indices)
    distance = np.abs(arranged.graph.indices - rows)
    as_given = np.abs(graph.indices - np.repeat(np.arange(N), np.diff(graph.indptr)))
    assert np.median(distance) < 0.25 * np.median(as_given)


@pytest.mark.parametrize("method", ["chebyshev", "eigsh"])
def test_vectors_stand_in_the_order_of_the_particles(graph: FrequencyGraph, method: str) -> None:
    options = SolverOptions(method=method, tolerance=1e-4)
    arranged = arrange_graph(graph, seed=1)
    basis = solve_eigenbasis(arranged, 2, 6, options=options)
    columns = np.concatenate([basis.vectors.real, basis.vectors.imag]).astype(np.float64)
    left = np.linalg.norm(real_matrix(graph, 2) @ columns - columns * basis.values, axis=0)
    assert left.max() < 1e-3
    np.testing.assert_allclose(left, basis.residuals, atol=1e-4)


def test_threads_do_not_matter(graph: FrequencyGraph) -> None:
    one, two = (arrange_graph(graph, threads=threads) for threads in (1, 2))
    np.testing.assert_array_equal(one.order, two.order)
    np.testing.assert_array_equal(one.splits, two.splits)
    np.testing.assert_array_equal(one.columns, two.columns)
    for field in fields(FrequencyGraph):
        np.testing.assert_array_equal(getattr(one.graph, field.name), getattr(two.graph, field.name))


def test_edges_stand_in_the_order_of_their_keys(graph: FrequencyGraph) -> None:
    arranged = arrange_graph(graph)
    row_of = np.argsort(arranged.order)
    rows = row_of[np.repeat(np.arange(N), np.diff(graph.indptr))]
    edges = np.lexsort((row_of[graph.indices], graph.mirrored, rows))
    np.testing.assert_array_equal(arranged.graph.indices, row_of[graph.indices][edges])
    np.testing.assert_array_equal(arranged.graph.angles, graph.angles[edges])
    np.testing.assert_array_equal(arranged.graph.weights, graph.weights[edges])


def test_nodes_without_edges_stay(graph: FrequencyGraph) -> None:
    lonely = np.full((3, 1), -1)
    zero = np.zeros((3, 1))
    arranged = arrange_graph(build_frequency_graph(NeighborTable(lonely, zero > 0, zero, zero)))
    assert sorted(arranged.order.tolist()) == [0, 1, 2]
    assert arranged.splits.tolist() == [0, 0, 0]


def test_residuals_of_a_sample_are_those_of_all(monkeypatch: pytest.MonkeyPatch, graph: FrequencyGraph) -> None:
    options = SolverOptions(tolerance=0.05)
    every = solve_eigenbasis(graph, 1, 20, options=options).residuals
    monkeypatch.setattr("mfvdm_fast.graph.filtered_block.SAMPLE", N // 3)
    some = solve_eigenbasis(graph, 1, 20, options=options).residuals
    assert (some != every).any()
    np.testing.assert_allclose(some, every, rtol=0.25)
