"""Graph assembly, eigenbases and spectral filtering, with SciPy's eigsh beside our solver.

Run with: make bench, or python -m pytest benchmarks/bench_graph.py --benchmark-only
The graph is that of true neighbours of uniform views with noisy angles; every function runs once before timing.
"""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from scipy.sparse.linalg import eigsh
from scipy.spatial import cKDTree

from mfvdm_fast.ext.hermitian import fill_values
from mfvdm_fast.graph.eigenbasis import solve_eigenbasis
from mfvdm_fast.graph.frequency_graph import build_frequency_graph, real_matrix
from mfvdm_fast.kernels.spmm import chebyshev_step
from mfvdm_fast.metrics import pair_truth
from mfvdm_fast.records import FrequencyGraph, NeighborTable
from mfvdm_fast.restore.spectral import apply_spectral_filter
from mfvdm_fast.simulate import SimulationSettings, simulate_stack
from mfvdm_fast.synthetic import synthetic_particle
from mfvdm_fast.threads import use_threads

N, K, M = 10_000, 50, 50


@pytest.fixture(scope="module")
def table() -> NeighborTable:
    """True neighbours, a fifth of them replaced at random, angles off by 5 degrees."""
    rotations = simulate_stack(synthetic_particle(8), 1.0, N, SimulationSettings(snr=np.inf)).rotations
    views = rotations[:, :, 2]
    tree = cKDTree(np.concatenate([views, -views]))
    _, found = tree.query(views, K + 1)
    found = found[:, 1:]
    rng = np.random.default_rng(0)
    wrong = rng.random(found.shape) < 0.2
    found[wrong] = rng.integers(0, 2 * N, np.count_nonzero(wrong))
    indices, mirrored = (found % N).astype(np.int64), found >= N
    rows = np.broadcast_to(np.arange(N)[:, None], indices.shape)
    _, angles = pair_truth(rotations, rows.ravel(), indices.ravel(), mirrored.ravel())
    angles = angles.reshape(indices.shape) + np.deg2rad(5) * rng.standard_normal(indices.shape)
    return NeighborTable(indices, mirrored, np.angle(np.exp(1j * angles)), np.ones(indices.shape))


@pytest.fixture(scope="module")
def graph(table: NeighborTable) -> FrequencyGraph:
    return build_frequency_graph(table)


@pytest.mark.parametrize("threads", [1, 2])
def test_build_pattern(benchmark: BenchmarkFixture, table: NeighborTable, threads: int) -> None:
    built = benchmark.pedantic(build_frequency_graph, (table,), {"threads": threads}, rounds=5, warmup_rounds=1)
    assert built.degrees.min() >= 1


@pytest.mark.parametrize("threads", [1, 2])
def test_fill_values(benchmark: BenchmarkFixture, graph: FrequencyGraph, threads: int) -> None:
    values = benchmark.pedantic(fill_values, (graph, 3), {"threads": threads}, rounds=5, warmup_rounds=1)
    assert len(values) == len(graph.indices)


@pytest.mark.parametrize("threads", [1, 2])
def test_block_product(benchmark: BenchmarkFixture, graph: FrequencyGraph, threads: int) -> None:
    values = fill_values(graph, 3)
    x = np.random.default_rng(0).standard_normal((N, 128), np.float32)
    out, zero = np.empty_like(x), np.zeros_like(x)

    def product() -> None:
        with use_threads(threads):
            chebyshev_step(
                graph.indptr, graph.indices, graph.mirrored, values, x, zero, np.float32(1), np.float32(0), out
            )

    benchmark.pedantic(product, rounds=10, warmup_rounds=1)
    stacked = np.concatenate([x[:, 0], x[:, 64]]).astype(np.float64)
    expected = real_matrix(graph, 3) @ stacked
    np.testing.assert_allclose(np.concatenate([out[:, 0], out[:, 64]]), expected, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("k", [0, 1, 5])
def test_eigenbasis(benchmark: BenchmarkFixture, graph: FrequencyGraph, k: int, threads: int) -> None:
    found = benchmark.pedantic(solve_eigenbasis, (graph, k, M), {"threads": threads}, rounds=3, warmup_rounds=1)
    assert found.residuals.max() <= 1e-2


def test_ten_eigenbases(benchmark: BenchmarkFixture, graph: FrequencyGraph) -> None:
    def solve() -> None:
        previous = None
        for k in range(1, 11):
            previous = solve_eigenbasis(graph, k, M, neighbor=previous, threads=1)

    benchmark.pedantic(solve, rounds=1, warmup_rounds=1)


def test_eigenbasis_scipy(benchmark: BenchmarkFixture, graph: FrequencyGraph) -> None:
    """The peer: ARPACK in float32 on the same real form, to the same tolerance."""
    matrix = real_matrix(graph, 5).astype(np.float32)
    start = np.random.default_rng(0).standard_normal(2 * N).astype(np.float32)
    values, _ = benchmark.pedantic(
        eigsh, (matrix, M), {"which": "LA", "v0": start, "tol": 1e-2}, rounds=1, warmup_rounds=0
    )
    ours = solve_eigenbasis(graph, 5, M).values
    np.testing.assert_allclose(np.sort(values)[::-1], ours, atol=1e-2)


def test_spectral_filter(benchmark: BenchmarkFixture, graph: FrequencyGraph) -> None:
    basis = solve_eigenbasis(graph, 3, M)
    coefs = np.random.default_rng(0).standard_normal((N, 24)).view(np.float64).astype(np.complex64)
    filtered = benchmark.pedantic(apply_spectral_filter, (coefs, basis, graph.degrees), rounds=5, warmup_rounds=1)
    assert np.linalg.norm(filtered) < np.linalg.norm(coefs)
