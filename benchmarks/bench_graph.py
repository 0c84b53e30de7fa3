"""Graph assembly and eigenbases, SciPy beside them."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import Recorder
from inputs import FREQUENCIES, Chain, K, M, solve_bases
from measure import Work
from scipy.sparse import coo_array
from scipy.sparse.linalg import eigsh

from mfvdm_fast.ext.hermitian import fill_values
from mfvdm_fast.graph.arrangement import arrange_graph
from mfvdm_fast.graph.eigenbasis import solve_eigenbasis
from mfvdm_fast.graph.frequency_graph import build_frequency_graph, real_matrix
from mfvdm_fast.kernels._simd import empty_aligned
from mfvdm_fast.kernels.spmm import PANEL, filter_panel
from mfvdm_fast.records import Eigenbasis, FrequencyGraph
from mfvdm_fast.threads import map_in_order, use_threads


def size_of(graph: FrequencyGraph) -> str:
    return f"n = {graph.n_particles:,}, {len(graph.indices):,} edges"


@pytest.mark.parametrize("threads", [1, 2])
def test_assembly(record: Recorder, chain: Chain, threads: int) -> None:
    """The pattern, and the values of one frequency."""

    def call() -> tuple[FrequencyGraph, np.ndarray]:
        graph = build_frequency_graph(chain.table, threads=threads)
        return graph, fill_values(graph, 3, threads=threads)

    def check(found: tuple[FrequencyGraph, np.ndarray]) -> None:
        matrix = real_matrix(found[0], 3)
        assert abs(matrix - matrix.T).max() < 1e-12
        np.testing.assert_allclose(matrix[: chain.n, : chain.n].data, found[1].real, atol=1e-6)

    def work(found: tuple[FrequencyGraph, np.ndarray]) -> Work:
        how = "table read once, pattern written once and read once, values written once"
        return Work(how, bytes=chain.n * K * 25 + len(found[1]) * (2 * 33 + 8))

    record("graph assembly", f"n = {chain.n:,}, K = {K}", call, threads=threads, check=check, work=work, rounds=5)


def test_assembly_scipy(record: Recorder, chain: Chain) -> None:
    """The real form by way of triplets, duplicates summed: the same number of entries, no mean of angles."""
    table, n = chain.table, chain.n
    rows, columns = np.repeat(np.arange(n), K), table.indices.ravel()
    c, s = np.cos(3 * table.angles.ravel()), np.sin(3 * table.angles.ravel())
    sign = np.where(table.mirrored.ravel(), -1.0, 1.0)
    values = np.concatenate([c, sign * s, -s, sign * c])
    i = np.concatenate([rows, rows, rows + n, rows + n])
    j = np.concatenate([columns, columns + n, columns, columns + n])

    def call() -> object:
        half = coo_array((values, (i, j)), shape=(2 * n, 2 * n)).tocsr()
        return (half + half.T).tocsr()

    record("graph assembly", f"n = {n:,}, K = {K}", call, by="SciPy")


@pytest.mark.parametrize("threads", [1, 2])
def test_filter_panel(record: Recorder, chain: Chain, threads: int) -> None:
    """What the eigensolver spends its time on: a polynomial of the graph of degree 10, 32 complex vectors."""
    arranged, (centre, half, degree) = arrange_graph(chain.graph), (np.float32(0.2), np.float32(0.6), 10)
    graph, values = arranged.graph, fill_values(arranged.graph, 3)
    panels = empty_aligned((3, chain.n, PANEL))
    start = np.random.default_rng(0).standard_normal(panels[0].shape, np.float32)

    def call() -> np.ndarray:
        panels[0] = start
        with use_threads(threads):
            filter_panel(graph.indptr, arranged.splits, arranged.columns, values, 2, panels, centre, half, degree)
        return panels[0]

    def check(found: np.ndarray) -> None:
        matrix, half_width = real_matrix(graph, 3), PANEL // 2
        before = np.concatenate([start[:, 0], start[:, half_width]]).astype(np.float64)
        now = (matrix @ before - centre * before) / half
        for _ in range(degree - 1):
            now, before = 2 * (matrix @ now - centre * now) / half - before, now
        expected = np.concatenate([found[:, 0], found[:, half_width]])
        np.testing.assert_allclose(expected, now, atol=1e-3 * np.abs(now).max())

    products, edges = degree + 1, len(values)
    work = Work(
        "8 for each edge and complex column; of memory, edges and three panels once for each degree",
        4.0 * PANEL * edges * products,
        products * (edges * 12 + start.nbytes * 3),
    )
    record("graph times panel, degree 10", size_of(graph), call, threads=threads, check=check, work=work, rounds=10)


@pytest.mark.parametrize("threads", [1, 2])
def test_filter_panels(record: Recorder, chain: Chain, threads: int) -> None:
    """As the eigensolver has it: a panel for each thread, so that none waits for another after each degree."""
    arranged, (centre, half, degree) = arrange_graph(chain.graph), (np.float32(0.2), np.float32(0.6), 10)
    graph, values = arranged.graph, fill_values(arranged.graph, 3)
    panels = empty_aligned((2, 3, chain.n, PANEL))
    start = np.random.default_rng(0).standard_normal(panels[0, 0].shape, np.float32)

    def one(panel: np.ndarray) -> None:
        panel[0] = start
        with use_threads(1):
            filter_panel(graph.indptr, arranged.splits, arranged.columns, values, 2, panel, centre, half, degree)

    def check(_: object) -> None:
        assert panels[0].any()
        np.testing.assert_array_equal(panels[0], panels[1])

    work = Work("8 for each edge and complex column", 2 * 4.0 * PANEL * len(values) * (degree + 1))
    record("graph times two panels, degree 10", size_of(graph), lambda: map_in_order(one, panels, threads),
           threads=threads, check=check, work=work, rounds=10)  # fmt: skip


def test_filter_panel_scipy(record: Recorder, chain: Chain) -> None:
    matrix = real_matrix(chain.graph, 3).astype(np.float32)
    x = np.random.default_rng(0).standard_normal((2 * chain.n, PANEL // 2), np.float32)

    def call() -> np.ndarray:
        before, now = x, matrix @ x
        for _ in range(10):
            before, now = now, 2 * (matrix @ now) - before
        return now

    record("graph times panel, degree 10", size_of(chain.graph), call, by="SciPy")


def solver_work(bases: list[Eigenbasis], graph: FrequencyGraph, degree: int = 10) -> Work:
    """Of the Chebyshev solver, from its iterations."""
    flops = 0.0
    for basis in bases:
        width, rows = basis.n_eigenvectors + 10, (2 if basis.k else 1) * graph.n_particles
        products = (8 if basis.k else 4) * len(graph.indices) * width * (degree + 1)
        flops += basis.iterations * (products + 4 * 2 * rows * width**2)
    how = f"at most: iterations x ({degree + 1} products with the graph, 2 Gram matrices, 2 rotations of the block)"
    return Work(how, flops)


@pytest.mark.parametrize("threads", [1, 2])
def test_eigenbases(record: Recorder, chain: Chain, threads: int) -> None:
    graph = chain.graph

    def call() -> list[Eigenbasis]:
        return solve_bases(graph, range(1, FREQUENCIES + 1), M, threads=threads)

    def check(found: list[Eigenbasis]) -> None:
        for basis in found:
            x = np.concatenate([basis.vectors.real, basis.vectors.imag]).astype(np.float64)
            residual = np.linalg.norm(real_matrix(graph, basis.k) @ x - x * basis.values, axis=0)
            assert residual.max() < 1.1e-2
            np.testing.assert_allclose(x.T @ x, np.eye(x.shape[1]), atol=1e-4)

    record(f"eigenbases, k = 1 .. {FREQUENCIES}, m = {M}", size_of(graph), call, threads=threads, check=check,
           work=lambda found: solver_work(found, graph), rounds=2)  # fmt: skip


def test_eigenbasis_scipy(record: Recorder, chain: Chain) -> None:
    """ARPACK in float32 on the same real form, to the same tolerance, one of the ten frequencies."""
    matrix = real_matrix(chain.graph, 5).astype(np.float32)
    start = np.random.default_rng(0).standard_normal(2 * chain.n).astype(np.float32)

    def check(found: tuple[np.ndarray, np.ndarray]) -> None:
        np.testing.assert_allclose(np.sort(found[0])[::-1], chain.bases[4].values, atol=1e-2)

    record(f"eigenbasis, k = 5, m = {M}", size_of(chain.graph),
           lambda: eigsh(matrix, M, which="LA", v0=start, tol=1e-2), by="SciPy eigsh", check=check,
           rounds=1)  # fmt: skip


def test_eigenbasis(record: Recorder, chain: Chain) -> None:
    """Beside ARPACK: one frequency with nothing known of its neighbours."""

    def check(found: Eigenbasis) -> None:
        assert found.residuals.max() <= 1e-2

    record(f"eigenbasis, k = 5, m = {M}", size_of(chain.graph),
           lambda: solve_eigenbasis(chain.graph, 5, M, threads=1), check=check,
           work=lambda found: solver_work([found], chain.graph), rounds=1)  # fmt: skip
