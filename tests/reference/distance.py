"""All pairs, straight from the definition: C_k by einsum in complex128, all candidates sorted."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfvdm_fast.records import SteerableCoefficients


def pair_coefficients(features: SteerableCoefficients) -> NDArray[np.complex128]:
    """C_k(i, j), (2, k_max + 1, n, n): plain, then mirrored."""
    out = []
    for k in range(features.k_max + 1):
        b = features[k].astype(np.complex128)
        out.append([np.einsum("iq,jq->ij", b, b.conj()), np.einsum("iq,jq->ij", b, b)])
    return np.moveaxis(np.array(out), 1, 0)


def rotation_scores(features: SteerableCoefficients, n_angles: int) -> NDArray[np.float64]:
    """max over ``n_angles`` equidistant angles of Re[C_0 + 2 sum C_k e^{ik alpha}], (2, n, n)."""
    k = np.arange(features.k_max + 1)
    waves = np.exp(2j * np.pi * np.outer(np.arange(n_angles), k) / n_angles) * np.where(k == 0, 1, 2)
    c = pair_coefficients(features)
    best = np.full((2, *c.shape[2:]), -np.inf)
    for wave in waves:
        best = np.maximum(best, np.tensordot(wave, c, axes=(0, 1)).real)
    return best


def affinities(features: SteerableCoefficients) -> NDArray[np.float64]:
    """sum_k |C_k|^2, (2, n, n)."""
    return (np.abs(pair_coefficients(features)) ** 2).sum(axis=1)


def best_candidates(
    scores: NDArray[Any], n_best: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64]]:
    """(indices, mirrored, scores) (n, n_best) of scores (2, n, n); ties to the smaller j, then plain; not itself."""
    n = scores.shape[1]
    masked = scores.astype(np.float64)
    masked[:, np.arange(n), np.arange(n)] = -np.inf
    flat = masked.transpose(1, 2, 0).reshape(n, 2 * n)  # column 2 j + mirrored
    codes = np.argsort(-flat, axis=1, kind="stable")[:, :n_best]
    return codes // 2, codes % 2 == 1, np.take_along_axis(flat, codes, axis=1)
