"""Two sets of features against each other, straight from the definition: einsum in complex128, a grid of angles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mfvdm_fast.records import SteerableCoefficients


def pair_coefficients(observed: SteerableCoefficients, templates: SteerableCoefficients) -> NDArray[np.complex128]:
    """C_k(i, j), (2, k_max + 1, r, n): plain, then mirrored."""
    out = []
    for k in range(observed.k_max + 1):
        a, b = observed[k].astype(np.complex128), templates[k].astype(np.complex128)
        out.append([np.einsum("iq,jq->ij", a, b.conj()), np.einsum("iq,jq->ij", a, b)])
    return np.moveaxis(np.array(out), 1, 0)


def rotation_scores(
    observed: SteerableCoefficients, templates: SteerableCoefficients, n_angles: int, shift: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """max over angles (g + shift) 2 pi / n_angles of Re[C_0 + 2 sum C_k e^{ik alpha}], and where: both (2, r, n)."""
    c = pair_coefficients(observed, templates)
    best, where = np.full((2, *c.shape[2:]), -np.inf), np.zeros((2, *c.shape[2:]))
    k = np.arange(c.shape[1])
    for angle in (np.arange(n_angles) + shift) * (2 * np.pi / n_angles):
        s = np.tensordot(np.where(k == 0, 1, 2) * np.exp(1j * k * angle), c, axes=(0, 1)).real
        best, where = np.maximum(best, s), np.where(s > best, angle, where)
    return best, where


def best_templates(
    scores: NDArray[np.float64], own: NDArray[np.int64], n_best: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Codes 2 j + mirrored and scores (r, n_best) of scores (2, r, n): ties to the smaller code, never the own one."""
    masked = scores.copy()
    masked[:, np.arange(len(own)), own] = -np.inf
    flat = masked.transpose(1, 2, 0).reshape(len(own), -1)
    codes = np.argsort(-flat, axis=1, kind="stable")[:, :n_best]
    return codes, np.take_along_axis(flat, codes, axis=1)


def nearest_pivots(
    templates: SteerableCoefficients, power: NDArray[np.float64], pivots: NDArray[np.int64], n_angles: int
) -> NDArray[np.float64]:
    """min over angles of sum_c power_c |b_c - b'_c|^2, b' a pivot turned, and plain or mirrored: (2, n, c)."""
    weighed = SteerableCoefficients(templates.packed * np.sqrt(power), templates.offsets)
    own = SteerableCoefficients(weighed.packed[pivots], templates.offsets)
    k = np.repeat(np.arange(templates.k_max + 1), np.diff(templates.offsets))
    size = [(np.where(k == 0, 1, 2) * np.abs(side.packed) ** 2).sum(axis=1) for side in (weighed, own)]
    best, _ = rotation_scores(weighed, own, n_angles)
    return size[0][:, None] + size[1] - 2 * best
