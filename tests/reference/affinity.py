"""Algorithm 1 (Eqs. 5-9) on the doubled graph of 2n nodes, with the m^2-long features written out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pairs = Sequence[tuple[NDArray[np.float64], NDArray[Any]]]  # (values (m,), vectors (2n, m)) of k = 1, 2, ...


def long_features(values: NDArray[np.float64], vectors: NDArray[Any], diffusion_time: int) -> NDArray[np.complex128]:
    """V(i) = ((lambda_l lambda_r)^t u_l(i) conj(u_r(i)))_lr of Eq. 5, one row of m^2 numbers per node."""
    power = np.outer(values, values) ** diffusion_time
    return np.stack([(power * np.outer(u, u.conj())).ravel() for u in vectors])


def affinity(pairs: Pairs, diffusion_time: int, joint: bool = False) -> NDArray[np.float64]:
    """A(i, j) of Eq. 7, (2n, 2n): every frequency's feature has norm 1; ``joint``: all of them together have."""
    features = [long_features(values, vectors, diffusion_time) for values, vectors in pairs]
    if joint:
        together = np.concatenate(features, axis=1)
        together /= np.linalg.norm(together, axis=1, keepdims=True)
        return (together.conj() @ together.T).real
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in features]
    return np.sum([(v.conj() @ v.T).real for v in unit], axis=0)


def correlations(pairs: Pairs, diffusion_time: int) -> NDArray[np.complex128]:
    """z_k(i, j) = sum_l lambda_l^{2t} u_l(i) conj(u_l(j)), (k~, 2n, 2n)."""
    return np.stack([(u * values ** (2 * diffusion_time)) @ u.conj().T for values, u in pairs])


def best_angle(z: NDArray[np.complex128], n_grid: int = 1024, modulus: bool = False) -> NDArray[np.float64]:
    """argmax over a grid of Re sum_k z_k e^{ik alpha} (Eq. 9), z (k~, ...); ``modulus`` instead of the real part is
    what the authors' release takes. Radians."""
    grid = 2 * np.pi * np.arange(n_grid) / n_grid
    waves = np.exp(1j * np.outer(np.arange(1, len(z) + 1), grid))
    sums = np.einsum("k...,ka->...a", z, waves)
    return grid[(np.abs(sums) if modulus else sums.real).argmax(axis=-1)]
