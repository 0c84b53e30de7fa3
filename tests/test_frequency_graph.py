"""The neighbour table as a graph, and its matrices as SciPy sees them."""

from __future__ import annotations

import doctest
from dataclasses import fields, replace

import numpy as np
import pytest

from mfvdm_fast.errors import InputError
from mfvdm_fast.graph import frequency_graph
from mfvdm_fast.graph.frequency_graph import build_frequency_graph, real_matrix
from mfvdm_fast.records import FrequencyGraph, NeighborTable

from .reference import hermitian as twin
from .reference.eigenbasis import sphere_table


@pytest.fixture
def table() -> NeighborTable:
    return sphere_table(40, 5, noise=0.3)


@pytest.mark.parametrize("weighted", [False, True])
def test_matrices_equal_the_doubled_graph_of_the_paper(table: NeighborTable, weighted: bool) -> None:
    weights = np.random.default_rng(0).uniform(0.2, 3, table.indices.shape) if weighted else None
    graph = build_frequency_graph(table, weights=weights)
    edges = twin.edge_dictionary(table.indices, table.mirrored, table.angles, weights)
    assert table.mirrored.any()
    assert not table.mirrored.all()
    for k in (1, 3):
        matrix = real_matrix(graph, k).toarray()
        np.testing.assert_allclose(matrix, twin.o2_matrix(edges, 40, k).toarray(), atol=1e-12)
        doubled = twin.hermitian_matrix(edges, 40, k)
        np.testing.assert_allclose(np.linalg.eigvalsh(matrix), np.linalg.eigvalsh(doubled), atol=1e-12)


def test_k_zero_is_the_normalised_adjacency(table: NeighborTable) -> None:
    graph = build_frequency_graph(table)
    adjacency = np.zeros((40, 40))
    for i, j, _ in twin.edge_dictionary(table.indices, table.mirrored, table.angles):
        adjacency[i, j] += 1
    degrees = adjacency.sum(axis=1)
    np.testing.assert_array_equal(graph.degrees, degrees)
    expected = adjacency / np.sqrt(np.outer(degrees, degrees))
    np.testing.assert_allclose(real_matrix(graph, 0).toarray(), expected, atol=1e-15)
    assert np.linalg.eigvalsh(expected)[-1] == pytest.approx(1)


def test_weights_change_the_graph(table: NeighborTable) -> None:
    plain = build_frequency_graph(table)
    halved = build_frequency_graph(table, weights=np.full(table.indices.shape, 0.5))
    np.testing.assert_allclose(halved.degrees, plain.degrees / 2)
    np.testing.assert_allclose(real_matrix(halved, 1).toarray(), real_matrix(plain, 1).toarray(), atol=1e-15)
    uneven = build_frequency_graph(table, weights=1 + np.arange(200.0).reshape(40, 5))
    assert np.abs(real_matrix(uneven, 1).toarray() - real_matrix(plain, 1).toarray()).max() > 0.05


def test_any_number_of_threads_gives_the_same_bits(table: NeighborTable) -> None:
    one, two = (build_frequency_graph(table, threads=threads) for threads in (1, 2))
    for field in fields(FrequencyGraph):
        assert getattr(one, field.name).tobytes() == getattr(two, field.name).tobytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"indices": np.full((40, 5), 40)}, r"does not make a graph: indices\[0, 0\] is 40; an index must be 0 ... 39"),
        ({"angles": np.full((40, 5), np.nan)}, r"does not make a graph: angles\[0, 0\] is nan; angles must be finite"),
        ({"mirrored": np.zeros((40, 4), bool)}, r"does not make a graph: mirrored must be \(n, K\)"),
    ],
)
def test_refuses_a_table_that_is_no_graph(table: NeighborTable, change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_frequency_graph(replace(table, **change))


def test_refuses_weights_that_are_negative(table: NeighborTable) -> None:
    with pytest.raises(InputError, match=r"weights\[0, 0\] is -1.0; weights must be finite and at least 0"):
        build_frequency_graph(table, weights=np.full((40, 5), -1.0))


def test_docstring_examples() -> None:
    result = doctest.testmod(frequency_graph)
    assert result.attempted > 3
    assert result.failed == 0
