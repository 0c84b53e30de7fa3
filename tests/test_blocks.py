"""Measures of images and sums over them, by blocks: against plain NumPy, whatever the blocks and the threads."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from mfvdm_fast.imaging import blocks
from mfvdm_fast.imaging.blocks import (
    PARTS,
    add_blocks,
    map_blocks,
    mean_image,
    sum_blocks,
    sum_power,
    sum_spectra,
    sum_squares,
)


@pytest.fixture(params=[1, 4, 1000])
def images(request: pytest.FixtureRequest, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """45 images of 12 px, read-only; ``param`` of them fit a block."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", request.param * 4 * 12**2)
    found = rng.normal(3, 1, (45, 12, 12)).astype(np.float32)
    found.flags.writeable = False
    return found


def test_blocks_hold_every_row_once_and_fit_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 4 * 4 * 12**2)
    for box_size, most in ((12, 4), (11, 4), (13, 3), (500, 1)):
        found = list(blocks.blocks(range(3, 14), box_size))
        assert np.concatenate([np.arange(14)[rows] for rows in found]).tolist() == list(range(3, 14))
        assert max(rows.stop - rows.start for rows in found) == most


def test_measures_of_images_stand_in_their_order(images: np.ndarray) -> None:
    for threads in (1, 2):
        found = map_blocks(lambda block: block.max(axis=(1, 2)), images, threads)
        np.testing.assert_array_equal(found, images.max(axis=(1, 2)))


@pytest.mark.parametrize("n", [1, PARTS - 1, PARTS, PARTS + 1, 45])
def test_sums_are_those_of_all_images_for_any_threads(n: int, images: np.ndarray) -> None:
    one, two = (sum_blocks(lambda block: block.sum(axis=0), images[:n], threads) for threads in (1, 2))
    assert one.dtype == np.float64
    np.testing.assert_array_equal(one, two)
    np.testing.assert_allclose(one, images[:n].sum(axis=0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(mean_image(images[:n]), images[:n].mean(axis=0, dtype=np.float64), rtol=1e-7)


def test_sums_are_in_double_precision(images: np.ndarray) -> None:
    huge = np.float32(2**24)  # to which a single float32 adds nothing below 1
    total = add_blocks(lambda rows: np.full(1, huge if rows.start == 0 else 0.25, np.float32), range(9), 512)
    assert total.tolist() == [2**24 + 2]
    phases = add_blocks(lambda rows: images[rows].sum(axis=0) * np.complex64(1j), range(45), 12)
    assert phases.dtype == np.complex128


@pytest.mark.parametrize("size", [12, 18])
@pytest.mark.parametrize("masked", [True, False])
def test_power_is_that_of_the_transforms(size: int, masked: bool, images: np.ndarray) -> None:
    mask = np.hypot(*np.indices((12, 12))) > 8 if masked else None
    found = [sum_power(images, 2.5, threads, mask=mask, size=None if size == 12 else size) for threads in (1, 2)]
    np.testing.assert_array_equal(*found)
    pixels = (images.astype(np.float64) - 2.5) * (1 if mask is None else mask)
    expected = (np.abs(np.fft.rfft2(pixels, s=(size, size))) ** 2).sum(axis=0)
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-6 * expected.max())


def test_squares_are_summed_over_images(rng: np.random.Generator) -> None:
    spectra = rng.normal(size=(5, 3, 4, 2)).astype(np.float32).view(np.complex64)[..., 0]
    for given in (spectra, spectra.astype(np.complex128)):
        np.testing.assert_allclose(sum_spectra(given), (np.abs(given) ** 2).sum(axis=0), rtol=1e-6)
        assert sum_spectra(given).dtype == given.real.dtype
    np.testing.assert_allclose(sum_squares(spectra.real), np.square(spectra.real).sum(axis=0), rtol=1e-6)


def test_docstring_examples() -> None:
    result = doctest.testmod(blocks)
    assert result.attempted > 7
    assert result.failed == 0
