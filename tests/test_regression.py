"""Amplitudes of a signal in a scaled eigenbasis: the sums they follow from, and the dense regression they equal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import isotonic_regression

from mfvdm_fast.errors import InputError
from mfvdm_fast.graph.frequency_graph import build_frequency_graph
from mfvdm_fast.kernels.amplitudes import falling_prior, posterior_blocks, solve_amplitudes
from mfvdm_fast.records import Eigenbasis, FrequencyGraph
from mfvdm_fast.restore import amplitudes
from mfvdm_fast.restore.amplitudes import BAND, fit_amplitudes
from mfvdm_fast.restore.scaled_eigenbasis import Regression, ScaledEigenbasis, set_up_regression, weigh_sums
from mfvdm_fast.restore.wiener import Observation, Real, estimate_covariance, estimate_mean, match

from .reference import graph_map as reference
from .reference.eigenbasis import sphere_table
from .test_graph_map import OFFSETS, N, smooth, solver


@pytest.fixture(scope="module")
def graph() -> FrequencyGraph:
    return build_frequency_graph(sphere_table(N, 12, seed=3))


def design(basis: Eigenbasis, degrees: np.ndarray) -> np.ndarray:
    return np.asarray(reference.design(basis.vectors, degrees, real=basis.k == 0), float)


def regression(
    basis: Eigenbasis, degrees: np.ndarray, matched: Real, seen: Observation, threads: int = 1
) -> Regression:
    phi = ScaledEigenbasis(basis, degrees, threads)
    return set_up_regression(weigh_sums(phi, matched, seen, threads)[0], seen, phi.m, phi.copies)


@pytest.mark.parametrize("k", [0, 2])
def test_rows_are_those_of_the_scaled_eigenvectors(k: int, graph: FrequencyGraph) -> None:
    basis = solver(graph)(k)
    expected = design(basis, graph.degrees).reshape(2 if k else 1, N, -1)
    phi = ScaledEigenbasis(basis, graph.degrees, threads=2)
    for start, stop in (*phi.blocks(), (17, 40)):
        found = phi.rows(start, stop).reshape(phi.copies, stop - start, -1)
        np.testing.assert_allclose(found, expected[:, start:stop], atol=1e-5)


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("k", [0, 2])
def test_sums_are_those_of_dense_matrices(
    k: int, trusted: bool, graph: FrequencyGraph, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all particles, and of all parts but one; with classes of more than one piece, and pieces of several blocks."""
    monkeypatch.setattr("mfvdm_fast.restore.scaled_eigenbasis.ROWS", 16)
    monkeypatch.setattr("mfvdm_fast.restore.scaled_eigenbasis.PIECES", 5)
    monkeypatch.setattr("mfvdm_fast.restore.scaled_eigenbasis.SLAB", 100)
    _, y, seen = smooth(graph, rng)
    seen = replace(seen.columns(int(OFFSETS[k]), int(OFFSETS[k + 1])), trust=rng.uniform(size=N) if trusted else None)
    basis, copies = solver(graph)(k), 2 if k else 1
    matched, part = match(y[k], seen, np.zeros(y[k].shape[1]), real=k == 0), rng.integers(0, 3, N)
    joint = np.hstack([design(basis, graph.degrees), matched, *([np.ones((N, 1))] if k == 0 else [])])
    phi = ScaledEigenbasis(basis, graph.degrees)
    trust = np.ones(N) if seen.trust is None else seen.trust
    weights = np.vstack([np.ones(N), seen.precision[seen.group].T]) * trust
    for found, left_out in zip(
        [*weigh_sums(phi, matched, seen, 1), *weigh_sums(phi, matched, seen, 2, part)], range(-1, 3), strict=True
    ):
        expected = reference.information(joint, np.tile(np.where(part == left_out, 0, weights), copies).T)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_sums_do_not_depend_on_threads(graph: FrequencyGraph, rng: np.random.Generator) -> None:
    _, y, seen = smooth(graph, rng)
    seen = seen.columns(int(OFFSETS[1]), int(OFFSETS[2]))
    matched, phi = match(y[1], seen, np.zeros(2), real=False), ScaledEigenbasis(solver(graph)(1), graph.degrees)
    one, two = (weigh_sums(phi, matched, seen, threads, np.arange(N) % 4) for threads in (1, 2))
    assert np.array_equal(one, two)


def test_the_mean_is_found_and_taken_out(graph: FrequencyGraph, rng: np.random.Generator) -> None:
    """At k = 0: as if w had been made without it."""
    _, y, seen = smooth(graph, rng)
    seen = replace(seen.columns(0, int(OFFSETS[1])), trust=rng.uniform(size=N))
    mean = estimate_mean(y[0], seen)
    assert np.abs(mean).min() > 1
    basis, guess = solver(graph)(0), 0.7 * mean
    found = regression(basis, graph.degrees, match(y[0], seen, guess, real=True), seen)
    w = match(y[0], seen, mean, real=True)
    np.testing.assert_allclose(guess + found.shift, mean, rtol=1e-5)
    expected = (seen.trust * design(basis, graph.degrees).T) @ w
    np.testing.assert_allclose(found.projected, expected, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(found.covariance, estimate_covariance(w, seen), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("k", [0, 2])
def test_the_fit_is_the_dense_regression(k: int, graph: FrequencyGraph, rng: np.random.Generator) -> None:
    _, y, seen = smooth(graph, rng)
    basis = solver(graph)(k)
    columns = slice(OFFSETS[k], OFFSETS[k + 1])
    part, copies = seen.columns(columns.start, columns.stop), 2 if k else 1
    dense = design(basis, graph.degrees)
    mean = estimate_mean(y[k], part) if k == 0 else np.zeros(columns.stop - columns.start)
    found = regression(basis, graph.degrees, match(y[k], part, mean, real=k == 0), part)
    fit = fit_amplitudes(found.projected, found.information, found.copies, found.covariance)
    h = np.tile(part.transfer[part.group], (copies, 1))
    data = np.concatenate([y[k].real, y[k].imag])[: copies * N].astype(float) - h * mean
    prior = reference.prior_matrix(fit.prior / copies, fit.correlation)
    z = reference.posterior_mean(data, h, part.noise_power / copies, dense, prior)
    np.testing.assert_allclose(fit.amplitude, z, atol=5e-3)
    expected = reference.log_evidence(data, h, part.noise_power / copies, dense, prior)
    assert fit.evidence == pytest.approx(expected, rel=0.05)


def test_the_prior_is_a_fixed_point_of_em_and_exact_for_orthogonal_columns(rng: np.random.Generator) -> None:
    m, p, n = 40, 2, 60
    phi = np.linalg.qr(rng.normal(size=(n, m)))[0] * np.sqrt(n)
    z = rng.normal(size=(m, p)) * np.linspace(1, 0.2, m)[:, None]
    y, ones = phi @ z + rng.normal(size=(n, p)), np.ones((n, p))
    coupling, covariance = reference.information(phi, ones), np.array([[1.0, 0.3], [0.3, 1.0]])
    fit = fit_amplitudes(phi.T @ y, coupling.astype(np.float32), 1, covariance)
    prior = reference.prior_matrix(fit.prior, fit.correlation)
    dense = np.linalg.inv(np.linalg.inv(prior) + np.kron(coupling[0], np.eye(p)))
    blocks = np.empty((m, p, p))
    posterior_blocks(fit.prior, fit.correlation, np.full((m, p), float(n)), blocks, np.empty(m))
    for l in range(m):
        np.testing.assert_allclose(blocks[l], dense[l * p : (l + 1) * p, l * p : (l + 1) * p], atol=1e-9)
    assert fit.evidence == pytest.approx(reference.log_evidence(y, ones, np.ones(p), phi, prior), rel=1e-6)
    again = reference.pool(fit.amplitude**2 + np.einsum("lqq->lq", blocks), BAND)
    np.testing.assert_allclose(fit.prior, again, rtol=0.02)
    np.testing.assert_allclose(fit.correlation, [[1, 0.27], [0.27, 1]])


@pytest.mark.parametrize("spare", [0, 4])
def test_amplitudes_solve_a_strongly_coupled_system(spare: int, rng: np.random.Generator) -> None:
    m, p, bounds = 25, 3, np.array([0, 12, 25])
    root = rng.normal(size=(p, m, 40))
    coupling = root @ root.transpose(0, 2, 1)
    variances, correlation = rng.uniform(0.1, 1, (2, p)), 0.5 + 0.5 * np.eye(p)
    diagonal = np.add.reduceat(np.einsum("qll->lq", coupling), bounds[:-1]) / np.diff(bounds)[:, None]
    blocks = np.empty((2, p, p))
    posterior_blocks(variances, correlation, diagonal, blocks, np.empty(2))
    target = rng.normal(size=(m, p))
    dense = np.zeros((m, p, m, p))
    for q in range(p):
        dense[:, q, :, q] = coupling[q]
    of = np.repeat([0, 1], np.diff(bounds))
    matrix = dense.reshape(m * p, m * p) + np.linalg.inv(reference.prior_matrix(variances[of], correlation))
    expected = np.linalg.solve(matrix, target.ravel()).reshape(m, p)
    wider = np.full((p, m + spare, m + spare), np.nan, np.float32)  # what is not to be looked at
    wider[:, :m, :m] = coupling
    rough, exact = (solve_amplitudes(target, wider, diagonal, blocks, bounds, *how) for how in ((1e-3, 20), (0.0, 200)))
    assert np.linalg.norm(rough - expected) < 0.05 * np.linalg.norm(expected)
    assert np.linalg.norm(exact - expected) < 1e-4 * np.linalg.norm(expected)


@pytest.mark.parametrize("copies", [1, 2])
def test_em_is_that_of_dense_matrices(copies: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amplitudes, "TOLERANCE", 1e-6)
    monkeypatch.setattr(amplitudes, "MAX_ITERATIONS", 200)
    m, p, first = 45, 3, [0, BAND]  # 5 are too few for a band of their own
    root = rng.normal(size=(p, m, 300))
    coupling = root @ root.transpose(0, 2, 1)
    target, covariance = 40 * rng.normal(size=(m, p)), np.eye(p) + 0.5
    fit = fit_amplitudes(target, coupling.astype(np.float32), copies, covariance)
    size = np.diff([*first, m])[:, None]
    diagonal = np.add.reduceat(np.einsum("qll->lq", coupling), first) / size
    scale = (diagonal * size).sum(axis=0) / m
    start = np.tile(copies * (target**2).mean(axis=0) / scale**2 - 1 / scale, (m, 1))
    z, log_determinants = reference.fit_bands(target, coupling, diagonal, fit.correlation, BAND, start, copies)
    np.testing.assert_allclose(fit.amplitude, z, atol=1e-4 * np.abs(z).max())
    explained = np.add.reduceat((target * z).sum(axis=1), first)
    np.testing.assert_allclose(fit.band_evidence, 0.5 * (copies * explained - log_determinants * size[:, 0]), rtol=1e-4)


def test_prior_is_pooled_and_falls(rng: np.random.Generator) -> None:
    for m in (5, 20, 39, 95):
        moments = rng.exponential(size=(m, 3)) * np.linspace(3, 1, m)[:, None]
        bounds = np.append(np.arange(0, max(1, m // BAND) * BAND, BAND), m)
        means, found = np.add.reduceat(moments, bounds[:-1]) / np.diff(bounds)[:, None], np.empty((len(bounds) - 1, 3))
        falling_prior(means, bounds, found)
        np.testing.assert_allclose(np.repeat(found, np.diff(bounds), axis=0), reference.pool(moments, BAND), rtol=1e-9)
        assert (np.diff(found, axis=0) <= 0).all()
        judge = [isotonic_regression(mean, weights=np.diff(bounds), increasing=False).x for mean in means.T]
        np.testing.assert_allclose(found.T, judge, rtol=1e-9)


def test_rounding_below_zero_is_nothing_known() -> None:
    information = np.array([[[10.0]], [[-1e-6]]], np.float32)
    fit = fit_amplitudes(np.array([[40.0, 0.0]]), information, 1, np.eye(2))
    assert fit.amplitude[0, 0] == pytest.approx(3.975, abs=1e-3)
    assert abs(fit.amplitude[0, 1]) < 1e-6


def test_refuses_what_is_no_gram_matrix() -> None:
    with pytest.raises(InputError, match="a Gram matrix of the eigenbasis has a negative diagonal: check the eigen"):
        fit_amplitudes(np.ones((1, 1)), np.full((1, 1, 1), -5, np.float32), 1, np.eye(1))
