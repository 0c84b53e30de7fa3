"""RELION's CTF, one particle at a time, straight from its published formula."""

from __future__ import annotations

import numpy as np

from mfvdm_fast.records import CtfParameters


def reference_ctf(ctf: CtfParameters, row: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """CTF of particle ``row`` at frequencies (x, y) in 1/Å."""
    volts = 1000.0 * ctf.voltage_kv[row]
    wavelength = 12.2643247 / np.sqrt(volts * (1.0 + 0.978466e-6 * volts))
    c, s = np.cos(ctf.defocus_angle[row]), np.sin(ctf.defocus_angle[row])
    q = np.array([[c, s], [-s, c]])
    a = q.T @ np.diag([-ctf.defocus_u_angstrom[row], -ctf.defocus_v_angstrom[row]]) @ q
    u2 = x**2 + y**2
    q0 = ctf.amplitude_contrast[row]
    gamma = (
        np.pi * wavelength * (a[0, 0] * x**2 + 2 * a[0, 1] * x * y + a[1, 1] * y**2)
        + np.pi / 2 * ctf.cs_mm[row] * 1e7 * wavelength**3 * u2**2
        - ctf.phase_shift[row]
        - np.arctan(q0 / np.sqrt(1 - q0**2))
    )
    return -np.sin(gamma) * np.exp(-ctf.bfactor_angstrom2[row] * u2 / 4) * ctf.scale[row]


def reference_ctf_2d(ctf: CtfParameters, box_size: int, pixel_size: float) -> np.ndarray:
    """(n, L, L // 2 + 1) float64 on the rfft2 grid."""
    y = np.fft.fftfreq(box_size, pixel_size)[:, None]
    x = np.fft.rfftfreq(box_size, pixel_size)[None, :]
    return np.stack([reference_ctf(ctf, row, x, y) for row in range(len(ctf))])


def reference_phase_flip(images: np.ndarray, ctf: CtfParameters, pixel_size: float) -> np.ndarray:
    """Full complex transform of each image times the sign of its CTF; Nyquist frequencies of even boxes kept."""
    box_size = images.shape[-1]
    f = np.fft.fftfreq(box_size, pixel_size)
    out = np.empty(images.shape)
    for row, image in enumerate(images):
        sign = np.where(reference_ctf(ctf, row, f[None, :], f[:, None]) < 0, -1.0, 1.0)
        if box_size % 2 == 0:
            sign[box_size // 2, :] = sign[:, box_size // 2] = 1.0
        out[row] = np.fft.ifft2(np.fft.fft2(image.astype(np.float64)) * sign).real
    return out
