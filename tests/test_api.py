"""What the Python interface says to arguments of the wrong kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mfvdm_fast import DenoiseParams, DenoiseResult, ParticleStack, denoise, open_stack, preset
from mfvdm_fast.errors import InputError, ParameterError
from mfvdm_fast.pipeline import estimate_budget, find_unevenness
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
    for call in (denoise, estimate_budget, find_unevenness):
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


@pytest.mark.parametrize(("wrong", "kind"), [(3, "int"), (None, "NoneType"), ("bar", "str")])
def test_progress_is_a_function(stack: ParticleStack, wrong: Any, kind: str) -> None:
    with pytest.raises(
        ParameterError, match=rf"progress must be a function, .*\(stage, done, total\), got {kind}: give"
    ):
        denoise(stack, preset(method="cwf"), progress=wrong)


@pytest.mark.parametrize(("wrong", "kind"), [(None, "NoneType"), (3, "int"), (np.zeros((2, 4, 4)), "ndarray")])
def test_a_path_is_a_path(wrong: Any, kind: str) -> None:
    with pytest.raises(ParameterError, match=f"path must be a str or a Path, got {kind}; give the name of a file; of"):
        open_stack(wrong)
    if wrong is not None:
        with pytest.raises(ParameterError, match=f"project_dir must be a str or a Path, got {kind}; give the name of"):
            open_stack("a.star", project_dir=wrong)


@pytest.mark.parametrize("name", ["invert", "ctf", "phase_flipped"])
@pytest.mark.parametrize("wrong", ["no", 0, None])
def test_switches_of_a_stack_are_bools(stack: ParticleStack, name: str, wrong: Any) -> None:
    text = rf"{name} must be True or False, got {wrong!r}; give a Python bool, without quotes"
    with pytest.raises(ParameterError, match=text):
        open_stack("a.star", **{name: wrong})
    if name == "phase_flipped":
        with pytest.raises(ParameterError, match=text):
            ParticleStack.from_array(stack.read(np.arange(N)), 5.0, stack.ctf, phase_flipped=wrong)


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
