"""Metrics one pair, one image, one window at a time."""

from __future__ import annotations

import numpy as np


def reference_pair_truth(rotation_i: np.ndarray, rotation_j: np.ndarray, mirrored: bool) -> tuple[float, float]:
    """(view distance in degrees, in-plane angle in radians) of one pair."""
    if mirrored:
        rotation_j = rotation_j @ np.diag([1.0, -1.0, -1.0])
    m = rotation_i.T @ rotation_j
    cosine = float(np.clip(rotation_i[:, 2] @ rotation_j[:, 2], -1.0, 1.0))
    return float(np.degrees(np.arccos(cosine))), float(np.arctan2(m[1, 0] - m[0, 1], m[0, 0] + m[1, 1]))


def reference_ssim(first: np.ndarray, second: np.ndarray, data_range: float) -> float:
    """SSIM of two images from every 7 x 7 window that lies inside."""
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = []
    for y in range(first.shape[0] - 6):
        for x in range(first.shape[1] - 6):
            a, b = first[y : y + 7, x : x + 7].ravel(), second[y : y + 7, x : x + 7].ravel()
            ma, mb, cov = a.mean(), b.mean(), np.cov(a, b)
            top = (2 * ma * mb + c1) * (2 * cov[0, 1] + c2)
            values.append(top / ((ma**2 + mb**2 + c1) * (cov[0, 0] + cov[1, 1] + c2)))
    return float(np.mean(values))
