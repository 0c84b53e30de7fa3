"""Shifts straight from the definitions: full complex transforms in float64, one image and one shift at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def reference_shift(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """Image (L, L) with what stands at (x, y) from the centre brought to the centre; whole pixels at Nyquist."""
    box_size = len(image)
    f = np.fft.fftfreq(box_size)

    def ramp(shift: float) -> np.ndarray:
        return np.where(np.abs(f) == 0.5, np.exp(2j * np.pi * f * np.rint(shift)), np.exp(2j * np.pi * f * shift))

    return np.fft.ifft2(np.fft.fft2(image.astype(np.float64)) * ramp(x)[None, :] * ramp(y)[:, None]).real


def reference_way(images: np.ndarray, shifts: np.ndarray, way: np.ndarray, radius: float, groups: int) -> float:
    """Energy that group means have in common moved by way @ shift, less that moved by shift, over its error."""
    line = np.arange(images.shape[1]) - images.shape[1] // 2
    within = np.hypot(line[:, None], line[None, :]) <= radius
    member = np.arange(len(images)) * groups // len(images)

    def gain(chosen: list[int]) -> float:
        total = 0.0
        for sign, matrix in ((1, way), (-1, np.eye(2))):
            moved = np.array([reference_shift(image, *(matrix @ s)) for image, s in zip(images, shifts, strict=True)])
            sums = [moved[member == g].sum(axis=0)[within] for g in chosen]
            products = [a @ b for i, a in enumerate(sums) for j, b in enumerate(sums) if i != j]
            total += sign * float(np.mean(products))
        return total

    return jackknife(gain, groups)


def reference_half_turn(images: np.ndarray, place: np.ndarray, groups: int, *, one_each: bool = False) -> float:
    """What group means have in common with each other turned by half a turn about ``place``, less about the centre."""
    box_size = images.shape[1]
    member = np.arange(groups) if one_each else np.arange(len(images)) * groups // len(images)
    sums = np.array([images[member == g].sum(axis=0, dtype=np.float64) for g in range(groups)])
    sums -= sums.mean(axis=(1, 2), keepdims=True)

    def turned(image: np.ndarray, x: float, y: float) -> np.ndarray:
        out = np.zeros_like(image)
        middle = 2 * (box_size // 2)
        for row in range(box_size):
            for column in range(box_size):
                to = round(middle + 2 * y) - row, round(middle + 2 * x) - column
                if 0 <= to[0] < box_size and 0 <= to[1] < box_size:
                    out[to] = image[row, column]
        return out

    def gain(chosen: list[int]) -> float:
        pairs = [(i, j) for i in chosen for j in chosen if i != j]
        return float(np.mean([(sums[i] * (there[j] - here[j])).sum() for i, j in pairs]))

    there, here = (np.array([turned(image, *at) for image in sums]) for at in (place, (0.0, 0.0)))
    return jackknife(gain, groups)


def reference_power(images: np.ndarray, shifts: np.ndarray, variance: float, groups: int) -> np.ndarray:
    """Mean squares (groups, L, L) of images filtered by sqrt(S) / N, N white, and moved back."""
    n, box_size, _ = images.shape
    f = np.fft.fftfreq(box_size)
    ring = np.rint(np.hypot(f[:, None], f[None, :]) * box_size).astype(int)
    half = np.broadcast_to(np.abs(np.fft.fftfreq(box_size))[None, :], ring.shape) == f[None, :]  # as a real transform
    spectra = np.fft.fft2(images.astype(np.float64))
    power = np.mean(np.abs(spectra) ** 2, axis=0) / box_size**2
    transfer = np.zeros(ring.shape)
    for r in range(1, box_size // 2 + 1):
        signal = power[(ring == r) & half].mean() - variance
        transfer[ring == r] = np.sqrt(max(signal, 0)) / variance
    filtered = np.fft.ifft2(spectra * transfer).real
    square = np.array([reference_shift(image, *s) for image, s in zip(filtered, shifts, strict=True)]) ** 2
    member = np.arange(n) * groups // n
    return np.array([square[member == g].mean(axis=0) for g in range(groups)])


def jackknife(gain: Callable[[list[int]], float], groups: int) -> float:
    """``gain`` of all groups over its error, by leaving each of them out."""
    every = list(range(groups))
    left_out = np.array([gain([g for g in every if g != left]) for left in every])
    return gain(every) / float(np.sqrt((groups - 1) / groups * np.square(left_out - left_out.mean()).sum()))
