"""Polynomials of the graph on panels of vectors against SciPy's sparse matrices."""

from __future__ import annotations

import numpy as np
import pytest

from mfvdm_fast.ext.hermitian import fill_values, fill_zero_frequency
from mfvdm_fast.graph.arrangement import arrange_graph
from mfvdm_fast.graph.filtered_block import FilteredBlock
from mfvdm_fast.graph.frequency_graph import build_frequency_graph
from mfvdm_fast.kernels._simd import empty_aligned
from mfvdm_fast.kernels.pairs import pack_lanes, pack_slabs
from mfvdm_fast.kernels.spmm import PANEL, filter_panel, join_rows, multiply_rows, put_rows, split_rows
from mfvdm_fast.records import FrequencyGraph
from mfvdm_fast.threads import use_threads

from .reference.eigenbasis import sphere_table
from .reference.spmm import apply_graph, chebyshev

N, LANES = 60, PANEL // 2


@pytest.fixture(scope="module")
def graph() -> FrequencyGraph:
    """Plain edges of each row before mirrored ones, as products want them."""
    return arrange_graph(build_frequency_graph(sphere_table(N, 6, noise=0.5))).graph


def plain_edges(graph: FrequencyGraph) -> np.ndarray:
    rows = np.repeat(np.arange(N), np.diff(graph.indptr))
    return np.bincount(rows[~graph.mirrored], minlength=N)


def run(graph: FrequencyGraph, x: np.ndarray, degree: int, threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """T x and S T x of 32 complex vectors at k = 3, on the interval [-0.5, 0.9]."""
    panels = np.full((3, N, PANEL), np.nan, np.float32)
    panels[0] = np.concatenate([x.real, x.imag], axis=1)
    values, splits = fill_values(graph, 3), graph.indptr[:-1] + plain_edges(graph)
    with use_threads(threads):
        interval = np.float32(0.2), np.float32(0.7)
        filter_panel(graph.indptr, splits, graph.indices.astype(np.int32), values, 2, panels, *interval, degree)
    found, applied = (panel[:, :LANES] + 1j * panel[:, LANES:] for panel in (panels[degree % 2], panels[2]))
    return found, applied


@pytest.mark.parametrize("degree", [0, 1, 2, 7])
def test_polynomial_equals_twin(graph: FrequencyGraph, degree: int, rng: np.random.Generator) -> None:
    x = rng.normal(size=(N, LANES)) + 1j * rng.normal(size=(N, LANES))
    found, applied = run(graph, x, degree)
    values = fill_values(graph, 3, dtype=np.complex128)
    expected = chebyshev(graph, values, x, 0.2, 0.7, degree)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(applied, apply_graph(graph, values, expected), atol=1e-5 * np.abs(expected).max())
    again, _ = run(graph, x, degree, threads=2)
    np.testing.assert_array_equal(again, found)


def test_real_vectors_at_zero_frequency(graph: FrequencyGraph, rng: np.random.Generator) -> None:
    """Whether an edge is mirrored does not matter, and a panel is 64 real vectors."""
    panels = np.full((3, N, PANEL), np.nan, np.float32)
    panels[0] = x = rng.normal(size=(N, PANEL)).astype(np.float32)
    values, splits = fill_zero_frequency(graph).astype(np.complex64), graph.indptr[:-1] + plain_edges(graph)
    interval = np.float32(-0.1), np.float32(0.8)
    filter_panel(graph.indptr, splits, graph.indices.astype(np.int32), values, 1, panels, *interval, 2)
    step = (apply_graph(graph, values.real, x).real + 0.1 * x) / 0.8
    expected = 2 * (apply_graph(graph, values.real, step).real + 0.1 * step) / 0.8 - x
    np.testing.assert_allclose(panels[0], expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 5), (2, 60, PANEL), (4, 10_000, PANEL)])
def test_arrays_on_cache_lines(shape: tuple[int, ...]) -> None:
    array = empty_aligned(shape)
    assert array.shape == shape
    assert array.dtype == np.float32
    assert array.ctypes.data % 64 == 0
    assert array.flags.c_contiguous
    array[:] = 1
    assert (array == 1).all()


def test_what_is_read_most_begins_on_a_cache_line(graph: FrequencyGraph, rng: np.random.Generator) -> None:
    block = FilteredBlock(arrange_graph(graph), 1, 40, 1)
    features = rng.normal(size=(70, 9)).astype(np.complex64)
    slabs, lanes = pack_slabs(features), pack_lanes([(features, None)], np.array([0, 4, 9])).values
    for array in (block.x, block.sx, *block.free, slabs, lanes):
        assert array.ctypes.data % 64 == 0
        assert 4 * array.shape[-1] % 64 == 0


@pytest.mark.parametrize("parts", [1, 2])
def test_rows_are_split_and_joined(parts: int, rng: np.random.Generator) -> None:
    columns = PANEL // parts
    width, first = columns + 5, 20
    vectors = (rng.normal(size=(N - first, width)) + 1j * rng.normal(size=(N - first, width))).astype(np.complex64)
    panels = np.full((2, N, PANEL), np.nan, np.float32)
    split_rows(vectors, first, parts, panels)
    assert np.isnan(panels[:, :first]).all()
    some = rng.permutation(N - first)[:9]
    block = np.full((parts * len(some), 2 * columns), np.nan, np.float32)
    join_rows(panels, first + some, parts, block)
    assert not block[:, width:].any()
    np.testing.assert_array_equal(block[::parts, :width], vectors[some].real)
    if parts == 2:
        np.testing.assert_array_equal(block[1::2, :width], vectors[some].imag)


@pytest.mark.parametrize("parts", [1, 2])
def test_rows_go_where_they_belong(parts: int, rng: np.random.Generator) -> None:
    order = rng.permutation(N)[: N // 2]
    block = rng.normal(size=(parts * len(order), 7)).astype(np.float32)
    vectors = np.full((N, 7), np.nan, np.complex64)
    put_rows(block, parts, order, vectors)
    np.testing.assert_array_equal(vectors[order].real, block[::parts])
    np.testing.assert_array_equal(vectors[order].imag, block[1::2] if parts == 2 else 0)
    assert np.isnan(np.delete(vectors, order, axis=0)).all()


def test_products_of_rows(rng: np.random.Generator) -> None:
    """As Clebsch-Gordan has it: each vector times a combination of the factors; columns beyond are left alone."""
    others, factors = (rng.normal(size=(N, w)) + 1j * rng.normal(size=(N, w)) for w in (20, 4))
    mix, particles = rng.normal(size=(3, 17)).astype(np.float32), rng.permutation(N)[:9]
    out = np.full((9, 21), 7, np.complex64)
    parts = (array.astype(np.complex64).view(np.float32) for array in (others, factors))
    multiply_rows(*parts, mix, particles, out.view(np.float32))
    expected = others[particles, :17] * (factors[particles, :3] @ mix)
    np.testing.assert_allclose(out[:, :17], expected, atol=1e-5)
    assert (out[:, 17:] == 7).all()
