"""Stacks in any units: the result is the same, in the units of the input."""

from __future__ import annotations

import numpy as np
import pytest

from mfvdm_fast import ParticleStack, denoise, preset, simulate_stack, synthetic_particle
from mfvdm_fast.errors import InputError
from mfvdm_fast.pipeline import estimate_budget
from mfvdm_fast.result import DenoiseResult
from mfvdm_fast.simulate import SimulatedStack, SimulationSettings
from mfvdm_fast.units import AT_EASE, ScaledStack, exponent_of_unit

N, BOX = 150, 32
PARAMS = preset("default", n_matchings=1)


@pytest.fixture(scope="module")
def simulated() -> SimulatedStack:
    return simulate_stack(synthetic_particle(BOX), 6.0, N, SimulationSettings(snr=0.3), seed=1)


@pytest.fixture(scope="module")
def plain(simulated: SimulatedStack) -> DenoiseResult:
    return denoise(simulated, PARAMS, threads=1)


def _scaled(simulated: SimulatedStack, exponent: int) -> ParticleStack:
    return ParticleStack.from_array(np.ldexp(simulated.read(np.arange(N)), exponent), 6.0, simulated.ctf)


@pytest.mark.parametrize("exponent", [66, -66])  # 1e20 and 1e-20, whose squares single precision does not hold
def test_the_result_is_in_the_units_of_the_input(
    simulated: SimulatedStack, plain: DenoiseResult, exponent: int
) -> None:
    stack = _scaled(simulated, exponent)
    found = denoise(stack, PARAMS, threads=1)  # warnings are errors
    assert found.neighbors is not None
    assert plain.neighbors is not None
    assert np.mean(found.neighbors.indices == plain.neighbors.indices) > 0.9
    images, expected = np.ldexp(found.images(), -exponent), plain.images()
    assert np.linalg.norm(images - expected) < 0.05 * np.linalg.norm(expected)
    unit = 2.0**exponent
    assert found.noise.variance == pytest.approx(plain.noise.variance * unit**2, rel=1e-3)
    assert found.noise.mean == pytest.approx(plain.noise.mean * unit, rel=1e-3)
    np.testing.assert_allclose(found.pca.mean, plain.pca.mean * unit, rtol=1e-3, atol=1e-3 * unit)
    np.testing.assert_allclose(found.pca.eigenvalues[0], plain.pca.eigenvalues[0] * unit**2, rtol=1e-2)
    assert estimate_budget(stack, PARAMS).memory_bytes == estimate_budget(simulated, PARAMS).memory_bytes


def test_stacks_in_usual_units_are_left_alone(simulated: SimulatedStack) -> None:
    deviation = float(np.median(simulated.read(np.arange(64)).std(axis=(1, 2))))
    assert 1 / AT_EASE < deviation < AT_EASE
    assert exponent_of_unit(simulated) == 0
    assert exponent_of_unit(_scaled(simulated, 66)) == round(np.log2(deviation)) + 66


def test_a_scaled_stack_is_its_stack_but_for_the_images(simulated: SimulatedStack) -> None:
    stack = ScaledStack(simulated, 3)
    assert (stack.n_particles, stack.box_size, stack.ctf) == (N, BOX, simulated.ctf)
    for rows, images in stack.chunks(70):
        np.testing.assert_array_equal(8 * images, simulated.read(rows))
        np.testing.assert_array_equal(stack.read(rows), images)


def test_one_wild_pixel_is_named(simulated: SimulatedStack) -> None:
    images = simulated.read(np.arange(N))
    images[37, 3, 4] = 1e20
    with pytest.raises(InputError, match=r"particle 38 has a pixel 1e\+20 off its mean, more than 500 times"):
        denoise(ParticleStack.from_array(images, 6.0, simulated.ctf), PARAMS, threads=1)
