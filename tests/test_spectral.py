"""Algorithm 2 against the doubled graph of the paper, and the physics that it must keep."""

from __future__ import annotations

import doctest
from dataclasses import replace

import numpy as np
import pytest

from mfvdm_fast.errors import ParameterError
from mfvdm_fast.graph.eigenbasis import SolverOptions, solve_eigenbasis
from mfvdm_fast.graph.frequency_graph import build_frequency_graph, real_matrix
from mfvdm_fast.records import Eigenbasis, NeighborTable
from mfvdm_fast.restore import spectral
from mfvdm_fast.restore.spectral import SPECTRAL_FILTERS, apply_spectral_filter

from .reference import hermitian
from .reference.eigenbasis import sphere_table
from .reference.spectral import filter_coefficients

N, M, P = 50, 9, 4
EXACT = SolverOptions(method="eigsh")


@pytest.fixture
def table() -> NeighborTable:
    return sphere_table(N, 6, seed=1, noise=0.3)


def random_coefs(k: int, rng: np.random.Generator, n: int = N) -> np.ndarray:
    coefs = rng.normal(size=(n, P)) + 1j * rng.normal(size=(n, P)) * (k > 0)
    return (coefs + 2).astype(np.complex64)


def filtered(table: NeighborTable, coefs: np.ndarray, k: int, n_eigenvectors: int = M) -> np.ndarray:
    graph = build_frequency_graph(table)
    basis = solve_eigenbasis(graph, k, n_eigenvectors, options=EXACT)
    return apply_spectral_filter(coefs, basis, graph.degrees)


@pytest.mark.parametrize("name", list(SPECTRAL_FILTERS))
@pytest.mark.parametrize("k", [0, 1, 3])
def test_equals_the_doubled_graph(k: int, name: str, table: NeighborTable, rng: np.random.Generator) -> None:
    graph = build_frequency_graph(table)
    coefs = random_coefs(k, rng)
    edges = hermitian.edge_dictionary(table.indices, table.mirrored, table.angles)
    matrix = real_matrix(graph, 0).toarray() if k == 0 else hermitian.hermitian_matrix(edges, N, k)
    expected = filter_coefficients(coefs, matrix, graph.degrees, SPECTRAL_FILTERS[name], M)
    basis = solve_eigenbasis(graph, k, M, options=EXACT)
    found = apply_spectral_filter(coefs, basis, graph.degrees, name)
    assert found.dtype == np.complex64
    np.testing.assert_allclose(found, expected, atol=2e-5)
    if k == 0:
        assert not found.imag.any()


def test_filters_differ_as_their_formulas_do(table: NeighborTable) -> None:
    values = np.array([1.0, 0.5, 0.1])
    assert SPECTRAL_FILTERS["λ"](values).tolist() == [1.0, 0.5, 0.1]
    np.testing.assert_allclose(SPECTRAL_FILTERS["2λ-λ²"](values), [1.0, 0.75, 0.19])


def test_all_eigenvectors_give_the_plain_average(table: NeighborTable, rng: np.random.Generator) -> None:
    """With every eigenpair, h = lambda is the average over the neighbours, turned as the edges say."""
    graph = build_frequency_graph(table)
    coefs = random_coefs(2, rng)
    values, x = np.linalg.eigh(real_matrix(graph, 2).toarray())
    vectors = (x[:N] + 1j * x[N:]).astype(np.complex64)
    basis = Eigenbasis(2, values, vectors, np.zeros(2 * N), 1, "converged")
    expected = np.zeros((N, P), complex)
    for i in range(N):
        for e in range(graph.indptr[i], graph.indptr[i + 1]):
            other = coefs[graph.indices[e]]
            turned = np.exp(-2j * graph.angles[e]) * (other.conj() if graph.mirrored[e] else other)
            expected[i] += turned / graph.degrees[i]
    np.testing.assert_allclose(apply_spectral_filter(coefs, basis, graph.degrees, "λ"), expected, atol=1e-5)


def turn_image(table: NeighborTable, i: int, beta: float) -> NeighborTable:
    """The table after image i has been turned by beta: coef_k(i) -> exp(-i k beta) coef_k(i)."""
    angles = table.angles.copy()
    angles[i] += beta
    listed = table.indices == i
    angles[listed] += np.where(table.mirrored[listed], beta, -beta)
    return replace(table, angles=angles)


def mirror_image(table: NeighborTable, i: int) -> NeighborTable:
    """The table after image i has been mirrored: coef_k(i) -> conj(coef_k(i))."""
    angles, mirrored = table.angles.copy(), table.mirrored.copy()
    angles[i] *= -1
    mirrored[i] ^= True
    mirrored[table.indices == i] ^= True
    return replace(table, angles=angles, mirrored=mirrored)


@pytest.mark.parametrize("k", [0, 1, 2])
def test_turning_one_image_turns_its_result(k: int, table: NeighborTable, rng: np.random.Generator) -> None:
    coefs, phase = random_coefs(k, rng), np.ones((N, 1), np.complex64)
    phase[17] = np.exp(-1j * k * 0.8)
    before, after = filtered(table, coefs, k), filtered(turn_image(table, 17, 0.8), coefs * phase, k)
    np.testing.assert_allclose(after, before * phase, atol=2e-5)
    if k:
        unturned = filtered(table, coefs * phase, k)
        assert np.abs(unturned - before * phase).max() > 1e-2


@pytest.mark.parametrize("k", [0, 1, 2])
def test_mirroring_one_image_mirrors_its_result(k: int, table: NeighborTable, rng: np.random.Generator) -> None:
    coefs = random_coefs(k, rng)
    conjugated = coefs.copy()
    conjugated[17] = coefs[17].conj()
    before, after = filtered(table, coefs, k), filtered(mirror_image(table, 17), conjugated, k)
    before[17] = before[17].conj()
    np.testing.assert_allclose(after, before, atol=2e-5)


@pytest.mark.parametrize("k", [0, 2])
def test_swapping_images_swaps_results(k: int, table: NeighborTable, rng: np.random.Generator) -> None:
    old = rng.permutation(N)
    new = np.argsort(old)
    swapped = NeighborTable(new[table.indices[old]], table.mirrored[old], table.angles[old], table.scores[old])
    coefs = random_coefs(k, rng)
    np.testing.assert_allclose(filtered(swapped, coefs[old], k), filtered(table, coefs, k)[old], atol=2e-5)


def same_images(n: int, rng: np.random.Generator) -> tuple[NeighborTable, np.ndarray, np.ndarray]:
    """Copies of one image, turned and mirrored at random, with the true table; the turns and the flags."""
    turn, flip = rng.uniform(-np.pi, np.pi, n), rng.random(n) < 0.5
    indices = (np.arange(n)[:, None] + rng.permuted(np.tile(np.arange(1, n), (n, 1)), axis=1)[:, :8]) % n
    mirrored = flip[:, None] ^ flip[indices]
    angles = turn[:, None] - np.where(mirrored, -1, 1) * turn[indices]
    return NeighborTable(indices, mirrored, angles, np.ones(indices.shape)), turn, flip


@pytest.mark.parametrize("k", [0, 1, 3])
def test_copies_of_one_image_come_back_exactly(k: int, rng: np.random.Generator) -> None:
    table, turn, flip = same_images(80, rng)
    image = rng.normal(size=P) + 1j * rng.normal(size=P) * (k > 0)
    clean = np.exp(-1j * k * turn)[:, None] * np.where(flip[:, None], image.conj(), image)
    for n_eigenvectors in (2, 20):
        found = filtered(table, clean.astype(np.complex64), k, n_eigenvectors)
        np.testing.assert_allclose(found, clean, atol=5e-6)
    noise = rng.normal(size=clean.shape) + 1j * rng.normal(size=clean.shape) * (k > 0)
    denoised = filtered(table, (clean + noise).astype(np.complex64), k, 2 if k else 1)
    assert np.linalg.norm(denoised - clean) < 0.2 * np.linalg.norm(noise)  # about 1 / sqrt(80) of it


def test_mean_of_k_zero_is_kept_apart(table: NeighborTable, rng: np.random.Generator) -> None:
    coefs = random_coefs(0, rng)
    shift = np.arange(P, dtype=np.float32) * 100
    np.testing.assert_allclose(filtered(table, coefs + shift, 0), filtered(table, coefs, 0) + shift, atol=2e-4)


def test_nodes_without_edges(table: NeighborTable, rng: np.random.Generator) -> None:
    table.indices[45:] = -1
    table.indices[table.indices >= 45] = -1
    coefs = random_coefs(1, rng)
    assert not filtered(table, coefs, 1)[45:].any()
    zero = random_coefs(0, rng)
    np.testing.assert_allclose(filtered(table, zero, 0)[45:], np.tile(zero.mean(axis=0), (5, 1)), rtol=1e-5)


def test_input_is_left_alone_in_any_layout(table: NeighborTable, rng: np.random.Generator) -> None:
    for k in (0, 1):
        coefs = random_coefs(k, rng)
        expected = filtered(table, coefs, k)
        wide = np.repeat(coefs, 2, axis=1)
        wide.flags.writeable = False
        np.testing.assert_allclose(filtered(table, wide[:, ::2], k), expected, atol=1e-5)


def test_refuses_an_unknown_filter() -> None:
    basis = Eigenbasis(1, np.ones(1), np.ones((4, 1), np.complex64), np.zeros(1), 1, "converged")
    with pytest.raises(ParameterError, match=r"the spectral filter must be one of \['2λ-λ²', 'λ'\], got 'λ³'"):
        apply_spectral_filter(np.ones((4, 1), np.complex64), basis, np.ones(4), "λ³")


def test_docstring_examples() -> None:
    result = doctest.testmod(spectral)
    assert result.attempted > 3
    assert result.failed == 0
