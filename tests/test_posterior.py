"""The mean over what a particle may be: equal to its twin, it turns with the particle and lowers the error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mfvdm_fast import denoise, preset, run
from mfvdm_fast.errors import InputError
from mfvdm_fast.records import NeighborTable, SteerableCoefficients
from mfvdm_fast.restore.posterior import OWN, average_matches, posterior_weights
from mfvdm_fast.simulate import SimulationSettings, simulate_stack
from mfvdm_fast.synthetic import synthetic_particle

from .reference.posterior import posterior_mean

N, OFFSETS = 9, np.array([0, 2, 5, 6])
K = np.array([0, 0, 1, 1, 1, 2])


def case(rng: np.random.Generator) -> tuple[SteerableCoefficients, NeighborTable]:
    packed = rng.standard_normal((2, N, 6))
    indices = np.stack([rng.permutation(np.delete(np.arange(N), i))[:4] for i in range(N)])
    table = NeighborTable(
        indices, rng.random((N, 4)) < 0.5, rng.uniform(-3, 3, (N, 4)), -np.sort(rng.uniform(90, 99, (N, 4)), axis=1)
    )
    return SteerableCoefficients((packed[0] + 1j * packed[1] * (K > 0)).astype(np.complex64), OFFSETS), table


def test_means_match_the_twin(rng: np.random.Generator) -> None:
    coefs, table = case(rng)
    images = {"lead": rng.uniform(2, 14, N), "contrast": rng.uniform(0.5, 2, N)}
    for own, known in ((OWN, {}), (np.linspace(0, 9, N), images)):
        found = average_matches(coefs, table, own, **known, threads=2)
        lead, contrast = (known.get(name, np.full(N, value)) for name, value in (("lead", -np.inf), ("contrast", 1)))
        for i in range(N):
            row = table.indices[i], table.mirrored[i], table.angles[i], table.scores[i]
            expected = posterior_mean(coefs.packed, K, row, i, np.broadcast_to(own, N)[i], lead[i], contrast[i])
            np.testing.assert_allclose(found[i], expected, atol=0.02)  # matches of little weight are left out
        np.testing.assert_array_equal(average_matches(coefs, table, own, **known, threads=1), found)
    again = SteerableCoefficients(coefs.packed.copy(), OFFSETS)
    coefs.packed.setflags(write=False)
    expected = average_matches(coefs, table)
    assert average_matches(again, table, out=again.packed) is again.packed
    np.testing.assert_array_equal(again.packed, expected)


def test_means_turn_with_the_particles(rng: np.random.Generator) -> None:
    """Every particle turned by an angle of its own, and the table with them."""
    coefs, table = case(rng)
    angle = rng.uniform(-3, 3, N)
    phase = np.exp(-1j * K * angle[:, None]).astype(np.complex64)
    other = np.where(table.mirrored, -1, 1) * angle[table.indices]
    turned = average_matches(
        SteerableCoefficients(coefs.packed * phase, OFFSETS),
        replace(table, angles=table.angles + angle[:, None] - other),
    )
    np.testing.assert_allclose(turned, average_matches(coefs, table) * phase, atol=1e-5)


def test_a_template_much_likelier_than_all_others_is_left_alone(rng: np.random.Generator) -> None:
    coefs, table = case(rng)
    np.testing.assert_allclose(average_matches(coefs, table, lead=1000.0), coefs.packed, atol=1e-6)
    np.testing.assert_array_equal(average_matches(coefs, table, lead=-1000.0), average_matches(coefs, table))


def test_weights_fall_with_half_the_log_likelihood() -> None:
    weights = posterior_weights(np.array([[-3.0, -5.0, -np.inf], [7.0, 7.0, -90.0]]))
    np.testing.assert_allclose(weights[0], np.array([1, np.exp(-1), 0]) / (1 + np.exp(-1)))
    np.testing.assert_allclose(weights[1], [0.5, 0.5, 0])


def test_tables_of_other_particles_are_refused(rng: np.random.Generator) -> None:
    coefs, table = case(rng)
    with pytest.raises(InputError, match="9 particles got matches of 4: match these particles"):
        average_matches(coefs, table.take(np.arange(4)))


@pytest.mark.parametrize(("snr", "part"), [(0.05, 0.94), (0.5, 0.98)])
def test_means_lower_the_error(snr: float, part: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where views are in doubt, and where they are not."""
    stack = simulate_stack(synthetic_particle(33), 5.0, 700, SimulationSettings(snr=snr), seed=3)
    clean = stack.read_clean(np.arange(700))
    error = [np.square(denoise(stack, preset(centre=False), threads=2).images() - clean).mean()]
    monkeypatch.setattr(run, "average_matches", lambda *given, **known: None)
    error.append(np.square(denoise(stack, preset(centre=False), threads=2).images() - clean).mean())
    assert error[0] < part * error[1]


def test_contrasts_are_not_levelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matches are of any contrast: their mean takes that of the image."""
    stack = simulate_stack(synthetic_particle(33), 5.0, 700, SimulationSettings(snr=0.2, contrast_std=0.3), seed=3)
    clean = stack.read_clean(np.arange(700))

    def error() -> float:
        return float(np.square(denoise(stack, preset(centre=False), threads=2).images() - clean).mean())

    found = error()
    with monkeypatch.context() as levelled:
        levelled.setattr(run, "relative_contrast", lambda energies: np.ones(len(energies)))
        assert found < 0.9 * error()
    monkeypatch.setattr(run, "average_matches", lambda *given, **known: None)
    assert found < 0.9 * error()
