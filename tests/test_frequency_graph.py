"""The neighbour table as a graph, and its matrices as SciPy sees them."""

from __future__ import annotations

import doctest
from dataclasses import fields, replace

import numpy as np
import pytest

from mfvdm_fast.errors import InputError
from mfvdm_fast.graph import frequency_graph
from mfvdm_fast.graph.frequency_graph import LEAST_TRUST, build_frequency_graph, build_trusted_graph, real_matrix
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


def test_everyone_listens_to_those_who_are_trusted(table: NeighborTable) -> None:
    trust = np.random.default_rng(0).uniform(0.6, 1, 40)
    trust[3] = 0
    plain, graph = build_frequency_graph(table), build_trusted_graph(table, trust)
    kept = np.maximum(trust, LEAST_TRUST)
    rows = np.repeat(np.arange(40), np.diff(graph.indptr))
    np.testing.assert_allclose(graph.weights, kept[rows] * kept[graph.indices])
    heard = np.bincount(rows, kept[graph.indices])  # the degree of i is what it hears, times its own trust
    np.testing.assert_allclose(graph.degrees, kept * heard)
    np.testing.assert_array_equal(graph.indices, plain.indices)
    everyone = build_trusted_graph(table, np.ones(40))
    np.testing.assert_array_equal(everyone.degrees, plain.degrees)


def test_a_graph_of_junk_alone_fades_out() -> None:
    """Twenty particles and ten images of junk that know only each other, at random angles."""
    rng = np.random.default_rng(1)
    particles, junk_images = (rng.permuted(np.tile(np.arange(count), (count, 1)), axis=1) for count in (20, 10))
    indices = np.concatenate([particles[:, :8], 20 + junk_images[:, :4].repeat(2, axis=1)])
    angles = np.where(np.arange(30)[:, None] < 20, 0.0, rng.uniform(-3, 3, indices.shape))
    table = NeighborTable(indices, np.zeros(indices.shape, bool), angles, np.zeros(indices.shape))
    trust = np.where(np.arange(30) < 20, 1.0, 0.001)
    graphs = (build_frequency_graph(table), build_trusted_graph(table, trust))
    plain, graph = (real_matrix(g, 1).toarray() for g in graphs)
    junk = np.tile(np.arange(30) >= 20, 2)
    assert np.abs(np.linalg.eigvalsh(plain[junk][:, junk])).max() > 0.3
    assert np.abs(np.linalg.eigvalsh(graph[junk][:, junk])).max() < 0.05
    np.testing.assert_array_equal(graph[~junk][:, ~junk], plain[~junk][:, ~junk])


def test_refuses_trust_that_is_none(table: NeighborTable) -> None:
    for trust in (np.ones(39), np.full(40, 1.5)):
        with pytest.raises(InputError, match="trust must be a number between 0 and 1 for each of 40 particles"):
            build_trusted_graph(table, trust)


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
