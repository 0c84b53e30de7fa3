"""Finding where particles stand from their images and restorations."""

from __future__ import annotations

import numpy as np
import pytest

from mfvdm_fast.errors import InputError, ParameterError
from mfvdm_fast.imaging.ctf import evaluate_ctf_2d, make_ctf
from mfvdm_fast.imaging.fourier_shift import shift_images
from mfvdm_fast.imaging.shifts import compare_shifts, estimate_shifts
from mfvdm_fast.records import CtfParameters, Images, NoiseModel

from .reference.shifts import reference_log_likelihood
from .test_fourier_shift import astigmatic, particles

WHITE = NoiseModel(1.0, 0.0)


def observe(images: Images, ctf: CtfParameters | None, shifts: np.ndarray) -> Images:
    """What a microscope sees of particles that stand at ``shifts``."""
    if ctf is not None:
        transfer = evaluate_ctf_2d(ctf, images.shape[-1], 4.0)
        images = np.fft.irfft2(np.fft.rfft2(images) * transfer, s=images.shape[1:]).astype(np.float32)
    return shift_images(images, -shifts)


@pytest.mark.parametrize(("box_size", "bandlimit"), [(16, 0.5), (17, 0.5), (16, 0.3), (17, 0.2)])
def test_likelihood_matches_the_twin(rng: np.random.Generator, box_size: int, bandlimit: float) -> None:
    images, restored = rng.standard_normal((2, 3, box_size, box_size)).astype(np.float32)
    ctf = astigmatic(rng, 3)
    f = np.linspace(0, 0.5, 11)
    noise = NoiseModel(2.5, 0.3, f, 0.5 + 4 * f)
    radius = np.hypot(np.fft.fftfreq(box_size)[None, :], np.fft.fftfreq(box_size)[:, None])
    power = 2.5 * np.interp(radius, f, 0.5 + 4 * f)
    likelihood = compare_shifts(images, restored, noise, ctf, 4.0, bandlimit)
    places = np.array([-2.0, 0.0, 0.7])
    values = likelihood.on_grid(places)
    for i in range(3):
        for b, y in enumerate(places):
            for a, x in enumerate(places):
                expected = reference_log_likelihood(
                    images[i], restored[i], (x, y), power, ctf[np.array([i])], 4.0, bandlimit
                )
                assert values[i, b, a] == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("box_size", [32, 33])
@pytest.mark.parametrize("with_ctf", [True, False])
def test_shifts_are_found_below_a_pixel(rng: np.random.Generator, box_size: int, with_ctf: bool) -> None:
    clean = particles(rng, 40, box_size)
    ctf = astigmatic(rng, 40) if with_ctf else None
    truth = rng.uniform(-3, 3, (40, 2))
    noise = NoiseModel(1e-6, 0.0)
    likelihood = compare_shifts(observe(clean, ctf, truth), clean, noise, ctf, 4.0)
    found = estimate_shifts(likelihood, 3.0)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, truth, atol=0.01)


def test_estimate_is_the_maximum_of_the_posterior(rng: np.random.Generator) -> None:
    clean = particles(rng, 5, 17)
    images = observe(clean, None, rng.normal(0, 1, (5, 2))) + rng.standard_normal((5, 17, 17)).astype(np.float32)
    likelihood = compare_shifts(images, clean, WHITE)
    found = estimate_shifts(likelihood, 1.2)
    fine = np.arange(-4, 4.001, 0.02)
    posterior = likelihood.on_grid(fine) - (fine[:, None] ** 2 + fine**2) / (2 * 1.2**2)
    best = posterior.reshape(5, -1).argmax(axis=1)
    np.testing.assert_allclose(found, np.stack([fine[best % len(fine)], fine[best // len(fine)]], axis=1), atol=0.015)


def noisy_set(rng: np.random.Generator, std: float, sigma: float, n: int = 600) -> tuple[Images, Images, np.ndarray]:
    clean = particles(rng, n, 24)
    truth = std * rng.standard_normal((n, 2))
    images = observe(clean, None, truth) + sigma * rng.standard_normal(clean.shape).astype(np.float32)
    return images.astype(np.float32), clean, truth


def test_the_prior_pays(rng: np.random.Generator) -> None:
    images, clean, truth = noisy_set(rng, 0.6, 1.5)
    likelihood = compare_shifts(images, clean, NoiseModel(2.25, 0.0))
    with_prior, without = ((estimate_shifts(likelihood, std) - truth).std() for std in (0.6, 100.0))
    assert with_prior < 0.9 * without


def test_own_noise_in_the_restoration_only_holds_back(rng: np.random.Generator) -> None:
    images, clean, truth = noisy_set(rng, 1.5, 1.5)
    noise = NoiseModel(2.25, 0.0)
    slopes = []
    for own in (0.0, 0.003, 0.01):
        found = estimate_shifts(compare_shifts(images, clean + own * (images - clean), noise), 1.5)
        slopes.append((found * truth).sum() / (truth**2).sum())
    assert 0.95 > slopes[0] > slopes[1] > slopes[2] + 0.02


def test_blocks_threads_and_views_do_not_matter(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    images, clean, _ = noisy_set(rng, 1.0, 1.0, n=20)
    ctf = astigmatic(rng, 20)
    whole = compare_shifts(images, clean, WHITE, ctf, 4.0, threads=1)
    images.setflags(write=False)
    monkeypatch.setattr("mfvdm_fast.imaging.shifts._BLOCK_BYTES", 3 * 4 * 24 * 24)
    again = compare_shifts(np.asfortranarray(images), clean, WHITE, ctf, 4.0, threads=2)
    np.testing.assert_array_equal(again.terms, whole.terms)
    monkeypatch.setattr("mfvdm_fast.imaging.shifts._BLOCK", 7)
    np.testing.assert_allclose(estimate_shifts(again, 1.0), estimate_shifts(whole, 1.0), atol=1e-5)


def test_arguments_that_do_not_fit(rng: np.random.Generator) -> None:
    images = rng.standard_normal((3, 8, 8)).astype(np.float32)
    with pytest.raises(
        ParameterError, match=r"one shape, got \(3, 8, 8\) and \(2, 8, 8\); give the restoration of each"
    ):
        compare_shifts(images, images[:2], WHITE)
    with pytest.raises(ParameterError, match=r"ctf has 2 rows for 3 images; give one row per image"):
        compare_shifts(images, images, WHITE, make_ctf([1e4, 1e4]), 4.0)
    with pytest.raises(ParameterError, match="pixel_size is missing"):
        compare_shifts(images, images, WHITE, make_ctf([1e4] * 3))
    with pytest.raises(InputError, match=r"restored must have shape \(n, L, L\), got \(8, 8\)"):
        compare_shifts(images, images[0], WHITE)
    likelihood = compare_shifts(images, images, WHITE)
    with pytest.raises(ParameterError, match="std_px must be a finite number above 0, got 0"):
        estimate_shifts(likelihood, 0.0)
