"""Moving images by fractions of a pixel."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage

from mfvdm_fast.errors import ParameterError
from mfvdm_fast.imaging.ctf import make_ctf, phase_flip_images
from mfvdm_fast.imaging.fourier_shift import shift_copies, shift_images
from mfvdm_fast.records import CtfParameters, Images
from mfvdm_fast.simulate import SimulationSettings, simulate_stack
from mfvdm_fast.synthetic import synthetic_particle

from .reference.ctf import reference_phase_flip
from .reference.shifts import reference_shift


def particles(rng: np.random.Generator, n: int, box_size: int) -> Images:
    """Blobs off the middle: smooth, all different, zero at the edge."""
    line = np.arange(box_size) - box_size // 2
    x, y = line[None, None, None, :], line[None, None, :, None]
    at = rng.uniform(-0.15, 0.15, (2, n, 5, 1, 1)) * box_size
    height = rng.uniform(0.5, 1.5, (n, 5, 1, 1))
    return (height * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * 1.5**2))).sum(axis=1).astype(np.float32)


def astigmatic(rng: np.random.Generator, n: int) -> CtfParameters:
    u = rng.uniform(1e4, 3e4, n)
    return make_ctf(u, defocus_v_angstrom=u - 4e3, defocus_angle=rng.uniform(0, np.pi, n))


@pytest.mark.parametrize("box_size", [16, 17])
def test_shifting_matches_the_twin(rng: np.random.Generator, box_size: int) -> None:
    images = rng.standard_normal((6, box_size, box_size)).astype(np.float32)
    shifts = rng.uniform(-3, 3, (6, 2))
    expected = [reference_shift(image, *shift) for image, shift in zip(images, shifts, strict=True)]
    np.testing.assert_allclose(shift_images(images, shifts), expected, atol=2e-6)


@pytest.mark.parametrize("box_size", [32, 33])
def test_shifting_agrees_with_scipy_in_sign_and_axis(rng: np.random.Generator, box_size: int) -> None:
    image = particles(rng, 1, box_size)
    moved = shift_images(image, [[2.3, -1.6]])[0]
    np.testing.assert_allclose(moved, scipy.ndimage.shift(image[0], (1.6, -2.3), order=5), atol=2e-3)
    np.testing.assert_allclose(shift_images(image, [[3, -2]])[0], np.roll(image[0], (2, -3), axis=(0, 1)), atol=1e-6)


@pytest.mark.parametrize("box_size", [32, 33])
def test_a_simulated_shift_is_taken_back(box_size: int) -> None:
    volume = synthetic_particle(box_size)
    moved, centred = (
        simulate_stack(volume, 4.0, 5, SimulationSettings(shift_std_px=std), seed=3) for std in (2.0, 0.0)
    )
    rows = np.arange(5)
    back = shift_images(moved.read_clean(rows), moved.shifts_px)
    assert np.abs(moved.shifts_px).max() > 2
    np.testing.assert_allclose(back, centred.read_clean(rows), atol=1e-4 * np.abs(back).max())


def test_shifting_back_and_forth_and_in_blocks(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    images = rng.standard_normal((7, 16, 16)).astype(np.float32)
    images.setflags(write=False)
    shifts = rng.uniform(-4, 4, (7, 2))
    once = shift_images(images, shifts, threads=1)
    np.testing.assert_allclose(shift_images(once, -shifts), images, atol=3e-6)
    monkeypatch.setattr("mfvdm_fast.imaging.fourier_shift._PIECE", 3)
    np.testing.assert_array_equal(shift_images(images, shifts, threads=2), once)


def test_copies_are_moved_as_single_images(rng: np.random.Generator) -> None:
    images, shifts = rng.standard_normal((3, 17, 17)).astype(np.float32), rng.uniform(-4, 4, (5, 2))
    copies = shift_copies(images, shifts, threads=2)
    for copy, shift in zip(copies, shifts, strict=True):
        np.testing.assert_allclose(copy, shift_images(images, np.tile(shift, (3, 1))), atol=1e-6)
    with pytest.raises(ParameterError, match=r"shifts_px must have shape \(3, 2\)"):
        shift_copies(images, [1.0, 2.0, 3.0])


@pytest.mark.parametrize("box_size", [16, 17])
def test_phase_flipping_shifts_in_the_same_pass(rng: np.random.Generator, box_size: int) -> None:
    images, ctf = rng.standard_normal((5, box_size, box_size)).astype(np.float32), astigmatic(rng, 5)
    shifts = rng.uniform(-3, 3, (5, 2))
    both = phase_flip_images(images, ctf, 4.0, shifts_px=shifts)
    flipped = reference_phase_flip(images, ctf, 4.0)
    expected = [reference_shift(image, *shift) for image, shift in zip(flipped, shifts, strict=True)]
    np.testing.assert_allclose(both, expected, atol=5e-6)
    assert np.abs(both - phase_flip_images(images, ctf, 4.0)).max() > 0.1


def test_shifts_that_fit_no_images(rng: np.random.Generator) -> None:
    images = rng.standard_normal((3, 8, 8)).astype(np.float32)
    with pytest.raises(ParameterError, match=r"shifts_px must have shape \(3, 2\), x and y of .* centre, got \(3,\)"):
        shift_images(images, [1.0, 2.0, 3.0])
    with pytest.raises(ParameterError, match=r"shifts_px\[1\] is \[nan, 0\.0\]; give finite numbers of pixels"):
        phase_flip_images(images, make_ctf([1e4] * 3), 4.0, shifts_px=[[0, 0], [np.nan, 0], [0, 0]])
