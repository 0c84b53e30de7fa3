"""Shifts straight from the definitions: full complex transforms in float64, one image and one shift at a time."""

from __future__ import annotations

import numpy as np


def reference_shift(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """Image (L, L) with what stands at (x, y) from the centre brought to the centre; whole pixels at Nyquist."""
    box_size = len(image)
    f = np.fft.fftfreq(box_size)

    def ramp(shift: float) -> np.ndarray:
        return np.where(np.abs(f) == 0.5, np.exp(2j * np.pi * f * np.rint(shift)), np.exp(2j * np.pi * f * shift))

    return np.fft.ifft2(np.fft.fft2(image.astype(np.float64)) * ramp(x)[None, :] * ramp(y)[:, None]).real


def reference_signs(images: np.ndarray, shifts: np.ndarray, radius: float, groups: int) -> float:
    """Energy that group means of images have in common moved back, less moved on, over its jackknife error."""
    line = np.arange(images.shape[1]) - images.shape[1] // 2
    within = np.hypot(line[:, None], line[None, :]) <= radius
    member = np.arange(len(images)) * groups // len(images)

    def gain(chosen: list[int]) -> float:
        total = 0.0
        for sign in (1, -1):
            moved = np.array([reference_shift(image, *(sign * s)) for image, s in zip(images, shifts, strict=True)])
            sums = [moved[member == g].sum(axis=0)[within] for g in chosen]
            products = [a @ b for i, a in enumerate(sums) for j, b in enumerate(sums) if i != j]
            total += sign * float(np.mean(products))
        return total

    every = list(range(groups))
    left_out = np.array([gain([g for g in every if g != left]) for left in every])
    return gain(every) / float(np.sqrt((groups - 1) / groups * np.square(left_out - left_out.mean()).sum()))
