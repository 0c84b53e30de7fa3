"""Gradients of images, and small moves of particles beside the templates that they match."""

from __future__ import annotations

import numpy as np
import pytest

from mfvdm_fast.basis.disk_harmonics import DiskHarmonics
from mfvdm_fast.basis.gradient import gradient
from mfvdm_fast.errors import InputError
from mfvdm_fast.imaging.fourier_shift import shift_images
from mfvdm_fast.records import Coefficients, Images, NeighborTable, SteerableCoefficients
from mfvdm_fast.restore.places import mean_places
from mfvdm_fast.restore.shifted_references import turns
from mfvdm_fast.restore.wiener import describe_observation

from .reference.places import Term, mean_place
from .reference.shifts import reference_shift


def blobs(rng: np.random.Generator, n: int, box_size: int) -> Images:
    y, x = np.mgrid[:box_size, :box_size] - box_size // 2
    centres, heights = rng.normal(0, box_size / 16, (n, 6, 2)), rng.uniform(0.5, 1.5, (n, 6))
    near = [np.exp(-((x - a) ** 2 + (y - b) ** 2) / (box_size / 3)) for a, b in centres.reshape(-1, 2)]
    return np.einsum("nc,ncyx->nyx", heights, np.reshape(near, (n, 6, box_size, box_size))).astype(np.float32)


@pytest.mark.parametrize("box_size", [32, 33])
def test_gradient_is_what_small_moves_add(rng: np.random.Generator, box_size: int) -> None:
    basis = DiskHarmonics(box_size, 15.0, 0.3)
    images = blobs(rng, 4, box_size)
    found = gradient(basis.expand(images), basis)
    step = 0.05
    for axis, slope in enumerate(found):
        move = step * np.eye(2)[axis]
        apart = [np.stack([reference_shift(image, *(sign * move)) for image in images]) for sign in (1, -1)]
        expected = basis.expand(((apart[0] - apart[1]) / (2 * step)).astype(np.float32))
        assert slope.dtype == np.complex64
        np.testing.assert_allclose(slope, expected, atol=0.01 * np.abs(expected).max())


def test_gradient_turns_with_the_image(rng: np.random.Generator) -> None:
    basis = DiskHarmonics(33, 15.0, 0.25)
    packed = basis.expand(blobs(rng, 3, 33))
    k = np.repeat(np.arange(basis.k_max + 1), basis.n_radial)
    turned = packed * np.exp(-1j * k * 0.7).astype(np.complex64)
    plain, after = gradient(packed, basis), gradient(turned, basis)
    along_x = (np.cos(0.7) * plain[0] - np.sin(0.7) * plain[1]) * np.exp(-1j * k * 0.7)
    np.testing.assert_allclose(after[0], along_x, atol=1e-4 * np.abs(along_x).max())


Case = tuple[SteerableCoefficients, tuple[Coefficients, Coefficients], NeighborTable, np.ndarray, np.ndarray]


def case(rng: np.random.Generator) -> Case:
    """Three particles of two classes, four templates' gradients, a table of two matches each."""
    offsets = np.array([0, 2, 4, 5])

    def draw(n: int) -> Coefficients:
        parts = rng.standard_normal((2, n, 5))
        return (parts[0] + 1j * parts[1] * (np.arange(5) > 1)).astype(np.complex64)

    table = NeighborTable(
        np.array([[0, 3], [1, 2], [3, 1]]),
        np.array([[False, True], [True, False], [False, False]]),
        rng.uniform(-3, 3, (3, 2)),
        rng.normal(0, 0.5, (3, 2)),
    )
    return SteerableCoefficients(draw(3), offsets), (draw(4), draw(4)), table, rng.uniform(-1, 1, (2, 5)), draw(1)


def test_mean_places_match_the_twin(rng: np.random.Generator) -> None:
    coefs, slopes, table, transfer, _ = case(rng)
    group, power, std = np.array([0, 1, 1]), rng.uniform(0.5, 2, 5), 0.6
    seen = describe_observation(coefs, power, transfer, group)
    found = mean_places(coefs, seen, slopes, table, std)
    k = np.array([0, 0, 1, 1, 2])
    for i in range(3):
        matched = coefs.packed[i] * transfer[group[i]] / power
        terms: list[Term] = []
        for j, mirrored, angle in zip(table.indices[i], table.mirrored[i], table.angles[i], strict=True):
            back = matched * np.exp(1j * k * angle)
            own = tuple(part[j] for part in slopes)
            terms.append((back.conj() if mirrored else back, own, transfer[group[i]] ** 2 / power))
        matrices = turns(table.mirrored[i], table.angles[i])
        expected = mean_place(table.scores[i], terms, k, matrices, std)
        np.testing.assert_allclose(found[i], expected, atol=2e-3)


def test_moved_turned_and_mirrored_particles_are_placed(rng: np.random.Generator) -> None:
    """Through the definition of the table, with images: i is j, mirrored, turned, then moved."""
    box_size = 33
    basis = DiskHarmonics(box_size, 15.0, 0.25)
    template = basis.expand(blobs(rng, 1, box_size))
    truth = rng.uniform(-0.5, 0.5, (8, 2))
    mirrored, angles = np.arange(8) % 2 == 1, rng.uniform(-3, 3, 8)
    k = np.repeat(np.arange(basis.k_max + 1), basis.n_radial)
    packed = np.where(mirrored[:, None], template.conj(), template) * np.exp(-1j * np.multiply.outer(angles, k))
    images = shift_images(basis.evaluate(packed.astype(np.complex64)), -truth)
    coefs = SteerableCoefficients(basis.expand(images), basis.offsets)
    zero = np.zeros((8, 1), np.int64)
    table = NeighborTable(zero, mirrored[:, None], angles[:, None], zero.astype(float))
    slopes = gradient(template, basis)
    # The Taylor expansion of log L takes the template at 0 off: what is left of y without it is the move.
    still = SteerableCoefficients(coefs.packed - packed.astype(np.complex64), basis.offsets)
    found = mean_places(still, describe_observation(coefs, 1e-4), slopes, table, 1.0)
    np.testing.assert_allclose(found, truth, atol=0.06)


def test_bits_do_not_depend_on_threads(rng: np.random.Generator) -> None:
    coefs, slopes, table, transfer, _ = case(rng)
    seen = describe_observation(coefs, 1.0, transfer, np.array([0, 1, 1]))
    one, two = (mean_places(coefs, seen, slopes, table, 1.0, threads=threads) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_gradients_of_another_basis_are_refused(rng: np.random.Generator) -> None:
    coefs, slopes, table, _, _ = case(rng)
    short = slopes[0][:, :4], slopes[1][:, :4]
    with pytest.raises(InputError, match=r"shape \(n, 5\), got \(4, 4\) and \(4, 4\); take them in the basis"):
        mean_places(coefs, describe_observation(coefs, 1.0), short, table, 1.0)
