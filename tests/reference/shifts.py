"""Shifts straight from the definitions: full complex transforms in float64, one image and one shift at a time."""

from __future__ import annotations

import numpy as np

from mfvdm_fast.records import CtfParameters

from .ctf import reference_ctf


def reference_shift(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """Image (L, L) with what stands at (x, y) from the centre brought to the centre; whole pixels at Nyquist."""
    box_size = len(image)
    f = np.fft.fftfreq(box_size)

    def ramp(shift: float) -> np.ndarray:
        return np.where(np.abs(f) == 0.5, np.exp(2j * np.pi * f * np.rint(shift)), np.exp(2j * np.pi * f * shift))

    return np.fft.ifft2(np.fft.fft2(image.astype(np.float64)) * ramp(x)[None, :] * ramp(y)[:, None]).real


def reference_log_likelihood(
    image: np.ndarray,
    restored: np.ndarray,
    shift: tuple[float, float],
    noise_power: np.ndarray,
    ctf: CtfParameters | None = None,
    pixel_size: float = 1.0,
    bandlimit: float = 0.5,
) -> float:
    """<y, h x(. - s)> weighted by 1 / noise power (L, L), over the frequencies up to the bandlimit, below Nyquist."""
    box_size = len(image)
    f = np.fft.fftfreq(box_size)
    radius = np.hypot(f[None, :], f[:, None])
    model = np.fft.fft2(restored.astype(np.float64))
    model = model * np.exp(-2j * np.pi * (shift[0] * f[None, :] + shift[1] * f[:, None]))
    if ctf is not None:
        model = model * reference_ctf(ctf, 0, f[None, :] / pixel_size, f[:, None] / pixel_size)
    kept = (radius <= bandlimit) & (np.abs(f[None, :]) < 0.5) & (np.abs(f[:, None]) < 0.5)
    products = np.fft.fft2(image.astype(np.float64)) * model.conj() / noise_power
    return float(products[kept].real.sum()) / box_size**2
