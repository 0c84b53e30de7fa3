"""Common lines straight from the definition: float64, one pair of images and one pair of lines at a time."""

from __future__ import annotations

import numpy as np


def reference_transform(image: np.ndarray, x: float, y: float) -> complex:
    """F(x, y) of an image (L, L) whose origin is the pixel L // 2; x, y in cycles per px."""
    at = np.arange(len(image)) - len(image) // 2
    return complex((image * np.exp(-2j * np.pi * (x * at[None, :] + y * at[:, None]))).sum())


def reference_match(lines: np.ndarray, frequencies: np.ndarray, i: int, j: int) -> tuple[int, int, float, float]:
    """Of images i and j: the lines (half circle, whole circle) most alike, the slope and the curvature of the phase."""
    half = lines.shape[1]
    even = lines / np.sqrt((np.abs(lines) ** 2).mean(axis=(0, 1)))
    mean = even.mean(axis=(0, 1))
    best, where = -np.inf, (0, 0)
    for b in range(2 * half):
        for a in range(half):
            first = even[i, a] - mean
            second = even[j, b % half] - mean
            second = second if b < half else second.conj()
            score = (first * second.conj()).real.sum() / np.linalg.norm(first) / np.linalg.norm(second)
            if score > best:
                best, where = score, (a, b)
    a, b = where
    second = even[j, b % half] if b < half else even[j, b % half].conj()
    cross = even[i, a] * second.conj()
    return a, b, -(frequencies * cross.imag).sum(), 2 * np.pi * (frequencies**2 * cross.real).sum()


def reference_fit(
    design: np.ndarray,
    offsets: np.ndarray,
    expected: np.ndarray,
    variance: float,
    rounds: int,
    robust: float,
    alike: float,
) -> np.ndarray:
    """Weighted least squares with weights 1 / (1 + (r / s)^2)^2 / (alike s^2), s = robust median |r|, and the prior."""
    amplitudes = np.zeros_like(expected)
    for _ in range(rounds):
        residual = offsets - design @ amplitudes
        s = robust * np.median(np.abs(residual))
        rows = [row / s / np.sqrt(alike) / (1 + (r / s) ** 2) for row, r in zip(design, residual, strict=True)]
        right = [o / s / np.sqrt(alike) / (1 + (r / s) ** 2) for o, r in zip(offsets, residual, strict=True)]
        rows += list(np.eye(len(expected)) / np.sqrt(variance))
        right += list(expected / np.sqrt(variance))
        amplitudes = np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0]
    return amplitudes
