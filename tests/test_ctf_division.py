"""The filtered |CTF| (Eq. 12): filtered as the images are, never below its floor."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from mfvdm_fast.graph.eigenbasis import SolverOptions, solve_eigenbasis
from mfvdm_fast.graph.frequency_graph import build_frequency_graph, real_matrix
from mfvdm_fast.records import Eigenbasis, FrequencyGraph
from mfvdm_fast.restore import ctf_division
from mfvdm_fast.restore.ctf_division import SMALLEST_TRANSFER, filter_transfer, interpolate_transfer, transfer_grid
from mfvdm_fast.restore.spectral import SPECTRAL_FILTERS, apply_spectral_filter

from .reference.eigenbasis import sphere_table
from .reference.spectral import filter_coefficients

N = 60


@pytest.fixture
def graph() -> FrequencyGraph:
    return build_frequency_graph(sphere_table(N, 6, seed=3))


@pytest.fixture
def basis(graph: FrequencyGraph) -> Eigenbasis:
    return solve_eigenbasis(graph, 0, 10, options=SolverOptions(method="eigsh"))


def test_a_constant_transfer_stays_constant(graph: FrequencyGraph, basis: Eigenbasis) -> None:
    same = np.tile(np.linspace(0.1, 1, 7), (N, 1))
    np.testing.assert_allclose(filter_transfer(same, basis, graph.degrees), same, atol=1e-6)


@pytest.mark.parametrize("name", list(SPECTRAL_FILTERS))
def test_equals_the_filter_on_the_graph(graph: FrequencyGraph, basis: Eigenbasis, name: str) -> None:
    transfer = np.random.default_rng(0).uniform(0.1, 1, (N, 5))
    matrix = real_matrix(graph, 0).toarray()
    expected = filter_coefficients(transfer, matrix, graph.degrees, SPECTRAL_FILTERS[name], 10).real
    found = filter_transfer(transfer, basis, graph.degrees, name)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.maximum(expected, SMALLEST_TRANSFER), atol=1e-6)


def test_division_undoes_a_transfer_that_all_particles_share(graph: FrequencyGraph, basis: Eigenbasis) -> None:
    """Coefficients that are the CTF times a smooth signal come back as the filtered signal."""
    rng = np.random.default_rng(1)
    signal = rng.normal(size=(N, 3)).astype(np.complex64)
    transfer = np.full((N, 1), 0.4)
    observed = apply_spectral_filter((0.4 * signal).astype(np.complex64), basis, graph.degrees)
    restored = observed / filter_transfer(transfer, basis, graph.degrees)
    np.testing.assert_allclose(restored, apply_spectral_filter(signal, basis, graph.degrees), atol=1e-5)


def test_the_floor_lies_below_the_amplitude_contrast(graph: FrequencyGraph, basis: Eigenbasis) -> None:
    assert SMALLEST_TRANSFER < 0.07  # |CTF| at zero frequency must pass untouched
    low = np.full((N, 1), 0.07)
    np.testing.assert_allclose(filter_transfer(low, basis, graph.degrees), low, atol=1e-6)
    np.testing.assert_allclose(filter_transfer(np.zeros((N, 1)), basis, graph.degrees), SMALLEST_TRANSFER, rtol=1e-6)


def test_interpolation_is_linear_between_grid_points() -> None:
    grid = transfer_grid(0.3, 33)
    assert grid[0] == 0
    assert grid[-2] >= 0.3
    assert grid[-1] < 0.3 + 2 / (4 * 33)
    rows = np.random.default_rng(0).uniform(size=(4, len(grid)))
    at = np.random.default_rng(1).uniform(0, 0.3, 50)
    expected = np.stack([np.interp(at, grid, row) for row in rows])
    np.testing.assert_allclose(interpolate_transfer(rows, grid, at), expected, atol=1e-12)


def test_docstring_examples() -> None:
    result = doctest.testmod(ctf_division)
    assert result.attempted > 3
    assert result.failed == 0
