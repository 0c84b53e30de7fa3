"""Levels, ramps and scales of single images: told from noise, particles and junk, and taken out."""

from __future__ import annotations

import json
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from mfvdm_fast import ParticleStack, denoise, preset
from mfvdm_fast.doubts import warn_about_scales
from mfvdm_fast.errors import InputError, MfvdmWarning
from mfvdm_fast.imaging.background import EvenStack, estimate_unevenness, even_out, measure_surroundings, shared
from mfvdm_fast.imaging.noise import estimate_noise
from mfvdm_fast.metrics import evaluate_images, summarize_images
from mfvdm_fast.pipeline import find_unevenness
from mfvdm_fast.records import Images, Unevenness
from mfvdm_fast.simulate import SimulationSettings, simulate_stack
from mfvdm_fast.synthetic import synthetic_particle

from .cli_runs import Cli, write_stack
from .reference import background as twin
from .reference.noise import coloured_images

ALL = Unevenness(True, True, True, 1.3)


def _images(n: int, box_size: int, seed: int = 0) -> Images:
    return np.random.default_rng(seed).normal(2, 1.5, (n, box_size, box_size)).astype(np.float32)


def _plane(box_size: int) -> tuple[Images, Images]:
    y, x = np.mgrid[:box_size, :box_size] - np.float32(box_size // 2)
    return x.astype(np.float32), y.astype(np.float32)


@pytest.mark.parametrize("box_size", [16, 17, 32])
def test_surroundings_and_correction_equal_their_twins(box_size: int) -> None:
    images = _images(5, box_size)
    x, y = _plane(box_size)
    images += 0.3 * x - 0.2 * y
    found = measure_surroundings(images)
    for i, image in enumerate(images):
        corners, middle, log_corners, log_middle = twin.surroundings(image)
        np.testing.assert_allclose(found.corners[i], corners, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found.middle[i], middle, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose([found.log_corners[i], found.log_middle[i]], [log_corners, log_middle], atol=1e-9)
    for levels, ramps, gains in ((True, False, False), (True, True, False), (True, True, True)):
        evened = even_out(images, Unevenness(levels, ramps, gains, 1.3))
        expected = [twin.even_out(image, ramps, gains, 1.3) for image in images]
        np.testing.assert_allclose(evened, expected, atol=1e-5)


def test_images_come_out_alike_whatever_stands_beside_them() -> None:
    images = _images(150, 33)
    images.flags.writeable = False
    whole = even_out(images, ALL, 1)
    assert np.array_equal(whole, even_out(images, ALL, 2))
    for size in (1, 2, 7, 65):
        pieces = [even_out(images[i : i + size], ALL) for i in range(0, 150, size)]
        assert np.array_equal(whole, np.concatenate(pieces))
    assert np.array_equal(whole[::2], even_out(images[::2], ALL))
    assert estimate_unevenness(images, 1) == estimate_unevenness(images, 2)


def test_a_stack_is_evened_wherever_it_is_read() -> None:
    stack = ParticleStack.from_array(_images(10, 16), 2.0)
    evened = EvenStack(stack, ALL, 1)  # type: ignore[arg-type]
    expected = even_out(stack.read(np.arange(10)), ALL)
    assert np.array_equal(evened.read(np.arange(3, 7)), expected[3:7])
    assert np.array_equal(np.concatenate([images for _, images in evened.chunks(4)]), expected)
    assert (evened.n_particles, evened.box_size, evened.pixel_size) == (10, 16, 2.0)


@pytest.mark.parametrize(
    "settings",
    [
        SimulationSettings(),
        SimulationSettings(snr=1.0, contrast_std=0.3),
        SimulationSettings(snr=np.inf, contrast_std=0.3),
        SimulationSettings(snr=1.0, ctf=False, contrast_std=0.3),
        SimulationSettings(noise_falloff=4.0),
        SimulationSettings(noise_falloff=20.0),
        SimulationSettings(snr=0.2, junk_fraction=0.16, shift_std_px=1.5),
        SimulationSettings(snr=0.1, junk_fraction=0.7),
        SimulationSettings(snr=0.5, junk_fraction=0.5, noise_falloff=4.0),
    ],
)
def test_good_stacks_are_left_as_they_are(settings: SimulationSettings) -> None:
    for box_size, n in ((32, 1000), (33, 300), (48, 500)):
        noisy = simulate_stack(synthetic_particle(box_size), 4.0, n, settings, seed=box_size)
        found = find_unevenness(noisy, threads=1)
        assert found.is_even
        assert even_out(images := noisy.read(np.arange(2)), found) is images


def test_real_images_that_were_normalised_are_left_as_they_are(shared: Path) -> None:
    for name in ("apoferritin/apoferritin_64_sub1000_f16.mrcs", "small_real_stacks/aspire_sample_17x200.mrcs"):
        assert estimate_unevenness(mrcfile.read(shared / "data" / name).astype(np.float32)).is_even


@pytest.mark.parametrize("n", [1, 2, 5, 7, 8, 12, 20])
def test_nothing_is_told_of_tiny_stacks(n: int) -> None:
    for seed in range(20):
        assert estimate_unevenness(_images(n, 32, seed)).is_even


def test_levels_ramps_and_scales_are_told_apart() -> None:
    n, rng = 400, np.random.default_rng(1)
    x, y = _plane(33)
    white = _images(n, 33)
    level = estimate_unevenness(white + rng.normal(0, 0.15, (n, 1, 1)).astype(np.float32))
    assert (level.has_levels, level.has_ramps, level.has_gains) == (True, False, False)
    assert level.level_spread == pytest.approx(0.1, rel=0.2)
    assert level.deviation == pytest.approx(1.5, rel=0.02)
    slopes = rng.normal(0, 0.03, (2, n, 1, 1)).astype(np.float32)
    ramp = estimate_unevenness(white + slopes[0] * x + slopes[1] * y)
    assert (ramp.has_levels, ramp.has_ramps, ramp.has_gains) == (True, True, False)
    assert ramp.ramp_spread == pytest.approx(0.02, rel=0.1)
    scale = np.where(rng.random(n) < 0.2, 5, 1).astype(np.float32)[:, None, None]
    gain = estimate_unevenness((white - 2) * scale)
    assert (gain.has_levels, gain.has_ramps, gain.has_gains) == (False, False, True)
    assert gain.gain_ratio == pytest.approx(5, rel=0.2)
    for found, name in ((level, "levels"), (ramp, "ramps"), (gain, "scales")):
        assert found.describe().startswith(name)


def test_coloured_noise_is_not_taken_for_levels_but_levels_in_it_are() -> None:
    images = coloured_images(600, 32, lambda f: 4 ** (-2 * np.minimum(f, 0.5)), np.random.default_rng(0))
    assert estimate_unevenness(images).is_even
    images += np.random.default_rng(1).normal(0, 0.2, (600, 1, 1)).astype(np.float32) * images.std()
    assert estimate_unevenness(images).has_levels


def test_outliers_count_for_little() -> None:
    one, other = np.random.default_rng(0).normal(size=(2, 1000))
    one[:20] = other[:20] = 1e6
    common, _ = shared(one, other)
    assert 0.05 < common < 0.3
    assert shared(np.zeros(50), other[:50]) == (0.0, 0.0)


def test_masked_images_are_refused_as_before() -> None:
    images = _images(100, 32)
    x, y = _plane(32)
    images[:, np.hypot(x, y) >= 15] = 0
    found = estimate_unevenness(images)
    assert found.is_even
    with pytest.raises(InputError, match="cannot be estimated from masked images"):
        estimate_noise(even_out(images, found))


def test_scales_are_warned_about() -> None:
    with pytest.warns(
        MfvdmWarning, match=r"^a\.star: the noise of the images differs by a factor of 10 between the mi"
    ):
        assert warn_about_scales(10.0, 1.5, "a.star: ")


@pytest.fixture(scope="module")
def uneven() -> tuple[Images, Images, Images]:
    """Clean and noisy images, and noisy ones with levels, ramps and scales of their own."""
    n, rng = 500, np.random.default_rng(5)
    stack = simulate_stack(synthetic_particle(33), 4.0, n, SimulationSettings(snr=0.1, ctf=False), seed=1)
    noisy = stack.read(np.arange(n))
    x, y = _plane(33)
    sigma = np.float32(np.sqrt(stack.noise_variance))
    level, slope_x, slope_y = sigma * rng.normal(size=(3, n, 1, 1)).astype(np.float32)
    scale = np.exp(0.5 * rng.normal(size=(n, 1, 1))).astype(np.float32)
    return stack.read_clean(np.arange(n)), noisy, scale * (noisy + level + 0.1 * (slope_x * x + slope_y * y))


@pytest.mark.parametrize("method", ["graph_map", "cwf"])
def test_uneven_images_are_restored_as_well_as_even_ones(uneven: tuple[Images, Images, Images], method: str) -> None:
    clean, even, odd = uneven
    params = preset(method=method, centre=False) if method == "graph_map" else preset(method=method)
    reference = summarize_images([clean]).data_range
    found = {}
    for name, images in (("even", even), ("odd", odd)):
        stack = ParticleStack.from_array(images, 4.0)
        if name == "odd":
            with pytest.warns(MfvdmWarning, match=r"the noise of the images differs by a factor of \d\.\d+ between"):
                result = denoise(stack, params, threads=1)
        else:
            result = denoise(stack, params, threads=1)
        assert result.unevenness.is_even == (name == "even")
        restored = result.images()
        restored *= (restored * clean).sum() / np.square(restored).sum()
        found[name] = evaluate_images([clean], [restored], reference).psnr_db
    assert found["odd"] > found["even"] - 0.4


def test_units_of_the_result_are_those_of_the_input(uneven: tuple[Images, Images, Images]) -> None:
    _, _, odd = uneven
    with pytest.warns(MfvdmWarning, match="the noise of the images differs"):
        one = denoise(ParticleStack.from_array(odd), preset(method="cwf"), threads=1)
    factor = 2.0**40
    with pytest.warns(MfvdmWarning, match="the noise of the images differs"):
        other = denoise(ParticleStack.from_array(odd * np.float32(factor)), preset(method="cwf"), threads=1)
    assert other.unevenness.deviation == pytest.approx(one.unevenness.deviation * factor, rel=1e-6)
    np.testing.assert_allclose(other.images() / factor, one.images(), atol=1e-4 * np.abs(one.images()).max())


def test_info_and_the_summary_tell_what_is_taken_out(
    cli: Cli, uneven: tuple[Images, Images, Images], tmp_path: Path
) -> None:
    for name, images in zip(("even", "odd"), uneven[1:], strict=True):
        write_stack(tmp_path / f"{name}.mrcs", images)
        info, done = (
            cli("info", tmp_path / f"{name}.mrcs"),
            cli.denoise(tmp_path / f"{name}.mrcs", "-o", tmp_path / name, "--method", "cwf"),
        )
        assert (info.code, done.code) == (0, 0)
        found = json.loads((tmp_path / name / "manifest.json").read_text())["estimated"]["taken_out_of_each_image"]
        assert (found is None) == (name == "even")
        for out in (info.out, done.out):
            lines = [line for line in out.splitlines() if line.startswith("background:")]
            assert len(lines) == (name == "odd")
            assert all("levels (standard dev" in line and "the middle 90 %)" in line for line in lines)
        assert any("the noise of the images differs" in line for line in done.warnings) == (name == "odd")


@pytest.mark.parametrize("kind", ["level", "ramp", "scale"])
def test_one_image_far_off_is_enough(kind: str, rng: np.random.Generator) -> None:
    images = rng.standard_normal((200, 32, 32)).astype(np.float32)
    one = images[17].copy()
    for size, told in ((0.5, False), (5.0, True)):
        images[17] = {"level": one + size, "ramp": one + size / 8 * (np.arange(32) - 16), "scale": one * 6**size}[kind]
        found = estimate_unevenness(images)
        assert (found.has_levels, found.has_ramps, found.has_gains) == (
            told and kind != "scale",
            told and kind == "ramp",
            told and kind == "scale",
        )
        assert found.n_far == told
        assert found.describe().endswith(", 1 of the images looked at far off") == told
