"""What the Python interface says to arguments of the wrong kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mfvdm_fast import DenoiseParams, DenoiseResult, ParticleStack, denoise, open_stack, preset
from mfvdm_fast.errors import InputError, ParameterError
from mfvdm_fast.imperfections import make_defocus_list
from mfvdm_fast.pipeline import estimate_budget, find_unevenness
from mfvdm_fast.simulate import SimulatedStack, SimulationSettings, simulate_stack
from mfvdm_fast.synthetic import resize_volume, synthetic_particle

N = 60
NO_NUMBERS: list[Any] = ["33", None, float("nan"), [5], np.ones((2, 2)), True, 1j]
NO_WHOLE: list[Any] = [*NO_NUMBERS, -1, 10.5, float("inf")]


@pytest.fixture(scope="module")
def simulated() -> SimulatedStack:
    return simulate_stack(synthetic_particle(24), 5.0, N, SimulationSettings(snr=1.0), threads=1)


@pytest.fixture(scope="module")
def stack(simulated: SimulatedStack) -> ParticleStack:
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


@pytest.mark.parametrize("wrong", NO_WHOLE)
def test_counts_and_sizes_are_whole_numbers(wrong: Any) -> None:
    volume = synthetic_particle(8)
    for call, name in (
        (lambda: synthetic_particle(wrong), "box_size"),
        (lambda: synthetic_particle(8, seed=wrong), "seed"),
        (lambda: resize_volume(volume, 2.0, wrong), "box_size"),
        (lambda: simulate_stack(volume, 5.0, wrong), "n_particles"),
        (lambda: simulate_stack(volume, 5.0, 3, seed=wrong), "seed"),
        (lambda: simulate_stack(volume, 5.0, 3, SimulationSettings(n_defocus_groups=wrong)), "n_defocus_groups"),
    ):
        with pytest.raises(ParameterError, match=f"^{name} must be a whole number of at least [0138], got "):
            call()


@pytest.mark.parametrize("wrong", [*NO_NUMBERS, -1, 0, float("inf")])
def test_pixel_sizes_are_numbers_above_0(wrong: Any) -> None:
    volume = synthetic_particle(8)
    for call in (
        lambda: simulate_stack(volume, wrong, 3, SimulationSettings(ctf=False)),
        lambda: resize_volume(volume, wrong, 8),
    ):
        with pytest.raises(ParameterError, match=r"^pixel_size (must be a finite number above 0, got|is missing)"):
            call()


@pytest.mark.parametrize(
    "name", [name for name in vars(SimulationSettings()) if name not in ("ctf", "n_defocus_groups")]
)
@pytest.mark.parametrize("wrong", NO_NUMBERS)
def test_settings_are_numbers(name: str, wrong: Any) -> None:
    with pytest.raises(ParameterError, match=f"^{name} must be (a finite number|above 0).*, got "):
        simulate_stack(synthetic_particle(8), 5.0, 3, SimulationSettings(**{name: wrong}))


@pytest.mark.parametrize("wrong", ["33", 5, {}, np.ones(3)])
def test_what_is_simulated_is_of_its_kind(wrong: Any) -> None:
    volume = synthetic_particle(8)
    for call, message in (
        (lambda: simulate_stack(volume, 5.0, 3, wrong), r"settings must be SimulationSettings, got .*: as in Simulat"),
        (lambda: simulate_stack(volume, 5.0, 3, SimulationSettings(ctf=wrong)), "ctf must be True or False, got"),
        (lambda: simulate_stack(volume, 5.0, 3, defocus=wrong), r"defocus must be DefocusList, got .*: make it with"),
        (lambda: simulate_stack(wrong, 5.0, 3), "volume must (hold real numbers|be a cube)"),
    ):
        with pytest.raises(ParameterError, match=message):
            call()


@pytest.mark.parametrize("wrong", ["a", [1.0, [2.0]], 1j, {}])
@pytest.mark.parametrize("name", ["defocus_u_angstrom", "defocus_v_angstrom", "defocus_angle", "weight"])
def test_lists_of_defocus_hold_numbers(name: str, wrong: Any) -> None:
    with pytest.raises(ParameterError, match=f"{name} must hold real numbers, got|{name} must hold numbers, got lists"):
        make_defocus_list(**({"defocus_u_angstrom": [1e4, 2e4]} | {name: wrong}))


@pytest.mark.parametrize("wrong", [*NO_WHOLE, 0, "a"])
def test_chunks_are_of_whole_images(stack: ParticleStack, simulated: SimulatedStack, wrong: Any) -> None:
    for chunks in (stack.chunks, simulated.chunks, simulated.clean_chunks):
        with pytest.raises(ParameterError, match="max_images must be a whole number of at least 1, got "):
            chunks(wrong)  # when asked for, not when the first is read


@pytest.mark.parametrize("wrong", [3, [0.5], [N], [-1], [[0, 1]], "a", None, [True] * N, [0, [1]]])
def test_rows_to_read_are_whole_numbers_in_range(stack: ParticleStack, simulated: SimulatedStack, wrong: Any) -> None:
    for read in (stack.read, simulated.read, simulated.read_clean, simulated.read_ctf):
        with pytest.raises(ParameterError, match="rows must be whole numbers from 0 to 59 in one dimension, such as"):
            read(wrong)


def test_switches_may_be_those_of_numpy(stack: ParticleStack) -> None:
    params = DenoiseParams(ctf=np.True_, refine=np.False_, centre=np.False_, whiten=np.True_)  # type: ignore[arg-type]
    assert (params.ctf, params.refine, params.centre, params.whiten) == (True, False, False, True)
    assert all(type(getattr(params, name)) is bool for name in ("ctf", "refine", "centre", "whiten"))
    flipped = ParticleStack.from_array(stack.read(np.arange(N)), 5.0, stack.ctf, phase_flipped=np.True_)  # type: ignore[arg-type]
    assert flipped.phase_flipped is True
    with pytest.raises(InputError, match="a name without any"):  # and not for the switches
        open_stack("a", invert=np.False_, ctf=np.True_, phase_flipped=np.False_)  # type: ignore[arg-type]


def test_arrays_are_of_one_length() -> None:
    with pytest.raises(InputError, match="images must hold numbers, got lists of several lengths: make them of one"):
        ParticleStack.from_array([[[1.0], [2.0, 3.0]]])
