"""What is particular to disk harmonics, and to the folded products under both bases."""

from __future__ import annotations

import numpy as np
import pytest

from mfvdm_fast.basis import DiskHarmonics
from mfvdm_fast.basis.folded import FoldedBasis, OctantGrid
from mfvdm_fast.errors import ParameterError
from mfvdm_fast.kernels.fold import fold_images, unfold_images

from .reference import basis as reference


@pytest.mark.parametrize(("box_size", "radius"), [(9, 4.0), (10, 4.9), (9, 2.5), (3, 1.0)])
def test_octant_points_stand_for_every_pixel_once(box_size: int, radius: float) -> None:
    grid = OctantGrid.build(box_size, radius)
    weight = np.zeros(box_size * box_size)
    np.add.at(weight, grid.pixels, np.broadcast_to(grid.weights, grid.pixels.shape))
    r = reference.polar_pixels(box_size)[0]
    np.testing.assert_allclose(weight.reshape(r.shape), r <= radius)
    np.testing.assert_allclose(grid.radii[grid.ring], r.ravel()[grid.pixels[0]])


def test_folding_and_unfolding(rng: np.random.Generator) -> None:
    grid = OctantGrid.build(11, 5.0)
    images = rng.standard_normal((2, 121)).astype(np.float32)
    folded = np.empty((2, 8, len(grid.weights)), np.float32)
    fold_images(images, grid.pixels, folded)
    # Every part sums eight (0-3) or four (4-7) pixels, so that unfolding the mean gives the image back.
    folded[:, :4] /= 8
    folded[:, 4:] /= 4
    again = np.zeros_like(images)
    unfold_images(folded, grid.pixels, again)
    inside = reference.polar_pixels(11)[0].ravel() <= 5
    np.testing.assert_allclose(again[:, inside], images[:, inside], atol=1e-6)
    assert not again[:, ~inside].any()


def test_nodes_are_the_frequencies_of_the_functions() -> None:
    basis = DiskHarmonics(33, 15.0, 0.3)
    functions = reference.disk_harmonics(33, 15.0, 0.3)
    np.testing.assert_allclose(basis.radial_nodes, functions.roots / (2 * np.pi * 15.0), rtol=1e-13)


def test_nyquist_is_still_well_posed(rng: np.random.Generator) -> None:
    basis = DiskHarmonics(33, 16.0, 0.5)
    functions = reference.disk_harmonics(33, 16.0, 0.5)
    images = rng.standard_normal((3, 33, 33)).astype(np.float32)
    found, expected = basis.expand(images), reference.least_squares(images, functions)
    assert np.abs(found - expected).max() < 2e-5


def test_residual_is_orthogonal_to_the_span(rng: np.random.Generator) -> None:
    basis = DiskHarmonics(25, 12.0, 0.4)
    images = rng.standard_normal((4, 25, 25)).astype(np.float32)
    residual = images - basis.evaluate(basis.expand(images))
    left = reference.inner_products(residual, reference.disk_harmonics(25, 12.0, 0.4))
    assert np.abs(left).max() < 1e-5
    assert np.abs(residual[:, 12, 12]).max() > 0.01


def test_dependent_functions_are_refused() -> None:
    grid = OctantGrid.build(9, 4.0)
    radial = np.tile(np.cos(grid.radii), (2, 1))
    with pytest.raises(
        ParameterError, match="not independent on the pixel grid: the Gram matrix of 2 functions is sing"
    ):
        FoldedBasis(9, grid, np.array([0, 0]), radial, with_projection=True)
