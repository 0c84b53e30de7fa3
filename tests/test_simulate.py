"""Simulated stacks: geometry, CTF, noise and reproducibility, and the built-in particle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mfvdm_fast.errors import ParameterError
from mfvdm_fast.records import ImageStack
from mfvdm_fast.simulate import SimulatedStack, SimulationSettings, simulate_stack
from mfvdm_fast.synthetic import check_volume, resize_volume, synthetic_particle

from .reference.ctf import reference_ctf_2d
from .reference.simulate import in_plane_rotation, reference_image

PIXEL_SIZE = 4.0
CLEAN = SimulationSettings(snr=np.inf, ctf=False)


def _with_views(volume: np.ndarray, rotations: np.ndarray, shifts: np.ndarray | None = None) -> SimulatedStack:
    """A clean stack of the given views."""
    n = len(rotations)
    stack = simulate_stack(volume, PIXEL_SIZE, n, CLEAN)
    return replace(stack, rotations=rotations, shifts_px=np.zeros((n, 2)) if shifts is None else shifts)


@pytest.mark.parametrize("box_size", [16, 17])
def test_images_equal_direct_sums(box_size: int) -> None:
    volume = synthetic_particle(box_size, seed=2)
    stack = simulate_stack(volume, PIXEL_SIZE, 4, SimulationSettings(shift_std_px=1.5), seed=3)
    assert stack.ctf is not None
    transfer = reference_ctf_2d(stack.ctf, box_size, PIXEL_SIZE)
    clean, blurred = stack.read_clean(np.arange(4)), stack.read_ctf(np.arange(4))
    assert clean.dtype == blurred.dtype == np.float32
    for i in range(4):
        for images, ctf in ((clean, 1.0), (blurred, transfer[i])):
            expected = reference_image(volume, stack.rotations[i], stack.shifts_px[i], ctf)
            assert np.linalg.norm(images[i] - expected) < 2e-4 * np.linalg.norm(expected)


def test_agrees_with_finufft_at_the_size_of_a_real_map(shared: Path) -> None:
    finufft, mrcfile = pytest.importorskip("finufft"), pytest.importorskip("mrcfile")
    volume = mrcfile.read(shared / "data" / "volumes" / "ribosome70S_65px_5A.mrc")
    stack = simulate_stack(volume, 5.0, 1, CLEAN, seed=4)
    rotation = stack.rotations[0]
    f = np.fft.fftfreq(65)
    fy, fx = np.meshgrid(f, f, indexing="ij")
    inside = np.hypot(fx, fy) < 0.5
    points = 2 * np.pi * (fx[inside, None] * rotation[:, 0] + fy[inside, None] * rotation[:, 1])
    modes = np.ascontiguousarray(volume.transpose(2, 1, 0)).astype(np.complex128)
    expected = finufft.nufft3d2(*np.ascontiguousarray(points.T), modes, isign=-1, eps=1e-12)
    spectrum = np.fft.fft2(np.fft.ifftshift(stack.read_clean(np.array([0]))[0]))[inside]
    assert np.linalg.norm(spectrum - expected) < 2e-4 * np.linalg.norm(expected)


def test_same_projections_as_the_published_oracle(shared: Path) -> None:
    mrcfile = pytest.importorskip("mrcfile")
    volume = mrcfile.read(shared / "data" / "volumes" / "ribosome70S_65px_5A.mrc")
    with np.load(shared / "oracle" / "mfvdm_matlab_n300.npz") as oracle:
        rotations, theirs = oracle["rotations"][:20], oracle["clean_images"][:20]
    ours = _with_views(volume, rotations).read_clean(np.arange(20))
    for one, other in zip(ours, theirs, strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.999


def test_axes_of_volume_and_image() -> None:
    volume = np.zeros((17, 17, 17), np.float32)
    volume[8 + 1, 8 - 2, 8 + 5] = 1.0  # x = 5, y = -2, z = 1
    quarter_about_x = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # image y is volume z, image z is volume -y
    image, turned = _with_views(volume, np.stack([np.eye(3), quarter_about_x])).read_clean(np.arange(2))
    assert np.unravel_index(image.argmax(), image.shape) == (8 - 2, 8 + 5)
    assert np.unravel_index(turned.argmax(), turned.shape) == (8 + 1, 8 + 5)


def test_shift_moves_the_particle_to_where_it_says() -> None:
    volume = synthetic_particle(17)
    views = np.stack([np.eye(3)] * 2)
    still, moved = _with_views(volume, views, np.array([[0.0, 0.0], [2.0, -3.0]])).read_clean(np.arange(2))
    np.testing.assert_allclose(moved, np.roll(still, (-3, 2), axis=(0, 1)), atol=2e-4 * still.max())


def test_in_plane_rotation_and_mirror_of_the_image() -> None:
    base = simulate_stack(synthetic_particle(17), PIXEL_SIZE, 1, CLEAN, seed=5).rotations[0]
    views = np.stack([base, base @ in_plane_rotation(np.pi / 2), base @ np.diag([1.0, -1.0, -1.0])])
    image, turned, mirrored = _with_views(synthetic_particle(17), views).read_clean(np.arange(3))
    # Turning by -90 degrees moves the +y axis (down the rows) to +x: [y, x] of the turned image is [x, -y].
    np.testing.assert_allclose(turned, image.T[::-1], atol=1e-3 * image.max())
    np.testing.assert_allclose(mirrored, image[::-1], atol=1e-3 * image.max())


def test_same_bits_for_any_threads_chunks_and_order(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = synthetic_particle(16)
    settings = SimulationSettings(contrast_std=0.1, shift_std_px=0.5)
    stack = simulate_stack(volume, PIXEL_SIZE, 11, settings, seed=7, threads=1)
    images = stack.read(np.arange(11))
    parallel = simulate_stack(volume, PIXEL_SIZE, 11, settings, seed=7, threads=2)
    monkeypatch.setattr("mfvdm_fast.simulate._BLOCK_IMAGES", 3)
    assert parallel.noise_variance == stack.noise_variance
    assert simulate_stack(volume, PIXEL_SIZE, 11, settings, seed=7).noise_variance == stack.noise_variance
    np.testing.assert_array_equal(parallel.read(np.arange(11)), images)
    rows, pieces = zip(*stack.chunks(4), strict=True)
    assert [r.tolist() for r in rows] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    np.testing.assert_array_equal(np.concatenate(pieces), images)
    np.testing.assert_array_equal(stack.read(np.array([9, 2])), images[[9, 2]])
    clean = np.concatenate([chunk for _, chunk in stack.clean_chunks(5)])
    np.testing.assert_array_equal(clean, stack.read_clean(np.arange(11)))
    readonly = volume.astype(np.float64)
    readonly.flags.writeable = False
    np.testing.assert_array_equal(
        simulate_stack(readonly, PIXEL_SIZE, 11, settings, seed=7).read(np.arange(11)), images
    )


def test_is_a_stack_the_pipeline_takes() -> None:
    stack = simulate_stack(synthetic_particle(16), PIXEL_SIZE, 3)
    assert isinstance(stack, ImageStack)
    assert (stack.n_particles, stack.box_size, stack.pixel_size) == (3, 16, PIXEL_SIZE)
    assert stack.ctf is not None
    assert len(stack.ctf) == 3


def test_seed_decides_everything() -> None:
    volume = synthetic_particle(16)
    one, other = simulate_stack(volume, PIXEL_SIZE, 6, seed=1), simulate_stack(volume, PIXEL_SIZE, 6, seed=2)
    assert np.abs(one.rotations - other.rotations).max() > 0.1
    assert (one.defocus_group != other.defocus_group).any()
    longer = simulate_stack(volume, PIXEL_SIZE, 9, seed=1)
    np.testing.assert_array_equal(longer.rotations[:6], one.rotations)
    np.testing.assert_array_equal(longer.defocus_group[:6], one.defocus_group)


def test_snr_is_that_of_the_whole_box() -> None:
    n = 40
    volume = synthetic_particle(24)
    stack = simulate_stack(volume, PIXEL_SIZE, n, SimulationSettings(snr=0.1), seed=1)
    signal = stack.read_ctf(np.arange(n))
    noise = stack.read(np.arange(n)) - signal
    assert stack.signal_variance == pytest.approx(signal.var(dtype=np.float64), rel=1e-5)
    assert stack.noise_variance == pytest.approx(stack.signal_variance / 0.1)
    assert noise.var() == pytest.approx(stack.noise_variance, rel=0.03)  # 23,040 pixels: 0.9 % standard error
    noisier = simulate_stack(volume, PIXEL_SIZE, n, SimulationSettings(snr=0.025), seed=1)
    np.testing.assert_allclose(noisier.read(np.arange(n)) - signal, 2 * noise, atol=1e-4 * noise.std())
    silent = simulate_stack(volume, PIXEL_SIZE, n, SimulationSettings(snr=np.inf), seed=1)
    np.testing.assert_array_equal(silent.read(np.arange(n)), signal)


def test_noise_is_white_and_independent() -> None:
    stack = simulate_stack(synthetic_particle(16), PIXEL_SIZE, 400, SimulationSettings(snr=0.01), seed=9)
    noise = (stack.read(np.arange(400)) - stack.read_ctf(np.arange(400))) / np.sqrt(stack.noise_variance)
    power = (np.abs(np.fft.fft2(noise)) ** 2).mean(axis=0) / 256
    assert np.abs(power - 1).max() < 0.4  # 400 samples: 5 % standard error, 7 % on the real frequencies
    correlation = np.corrcoef(noise.reshape(400, -1))[np.triu_indices(400, 1)]
    assert np.abs(correlation).max() < 6 / np.sqrt(256)


def test_orientations_are_uniform_rotations() -> None:
    rotations = simulate_stack(synthetic_particle(8), PIXEL_SIZE, 4000, CLEAN).rotations
    np.testing.assert_allclose(
        rotations @ rotations.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (4000, 3, 3)), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(rotations), 1.0)
    # Every entry has mean 0 and variance 1/3; 4,000 samples give standard errors of 0.009 and 0.005.
    assert np.abs(rotations.mean(axis=0)).max() < 0.045
    assert np.abs((rotations**2).mean(axis=0) - 1 / 3).max() < 0.025


def test_defocus_groups() -> None:
    settings = SimulationSettings(n_defocus_groups=3, defocus_min_angstrom=2e4, defocus_max_angstrom=3e4)
    stack = simulate_stack(synthetic_particle(16), PIXEL_SIZE, 200, settings)
    assert stack.ctf is not None
    np.testing.assert_array_equal(stack.ctf.defocus_u_angstrom, np.array([2e4, 2.5e4, 3e4])[stack.defocus_group])
    assert np.bincount(stack.defocus_group).min() > 40
    default = simulate_stack(synthetic_particle(16), PIXEL_SIZE, 200)
    assert default.ctf is not None
    assert np.unique(default.ctf.defocus_u_angstrom).size == 20
    assert (default.ctf.voltage_kv[0], default.ctf.cs_mm[0], default.ctf.amplitude_contrast[0]) == (200.0, 2.0, 0.1)


@pytest.mark.parametrize("change", [{"voltage_kv": 300.0}, {"cs_mm": 0.0}, {"amplitude_contrast": 0.2}])
def test_microscope_settings_reach_the_images(change: dict[str, float]) -> None:
    volume = synthetic_particle(16)
    one = simulate_stack(volume, 2.0, 2, SimulationSettings(snr=np.inf))
    other = simulate_stack(volume, 2.0, 2, replace(SimulationSettings(snr=np.inf), **change))
    assert other.ctf is not None
    assert getattr(other.ctf, next(iter(change)))[0] == next(iter(change.values()))
    difference = one.read(np.arange(2)) - other.read(np.arange(2))
    assert np.linalg.norm(difference) > 1e-3 * np.linalg.norm(one.read(np.arange(2)))


def test_without_ctf() -> None:
    stack = simulate_stack(synthetic_particle(16), PIXEL_SIZE, 5, CLEAN)
    assert stack.ctf is None
    assert not stack.defocus_group.any()
    np.testing.assert_array_equal(stack.read(np.arange(5)), stack.read_clean(np.arange(5)))


def test_shift_and_contrast_have_the_spread_asked_for() -> None:
    settings = SimulationSettings(shift_std_px=2.0, contrast_std=0.3, ctf=False)
    stack = simulate_stack(synthetic_particle(8), PIXEL_SIZE, 4000, settings)
    assert stack.shifts_px.std(axis=0) == pytest.approx([2.0, 2.0], rel=0.05)
    assert stack.contrast.mean() == pytest.approx(1.0, abs=0.02)
    assert stack.contrast.std() == pytest.approx(0.3, rel=0.08)
    plain = replace(stack, contrast=np.ones(4000)).read_clean(np.arange(20))
    scaled = stack.contrast[:20, None, None] * plain
    np.testing.assert_allclose(stack.read_clean(np.arange(20)), scaled, atol=1e-5 * plain.max())
    assert not simulate_stack(synthetic_particle(8), PIXEL_SIZE, 10, CLEAN).shifts_px.any()


@pytest.mark.parametrize(
    ("settings", "n", "message"),
    [
        (
            SimulationSettings(),
            0,
            "n_particles must be a whole number of at least 1, got 0; ask for 1000 or more to see classes",
        ),
        (SimulationSettings(snr=0.0), 5, "snr must be above 0; 0.05 is typical, inf means no noise, got 0"),
        (SimulationSettings(snr=np.nan), 5, "snr must be above 0; .* got nan"),
        (
            SimulationSettings(n_defocus_groups=0),
            5,
            "n_defocus_groups must be a whole number of at least 1, got 0; or set ctf=False",
        ),
        (SimulationSettings(defocus_min_angstrom=5e4), 5, r"defocus_min_angstrom must be at most .* \(40000\); swap"),
        (SimulationSettings(defocus_min_angstrom=np.nan), 5, "defocus_min_angstrom must be a finite number, got nan;"),
        (SimulationSettings(defocus_max_angstrom=np.inf), 5, "defocus_max_angstrom must be a finite number, got inf;"),
        (SimulationSettings(shift_std_px=-1), 5, "shift_std_px must be 0 px or more; 0 centres every particle, got -1"),
        (SimulationSettings(contrast_std=-1), 5, "contrast_std must be 0 or more; 0 gives equal contrast, got -1"),
        (SimulationSettings(noise_falloff=0), 5, "noise_falloff must be above 0; 1 is white noise, .* got 0"),
        (SimulationSettings(noise_falloff=np.inf), 5, "noise_falloff must be above 0; .* got inf"),
        (SimulationSettings(junk_fraction=1), 5, "junk_fraction must be at least 0 and below 1; 0.16 .* got 1"),
        (SimulationSettings(junk_fraction=-0.1), 5, "junk_fraction must be at least 0 and below 1; 0.16 .* got -0.1"),
        (SimulationSettings(junk_fraction=0.99), 2, "all of the 2 images came out as junk; lower junk_fraction"),
        (SimulationSettings(voltage_kv=0), 5, "voltage_kv must be above 0 kV"),
    ],
)
def test_impossible_settings(settings: SimulationSettings, n: int, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        simulate_stack(synthetic_particle(8), PIXEL_SIZE, n, settings)


def test_other_refusals() -> None:
    volume = synthetic_particle(8)
    with pytest.raises(
        ParameterError, match=r"seed must be a whole number of at least 0, got -1; any other number gives"
    ):
        simulate_stack(volume, PIXEL_SIZE, 3, seed=-1)
    with pytest.raises(
        ParameterError, match=r"pixel_size must be a finite number above 0, got -1\.0; give the size of one pixel in Å"
    ):
        simulate_stack(volume, -1.0, 3, CLEAN)
    with pytest.raises(
        ParameterError, match="max_images must be a whole number of at least 1, got 0; 1000 is a good chunk"
    ):
        simulate_stack(volume, PIXEL_SIZE, 3).chunks(0)
    with pytest.raises(ParameterError, match=r"volume must be a cube .* got shape \(8, 8, 9\); pad it first"):
        simulate_stack(np.zeros((8, 8, 9), np.float32), PIXEL_SIZE, 3)
    with pytest.raises(ParameterError, match="volume must hold finite numbers, got NaN or infinity; replace"):
        check_volume(np.full((8, 8, 8), np.nan))
    with pytest.raises(ParameterError, match="volume must not be constant, every voxel is 2; check the file"):
        check_volume(np.full((8, 8, 8), 2.0))
    with pytest.raises(
        ParameterError, match="box_size must be a whole number of at least 8, got 7; 65 px is a good size"
    ):
        synthetic_particle(7)
    with pytest.raises(
        ParameterError, match="box_size must be a whole number of at least 8, got 4; take 32 px or more"
    ):
        resize_volume(volume, PIXEL_SIZE, 4)
