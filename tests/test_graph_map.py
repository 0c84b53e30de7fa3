"""Graph MAP: the dense regression it equals, the physics it keeps, what it gains, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from mfvdm_fast.errors import InputError
from mfvdm_fast.graph.eigenbasis import SolverOptions, solve_eigenbasis
from mfvdm_fast.graph.frequency_graph import build_frequency_graph
from mfvdm_fast.records import Eigenbasis, FrequencyGraph, NeighborTable, SteerableCoefficients
from mfvdm_fast.restore import graph_map
from mfvdm_fast.restore.amplitudes import GraphFit
from mfvdm_fast.restore.graph_map import restore_graph_map
from mfvdm_fast.restore.scaled_eigenbasis import ScaledEigenbasis
from mfvdm_fast.restore.wiener import Observation, describe_observation, restore_wiener

from .reference.eigenbasis import sphere_table
from .steerable import turned

N, M = 200, 30
OFFSETS = np.array([0, 3, 5, 7], np.int64)
EXACT = SolverOptions(method="eigsh")


@pytest.fixture(scope="module")
def table() -> NeighborTable:
    return sphere_table(N, 12, seed=3)


@pytest.fixture(scope="module")
def graph(table: NeighborTable) -> FrequencyGraph:
    return build_frequency_graph(table)


def solver(graph: FrequencyGraph, m: int = M) -> Callable[..., Eigenbasis]:
    def solve(k: int, most: int | None = None) -> Eigenbasis:
        return solve_eigenbasis(graph, k, m, options=EXACT)

    return solve


def smooth(
    graph: FrequencyGraph, rng: np.random.Generator, noise: float = 1.0
) -> tuple[SteerableCoefficients, SteerableCoefficients, Observation]:
    """(clean, observed coefficients, observation): combinations of ten eigenvectors, three CTFs, coloured noise."""
    clean = np.zeros((N, OFFSETS[-1]), complex)
    for k in range(3):
        basis = solver(graph, 10)(k)
        z = rng.normal(size=(basis.n_eigenvectors, OFFSETS[k + 1] - OFFSETS[k]))
        x = ScaledEigenbasis(basis, graph.degrees).rows(0, N) @ z
        clean[:, OFFSETS[k] : OFFSETS[k + 1]] = x + 4 if k == 0 else x[:N] + 1j * x[N:]
    transfer, group = rng.uniform(0.4, 1, (3, OFFSETS[-1])) * [[1], [-1], [1]], rng.integers(0, 3, N)
    power = noise * rng.uniform(0.5, 2, OFFSETS[-1])
    deviates = np.array(rng.normal(size=clean.shape) + 1j * rng.normal(size=clean.shape))
    deviates[:, : OFFSETS[1]] = deviates[:, : OFFSETS[1]].real * np.sqrt(2)
    y = transfer[group] * clean + deviates * np.sqrt(power / 2)
    observed = SteerableCoefficients(y.astype(np.complex64), OFFSETS)
    return (
        SteerableCoefficients(clean.astype(np.complex64), OFFSETS),
        observed,
        describe_observation(observed, power, transfer, group),
    )


def test_recovers_what_lies_in_the_eigenbasis(graph: FrequencyGraph, rng: np.random.Generator) -> None:
    clean, y, seen = smooth(graph, rng)
    error = np.linalg.norm(restore_graph_map(y, seen, solver(graph), graph.degrees).coefs.packed - clean.packed)
    alone = np.linalg.norm(restore_wiener(y, seen).packed - clean.packed)
    assert error < 0.6 * alone
    almost = smooth(graph, np.random.default_rng(5), noise=1e-4)
    found = restore_graph_map(almost[1], almost[2], solver(graph), graph.degrees).coefs.packed
    np.testing.assert_allclose(found, almost[0].packed, atol=0.05)


def test_the_residual_filter_restores_what_the_graph_lacks(graph: FrequencyGraph, rng: np.random.Generator) -> None:
    """A signal of its own in every particle is far from smooth; the result is then the Wiener filter's, nearly."""
    x = 3 * rng.normal(size=(N, 3))
    y = SteerableCoefficients((x + rng.normal(size=x.shape) + 0j).astype(np.complex64), np.array([0, 3]))
    seen = describe_observation(y, 1.0)
    found = restore_graph_map(y, seen, solver(graph), graph.degrees).coefs.packed.real
    assert np.linalg.norm(found - x) < 1.1 * np.linalg.norm(restore_wiener(y, seen).packed.real - x)


def test_captured_tells_overfitting(graph: FrequencyGraph, rng: np.random.Generator) -> None:
    """Eigenvectors made of the noise itself fit more than there is signal; honest ones do not."""
    _, y, seen = smooth(graph, rng, noise=3.0)
    honest = restore_graph_map(y, seen, solver(graph), graph.degrees).captured
    assert 0.5 < honest < 1.1
    data = (rng.normal(size=(N, 3)) + 1j * rng.normal(size=(N, 3))).astype(np.complex64)  # half signal, half noise
    packed = SteerableCoefficients(data, np.array([0, 0, 3]))
    own = Eigenbasis(1, np.ones(3), data / np.linalg.norm(data, axis=0), np.zeros(3), 1, "converged")
    none = Eigenbasis(0, np.zeros(0), np.zeros((N, 0), np.complex64), np.zeros(0), 1, "converged")
    run = partial(restore_graph_map, packed, bases=lambda k, most: own if k else none, degrees=np.ones(N))
    assert run(describe_observation(packed, 1.0)).captured == pytest.approx(2, abs=0.3)
    assert run(describe_observation(packed, 4.0)).captured == np.inf


def test_frequencies_without_evidence_go_to_the_filter(graph: FrequencyGraph, rng: np.random.Generator) -> None:
    _, y, seen = smooth(graph, rng)
    packed = y.packed.copy()
    packed[:, OFFSETS[1] : OFFSETS[2]] *= 0  # k = 1 carries nothing
    quiet = SteerableCoefficients(packed, OFFSETS)
    asked: list[int] = []

    def bases(k: int, most: int | None) -> Eigenbasis:
        asked.append(k)
        return solver(graph)(k, most)

    found = restore_graph_map(quiet, seen, bases, graph.degrees)
    assert asked == [0, 1]
    np.testing.assert_allclose(found.coefs[2], restore_wiener(quiet, seen)[2], atol=1e-6)
    asked.clear()
    restore_graph_map(y, seen, bases, graph.degrees, k_max=0)
    assert asked == [0]
    asked.clear()
    restore_graph_map(y, seen, bases, graph.degrees)
    assert asked == [0, 1, 2]


def test_eigenvectors_without_evidence_are_not_asked_for_again() -> None:
    evidence = np.array([900.0, 40.0, 0.01, 1.0, -3.0])
    fit = GraphFit(np.zeros((110, 1)), np.ones((110, 1)), np.eye(1), evidence)
    assert fit.evidence == pytest.approx(938.01)
    assert [fit.worth_having(least) for least in (0.5, 10, 1000)] == [80, 40, 0]
    assert fit.worth_having(-10) == 110  # the last band holds the rest
    assert graph_map.room_for_next(0, 1e4, fit) is None
    assert graph_map.room_for_next(1, 1e4, fit) == 100  # least evidence 0.3: one band more
    assert graph_map.room_for_next(2, 1e6, fit, None) == 60
    assert graph_map.room_for_next(2, 1e6, None) == 20


def test_the_next_frequency_is_told_what_is_worth_having(graph: FrequencyGraph, rng: np.random.Generator) -> None:
    _, y, seen = smooth(graph, rng)
    told: list[int | None] = []

    def bases(k: int, most: int | None) -> Eigenbasis:
        told.append(most)
        return solver(graph)(k)

    restore_graph_map(y, seen, bases, graph.degrees)
    assert told[:2] == [None, None]
    assert told[2] is not None


def test_turning_an_image_turns_its_result(table: NeighborTable, rng: np.random.Generator) -> None:
    graph = build_frequency_graph(table)
    _, y, seen = smooth(graph, rng)
    beta = np.zeros(N)
    beta[17] = 0.8
    angles = table.angles + beta[:, None]
    angles += np.where(table.mirrored, 1, -1) * beta[table.indices]
    other = build_frequency_graph(replace(table, angles=angles))
    found = restore_graph_map(turned(y, beta), seen, solver(other), other.degrees).coefs
    expected = turned(restore_graph_map(y, seen, solver(graph), graph.degrees).coefs, beta)
    np.testing.assert_allclose(found.packed, expected.packed, atol=2e-3)
    assert np.abs(found.packed[17] - y.packed[17]).max() > 0.05


def test_nodes_without_edges_get_the_filter(graph: FrequencyGraph, rng: np.random.Generator) -> None:
    _, y, seen = smooth(graph, rng)
    degrees = graph.degrees.copy()
    degrees[:5] = 0
    found = restore_graph_map(y, seen, solver(graph), degrees).coefs.packed
    assert np.isfinite(found).all()
    assert not ScaledEigenbasis(solver(graph)(1), degrees).rows(0, 5).any()


def test_a_vanishing_ctf_is_survived(graph: FrequencyGraph, rng: np.random.Generator) -> None:
    _, y, seen = smooth(graph, rng)
    transfer = seen.transfer.copy()
    transfer[:, 3:] = transfer[:, 0] = 0
    found = restore_graph_map(y, replace(seen, transfer=transfer), solver(graph), graph.degrees).coefs
    assert np.abs(found.packed[:, [0, 3, 4, 5, 6]]).max() < 1e-6


def test_threads_do_not_matter(graph: FrequencyGraph, rng: np.random.Generator) -> None:
    _, y, seen = smooth(graph, rng)
    run = partial(restore_graph_map, y, seen, solver(graph), graph.degrees)
    assert np.array_equal(run(threads=1).coefs.packed, run(threads=2).coefs.packed)


@pytest.mark.parametrize("threads", [1, 2])
def test_every_frequency_is_shown_as_observed_and_restored(
    threads: int, graph: FrequencyGraph, rng: np.random.Generator
) -> None:
    _, y, seen = smooth(graph, rng, noise=0.5)
    observed, shown = y.packed.copy(), dict[int, tuple[np.ndarray, np.ndarray]]()

    def watch(k: int, before: np.ndarray, after: np.ndarray) -> None:
        assert k not in shown
        shown[k] = before.copy(), after

    restore_graph_map(y, seen, solver(graph), graph.degrees, watch=watch, out=y.packed, threads=threads)
    assert sorted(shown) == list(range(y.k_max + 1))
    for place, expected in enumerate((observed, y.packed)):
        np.testing.assert_array_equal(np.concatenate([shown[k][place] for k in sorted(shown)], axis=1), expected)


def test_refuses_foreign_eigenbases(graph: FrequencyGraph, rng: np.random.Generator) -> None:
    _, y, seen = smooth(graph, rng)
    with pytest.raises(InputError, match="frequency k = 0 of 200 particles got a basis of k = 1 and 200 particles"):
        restore_graph_map(y, seen, lambda k, most: solver(graph)(1), graph.degrees)


def test_who_is_not_trusted_has_no_say_but_is_restored(graph: FrequencyGraph, rng: np.random.Generator) -> None:
    _, y, seen = smooth(graph, rng)
    trust = np.ones(N)
    trust[7] = 0
    other = y.packed.copy()
    other[7] += 100
    some = replace(seen, trust=trust)
    run = partial(restore_graph_map, bases=solver(graph), degrees=graph.degrees)
    found = run(y, some).coefs.packed
    rest = np.arange(N) != 7
    changed = run(SteerableCoefficients(other, OFFSETS), some).coefs.packed
    np.testing.assert_allclose(changed[rest], found[rest], atol=1e-4)
    assert np.abs(run(SteerableCoefficients(other, OFFSETS), seen).coefs.packed[rest] - found[rest]).max() > 0.5
    assert np.abs(found[7] - run(y, seen).coefs.packed[7]).max() < 1  # as its neighbours say
    np.testing.assert_array_equal(run(y, some, threads=2).coefs.packed, found)
