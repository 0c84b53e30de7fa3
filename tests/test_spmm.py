"""Graph and block products against SciPy's sparse matrices and NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from mfvdm_fast.ext.hermitian import fill_values, fill_zero_frequency
from mfvdm_fast.graph.frequency_graph import build_frequency_graph
from mfvdm_fast.kernels.spmm import ROWS_PER_BLOCK, block_gram, block_multiply, chebyshev_step, chebyshev_step_real
from mfvdm_fast.records import FrequencyGraph
from mfvdm_fast.threads import use_threads

from .reference.eigenbasis import sphere_table
from .reference.spmm import apply_graph, as_halves


@pytest.fixture(scope="module")
def graph() -> FrequencyGraph:
    return build_frequency_graph(sphere_table(60, 6, noise=0.5))


def complex_block(rng: np.random.Generator, m: int) -> np.ndarray:
    return rng.normal(size=(60, m)) + 1j * rng.normal(size=(60, m))


@pytest.mark.parametrize("m", [1, 7, 16])
def test_step_equals_twin(graph: FrequencyGraph, m: int, rng: np.random.Generator) -> None:
    x, previous = complex_block(rng, m), complex_block(rng, m)
    values = fill_values(graph, 3, dtype=np.complex128)
    out = np.full((60, 2 * m), np.nan, np.float32)
    arguments = graph.indptr, graph.indices, graph.mirrored, values.astype(np.complex64)
    chebyshev_step(*arguments, as_halves(x), as_halves(previous), np.float32(1.7), np.float32(0.3), out)
    expected = as_halves(1.7 * (apply_graph(graph, values, x) - 0.3 * x) - previous)
    np.testing.assert_allclose(out, expected, atol=2e-6)
    in_place = as_halves(previous)
    chebyshev_step(*arguments, as_halves(x), in_place, np.float32(1.7), np.float32(0.3), in_place)
    np.testing.assert_array_equal(in_place, out)


def test_real_step_equals_twin(graph: FrequencyGraph, rng: np.random.Generator) -> None:
    x, previous = rng.normal(size=(2, 60, 5))
    values = fill_zero_frequency(graph, dtype=np.float64)
    out = np.full((60, 5), np.nan, np.float32)
    chebyshev_step_real(
        graph.indptr, graph.indices, values.astype(np.float32), x.astype(np.float32), previous.astype(np.float32),
        np.float32(-0.8), np.float32(0.1), out,
    )  # fmt: skip
    np.testing.assert_allclose(out, -0.8 * (apply_graph(graph, values, x).real - 0.1 * x) - previous, atol=2e-6)


@pytest.mark.parametrize("rows", [1, ROWS_PER_BLOCK, 2 * ROWS_PER_BLOCK + 37])
def test_block_products_equal_numpy_for_any_threads(rows: int, rng: np.random.Generator) -> None:
    a, b = rng.normal(size=(rows, 9)).astype(np.float32), rng.normal(size=(rows, 9)).astype(np.float32)
    turn = rng.normal(size=(9, 9)).astype(np.float32)
    found = []
    for threads in (1, 2):
        partial = np.full((-(-rows // ROWS_PER_BLOCK), 9, 9), np.nan, np.float32)
        out = np.full((rows, 9), np.nan, np.float32)
        with use_threads(threads):
            block_gram(a, b, partial)
            block_multiply(a, turn, out)
        found.append((partial, out))
    np.testing.assert_allclose(found[0][0].sum(axis=0), a.T @ b, atol=2e-3)
    np.testing.assert_allclose(found[0][1], a @ turn, atol=1e-5)
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)
