"""The contact sheet: every image in its place, with its own contrast, in bytes that depend on the images alone."""

from __future__ import annotations

import doctest
import os
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from mfvdm_fast.errors import ParameterError
from mfvdm_fast.report import contact_sheet
from mfvdm_fast.report.contact_sheet import low_pass, shades, write_contact_sheet

LEFT, TOP = 110, 26  # where the first image begins


def drawn(path: Path) -> np.ndarray:
    """The sheet as shades of grey (height, width), 0 to 1."""
    return matplotlib.image.imread(path)[:, :, :3].mean(axis=2)


@pytest.mark.parametrize(("box_size", "scale"), [(16, 8), (33, 3), (64, 2), (129, 1), (200, 1)])
def test_every_pixel_of_a_small_box_is_drawn(box_size: int, scale: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = {name: rng.normal(size=(3, box_size, box_size)).astype(np.float32) for name in ("raw", "denoised")}
    rows["denoised"] *= 100
    write_contact_sheet(tmp_path / "sheet.png", rows)
    sheet = drawn(tmp_path / "sheet.png")
    step = box_size + max(1, round(0.04 * box_size))
    for line, images in enumerate(rows.values()):
        for column, image in enumerate(images):
            y, x = TOP + scale * step * line, LEFT + scale * step * column
            cell = sheet[y : y + scale * box_size, x : x + scale * box_size][scale // 2 :: scale, scale // 2 :: scale]
            black, white = np.percentile(image, [0.5, 99.5])
            np.testing.assert_allclose(cell, np.clip((image - black) / (white - black), 0, 1), atol=1 / 128)
    assert (sheet[: TOP - 2, :] == 1).all()  # no titles were given
    assert (sheet[:, LEFT - 60 : LEFT - 5] < 0.5).any()  # labels


def test_large_boxes_are_drawn_smaller(tmp_path: Path) -> None:
    images = np.zeros((2, 600, 600), np.float32)
    images[:, 300:] = 1.0
    write_contact_sheet(tmp_path / "sheet.png", {"raw": images}, ["1", "2"])
    sheet = drawn(tmp_path / "sheet.png")
    assert sheet.shape[0] < 300
    assert (sheet[TOP + 20 : TOP + 110, LEFT + 20 : LEFT + 230] == 0).all()
    assert (sheet[TOP + 140 : TOP + 240, LEFT + 20 : LEFT + 230] == 1).all()
    assert (sheet[: TOP - 2, LEFT:] < 0.5).any()  # titles


def test_bytes_depend_on_the_images_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).normal(size=(2, 24, 24)).astype(np.float32)
    for name, epoch in (("a", None), ("b", "86400")):
        if epoch:
            monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
        write_contact_sheet(tmp_path / f"{name}.png", {"raw": images})
    first, second = ((tmp_path / f"{name}.png").read_bytes() for name in "ab")
    assert first == second
    assert b"Software" not in first
    assert b"tIME" not in first
    write_contact_sheet(tmp_path / "c.png", {"raw": images[::-1]})
    assert (tmp_path / "c.png").read_bytes() != first


def test_shades_are_never_equal() -> None:
    assert shades(np.arange(101.0)) == (0.5, 99.5)
    assert shades(np.full((3, 3), 7.0)) == (7.0, 8.0)


def test_low_pass_is_a_gaussian() -> None:
    point = np.zeros((1, 33, 33), np.float32)
    point[0, 16, 16] = 1.0
    blurred = low_pass(point, 16.0)[0]
    line = np.arange(33) - 16
    expected = np.exp(-(line[:, None] ** 2 + line[None, :] ** 2) / (2 * 2.0**2)) / (2 * np.pi * 2.0**2)
    np.testing.assert_allclose(blurred, expected, atol=2e-6)


@pytest.mark.parametrize(
    "rows", [{}, {"raw": np.zeros((0, 8, 8))}, {"a": np.zeros((1, 8, 8)), "b": np.zeros((2, 8, 8))}]
)
def test_rows_must_match(rows: dict[str, np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="rows must hold the same number of images, at least one, got "):
        write_contact_sheet(tmp_path / "sheet.png", rows)
    with pytest.raises(ParameterError, match="radius_px must be a finite number above 0"):
        low_pass(np.zeros((1, 8, 8), np.float32), 0.0)
    assert os.listdir(tmp_path) == []


def test_examples() -> None:
    assert doctest.testmod(contact_sheet).failed == 0
