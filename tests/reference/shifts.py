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
