"""Templates: their features give the log likelihood, and no particle has a part in those it is held against."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mfvdm_fast.errors import ParameterError
from mfvdm_fast.graph.frequency_graph import build_frequency_graph
from mfvdm_fast.records import FrequencyGraph, SteerableCoefficients
from mfvdm_fast.restore import graph_map
from mfvdm_fast.restore.amplitudes import fit_amplitudes
from mfvdm_fast.restore.template_features import TemplateFeatures
from mfvdm_fast.restore.templates import PARTS, fit_templates, split_in_parts
from mfvdm_fast.restore.wiener import Observation, estimate_covariance, estimate_mean, match, to_complex

from .reference.eigenbasis import sphere_table
from .reference.graph_map import design, information
from .reference.templates import log_likelihood
from .test_graph_map import OFFSETS, N, smooth, solver

PART = split_in_parts(N, seed=4)


def template_features(
    coefs: SteerableCoefficients, seen: Observation, *args: Any, **kwargs: Any
) -> list[TemplateFeatures]:
    return list(fit_templates(coefs, seen, *args, **kwargs).features(coefs, seen))


@pytest.fixture(scope="module")
def graph() -> FrequencyGraph:
    return build_frequency_graph(sphere_table(N, 12, seed=3))


@pytest.fixture(scope="module")
def observed(graph: FrequencyGraph) -> tuple[SteerableCoefficients, Observation]:
    _, coefs, seen = smooth(graph, np.random.default_rng(0), noise=0.5)
    return coefs, seen


def fitted_without(graph: FrequencyGraph, coefs: SteerableCoefficients, seen: Observation, part: int) -> np.ndarray:
    """Templates (n, P) whose amplitudes come from the particles of other parts."""
    rows = np.flatnonzero(part != PART)
    out = np.zeros((N, OFFSETS[-1]), np.complex64)
    for k in range(3):
        columns = slice(int(OFFSETS[k]), int(OFFSETS[k + 1]))
        others = Observation(seen.transfer[:, columns], seen.group[rows], seen.noise_power[columns])
        y = coefs.packed[rows, columns]
        mean = estimate_mean(y, others) if k == 0 else np.zeros(y.shape[1])
        phi = design(solver(graph)(k).vectors, graph.degrees, real=k == 0)
        own = phi[rows] if k == 0 else np.concatenate([phi[rows], phi[N + rows]])
        w = match(y, others, mean, real=k == 0)
        coupling = information(own, others.precision[np.tile(others.group, len(own) // len(rows))])
        fit = fit_amplitudes(
            own.T @ w, coupling.astype(np.float32), len(own) // len(rows), estimate_covariance(w, others)
        )
        x = phi @ fit.amplitude.astype(np.float32)
        x[:N] += mean.astype(np.float32)
        out[:, columns] = to_complex(x, N)
    return out


def score(a: np.ndarray, b: np.ndarray, offsets: np.ndarray, turn: tuple[float, bool]) -> float:
    """The bilinear form of the search."""
    alpha, mirrored = turn
    total = 0.0
    for k in range(len(offsets) - 1):
        columns = slice(offsets[k], offsets[k + 1])
        other = b[columns] if mirrored else b[columns].conj()
        value = (a[columns] * other).sum() * np.exp(1j * k * alpha)
        total += float(value.real) * (1 if k == 0 else 2)
    return total


@pytest.mark.parametrize("turn", [(0.0, False), (0.7, False), (-2.1, True)])
def test_features_give_the_log_likelihood(
    graph: FrequencyGraph,
    observed: tuple[SteerableCoefficients, Observation],
    turn: tuple[float, bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mfvdm_fast.restore.template_features.ENERGY", 1.0)
    monkeypatch.setattr("mfvdm_fast.restore.template_features.LEAST_PENALTY", 1e-6)
    coefs, seen = observed
    sides = template_features(coefs, seen, solver(graph), graph.degrees, PART, k_max=9)
    assert len(sides) == PARTS
    for part, side in enumerate(sides):
        assert np.array_equal(side.particles, np.flatnonzero(part == PART))
        x = fitted_without(graph, coefs, seen, part)
        for row, i in list(enumerate(side.particles))[:12]:
            for j in (0, 17, 150):
                h = seen.transfer[seen.group[i]]
                expected = log_likelihood(coefs.packed[i], x[j], h, seen.noise_power, OFFSETS, turn)
                found = score(side.observed.packed[row], side.templates.packed[j], side.observed.offsets, turn)
                assert found + side.baseline[row] == pytest.approx(expected, abs=2e-3 * (1 + abs(expected)))
        chosen = np.arange(len(side.particles)) % 3
        for row, power in list(enumerate(side.power(chosen)))[:12]:
            i, j = side.particles[row], chosen[row]
            of_empty = (0 * coefs.packed[i], x[j], seen.transfer[seen.group[i]], seen.noise_power, OFFSETS, turn)
            assert power == pytest.approx(-2 * log_likelihood(*of_empty), rel=1e-3)


def test_a_particle_has_no_part_in_the_templates_it_is_held_against(
    graph: FrequencyGraph, observed: tuple[SteerableCoefficients, Observation]
) -> None:
    coefs, seen = observed
    i = int(np.flatnonzero(PART == 1)[0])
    other = coefs.packed.copy()
    other[i] += 5
    changed = SteerableCoefficients(other, OFFSETS)
    first, second = (template_features(c, seen, solver(graph), graph.degrees, PART, k_max=2) for c in (coefs, changed))

    def up_to_scale(x: np.ndarray) -> np.ndarray:  # which both sides share
        return np.asarray(x / np.linalg.norm(x, axis=0))

    for part in range(PARTS):
        a, b = (up_to_scale(side[part].templates.packed) for side in (first, second))
        if part == 1:
            np.testing.assert_allclose(a, b, atol=1e-6)
        else:
            assert a.shape != b.shape or not np.allclose(a, b, atol=1e-4)


def test_templates_by_frequency_are_those_of_rows(
    graph: FrequencyGraph, observed: tuple[SteerableCoefficients, Observation]
) -> None:
    coefs, seen = observed
    templates = fit_templates(coefs, seen, solver(graph), graph.degrees, PART, k_max=2)
    assert templates.k_max == 2
    expected = np.stack([templates.without(part) for part in range(PARTS)])[PART, np.arange(N)]
    found = np.concatenate([templates.frequency(k) for k in range(3)], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    some = np.array([7, 0, 7, N - 1])
    np.testing.assert_array_equal(templates.coefficients(some), found[some])


def test_who_is_not_trusted_has_no_part_in_templates(
    graph: FrequencyGraph, observed: tuple[SteerableCoefficients, Observation]
) -> None:
    coefs, seen = observed
    trust = np.where(np.arange(N) == 3, 0.0, 1.0)
    wild = coefs.packed.copy()
    wild[3] += 50
    first, second = (
        fit_templates(y, Observation(seen.transfer, seen.group, seen.noise_power, trust), solver(graph), graph.degrees,
                      PART, k_max=2)
        for y in (coefs, SteerableCoefficients(wild, OFFSETS))
    )  # fmt: skip
    for k in range(3):
        np.testing.assert_allclose(first.frequency(k), second.frequency(k), atol=1e-4)


def test_frequencies_that_tell_nothing_are_the_last(
    graph: FrequencyGraph, observed: tuple[SteerableCoefficients, Observation]
) -> None:
    coefs, seen = observed
    packed = coefs.packed.copy()
    packed[:, coefs.offsets[1] : coefs.offsets[2]] *= 1e-3  # k = 1 carries nothing
    quiet = SteerableCoefficients(packed, coefs.offsets)
    asked: dict[int, list[int]] = {}
    for number, one in enumerate((coefs, quiet)):

        def bases(k: int, most: int | None, number: int = number) -> object:
            asked.setdefault(number, []).append(k)
            return solver(graph)(k)

        fit_templates(one, seen, bases, graph.degrees, PART, k_max=2)
    assert asked == {0: [0, 1, 2], 1: [0, 1]}


def test_fewer_frequencies_give_fewer_features(
    graph: FrequencyGraph, observed: tuple[SteerableCoefficients, Observation]
) -> None:
    coefs, seen = observed
    asked: list[int] = []

    def bases(k: int, most: int | None) -> object:
        asked.append(k)
        return solver(graph)(k)

    side = template_features(coefs, seen, bases, graph.degrees, PART, k_max=1)[0]  # type: ignore[arg-type]
    assert asked == [0, 1]
    assert side.observed.k_max == 1


def test_features_do_not_depend_on_threads(
    graph: FrequencyGraph, observed: tuple[SteerableCoefficients, Observation]
) -> None:
    coefs, seen = observed
    one, two = (template_features(coefs, seen, solver(graph), graph.degrees, PART, k_max=2, threads=t) for t in (1, 2))
    for a, b in zip(one, two, strict=True):
        assert np.array_equal(a.observed.packed, b.observed.packed)
        assert np.array_equal(a.templates.packed, b.templates.packed)


PARITY = np.arange(N) % 2
BAD_PARTS = [np.zeros(N, int), np.ones(N, int), PARITY - 1, np.zeros(3, int), np.arange(N) % 2.0, 2 * PARITY]


@pytest.mark.parametrize("part", BAD_PARTS, ids=["one", "no 0", "below 0", "shape", "float", "empty"])
def test_parts_must_be_parts(
    graph: FrequencyGraph, observed: tuple[SteerableCoefficients, Observation], part: np.ndarray
) -> None:
    coefs, seen = observed
    with pytest.raises(ParameterError, match="part must number the parts of 200 particles from 0, two or more"):
        template_features(coefs, seen, solver(graph), graph.degrees, part, k_max=1)


def test_parts_are_random_and_repeatable() -> None:
    assert np.bincount(PART).tolist() == [N // PARTS] * PARTS
    assert np.bincount(split_in_parts(3)).tolist() == [1, 1, 1]
    assert np.array_equal(PART, split_in_parts(N, seed=4))
    assert not np.array_equal(PART, split_in_parts(N, seed=5))


def test_without_eigenvectors_there_is_nothing_to_match_with(
    graph: FrequencyGraph, observed: tuple[SteerableCoefficients, Observation]
) -> None:
    coefs, seen = observed

    def some(least: int) -> graph_map.SolveBasis:
        empty = {"values": np.zeros(0), "vectors": np.zeros((N, 0), np.complex64), "residuals": np.zeros(0)}
        return lambda k, most: solver(graph)(k) if k >= least else replace(solver(graph)(k), **empty)

    assert template_features(coefs, seen, some(9), graph.degrees, PART, k_max=2) == []
    side = template_features(coefs, seen, some(1), graph.degrees, PART, k_max=2)[0]
    assert np.diff(side.templates.offsets)[1:].all()
