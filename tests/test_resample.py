"""Fourier cropping and padding against the definition, and the pipeline on a box large enough to be cropped."""

from __future__ import annotations

import numpy as np
import pytest

from mfvdm_fast.errors import ParameterError
from mfvdm_fast.imaging.resample import resample_images, working_box
from mfvdm_fast.metrics import evaluate_images
from mfvdm_fast.params import DenoiseParams
from mfvdm_fast.pipeline import denoise
from mfvdm_fast.simulate import SimulationSettings, simulate_stack
from mfvdm_fast.synthetic import synthetic_particle


def wave(box_size: int, periods: tuple[int, int], phase: float) -> np.ndarray:
    """A plane wave, phase given at the centre pixel L // 2."""
    line = (np.arange(box_size) - box_size // 2) / box_size
    return np.cos(2 * np.pi * (periods[0] * line[None, :] + periods[1] * line[:, None]) + phase)


@pytest.mark.parametrize("before", [16, 17])
@pytest.mark.parametrize("after", [9, 10, 16, 17, 24, 25])
@pytest.mark.parametrize("periods", [(0, 0), (3, 0), (0, -2), (2, 3), (1, -3)])
def test_a_wave_stays_the_same_wave_about_the_centre(before: int, after: int, periods: tuple[int, int]) -> None:
    image = wave(before, periods, 0.7).astype(np.float32)
    found = resample_images(image[None], after)[0]
    np.testing.assert_allclose(found, wave(after, periods, 0.7), atol=2e-6)


def test_frequencies_beyond_the_coarse_grid_are_dropped() -> None:
    images = np.stack([wave(32, (12, 0), 0.3), wave(32, (0, 8), 0.1)]).astype(np.float32)
    np.testing.assert_allclose(resample_images(images, 16), 0, atol=1e-6)


def test_noise_variance_scales_with_the_area() -> None:
    noise = np.random.default_rng(0).standard_normal((400, 32, 32)).astype(np.float32)
    assert resample_images(noise, 20).var() == pytest.approx((20 / 32) ** 2, rel=0.15)
    assert resample_images(noise, 32) is noise


def test_threads_do_not_change_the_bits() -> None:
    noise = np.random.default_rng(0).standard_normal((20, 31, 31)).astype(np.float32)
    np.testing.assert_array_equal(resample_images(noise, 20, threads=1), resample_images(noise, 20, threads=2))


def test_a_box_size_must_be_whole() -> None:
    with pytest.raises(ParameterError, match="box_size must be a whole number of at least 2, got 1"):
        resample_images(np.zeros((1, 4, 4), np.float32), 1)


def test_only_large_boxes_are_cropped() -> None:
    assert working_box(144, 0.1) == 144
    assert working_box(145, 0.1) == 37
    assert working_box(300, 0.35) == 300
    assert working_box(300, 0.2) == 150


def test_a_large_box_is_denoised_on_a_coarse_grid() -> None:
    n, box = 300, 150
    stack = simulate_stack(synthetic_particle(box), 2.0, n, SimulationSettings(snr=0.05), seed=3)
    params = DenoiseParams(n_neighbors=15, n_eigenvectors=30, n_frequencies=4, bandlimit=0.13)
    result = denoise(stack, params)
    assert result.basis.box_size == working_box(box, 0.13) < box
    images, clean = result.images(), stack.read_clean(np.arange(n))
    assert images.shape == clean.shape
    scores = evaluate_images([clean], [images], float(np.ptp(clean)))
    # Centre and grey scale are right: a shift by a pixel or a wrong factor costs far more than the noise left.
    assert scores.relative_mse < 0.35
    fit = np.vdot(images, clean) / np.vdot(images, images)
    assert fit == pytest.approx(1, abs=0.15)
