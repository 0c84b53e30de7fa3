"""Copies of images are counted and named, and nothing else is taken for a copy."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from mfvdm_fast.errors import InputError, MfvdmWarning
from mfvdm_fast.imaging.copies import image_keys, refuse_all_alike, warn_about_copies
from mfvdm_fast.io.stack import ParticleStack
from mfvdm_fast.params import preset
from mfvdm_fast.pipeline import denoise
from mfvdm_fast.simulate import SimulationSettings, simulate_stack
from mfvdm_fast.synthetic import synthetic_particle


@pytest.mark.parametrize("box_size", [3, 16, 33])
def test_keys_are_equal_for_equal_images_only(box_size: int, rng: np.random.Generator) -> None:
    images = rng.normal(size=(200, box_size, box_size)).astype(np.float32)
    images[150:] = images[30:80]
    keys = image_keys(images)
    assert keys.dtype == np.int64
    np.testing.assert_array_equal(keys[150:], keys[30:80])
    assert len(np.unique(keys)) == 150
    np.testing.assert_array_equal(image_keys(images[::-1])[::-1], keys)  # whatever the chunk and the strides
    np.testing.assert_array_equal(image_keys(images[40:41]), keys[40:41])


@pytest.mark.parametrize(("factor", "offset"), [(1.0001, 0.0), (3.7, 0.0), (1.0, 5.0)])
def test_copies_in_other_units_are_copies(factor: float, offset: float, rng: np.random.Generator) -> None:
    images = rng.normal(size=(1000, 65, 65)).astype(np.float32)
    copies = np.float32(factor) * images + np.float32(offset)
    assert np.mean(image_keys(copies) == image_keys(images)) > 0.99
    noisy = images + 0.1 * rng.normal(size=images.shape).astype(np.float32)
    assert not np.isin(image_keys(noisy), image_keys(images)).any()


def test_few_grey_values_are_enough(rng: np.random.Generator) -> None:
    counts = rng.poisson(1.0, size=(5000, 16, 16)).astype(np.float32)  # as a detector of electrons counts them
    assert len(np.unique(image_keys(counts))) == 5000


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (
            [5, 4, 3, 4],
            r"^a\.star: one image is a copy of another image in the stack, such as those of particles 2 and 4: each",
        ),
        (
            [9, 1, 9, 1, 9],
            r"^a\.star: 3 images are copies of another image in the stack, such as those of particles 1 and 3: ",
        ),
    ],
)
def test_copies_are_counted_and_a_pair_is_named(keys: list[int], text: str) -> None:
    with pytest.warns(MfvdmWarning, match=text) as seen:
        warn_about_copies(np.array(keys), "a.star: ")
    assert len(seen) == 1
    assert str(seen[0].message).endswith("leave the copies out")


def test_nothing_is_said_where_there_are_no_copies() -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warn_about_copies(np.arange(10))
        warn_about_copies(np.empty(0, np.int64))
    assert said == []


@pytest.mark.parametrize("difference", [0.0, 1e-7, 5e-3])
def test_images_that_are_all_alike_are_refused(difference: float, rng: np.random.Generator) -> None:
    images = 3 + np.repeat(rng.normal(size=(1, 24, 24)), 50, axis=0)
    draw = rng.normal(size=images.shape)
    sigma = float(images[0].std())
    with pytest.raises(InputError, match=r"^the images are all alike: they differ from their mean by .* not copies of"):
        refuse_all_alike((images + difference * draw).astype(np.float32), sigma)
    refuse_all_alike((images + 0.02 * draw).astype(np.float32), sigma)
    others = images + np.arange(50)[:, None, None] * rng.normal(size=(1, 24, 24))
    refuse_all_alike(others.astype(np.float32), float(np.median(others.std(axis=(1, 2)))))


@pytest.mark.parametrize("unit", [2e-3, 1.0])
def test_views_without_noise_are_restored(unit: float) -> None:
    """Their log likelihoods are beyond what single precision takes, unless both sides of them are of one size."""
    clean = simulate_stack(synthetic_particle(33), 6.0, 120, SimulationSettings(ctf=False), threads=1).read_ctf(
        np.arange(120)
    )
    images = unit * clean
    found = denoise(ParticleStack.from_array(images), threads=1).images()
    assert np.square(found - images).mean() < 0.05 * images.var()


def test_a_run_warns_once_however_the_images_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = simulate_stack(synthetic_particle(24), 6.0, 90, SimulationSettings(snr=0.5), seed=1, threads=1)
    images = simulated.read(np.arange(90))
    images[80:] = images[5:15]
    monkeypatch.setattr("mfvdm_fast.prepare.CHUNK_BYTES", 7 * 4 * 24**2)
    with pytest.warns(MfvdmWarning, match="10 images are copies .* such as those of particles 6 and 81:") as seen:
        denoise(ParticleStack.from_array(images), preset(method="cwf"), threads=1)
    assert len(seen) == 1
