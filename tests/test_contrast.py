"""Stacks of white and of black particles: told where they are mixed, and nowhere else."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from mfvdm_fast import DenoiseParams, ParticleStack, denoise, open_stack, preset, simulate_stack, synthetic_particle
from mfvdm_fast.doubts import warn_about_contrast
from mfvdm_fast.errors import MfvdmWarning
from mfvdm_fast.imaging.noise import radii_px
from mfvdm_fast.imaging.support import CENTRE
from mfvdm_fast.simulate import SimulationSettings

from .conftest import shared_data

N, BOX, PIXEL_SIZE = 300, 33, 6.0
METHODS = [preset(n_matchings=1), preset("paper"), preset(method="cwf")]
TOLD = (
    r"of the particles are darker than their background, such as those of rows \d+, .*multiply the black images by -1"
)


def stack_of(
    share_black: float, settings: SimulationSettings, shape: str = "globular"
) -> tuple[ParticleStack, np.ndarray]:
    """Simulated particles of which a share is inverted, and which these are."""
    simulated = simulate_stack(synthetic_particle(BOX, shape=shape), PIXEL_SIZE, N, settings, seed=2)
    images = simulated.read(np.arange(N))
    black = np.random.default_rng(0).random(N) < share_black
    images[black] *= -1
    return ParticleStack.from_array(images, PIXEL_SIZE, simulated.ctf), black


def contrast_warnings(stack: ParticleStack, params: DenoiseParams) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        denoise(stack, params)
    return [str(warning.message) for warning in caught if "darker than their background" in str(warning.message)]


@pytest.mark.parametrize("params", METHODS, ids=["default", "paper", "cwf"])
@pytest.mark.parametrize("share", [0.2, 0.5])
def test_a_stack_of_both_contrasts_is_told(params: DenoiseParams, share: float) -> None:
    stack, black = stack_of(share, SimulationSettings(snr=0.15))
    with pytest.warns(MfvdmWarning, match=TOLD) as caught:
        denoise(stack, params)
    text = next(str(warning.message) for warning in caught if "such as those of rows" in str(warning.message))
    rows = [int(row) - 1 for row in text.partition("rows ")[2].partition(", and others")[0].split(", ")]
    assert len(rows) == 5
    assert black[rows].all()
    assert abs(float(text.partition("%")[0]) / 100 - black.mean()) < 0.1


@pytest.mark.parametrize("params", METHODS, ids=["default", "paper", "cwf"])
@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        (SimulationSettings(snr=0.05), "globular"),
        (SimulationSettings(snr=0.15, junk_fraction=0.3), "globular"),
        (SimulationSettings(snr=0.15, contrast_std=0.3), "elongated"),
        (SimulationSettings(snr=0.05, ctf=False), "octahedral"),
    ],
)
def test_white_particles_raise_no_doubt(params: DenoiseParams, settings: SimulationSettings, shape: str) -> None:
    assert contrast_warnings(stack_of(0.0, settings, shape)[0], params) == []


def test_real_particles_of_one_contrast_and_of_both() -> None:
    real = open_stack(shared_data("apoferritin", "apoferritin_64_sub1000.star"))
    images = real.read(np.arange(real.n_particles))
    params = preset(method="cwf")
    assert contrast_warnings(real, params) == []
    images[::2] *= -1
    mixed = ParticleStack.from_array(images, real.pixel_size, real.ctf)
    assert len(contrast_warnings(mixed, params)) == 1


def test_who_is_counted() -> None:
    rng = np.random.default_rng(0)
    radial = rng.uniform(1, 2, (40, 1)) @ np.array([[3.0, 1.0, -1.0]]) + 0.1 * rng.normal(size=(40, 3))
    levels = radial[:, 0].copy()
    black = np.arange(40) % 4 == 0
    sign = np.where(black, -1.0, 1.0)
    assert not warn_about_contrast(radial, levels)
    assert not warn_about_contrast(-radial, -levels)  # all black: told by warn_if_inverted
    with pytest.warns(MfvdmWarning, match=r"^a\.star: 25% of the particles .* of rows 1, 5, 9, 13, 17, and"):
        assert warn_about_contrast(sign[:, None] * radial, sign * levels, None, "a.star: ")
    assert not warn_about_contrast(sign[:, None] * radial, sign * levels, black)  # these are junk
    assert not warn_about_contrast(sign[:, None] * radial, levels)  # nothing is dark: the profiles alone differ
    assert not warn_about_contrast(radial, sign * levels)
    assert not warn_about_contrast(radial, levels, np.ones(40, bool))


@pytest.mark.parametrize("box_size", [33, 34])
def test_levels_are_those_of_the_images(box_size: int) -> None:
    simulated = simulate_stack(synthetic_particle(box_size), PIXEL_SIZE, 60, SimulationSettings(snr=1.0))
    result = denoise(simulated, preset(method="cwf"))
    assert result.basis.box_size == box_size
    middle = radii_px(box_size) <= CENTRE * result.basis.radius_px
    means = result.images()[:, middle].mean(axis=1)
    np.testing.assert_allclose(result.levels(), means, atol=0.01 * np.abs(means).max())
