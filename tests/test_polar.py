"""Polar resampling against direct sums and against finufft."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import finufft
import numpy as np
import pytest

from mfvdm_fast.kernels.polar import PolarPlan, gather_rings, real_circles

from .reference import polar as reference


def radii_to(limit: float, count: int) -> np.ndarray:
    return limit * (np.polynomial.legendre.leggauss(count)[0] + 1) / 2


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize(("box_size", "limit"), [(5, 0.5), (16, 0.5), (17, 0.3), (33, 0.5), (48, 0.21)])
def test_direct_sums(rng: np.random.Generator, box_size: int, limit: float) -> None:
    images = rng.standard_normal((11, box_size, box_size)).astype(np.float32)
    radii = np.append(radii_to(limit, 7), [0.0, limit])
    found = PolarPlan(box_size, radii, 18).transform(images)
    expected = reference.transform(images, radii, 18)
    assert found.dtype == np.complex64
    assert relative(found, expected) < 5e-5
    assert np.abs(found - expected).max() < 3e-4 * np.sqrt(np.mean(np.abs(expected) ** 2))


def test_finufft_agrees(rng: np.random.Generator) -> None:
    images = rng.standard_normal((3, 65, 65)).astype(np.float32)
    radii, n_theta = radii_to(0.5, 64), 256
    xi, eta = reference.polar_points(radii, n_theta)
    plan = finufft.Plan(2, (65, 65), n_trans=3, eps=1e-9, isign=-1, dtype="complex128", nthreads=1)
    plan.setpts(2 * np.pi * eta.ravel(), 2 * np.pi * xi.ravel())
    expected = plan.execute(images.astype(np.complex128)).reshape(3, 64, 128)
    assert relative(PolarPlan(65, radii, n_theta).transform(images), expected) < 5e-5


def test_a_shifted_delta_is_a_plane_wave() -> None:
    image = np.zeros((1, 12, 12), np.float32)
    image[0, 6 + 2, 6 - 3] = 1  # y = 2, x = -3 from the centre pixel 6
    radii = np.array([0.1, 0.37])
    xi, eta = reference.polar_points(radii, 10)
    found = PolarPlan(12, radii, 10).transform(image)[0]
    np.testing.assert_allclose(found, np.exp(-2j * np.pi * (2 * eta - 3 * xi)), atol=1e-4)


def test_window_multiplies_the_images(rng: np.random.Generator) -> None:
    images = rng.standard_normal((2, 15, 15)).astype(np.float32)
    window = rng.uniform(0, 2, (15, 15)).astype(np.float32)
    radii = radii_to(0.4, 5)
    found = PolarPlan(15, radii, 12, window).transform(images)
    assert relative(found, reference.transform(images * window, radii, 12)) < 5e-5
    assert relative(found, PolarPlan(15, radii, 12).transform(images)) > 0.1


def test_same_bits_for_any_batch_and_input_layout(rng: np.random.Generator) -> None:
    plan = PolarPlan(21, radii_to(0.5, 9), 24)
    images = rng.standard_normal((19, 21, 21)).astype(np.float32)
    images.setflags(write=False)
    whole = plan.transform(images)
    for size in (1, 5, 8):
        parts = [plan.transform(images[i : i + size]) for i in range(0, 19, size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(plan.transform(images.astype(np.float64)), whole)
    np.testing.assert_array_equal(plan.transform(np.asfortranarray(images)), whole)
    assert plan.transform(images[:0]).shape == (0, 9, 12)


@pytest.mark.parametrize("n", [0, 1, 32, 33, 70])
def test_threads_change_no_bit(rng: np.random.Generator, n: int) -> None:
    plan = PolarPlan(17, radii_to(0.5, 7), 16)
    images = rng.standard_normal((n, 17, 17)).astype(np.float32)
    expected = plan.transform(images)
    for threads in (2, 3):
        np.testing.assert_array_equal(plan.transform(images, threads), expected)


@pytest.mark.parametrize("threads", [0, -1, 1.5, True])
def test_numbers_of_threads_that_cannot_be(threads: object) -> None:
    with pytest.raises(
        ValueError, match=f"threads must be a whole number of at least 1, got {threads!r}; leave it out"
    ):
        PolarPlan(9, np.array([0.1]), 8).transform(np.ones((1, 9, 9), np.float32), threads)  # type: ignore[arg-type]


def test_one_plan_in_two_threads(rng: np.random.Generator) -> None:
    plan = PolarPlan(33, radii_to(0.5, 16), 64)
    stacks = [rng.standard_normal((24, 33, 33)).astype(np.float32) for _ in range(4)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(plan.transform, stacks))
    for stack, samples in zip(stacks, found, strict=True):
        np.testing.assert_array_equal(samples, plan.transform(stack))


def test_real_circles_hold_both_parities(rng: np.random.Generator) -> None:
    half = rng.standard_normal((2, 6, 8)) + 1j * rng.standard_normal((2, 6, 8))
    circles = np.empty((2, 12, 8), np.float32)
    real_circles(half.reshape(12, 8).astype(np.complex64), circles)
    expected = np.fft.fft(np.concatenate([half, half.conj()], axis=1), axis=1)[:, :7]
    found = np.fft.rfft(circles, axis=1)
    np.testing.assert_allclose(found[:, ::2], expected[:, ::2], atol=1e-5)
    np.testing.assert_allclose(1j * found[:, 1::2], expected[:, 1::2], atol=1e-5)


def test_gather_rings(rng: np.random.Generator) -> None:
    spectrum = (rng.standard_normal((3, 5, 8)) + 1j * rng.standard_normal((3, 5, 8))).astype(np.complex64)
    weights = np.array([1, 2, 3], np.float32)
    rings = np.zeros((4, 3, 16), np.complex64)
    gather_rings(spectrum, weights, 8, rings)
    np.testing.assert_array_equal(rings[:, :, 8:], (spectrum * weights[:, None, None])[:, :4].transpose(1, 0, 2))
    assert not rings[:, :, :8].any()


@pytest.mark.parametrize("n_theta", [0, 7])
def test_odd_number_of_angles_is_refused(n_theta: int) -> None:
    with pytest.raises(ValueError, match=f"n_theta must be even and at least 2, got {n_theta}; only half a circle"):
        PolarPlan(9, np.array([0.1]), n_theta)


@pytest.mark.parametrize("radii", [[0.1, 0.51], [-0.1], []])
def test_radii_beyond_nyquist_are_refused(radii: list[float]) -> None:
    with pytest.raises(ValueError, match=r"radii must lie in \[0, 0.5\] cycles/px, got .*; multiply 1/Å by the pixel"):
        PolarPlan(9, np.array(radii), 8)


@pytest.mark.parametrize("shape", [(9, 9), (2, 9, 8), (2, 8, 8)])
def test_images_that_do_not_fit_the_plan(shape: tuple[int, ...]) -> None:
    plan = PolarPlan(9, np.array([0.1]), 8)
    with pytest.raises(ValueError, match=r"images must have shape \(b, 9, 9\), got \("):
        plan.transform(np.ones(shape, np.float32))
