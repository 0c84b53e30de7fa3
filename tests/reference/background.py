"""Slow twins of mfvdm_fast.imaging.background: planes by least squares, sums pixel by pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def _design(box_size: int, middle: float) -> Array:
    """Columns 1, x, y of every pixel, x and y from ``middle``: (L * L, 3)."""
    y, x = np.mgrid[:box_size, :box_size] - middle
    return np.stack([np.ones(box_size**2), x.ravel(), y.ravel()], axis=1)


def corner_masks(box_size: int) -> NDArray[np.bool_]:
    """(4, L * L): pixels outside the largest circle about L // 2; not those that an even box has on one side."""
    half = (box_size - 1) // 2
    _, x, y = _design(box_size, box_size // 2).T
    outside = (np.hypot(x, y) > half) & (abs(x) <= half) & (abs(y) <= half)
    return np.array([outside & (a * x > 0) & (b * y > 0) for b in (-1, 1) for a in (-1, 1)])


def plane(image: NDArray[np.floating]) -> Array:
    """Mean and slopes of the plane that fits best."""
    pixels = image.astype(np.float64).ravel()
    return np.asarray(np.linalg.lstsq(_design(len(image), (len(image) - 1) / 2), pixels, rcond=None)[0], np.float64)


def surroundings(image: NDArray[np.floating]) -> tuple[Array, Array, float, float]:
    """Level and slopes of the corners, of the rest, and the log deviations of both."""
    box_size, pixels = len(image), image.astype(np.float64).ravel()
    masks, (_, x, y) = corner_masks(box_size), _design(box_size, box_size // 2).T
    means = np.array([pixels[mask].mean() for mask in masks])
    places = np.array([[1, x[mask].mean(), y[mask].mean()] for mask in masks])
    corners = np.linalg.lstsq(places, means, rcond=None)[0]
    flat = pixels - corners[1] * x - corners[2] * y
    log_corners = np.mean([np.log(flat[mask].std()) for mask in masks])
    corner = masks.any(axis=0)
    fit = _design(box_size, (box_size - 1) / 2)
    middle = [pixels[~corner].mean()]
    for column, away in ((fit[:, 1], x), (fit[:, 2], y)):  # the corners' moment about the centre pixel
        moment = (column * pixels).sum() - (away * pixels)[corner].sum()
        middle.append(moment / (np.square(column).sum() - np.square(away)[corner].sum()))
    residual = pixels - fit @ plane(image)
    return corners, np.array(middle), float(log_corners), float(0.5 * np.log(np.square(residual[~corner]).mean()))


def even_out(image: NDArray[np.floating], ramps: bool, gains: bool, deviation: float) -> Array:
    """The image without its mean, the plane that fits it and what its corners deviate more than ``deviation``."""
    level, *slopes = plane(image)
    fitted = _design(len(image), (len(image) - 1) / 2) @ np.array([level, *(slopes if ramps else (0, 0))])
    gain = np.exp(surroundings(image)[2]) / deviation if gains else 1.0
    return (image - fitted.reshape(image.shape)) / gain
