"""Noise variance, spectrum and whitening, against direct sums and against noise of known colour."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from mfvdm_fast.errors import InputError, ParameterError
from mfvdm_fast.imaging import blocks, noise
from mfvdm_fast.imaging.noise import (
    FLOOR,
    estimate_noise,
    estimate_noise_power,
    is_white,
    like_the_others,
    radii_px,
    refuse_wild_pixels,
    relative_power,
)
from mfvdm_fast.records import NoiseModel
from mfvdm_fast.simulate import SimulationSettings, simulate_stack
from mfvdm_fast.synthetic import synthetic_particle

from .reference import noise as twin


def coloured(f: np.ndarray) -> np.ndarray:
    """Falls by a factor of 9 from low to high frequencies, as ice and detector make it."""
    return np.asarray(1 / (1 + (f / 0.1) ** 2) + 0.08)


def white_images(n: int, box_size: int, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0.7, 1.5, (n, box_size, box_size)).astype(np.float32)


def test_mean_and_variance_are_those_of_the_pixels_outside(rng: np.random.Generator) -> None:
    images = white_images(30, 21, rng)
    outside = images[:, radii_px(21) > 10].astype(np.float64)
    inside_changed = images + 100 * (radii_px(21) <= 10).astype(np.float32)
    for given in (images, inside_changed):
        found = estimate_noise(given)
        assert found.mean == pytest.approx(outside.mean(), rel=1e-12)
        assert found.variance == pytest.approx(outside.var(), rel=1e-12)
        assert found.relative_power is None
    smaller = estimate_noise(inside_changed, radius_px=5)
    assert smaller.mean > 10  # the particle was counted as background


def test_radii_have_their_centre_at_half_the_box() -> None:
    for box_size in (4, 5):
        assert radii_px(box_size)[2, 2] == 0
        assert radii_px(box_size)[0, 2] == 2


@pytest.mark.parametrize("value", [0.0, 0.1, 3.3])  # 0.1 has no exact mean in floating point
def test_masked_images_are_refused(value: float, rng: np.random.Generator) -> None:
    images = white_images(20, 32, rng)
    images[:, radii_px(32) > 14] = value
    with pytest.raises(InputError, match=r"outside the particle circle are all equal: .* as extracted, without a mask"):
        estimate_noise(images)


def test_a_circle_without_background_is_refused(rng: np.random.Generator) -> None:
    images = white_images(5, 16, rng)
    with pytest.raises(ParameterError, match="a circle of 12 px leaves no background in a box of 16 px: give a"):
        estimate_noise(images, radius_px=12)
    with pytest.raises(ParameterError, match="leaves no background in a box of 2 px"):
        estimate_noise(images[:, :2, :2])


@pytest.mark.parametrize("box_size", [10, 11])
def test_power_equals_direct_sums(box_size: int, rng: np.random.Generator) -> None:
    images = twin.coloured_images(7, box_size, coloured, rng) + np.float32(0.3)
    model = estimate_noise(images, 3)
    found = estimate_noise_power(images, model, radius_px=3)
    mask = radii_px(box_size) > 3
    correlation = twin.autocorrelation((images - np.float32(model.mean)) * mask, mask)
    reach = max(4.0, box_size / 4)
    expected = twin.ring_power(correlation, reach, {10: 20, 11: 24}[box_size], box_size) / model.variance
    np.testing.assert_allclose(found.relative_power, np.maximum(expected, FLOOR), rtol=1e-4)
    np.testing.assert_allclose(found.frequencies, np.arange(box_size + 1) / (2 * box_size))
    assert (found.variance, found.mean) == (model.variance, model.mean)


def test_white_noise_is_called_white(rng: np.random.Generator) -> None:
    images = white_images(400, 48, rng)
    found = estimate_noise_power(images, estimate_noise(images), radius_px=20)
    assert found.relative_power is not None
    np.testing.assert_allclose(found.relative_power, 1, atol=0.1)
    assert is_white(found)
    assert not is_white(found, tolerance=1e-6)


def test_coloured_noise_is_recovered_and_can_be_whitened(rng: np.random.Generator) -> None:
    images = twin.coloured_images(500, 64, coloured, rng)
    images += 5 * (radii_px(64) < 22).astype(np.float32)  # a particle must not matter
    found = estimate_noise_power(images, estimate_noise(images), radius_px=28)
    assert found.frequencies is not None
    assert found.relative_power is not None
    true = coloured(found.frequencies)
    relative = found.relative_power * found.variance / true
    assert np.abs(relative[2:] - 1).max() < 0.1  # below 1 cycle a box, the taper blurs
    assert np.median(np.abs(relative - 1)) < 0.05
    assert not is_white(found)
    assert is_white(found, bandlimit=0.02)  # flat up to there
    whitened = twin.whiten(images, found.frequencies, found.relative_power).astype(np.float32)
    after = estimate_noise_power(whitened, estimate_noise(whitened), radius_px=28)
    assert is_white(after)
    assert after.variance == pytest.approx(found.variance, rel=0.1)


def test_a_particle_and_its_ctf_leave_white_noise_white() -> None:
    stack = simulate_stack(synthetic_particle(48), 5.0, 400, SimulationSettings(snr=0.05))
    images = stack.read(np.arange(400))
    found = estimate_noise(images)
    assert found.variance == pytest.approx(stack.noise_variance, rel=0.01)
    assert is_white(estimate_noise_power(images, found, radius_px=20))


def test_blocks_and_threads_do_not_matter(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    images = white_images(130, 16, rng)
    whole = estimate_noise_power(images, estimate_noise(images), 6).relative_power
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 7 * 4 * 16**2)
    models = [estimate_noise(images, threads=threads) for threads in (1, 2)]
    assert models[0] == models[1]
    one, two = (estimate_noise_power(images, models[0], 6, threads=threads).relative_power for threads in (1, 2))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_allclose(one, whole, rtol=1e-6)
    strided = np.repeat(images, 2, axis=0)[::2]
    np.testing.assert_array_equal(estimate_noise_power(strided, models[0], 6).relative_power, one)


@pytest.mark.parametrize("box_size", [32, 45, 54])
def test_padding_to_the_longest_lag_is_enough(box_size: int, rng: np.random.Generator) -> None:
    """Nothing wraps around into the lags that count: more zeros around the images change nothing."""
    images = twin.coloured_images(60, box_size, lambda f: 1 / (0.001 + f**2), rng)
    model = estimate_noise(images)
    found = estimate_noise_power(images, model, radius_px=0.4 * box_size).relative_power
    expected = twin.padded_power(images - model.mean, radii_px(box_size) > 0.4 * box_size) / model.variance
    np.testing.assert_allclose(found, np.maximum(expected, FLOOR), rtol=1e-6)


def test_backgrounds_with_something_in_them_are_told(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 30 * 4 * 33**2)
    images = white_images(400, 33, rng)
    model = estimate_noise(images)
    assert like_the_others(images, model, 12).all()
    rows = np.hypot(*(np.indices((33, 33)) - np.array([4, 27])[:, None, None]))
    images[:40] += 9 * np.exp(-0.5 * (rows / 2) ** 2).astype(np.float32)  # a blob in a corner
    images[40:60, 12:20, 12:20] += 9  # a bright particle is no background
    found = like_the_others(images, estimate_noise(images), 12)
    assert not found[:40].any()
    assert found[40:].all()
    np.testing.assert_array_equal(like_the_others(images, estimate_noise(images), 12, threads=2), found)
    assert estimate_noise(images[found]).variance < estimate_noise(images).variance


def test_relative_power_between_and_beyond_its_frequencies() -> None:
    model = NoiseModel(2.0, 0.0, np.array([0.0, 0.25, 0.5]), np.array([4.0, 2.0, 1.0]))
    np.testing.assert_allclose(relative_power(model, [[0.125, 0.5], [0.6, 0.0]]), [[3, 1], [1, 4]])


def test_no_frequency_is_blown_up(rng: np.random.Generator) -> None:
    images = twin.coloured_images(100, 32, lambda f: (f < 0.2).astype(float), rng)
    found = estimate_noise_power(images, estimate_noise(images), radius_px=12)
    assert found.relative_power is not None
    assert found.relative_power.min() == FLOOR


def test_docstring_examples() -> None:
    result = doctest.testmod(noise)
    assert result.attempted > 8
    assert result.failed == 0


@pytest.mark.parametrize("value", [3e20, -3e20, 550])
@pytest.mark.parametrize("threads", [1, 2])
def test_wild_pixels_are_refused(value: float, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 2 * 4 * 16**2)
    images = np.random.default_rng(0).normal(size=(5, 16, 16)).astype(np.float32)
    rows = np.arange(10, 15)
    refuse_wild_pixels(images, rows, 1.0)
    images[3, 2, 2] = 450  # a hot pixel
    refuse_wild_pixels(images + np.float32(1e6), rows, 1.0)  # an offset of all is none
    refuse_wild_pixels(images, rows, 1.0)
    images[3, 2, 2] = value
    text = r"^particle 14 has a pixel 3e\+20 off its mean, more than 500 times the standard dev.*: leave that"
    with pytest.raises(InputError, match=text if abs(value) > 1e6 else r"a pixel 5.5e\+02 off its mean"):
        refuse_wild_pixels(images, rows, 1.0, threads)
