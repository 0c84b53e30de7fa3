"""The Chebyshev solver against dense LAPACK and ARPACK: values, subspaces, multiplets, odd graphs, refusals."""

from __future__ import annotations

import doctest
import logging
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import scipy.sparse.linalg
from scipy.sparse.linalg import ArpackNoConvergence

from mfvdm_fast.errors import ParameterError, SolverError
from mfvdm_fast.graph import eigenbasis
from mfvdm_fast.graph.eigenbasis import SolverOptions, solve_eigenbasis
from mfvdm_fast.graph.frequency_graph import build_frequency_graph, real_matrix
from mfvdm_fast.records import Eigenbasis, FloatArray, FrequencyGraph, NeighborTable

from .compare import assert_same_eigenspaces, assert_same_subspace, stacked
from .reference.eigenbasis import eigenpairs, side_by_side, sphere_table

N, M = 300, 12
FINE = SolverOptions(tolerance=1e-4)


@cache
def sphere_graph() -> FrequencyGraph:
    return build_frequency_graph(sphere_table(N, 10, noise=0.2))


@cache
def dense(k: int) -> tuple[FloatArray, np.ndarray]:
    return eigenpairs(real_matrix(sphere_graph(), k).toarray(), 2 * M)


def columns(basis: Eigenbasis) -> np.ndarray:
    """Eigenvectors as the real form has them: n rows at k = 0, else 2n."""
    return basis.vectors.real if basis.k == 0 else stacked(basis.vectors)


@pytest.mark.parametrize("k", [0, 1, 4])
@pytest.mark.parametrize(("options", "atol"), [(SolverOptions(), 3e-3), (FINE, 2e-6)])
def test_values_and_residuals_agree_with_lapack(k: int, options: SolverOptions, atol: float) -> None:
    basis = solve_eigenbasis(sphere_graph(), k, M, options=options)
    assert basis.outcome == "converged"
    assert basis.k == k
    assert basis.values.dtype == np.float64
    assert basis.vectors.dtype == np.complex64
    assert (np.diff(basis.values) <= 0).all()
    np.testing.assert_allclose(basis.values, dense(k)[0][:M], atol=atol)
    x = columns(basis).astype(np.float64)
    np.testing.assert_allclose(x.T @ x, np.eye(M), atol=1e-4)
    true = np.linalg.norm(real_matrix(sphere_graph(), k) @ x - x * basis.values, axis=0)
    np.testing.assert_allclose(basis.residuals, true, atol=1e-5)
    assert true.max() <= options.tolerance + 1e-5
    if k == 0:
        assert not basis.vectors.imag.any()


@pytest.mark.parametrize("k", [0, 1, 4])
def test_eigenspaces_agree_with_lapack(k: int) -> None:
    values, vectors = dense(k)
    basis = solve_eigenbasis(sphere_graph(), k, M, options=FINE)
    # A residual r turns a multiplet by at most r / gap.
    assert_same_eigenspaces(values, columns(basis), vectors[:, :M], gap=1e-2, atol=1.5e-2)


@pytest.mark.parametrize("k", [0, 2])
def test_arpack_gives_the_same(k: int) -> None:
    ours = solve_eigenbasis(sphere_graph(), k, M, options=FINE)
    theirs = solve_eigenbasis(sphere_graph(), k, M, options=SolverOptions(method="eigsh"))
    np.testing.assert_allclose(ours.values, theirs.values, atol=2e-6)
    assert theirs.residuals.max() < 1e-8
    assert_same_eigenspaces(dense(k)[0], columns(ours), columns(theirs), gap=1e-2, atol=1.5e-2)


def test_tolerance_and_degree_change_the_work_not_the_result() -> None:
    bases = [
        solve_eigenbasis(sphere_graph(), 1, M, options=options)
        for options in (SolverOptions(), FINE, SolverOptions(tolerance=1e-4, degree=4))
    ]
    assert bases[0].iterations < bases[1].iterations < bases[2].iterations
    assert bases[0].residuals.max() > 1e-4
    for basis in bases:
        np.testing.assert_allclose(basis.values, dense(1)[0][:M], atol=1e-3)


def test_threads_and_seed() -> None:
    graph = build_frequency_graph(sphere_table(1200, 6))  # 2400 rows: more than one block of the dense products
    one, two, other = (
        solve_eigenbasis(graph, 1, 8, threads=threads, seed=seed) for threads, seed in ((1, 0), (2, 0), (2, 1))
    )
    for name in ("values", "vectors", "residuals"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes()
    assert other.vectors.tobytes() != one.vectors.tobytes()
    np.testing.assert_allclose(other.values, one.values, atol=1e-3)


@pytest.mark.parametrize("k", [0, 1])
def test_two_components_give_every_eigenvalue_twice(k: int) -> None:
    part = sphere_table(150, 8)
    single = eigenpairs(real_matrix(build_frequency_graph(part), k).toarray(), 6)[0]
    graph = build_frequency_graph(side_by_side(part, part))
    basis = solve_eigenbasis(graph, k, 12, options=FINE)
    np.testing.assert_allclose(basis.values, np.repeat(single, 2), atol=1e-6)
    values, vectors = eigenpairs(real_matrix(graph, k).toarray(), 30)
    assert_same_eigenspaces(values, columns(basis), vectors[:, :12], gap=1e-2, atol=1.5e-2)


@pytest.mark.parametrize("k", [0, 1])
def test_more_components_than_vectors(k: int) -> None:
    """60 cliques have the eigenvalue 1 more often than the block has columns: no filter can tell them apart."""
    rows = np.arange(300)[:, None]
    indices = 5 * (rows // 5) + (rows + np.arange(1, 5)) % 5
    turn = np.random.default_rng(0).uniform(0, 6, 300)
    table = NeighborTable(indices, np.zeros((300, 4), bool), turn[:, None] - turn[indices], np.ones((300, 4)))
    basis = solve_eigenbasis(build_frequency_graph(table), k, 5, options=SolverOptions(tolerance=1e-5))
    np.testing.assert_allclose(basis.values, 1, atol=1e-5)
    assert basis.iterations < 20


@pytest.mark.parametrize(("k", "other"), [(0, 6), (6, 0), (2, 1)])
def test_a_neighbouring_frequency_changes_the_work_not_the_result(k: int, other: int) -> None:
    neighbor = solve_eigenbasis(sphere_graph(), other, M)
    basis = solve_eigenbasis(sphere_graph(), k, M, options=FINE, neighbor=neighbor)
    alone = solve_eigenbasis(sphere_graph(), k, M, options=FINE)
    assert basis.vectors.tobytes() != alone.vectors.tobytes()
    np.testing.assert_allclose(basis.values, dense(k)[0][:M], atol=2e-6)
    assert_same_eigenspaces(dense(k)[0], columns(basis), dense(k)[1][:, :M], gap=1e-2, atol=1.5e-2)
    nothing = Eigenbasis(other, np.zeros(0), np.zeros((N, 0), np.complex64), np.zeros(0), 1, "converged")
    same = solve_eigenbasis(sphere_graph(), k, M, options=FINE, neighbor=nothing)
    assert same.vectors.tobytes() == alone.vectors.tobytes()


@pytest.mark.parametrize("first", [1, 2])
def test_products_of_other_frequencies_are_a_good_start(first: int) -> None:
    neighbor, unit = (solve_eigenbasis(sphere_graph(), k, M) for k in (3 - first, first))
    once, fine = (
        [
            solve_eigenbasis(sphere_graph(), 3, M, options=options, neighbor=neighbor, unit=start)
            for start in (unit, None)
        ]
        for options in (SolverOptions(tolerance=1), FINE)
    )
    assert once[0].iterations == once[1].iterations == 1
    assert np.median(once[0].residuals) < 0.5 * np.median(once[1].residuals)
    np.testing.assert_allclose(fine[0].values, fine[1].values, atol=2e-6)
    foreign = solve_eigenbasis(sphere_graph(), 4, M, options=FINE, neighbor=neighbor, unit=unit)
    alone = solve_eigenbasis(sphere_graph(), 4, M, options=FINE, neighbor=neighbor)
    assert foreign.vectors.tobytes() == alone.vectors.tobytes()  # first + (3 - first) is not 4


def test_the_more_eigenvalues_crowd_below_one_the_steeper_the_filter() -> None:
    """Good neighbours of a large stack: a residual of 0.1 says little there, but one steep filter finds the space."""
    graph = build_frequency_graph(sphere_table(800, 10))
    neighbor = solve_eigenbasis(graph, 1, 40)
    expected = eigenpairs(real_matrix(graph, 2).toarray(), 40)[1]
    found = {
        degree: solve_eigenbasis(
            graph, 2, 40, options=SolverOptions("chebyshev", 0.1, degree), neighbor=neighbor, unit=neighbor
        )
        for degree in (4, 16, 32)
    }
    captured = {degree: float(np.sum((expected.T @ columns(basis)) ** 2)) / 40 for degree, basis in found.items()}
    assert [basis.iterations for basis in found.values()] == [1, 1, 1]
    assert captured[4] < 0.96
    assert captured[16] > 0.99
    assert found[32].vectors.tobytes() == found[16].vectors.tobytes()  # the growth of the leading ones ends it before


def test_dependent_start_vectors_lose_nothing() -> None:
    """All columns of both factors the same: one product, and the rest must come from random vectors."""
    one = solve_eigenbasis(sphere_graph(), 1, M)
    same = replace(one, vectors=np.repeat(one.vectors[:, :1], M, axis=1))
    found = solve_eigenbasis(sphere_graph(), 2, M, options=FINE, neighbor=same, unit=same)
    np.testing.assert_allclose(found.values, dense(2)[0][:M], atol=2e-6)


def test_a_start_on_one_component_finds_the_other() -> None:
    """Products are zero on the second component; it must be found all the same."""
    part = sphere_table(400, 8)
    graph = build_frequency_graph(side_by_side(part, part))
    one = solve_eigenbasis(graph, 1, 12)
    vectors = one.vectors.copy()
    vectors[400:] = 0
    half = replace(one, vectors=vectors)
    found = solve_eigenbasis(graph, 2, 12, neighbor=half, unit=half)
    alone = solve_eigenbasis(graph, 2, 12)
    np.testing.assert_allclose(found.values, alone.values, atol=1e-3)


@pytest.mark.parametrize("k", [0, 2])
def test_a_noise_margin_leaves_out_what_wrong_edges_make(k: int) -> None:
    """True neighbours and as many random ones: the bulk is cut away, what is left is as without the margin."""
    table = sphere_table(N, 10)
    rng = np.random.default_rng(4)
    wrong = NeighborTable(
        np.concatenate([table.indices, (np.arange(N)[:, None] + rng.integers(1, N, (N, 10))) % N], axis=1),
        np.concatenate([table.mirrored, rng.random((N, 10)) < 0.5], axis=1),
        np.concatenate([table.angles, rng.uniform(-3, 3, (N, 10))], axis=1),
        np.zeros((N, 20)),
    )
    graph = build_frequency_graph(wrong)
    values = np.linalg.eigvalsh(real_matrix(graph, k).toarray())
    expected = int(np.count_nonzero(values > -1.2 * values[0]))
    for method in ("chebyshev", "eigsh"):
        options = SolverOptions(method=method, tolerance=1e-4, noise_margin=1.2)
        basis = solve_eigenbasis(graph, k, 60, options=options)
        assert abs(basis.n_eigenvectors - expected) <= (2 if method == "chebyshev" else 0)
        assert 3 < basis.n_eigenvectors < 60
        np.testing.assert_allclose(basis.values, values[::-1][: basis.n_eigenvectors], atol=2e-6)
        assert basis.lower_bound == pytest.approx(values[0], abs=0.03)
    if k:
        neighbor = solve_eigenbasis(graph, 3, 60, options=options)
        again = solve_eigenbasis(graph, k, 60, options=replace(options, method="chebyshev"), neighbor=neighbor)
        np.testing.assert_allclose(again.values, values[::-1][: again.n_eigenvectors], atol=2e-6)
        assert abs(again.n_eigenvectors - expected) <= 3


@pytest.mark.parametrize("k", [0, 1])
@pytest.mark.parametrize("method", ["chebyshev", "eigsh"])
def test_isolated_nodes_have_no_part(k: int, method: str) -> None:
    table = sphere_table(120, 8)
    table.indices[100:] = -1
    table.indices[table.indices >= 100] = -1
    graph = build_frequency_graph(table)
    assert (graph.degrees[100:] == 0).all()
    basis = solve_eigenbasis(graph, k, 6, options=SolverOptions(method=method, tolerance=1e-4))
    assert np.abs(basis.vectors[100:]).max() < 1e-4
    expected = eigenpairs(real_matrix(graph, k).toarray(), 6)[0]
    np.testing.assert_allclose(basis.values, expected, atol=2e-6)


@pytest.mark.parametrize("method", ["chebyshev", "eigsh"])
@pytest.mark.parametrize("k", [0, 1])
def test_a_graph_without_edges_has_no_eigenvectors(k: int, method: str) -> None:
    table = NeighborTable(np.full((40, 2), -1), np.zeros((40, 2), bool), np.zeros((40, 2)), np.zeros((40, 2)))
    basis = solve_eigenbasis(build_frequency_graph(table), k, 3, options=SolverOptions(method=method))
    assert basis.n_eigenvectors == 0
    assert basis.vectors.shape == (40, 0)


@pytest.mark.parametrize(("k", "n_positive"), [(0, 1), (1, 2)])
@pytest.mark.parametrize("method", ["chebyshev", "eigsh"])
def test_only_positive_eigenvalues_are_returned(k: int, n_positive: int, method: str) -> None:
    """A complete graph of equal images has the eigenvalue 1 once (twice in the O(2) form) and -1/(n - 1) else."""
    n = 60
    indices = (np.arange(n)[:, None] + np.arange(1, n)) % n
    table = NeighborTable(indices, np.zeros(indices.shape, bool), np.zeros(indices.shape), np.ones(indices.shape))
    options = SolverOptions(method=method, tolerance=1e-4)
    basis = solve_eigenbasis(build_frequency_graph(table), k, 5, options=options)
    np.testing.assert_allclose(basis.values, np.ones(n_positive), atol=1e-5)
    np.testing.assert_allclose(np.abs(basis.vectors) ** 2 @ np.ones(n_positive), n_positive / n, atol=1e-4)


@pytest.mark.parametrize("method", ["chebyshev", "eigsh"])
@pytest.mark.parametrize(("n", "m"), [(3, 1), (3, 3), (7, 1), (9, 2), (20, 20), (33, 8)])
@pytest.mark.parametrize("k", [0, 1])
def test_tiny_graphs(k: int, n: int, m: int, method: str) -> None:
    graph = build_frequency_graph(sphere_table(n, 2, seed=3))
    basis = solve_eigenbasis(graph, k, m, options=SolverOptions(method=method, tolerance=1e-4))
    expected = eigenpairs(real_matrix(graph, k).toarray(), m)[0]
    np.testing.assert_allclose(basis.values, expected[expected > 1e-6], atol=1e-5)


def test_whole_multiplets_of_the_sphere() -> None:
    """Views spread evenly: eigenspaces of dimension 2l + 1, l >= k (Hadani & Singer 2011)."""
    graph = build_frequency_graph(sphere_table(2000, 60))
    values = solve_eigenbasis(graph, 1, 15).values
    gaps = -np.diff(values)
    assert set(np.argsort(-gaps)[:2].tolist()) == {2, 7}  # after 3 and 3 + 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_eigenvectors": 0}, "n_eigenvectors must be a whole number of at least 1, got 0"),
        ({"n_eigenvectors": 2.5}, "n_eigenvectors must be a whole number of at least 1, got 2.5"),
        ({"n_eigenvectors": 301}, r"n_eigenvectors must be at most the number of particles \(300\), got 301"),
        ({"k": -1}, "k must be a whole number of at least 0, got -1"),
        ({"k": 1.0}, "k must be a whole number of at least 0, got 1.0"),
        ({"options": SolverOptions(method="lobpcg")}, "the eigensolver must be 'chebyshev' or 'eigsh', got 'lobpcg'"),
        (
            {"n_eigenvectors": 300, "options": SolverOptions(method="lobpcg")},
            "the eigensolver must be 'chebyshev' or 'eigsh', got 'lobpcg'",
        ),
    ],
)
def test_refuses(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        solve_eigenbasis(sphere_graph(), **({"k": 1, "n_eigenvectors": M} | arguments))


def test_far_from_converged_is_an_error() -> None:
    options = SolverOptions(tolerance=1e-5, max_iterations=1)
    with pytest.raises(SolverError, match=r"k = 1: largest residual .* above the tolerance 1.0e-05 after 1 iterations"):
        solve_eigenbasis(sphere_graph(), 1, M, options=options)


def test_nearly_converged_is_told(caplog: pytest.LogCaptureFixture) -> None:
    reached = solve_eigenbasis(sphere_graph(), 1, M, options=SolverOptions(tolerance=0.5)).residuals.max()
    with caplog.at_level(logging.WARNING):
        options = SolverOptions(tolerance=float(reached) / 3, max_iterations=1)
        basis = solve_eigenbasis(sphere_graph(), 1, M, options=options)
    assert "ask for fewer eigenvectors or use the solver 'eigsh'" in basis.outcome
    assert basis.outcome in caplog.text


def test_arpack_on_a_large_graph_without_edges_is_an_error() -> None:
    empty = np.zeros((N, 1))
    table = NeighborTable(np.full((N, 1), -1), empty.astype(bool), empty, empty)
    with pytest.raises(SolverError, match=r"k = 0: ARPACK found 0 of 3 eigenvectors; .* solver 'chebyshev'"):
        solve_eigenbasis(build_frequency_graph(table), 0, 3, options=SolverOptions(method="eigsh"))


def test_arpack_without_convergence_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ArpackNoConvergence("no", np.ones(4), np.ones((4, 4)))

    monkeypatch.setattr(scipy.sparse.linalg, "eigsh", fails)
    with pytest.raises(SolverError, match="k = 1: ARPACK found 4 of 12 eigenvectors; ask for fewer"):
        solve_eigenbasis(sphere_graph(), 1, M, options=SolverOptions(method="eigsh"))


def test_a_loose_subspace_is_seen() -> None:
    """The tolerance means something: at 0.3 the span is farther from LAPACK's than the fine solver's is allowed."""
    values, vectors = dense(1)
    basis = solve_eigenbasis(sphere_graph(), 1, M, options=SolverOptions(tolerance=0.3))
    with pytest.raises(AssertionError, match="rad apart"):
        assert_same_eigenspaces(values, columns(basis), vectors[:, :M], gap=1e-2, atol=1.5e-2)
    fine = solve_eigenbasis(sphere_graph(), 1, M, options=FINE)
    cut = int(np.argmax(-np.diff(values[:M]))) + 1
    assert_same_subspace(columns(fine)[:, :cut], vectors[:, :cut], atol=5e-3)


def test_docstring_examples() -> None:
    result = doctest.testmod(eigenbasis)
    assert result.attempted > 3
    assert result.failed == 0
