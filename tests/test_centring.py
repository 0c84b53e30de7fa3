"""Particles off the centre are found and brought there; centred ones are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from mfvdm_fast import ParticleStack, denoise, preset
from mfvdm_fast.doubts import warn_about_faint, warn_about_reach
from mfvdm_fast.errors import MfvdmWarning
from mfvdm_fast.imaging.fourier_shift import shift_images
from mfvdm_fast.records import FloatArray
from mfvdm_fast.result import FAINT, DenoiseResult
from mfvdm_fast.simulate import SimulatedStack, SimulationSettings, simulate_stack
from mfvdm_fast.synthetic import synthetic_particle

N, BOX, STD = 900, 33, 1.2
# In so small a box shifts of this size reach as far as is searched, which is warned about.
pytestmark = pytest.mark.filterwarnings("ignore:.*of the particles were found more than:mfvdm_fast.errors.MfvdmWarning")


@pytest.fixture(scope="module")
def moved() -> SimulatedStack:
    settings = SimulationSettings(snr=0.2, shift_std_px=STD)
    return simulate_stack(synthetic_particle(BOX), 5.0, N, settings, seed=4)


@pytest.fixture(scope="module")
def still() -> SimulatedStack:
    return simulate_stack(synthetic_particle(BOX), 5.0, N, SimulationSettings(snr=0.2), seed=4)


@pytest.fixture(scope="module")
def found(moved: SimulatedStack) -> DenoiseResult:
    return denoise(moved, preset(n_neighbors=20), threads=2)


def shifts_of(result: DenoiseResult) -> FloatArray:
    assert result.shifts_px is not None
    return result.shifts_px


def loss(result: DenoiseResult, moved: SimulatedStack, still: SimulatedStack) -> float:
    """Mean square error of images, each compared where the result says that the particle stood."""
    rows = np.arange(N)
    clean = still.read_clean(rows)
    at = moved.shifts_px - (0 if result.shifts_px is None else result.shifts_px)
    return float(np.square(shift_images(result.images(rows), at) - clean).mean() / clean.var())


def test_particles_off_the_centre_are_found(found: DenoiseResult, moved: SimulatedStack, still: SimulatedStack) -> None:
    assert found.params.centre is True
    error = shifts_of(found) - moved.shifts_px
    assert error.std() < 0.4 * STD
    left = denoise(moved, preset(n_neighbors=20, centre=False), threads=2)
    assert left.shifts_px is None
    assert loss(found, moved, still) < 0.8 * loss(left, moved, still)


def test_centred_particles_are_left_alone_unless_asked(still: SimulatedStack) -> None:
    first, second = (denoise(still, preset(n_neighbors=20, centre=centre), threads=2) for centre in (None, False))
    assert first.params.centre is False
    assert first.shifts_px is None
    np.testing.assert_array_equal(first.coefs.packed, second.coefs.packed)
    forced = denoise(still, preset(n_neighbors=20, centre=True), threads=2)
    assert forced.params.centre is True
    assert 0 < shifts_of(forced).std() < 0.5


def test_same_bits_for_any_number_of_threads(found: DenoiseResult, moved: SimulatedStack) -> None:
    again = denoise(moved, preset(n_neighbors=20), threads=1)
    np.testing.assert_array_equal(shifts_of(again), shifts_of(found))
    np.testing.assert_array_equal(again.coefs.packed, found.coefs.packed)


def test_what_the_input_knows_is_kept_and_the_rest_found(found: DenoiseResult, moved: SimulatedStack) -> None:
    """Origins with an error of their own, as of an earlier classification, point where the particles are."""
    rows = np.arange(N)
    stack = ParticleStack.from_array(moved.read(rows), moved.pixel_size, moved.ctf)
    rng = np.random.default_rng(0)
    stack.known_shifts_px = moved.shifts_px + rng.normal(0, 1.0, (N, 2))
    result = denoise(stack, preset(n_neighbors=20), threads=2)
    error = shifts_of(result) - moved.shifts_px
    assert error.std() < 0.4 * STD


def test_shifts_that_reach_as_far_as_is_searched_are_warned_about() -> None:
    rng = np.random.default_rng(0)
    shifts = rng.normal(0, 1.7, (1000, 2))
    assert not warn_about_reach(shifts, 4.4)
    shifts[:300] = 5.0, -12.0
    assert not warn_about_reach(shifts, 4.4, np.arange(1000) < 300)  # junk may stand anywhere
    text = r"^a\.star: 3\d% of the particles were found more than 4\.4 px off the centre, the farthest 13\.0 px: .*gain"
    with pytest.warns(MfvdmWarning, match=text):
        assert warn_about_reach(shifts, 4.4, None, "a.star: ")
    far = simulate_stack(synthetic_particle(BOX), 5.0, 300, SimulationSettings(snr=0.2, shift_std_px=2.5), seed=4)
    with pytest.warns(MfvdmWarning, match=r"% of the particles were found more than 2\.\d px off the centre, the"):
        denoise(far, threads=1)


def test_centres_found_in_much_noise_are_warned_about(still: SimulatedStack) -> None:
    assert not warn_about_faint(FAINT)
    with pytest.warns(MfvdmWarning, match=r"^a\.star: 46% of the particles hardly stand out from .* \(--no-centre\)$"):
        assert warn_about_faint(0.46, "a.star: ")
    noisy = simulate_stack(synthetic_particle(BOX), 5.0, 300, SimulationSettings(snr=0.04), seed=0)
    with pytest.warns(MfvdmWarning, match=r"^\d\d% of the particles hardly stand out from the noise") as told:
        found = denoise(noisy, preset(centre=True), threads=1)
    assert len(told) == 1
    assert np.abs(shifts_of(found)).max() > 1.0  # of particles that stand in the centre
    assert found.mostly_faint
    assert not denoise(still, preset(n_neighbors=20, centre=False), threads=2).mostly_faint


def test_too_few_particles_are_left_where_they_are() -> None:
    """Of 60 hardly any share a view: what would be found is mostly noise."""
    few = simulate_stack(synthetic_particle(BOX), 5.0, 60, SimulationSettings(snr=0.3, shift_std_px=2.0), seed=0)
    assert denoise(few, threads=1).shifts_px is None
    assert denoise(few, preset(centre=True), threads=1).shifts_px is not None


def test_lost_particles_may_all_be_of_one_half() -> None:
    """Of 21 one at most is looked for again, and nobody of the other half."""
    few = simulate_stack(synthetic_particle(BOX), 5.0, 21, SimulationSettings(snr=0.3, shift_std_px=2.0), seed=0)
    assert denoise(few, preset(centre=True), threads=1).shifts_px is not None
