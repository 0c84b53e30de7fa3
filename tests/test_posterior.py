"""The mean over what a particle may be: equal to its twin, it turns with the particle and lowers the error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mfvdm_fast import denoise, preset, run
from mfvdm_fast.errors import InputError
from mfvdm_fast.records import Coefficients, FloatArray, NeighborTable, SteerableCoefficients
from mfvdm_fast.restore import posterior
from mfvdm_fast.restore.posterior import (
    Matches,
    average_matches,
    compare_with_mean,
    posterior_weights,
    settle_shares,
    weigh_matches,
)
from mfvdm_fast.restore.wiener import Observation
from mfvdm_fast.simulate import SimulationSettings, simulate_stack
from mfvdm_fast.synthetic import synthetic_particle

from .reference.posterior import mean_of_matches, posterior_means

N, OFFSETS = 9, np.array([0, 2, 5, 6])
K = np.array([0, 0, 1, 1, 1, 2])
ONES = np.ones(N)


def case(rng: np.random.Generator) -> tuple[SteerableCoefficients, NeighborTable]:
    """Posteriors as narrow as two matches, and as wide as the list."""
    indices = np.stack([rng.permutation(np.delete(np.arange(N), i))[:4] for i in range(N)])
    scores = -np.sort(rng.uniform(0, 1, (N, 4)) * np.linspace(0.5, 9, N)[:, None], axis=1) + 99
    table = NeighborTable(indices, rng.random((N, 4)) < 0.5, rng.uniform(-3, 3, (N, 4)), scores)
    return SteerableCoefficients(draw(rng), OFFSETS), table


def draw(rng: np.random.Generator) -> Coefficients:
    return np.asarray((rng.standard_normal((N, 6)) + 1j * rng.standard_normal((N, 6)) * (K > 0)).astype(np.complex64))


def energies_of(y: Coefficients, coefs: SteerableCoefficients, matches: Matches, seen: Observation) -> FloatArray:
    total = np.zeros((N, 4))
    for k in range(3):
        part, here = seen.columns(OFFSETS[k], OFFSETS[k + 1]), slice(OFFSETS[k], OFFSETS[k + 1])
        total += compare_with_mean(y[:, here], coefs[k], matches.mean(coefs[k], k), part, k)
    return total


@pytest.mark.parametrize("size", [0.5, 20.0])  # of the noise: distances from the mean mean something, or nothing
def test_means_match_the_twin(rng: np.random.Generator, size: float, monkeypatch: pytest.MonkeyPatch) -> None:
    coefs, table = case(rng)
    seen = Observation(rng.uniform(-1, 1, (2, 6)), rng.integers(0, 2, N), size**2 * rng.uniform(0.5, 1, 6) / 50)
    h, matches = seen.transfer[seen.group], weigh_matches(table)
    y = (rng.uniform(0.2, 2, (N, 1)) * h * mean_of_matches(coefs.packed, K, table) + size / 9 * draw(rng)).astype("c8")
    energies, here = energies_of(y, coefs, matches, seen), rng.uniform(0, 1, N)
    for given, places in ((None, ONES), (energies, ONES), (energies, here)):
        found = average_matches(coefs, matches, given, here=places, threads=2)
        observed = None if given is None else y
        expected = posterior_means(coefs.packed, observed, h, seen.noise_power, K, table, places)
        np.testing.assert_allclose(found, expected, atol=0.02)  # matches of little weight are left out
        monkeypatch.setattr(posterior, "BLOCK", 4)
        np.testing.assert_array_equal(average_matches(coefs, matches, given, here=places, threads=1), found)
        np.testing.assert_allclose(energies_of(y, coefs, matches, seen), energies, rtol=1e-9, atol=1e-9)
    again = SteerableCoefficients(coefs.packed.copy(), OFFSETS)
    coefs.packed.setflags(write=False)
    expected = average_matches(coefs, matches, energies)
    assert average_matches(again, matches, energies, out=again.packed) is again.packed
    np.testing.assert_array_equal(again.packed, expected)


def test_means_of_some_particles(rng: np.random.Generator) -> None:
    coefs, table = case(rng)
    matches, rows = weigh_matches(table), np.array([7, 2, 3])
    for k in range(3):
        found = matches.mean(coefs[k], k, threads=2)
        np.testing.assert_allclose(found, mean_of_matches(coefs[k], np.array(k), table), atol=0.02)
        np.testing.assert_array_equal(matches.mean(coefs[k], k, rows), found[rows])


def test_means_turn_with_the_particles(rng: np.random.Generator) -> None:
    """Every particle turned by an angle of its own, and the table with them."""
    coefs, table = case(rng)
    angle = rng.uniform(-3, 3, N)
    phase = np.exp(-1j * K * angle[:, None]).astype(np.complex64)
    other = np.where(table.mirrored, -1, 1) * angle[table.indices]
    turned = average_matches(
        SteerableCoefficients(coefs.packed * phase, OFFSETS),
        weigh_matches(replace(table, angles=table.angles + angle[:, None] - other)),
    )
    np.testing.assert_allclose(turned, average_matches(coefs, weigh_matches(table)) * phase, atol=1e-5)


def alike(count: int, width: int) -> Matches:
    """N particles, of whose matches ``count`` are as likely as one another."""
    scores = np.where(np.arange(width) < count, 0.0, -99.0) + np.zeros((N, 1))
    zero = np.zeros((N, width))
    return weigh_matches(NeighborTable(zero.astype(np.int64), zero > 0, zero, scores))


def test_restorations_far_from_the_mean_are_left_alone() -> None:
    """Farther than noise takes them: what counts is the distance, and whether the particle stands here."""
    distance = np.linspace(0, 6400, N)
    energies = np.stack([1e4 * ONES, 1e4 * ONES, 1e4 * ONES, 1e4 + distance], axis=1)
    own, first, _ = settle_shares(alike(2, 8), energies)
    expected = np.maximum(0.6, 1 - 40 / np.maximum(distance, 1))
    np.testing.assert_allclose(own, expected)
    np.testing.assert_allclose(first, 1 - expected)
    np.testing.assert_allclose(settle_shares(alike(2, 8), energies, 0 * ONES)[0], 0)


def test_wide_posteriors_reach_the_matches_of_matches() -> None:
    reached = [settle_shares(alike(count, 8))[2][0] * (3 + count) / count for count in (4, 5, 6, 8)]
    np.testing.assert_allclose(reached, [0, 0.5, 1, 1])


def test_contrasts_are_those_that_the_noise_leaves(rng: np.random.Generator) -> None:
    """Of a thousand images: even contrasts stay even, uneven ones are found, also where restorations have half."""
    n, noise = 1000, 0.06
    matches = weigh_matches(NeighborTable(np.zeros((n, 8), int), np.zeros((n, 8)) > 1, *np.zeros((2, n, 8))))
    matches = replace(matches, count=np.full(n, 2.0))  # an own share of 3 / 5
    power, deviation = 1 / noise**2, 0.3 * rng.standard_normal(n)

    def found(true: FloatArray, in_own: FloatArray) -> tuple[FloatArray, FloatArray]:
        fitted = true + noise * rng.standard_normal(n)
        of_restored = in_own**2 + 1e-4
        return settle_shares(matches, power * np.stack([fitted, np.ones(n), in_own, of_restored], axis=1))[:2]

    own, first = found(np.ones(n), np.ones(n))
    np.testing.assert_allclose(own, 0.6)
    np.testing.assert_allclose(first, 0.4, atol=0.02)
    own, first = found(1 + deviation, 1 + deviation / 2)
    restored = own * (1 + deviation / 2) + first
    assert np.std(restored - 1 - deviation) < 1.2 * noise


def test_weights_fall_with_half_the_log_likelihood() -> None:
    weights = posterior_weights(np.array([[-3.0, -5.0, -np.inf], [7.0, 7.0, -90.0]]))
    np.testing.assert_allclose(weights[0], np.array([1, np.exp(-1), 0]) / (1 + np.exp(-1)))
    np.testing.assert_allclose(weights[1], [0.5, 0.5, 0])


def test_matches_of_other_particles_are_refused(rng: np.random.Generator) -> None:
    coefs, table = case(rng)
    with pytest.raises(InputError, match="9 particles got matches of 4: match these particles"):
        average_matches(coefs, weigh_matches(table.take(np.arange(4))))


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        (SimulationSettings(snr=0.05), 0.93),  # views are in doubt
        (SimulationSettings(snr=0.5), 0.975),  # they are not
        (SimulationSettings(snr=0.2, contrast_std=0.3), 0.75),  # matches are of any contrast
    ],
)
def test_means_lower_the_error(settings: SimulationSettings, part: float, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = simulate_stack(synthetic_particle(33), 5.0, 700, settings, seed=3)
    clean = stack.read_clean(np.arange(700))
    error = [np.square(denoise(stack, preset(centre=False), threads=2).images() - clean).mean()]
    monkeypatch.setattr(run, "average_matches", lambda *given, **known: None)
    error.append(np.square(denoise(stack, preset(centre=False), threads=2).images() - clean).mean())
    assert error[0] < part * error[1]


def test_few_particles_of_little_noise_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their matches are of other views."""
    stack = simulate_stack(synthetic_particle(33), 5.0, 150, SimulationSettings(snr=5), seed=3)
    clean = stack.read_clean(np.arange(150))

    def error() -> float:
        return float(np.square(denoise(stack, preset(centre=False), threads=2).images() - clean).mean())

    found = error()
    with monkeypatch.context() as without:
        without.setattr(posterior, "NOISE", 1e30)
        averaged = error()
    monkeypatch.setattr(run, "average_matches", lambda *given, **known: None)
    alone = error()
    assert found < 0.985 * alone
    assert averaged > 1.05 * alone
