"""Built-in particles of several shapes, and the change of box."""

from __future__ import annotations

import numpy as np
import pytest

from mfvdm_fast.errors import ParameterError
from mfvdm_fast.synthetic import SHAPES, resize_volume, symmetry_rotations, synthetic_particle


def test_synthetic_particle_fits_and_is_centred() -> None:
    for seed in range(5):
        volume = synthetic_particle(48, seed)
        assert volume.dtype == np.float32
        assert volume.max() == 1.0
        grid = np.indices(volume.shape) - 24
        centre = (grid * volume).sum(axis=(1, 2, 3)) / volume.sum()
        assert np.abs(centre).max() < 0.05
        outside = np.sqrt((grid**2).sum(axis=0)) > 0.42 * 48
        assert volume[outside].max() < 0.1
        radius = np.sqrt(((grid**2).sum(axis=0) * volume).sum() / volume.sum())
        assert 0.12 * 48 < radius < 0.4 * 48
    np.testing.assert_array_equal(synthetic_particle(24, 1), synthetic_particle(24, 1))
    assert np.abs(synthetic_particle(24, 1) - synthetic_particle(24, 2)).max() > 0.3


def test_synthetic_particle_has_no_symmetry() -> None:
    volume = synthetic_particle(33)
    axes = [(0, 1), (0, 2), (1, 2)]
    copies = [np.rot90(volume, turns, pair) for pair in axes for turns in (1, 2, 3)]
    copies += [np.flip(volume, axis) for axis in range(3)]
    for copy in copies:
        assert np.corrcoef(volume.ravel(), copy.ravel())[0, 1] < 0.6


def _spread(volume: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre of mass (x, y, z) from the centre voxel, and standard deviations along the principal axes, in boxes."""
    density = volume.astype(np.float64)
    grid = (np.indices(volume.shape) - volume.shape[0] // 2)[::-1] / volume.shape[0]
    centre = (grid * density).sum(axis=(1, 2, 3)) / density.sum()
    moments = np.einsum("azyx,bzyx,zyx->ab", grid, grid, density) / density.sum()
    return centre, np.sqrt(np.linalg.eigvalsh(moments))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_centred_and_fits(shape: str) -> None:
    for seed in range(2):
        volume = synthetic_particle(33, seed, shape)
        assert volume.dtype == np.float32
        assert volume.max() == 1.0
        centre, _ = _spread(volume)
        assert np.abs(centre).max() < 2e-3
        outside = np.sqrt(((np.indices(volume.shape) - 16) ** 2).sum(axis=0)) > 0.42 * 33
        assert volume[outside].max() < 0.1
    others = [synthetic_particle(33, 0, other) for other in SHAPES if other != shape]
    assert all(np.abs(synthetic_particle(33, 0, shape) - other).max() > 0.2 for other in others)


def test_a_rod_is_long_and_a_small_particle_small() -> None:
    for seed in range(3):
        globular, rod, small = (_spread(synthetic_particle(33, seed, s))[1] for s in ("globular", "elongated", "small"))
        assert rod[2] > 2.5 * rod[1]
        assert globular[2] < 2.0 * globular[1]
        np.testing.assert_allclose(small, 0.5 * globular, rtol=0.03)


def _turned(volume: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """The volume [z, y, x] with every voxel at R x instead of x; R permutes and negates the axes, the box is odd."""
    axes = np.indices(volume.shape)[::-1].reshape(3, -1) - volume.shape[0] // 2
    x, y, z = np.rint(rotation @ axes).astype(int) + volume.shape[0] // 2
    out = np.empty_like(volume)
    out[z, y, x] = volume.ravel()
    return out


@pytest.mark.parametrize(("group", "order"), [("c4", 4), ("d2", 4), ("octahedral", 24)])
def test_symmetric_particles_have_their_symmetry_and_no_mirror(group: str, order: int) -> None:
    rotations = symmetry_rotations(group)
    assert len(rotations) == order
    np.testing.assert_array_equal(rotations[0], np.eye(3))
    np.testing.assert_allclose(np.linalg.det(rotations), 1.0)
    assert len(np.unique((rotations @ rotations[1]).reshape(order, 9), axis=0)) == order
    volume = synthetic_particle(33, 1, group)
    for rotation in rotations:
        np.testing.assert_allclose(_turned(volume, rotation), volume, atol=1e-5)
    mirror = np.diag([1.0, 1.0, -1.0])
    assert all(
        np.corrcoef(_turned(volume, mirror @ rotation).ravel(), volume.ravel())[0, 1] < 0.9 for rotation in rotations
    )
    quarter = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # about x: only the octahedron has it
    alike = np.corrcoef(_turned(volume, quarter).ravel(), volume.ravel())[0, 1]
    assert (alike > 0.999) == (group == "octahedral")


def test_shapes_that_do_not_exist() -> None:
    with pytest.raises(ParameterError, match=r"shape must be one of 'globular', 'elongated', 'small', .* got 'cube'"):
        synthetic_particle(16, shape="cube")
    with pytest.raises(ParameterError, match="group must be one of 'c4', 'd2', 'octahedral', got 'c5'"):
        symmetry_rotations("c5")


@pytest.mark.parametrize(("old", "new"), [(16, 32), (17, 51), (32, 16), (51, 17), (48, 32)])
def test_resizing_keeps_density_centre_and_size(old: int, new: int) -> None:
    smooth = (
        np.exp(
            -0.5
            * (np.indices((old,) * 3) - old // 2 - np.array([0.03, 0, -0.05])[:, None, None, None] * old) ** 2
            / (0.11 * old) ** 2
        )
        .prod(axis=0)
        .astype(np.float32)
    )
    resized, pixel_size = resize_volume(smooth, 3.0, new)
    assert pixel_size * new == pytest.approx(3.0 * old)
    expected = np.exp(
        -0.5
        * (np.indices((new,) * 3) - new // 2 - np.array([0.03, 0, -0.05])[:, None, None, None] * new) ** 2
        / (0.11 * new) ** 2
    ).prod(axis=0)
    np.testing.assert_allclose(resized, expected, atol=2e-3)


def test_resizing_there_and_back_and_not_at_all() -> None:
    volume = synthetic_particle(17)
    larger, pixel_size = resize_volume(volume, 3.0, 40)
    back, original = resize_volume(larger, pixel_size, 17)
    np.testing.assert_allclose(back, volume, atol=1e-5)
    assert original == pytest.approx(3.0)
    same, unchanged = resize_volume(volume, 3.0, 17)
    np.testing.assert_array_equal(same, volume)
    assert unchanged == 3.0
