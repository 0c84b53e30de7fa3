"""Algorithm 1's features and their inner products against the doubled graph and the m^2-long features of the paper."""

from __future__ import annotations

import doctest
from functools import cache

import numpy as np
import pytest

from mfvdm_fast.errors import ParameterError
from mfvdm_fast.graph import affinity
from mfvdm_fast.graph.affinity import WEAK_NODE, diffusion_features, edge_affinity, normalize_features
from mfvdm_fast.graph.eigenbasis import SolverOptions, solve_eigenbasis
from mfvdm_fast.graph.frequency_graph import build_frequency_graph
from mfvdm_fast.metrics import evaluate_neighbors
from mfvdm_fast.neighbors.align import align_pairs
from mfvdm_fast.neighbors.search import search_affinity
from mfvdm_fast.records import Eigenbasis, NeighborTable, SteerableCoefficients

from .compare import assert_same_angles, assert_same_neighbors
from .reference import affinity as twin
from .reference import hermitian
from .reference.eigenbasis import eigenpairs, random_rotations, sphere_table

N, M, K_MAX = 60, 10, 3
EXACT = SolverOptions(method="eigsh")


@cache
def table() -> NeighborTable:
    return sphere_table(N, 7, seed=5, noise=0.4)


@cache
def bases(n_frequencies: int = K_MAX) -> tuple[Eigenbasis, ...]:
    graph = build_frequency_graph(table())
    return tuple(solve_eigenbasis(graph, k, M, options=EXACT) for k in range(1, n_frequencies + 1))


@cache
def doubled(n_frequencies: int = K_MAX) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Eigenpairs of the 2n-node graph."""
    edges = hermitian.edge_dictionary(table().indices, table().mirrored, table().angles)
    matrices = (hermitian.hermitian_matrix(edges, N, k) for k in range(1, n_frequencies + 1))
    return tuple(eigenpairs(matrix, M) for matrix in matrices)


def inner_products(features: SteerableCoefficients) -> np.ndarray:
    """C_k(i, j), (k~, n, 2n): plain pairs, then mirrored ones."""
    blocks = [features[k].astype(np.complex128) for k in range(1, features.k_max + 1)]
    return np.stack([np.concatenate([v @ v.conj().T, v @ v.T], axis=1) for v in blocks])


@pytest.mark.parametrize("diffusion_time", [1, 2])
def test_inner_products_are_those_of_the_doubled_graph(diffusion_time: int) -> None:
    found = inner_products(diffusion_features(bases(), diffusion_time))
    expected = 2 * twin.correlations(doubled(), diffusion_time)[:, :N]  # u has norm 1 over 2n nodes there, over n here
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_diffusion_time_matters() -> None:
    one, two = (normalize_features(diffusion_features(bases(), t)) for t in (1, 2))
    assert np.abs(np.abs(inner_products(one)) - np.abs(inner_products(two))).max() > 0.1


@pytest.mark.parametrize("diffusion_time", [1, 2])
def test_affinity_is_equation_7_with_its_long_features(diffusion_time: int) -> None:
    features = normalize_features(diffusion_features(bases(), diffusion_time))
    found = (np.abs(inner_products(features)) ** 2).sum(axis=0)
    weak = [(np.abs(f) ** 2).sum(axis=1) < 0.999 for f in (features[k] for k in range(1, K_MAX + 1))]
    assert not np.any(weak)
    np.testing.assert_allclose(found, twin.affinity(doubled(), diffusion_time)[:N], atol=1e-5)
    assert np.abs(found - twin.affinity(doubled(), diffusion_time, joint=True)[:N] * K_MAX).max() > 0.1
    np.testing.assert_allclose(np.diagonal(found), K_MAX, rtol=1e-5)


@pytest.mark.parametrize("n_frequencies", [1, K_MAX])  # 1 is Vector Diffusion Maps (Singer & Wu 2012)
def test_search_finds_the_best_affinities(n_frequencies: int) -> None:
    features = normalize_features(diffusion_features(bases(n_frequencies)))
    indices, mirrored, scores = search_affinity(features, 9)
    exact = twin.affinity(doubled(n_frequencies), 1)[:N]
    exact[np.arange(N), np.arange(N)] = exact[np.arange(N), N + np.arange(N)] = -np.inf
    code = np.argsort(-exact, axis=1, kind="stable")[:, :9]
    zero = np.zeros(code.shape)
    expected = NeighborTable(code % N, code >= N, zero, np.take_along_axis(exact, code, axis=1))
    assert_same_neighbors(NeighborTable(indices, mirrored, zero, scores), expected, score_atol=1e-4)


@pytest.mark.parametrize("n_frequencies", [1, K_MAX])
def test_angles_are_those_of_equation_9(n_frequencies: int) -> None:
    features = diffusion_features(bases(n_frequencies))
    angles, _ = align_pairs(features, table().indices, table().mirrored)
    z = twin.correlations(doubled(n_frequencies), 1)
    pairs = z[:, np.arange(N)[:, None], table().indices + N * table().mirrored]
    assert_same_angles(angles, twin.best_angle(pairs, 4096), atol=np.pi / 4096 + 1e-3)
    if n_frequencies == 1:
        assert_same_angles(angles, -np.angle(pairs[0]), atol=1e-4)


def test_refinement_recovers_what_noise_hides() -> None:
    """A third of the edges are wrong: neighbours by affinity are purer, and angles better, than the graph's own."""
    n, rng = 200, np.random.default_rng(1)
    truth = sphere_table(n, 12, seed=2)
    wrong = rng.random(truth.indices.shape) < 1 / 3
    given = NeighborTable(
        np.where(wrong, (np.arange(n)[:, None] + rng.integers(1, n, wrong.shape)) % n, truth.indices),
        truth.mirrored,
        np.where(wrong, rng.uniform(-np.pi, np.pi, wrong.shape), truth.angles + 0.1 * rng.normal(size=wrong.shape)),
        truth.scores,
    )
    graph = build_frequency_graph(given)
    features = diffusion_features([solve_eigenbasis(graph, k, 15, options=EXACT) for k in (1, 2, 3)])
    indices, mirrored, scores = search_affinity(normalize_features(features), 12)
    refined = NeighborTable(indices, mirrored, align_pairs(features, indices, mirrored)[0], scores)
    before, after = (evaluate_neighbors(t, random_rotations(n, 2)) for t in (given, refined))
    assert after.view_deg.mean() < 0.6 * before.view_deg.mean()
    near = after.view_deg < 30
    assert np.median(after.in_plane_deg[near]) < np.median(before.in_plane_deg[~wrong])


def test_a_weakly_connected_node_is_nobodys_neighbour() -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(20, 4)) + 1j * rng.normal(size=(20, 4))).astype(np.complex64)
    vectors[3] *= 1e-3
    vectors[7] = 0
    basis = Eigenbasis(1, np.full(4, 0.5), vectors, np.zeros(4), 1, "converged")
    features = diffusion_features([basis])
    power = (np.abs(features[1]) ** 2).sum(axis=1)
    norms = (np.abs(normalize_features(features)[1]) ** 2).sum(axis=1)
    np.testing.assert_allclose(norms, np.minimum(1, power / (WEAK_NODE * np.median(power))), rtol=1e-4)
    assert norms[3] < 1e-3
    assert norms[7] == 0
    nothing = SteerableCoefficients(np.zeros_like(features.packed), features.offsets)
    assert not normalize_features(nothing).packed.any()


def test_packing() -> None:
    """k = 0 is empty; frequencies may have different numbers of eigenvectors."""
    first, second = bases()[0], bases()[1]
    short = Eigenbasis(2, second.values[:4], second.vectors[:, :4], second.residuals[:4], 1, "converged")
    features = diffusion_features([first, short])
    assert features.offsets.tolist() == [0, 0, M, M + 4]
    assert features.packed.dtype == np.complex64
    np.testing.assert_allclose(features[2], second.vectors[:, :4] * second.values[:4], rtol=1e-6)


def test_refuses() -> None:
    with pytest.raises(ParameterError, match=r"k = 1, 2, ... are needed in this order, got k = \[2, 3\]"):
        diffusion_features(bases()[1:])
    with pytest.raises(ParameterError, match=r"k = 1, 2, ... are needed in this order, got k = \[\]"):
        diffusion_features([])
    with pytest.raises(ParameterError, match="the diffusion time must be at least 1, got 0"):
        diffusion_features(bases(), 0)


def test_docstring_examples() -> None:
    result = doctest.testmod(affinity)
    assert result.attempted > 3
    assert result.failed == 0


def test_affinity_of_given_edges_is_that_of_the_search() -> None:
    features = normalize_features(diffusion_features(bases()))
    indices, mirrored, scores = search_affinity(features, 9)
    found = edge_affinity(features, NeighborTable(indices, mirrored, np.zeros(indices.shape), scores))
    np.testing.assert_allclose(found, scores, atol=1e-5)
    flipped = edge_affinity(features, NeighborTable(indices, ~mirrored, np.zeros(indices.shape), scores))
    assert np.abs(flipped - scores).max() > 0.1
