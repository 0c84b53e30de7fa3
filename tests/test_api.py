"""What the Python interface says to arguments of the wrong kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mfvdm_fast import DenoiseParams, DenoiseResult, ParticleStack, denoise, preset
from mfvdm_fast.errors import InputError, ParameterError
from mfvdm_fast.pipeline import estimate_budget
from mfvdm_fast.simulate import SimulationSettings, simulate_stack
from mfvdm_fast.synthetic import synthetic_particle

N = 60


@pytest.fixture(scope="module")
def stack() -> ParticleStack:
    simulated = simulate_stack(synthetic_particle(24), 5.0, N, SimulationSettings(snr=1.0), threads=1)
    return ParticleStack.from_array(simulated.read(np.arange(N)), 5.0, simulated.ctf)


@pytest.fixture(scope="module")
def result(stack: ParticleStack) -> DenoiseResult:
    return denoise(stack, DenoiseParams(method="cwf"), threads=1)


@pytest.mark.parametrize(
    ("wrong", "kind"), [(np.zeros((30, 16, 16)), "ndarray"), ("x.star", "str"), (None, "NoneType")]
)
def test_a_stack_is_a_stack(wrong: Any, kind: str) -> None:
    for call in (denoise, estimate_budget):
        with pytest.raises(
            InputError, match=rf"stack must be a particle stack, got {kind}: make one with open_stack\("
        ):
            call(wrong)


def test_parameters_are_parameters(stack: ParticleStack) -> None:
    wrong: Any = {"n_neighbors": 10}
    for call in (denoise, estimate_budget):
        with pytest.raises(
            ParameterError, match="params must be DenoiseParams, got dict: make them with preset, as in"
        ):
            call(stack, wrong)


@pytest.mark.parametrize("wrong", ["2G", 0, -1, True, float("nan")])
def test_memory_is_a_number(stack: ParticleStack, wrong: Any) -> None:
    with pytest.raises(ParameterError, match=f"max_memory_bytes must be a finite number above 0, got {wrong!r}"):
        denoise(stack, preset(method="cwf"), max_memory_bytes=wrong)


@pytest.mark.parametrize("wrong", [3, [0.5], [N], [-1], [[0, 1]], "a", [True] * N])
def test_rows_are_whole_numbers_in_range(result: DenoiseResult, wrong: Any) -> None:
    with pytest.raises(
        ParameterError, match=r"rows must be a slice, or whole numbers from 0 to 59 in one dimension, s"
    ):
        result.images(wrong)


def test_rows_that_are_right(result: DenoiseResult) -> None:
    everything = result.images()
    assert everything.shape == (N, 24, 24)
    for rows in (slice(3, 7), np.array([5, 2]), [0, 59], np.array([1], np.uint8), []):
        chosen: Any = rows
        np.testing.assert_allclose(
            result.images(chosen), everything[np.asarray(rows, int) if not isinstance(rows, slice) else rows], atol=1e-5
        )
