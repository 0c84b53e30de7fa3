"""Eigenpairs of the frequency graph by dense LAPACK, and small graphs to try solvers on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfvdm_fast.metrics import pair_truth
from mfvdm_fast.records import NeighborTable


def eigenpairs(
    matrix: NDArray[Any], n_eigenvectors: int, by_magnitude: bool = False
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """The largest (algebraic, or of largest magnitude as in the authors' release) eigenpairs, values descending."""
    values, vectors = np.linalg.eigh(matrix)
    if by_magnitude:
        kept = np.argsort(-np.abs(values), kind="stable")[:n_eigenvectors]
        values, vectors = values[kept], vectors[:, kept]
    order = np.argsort(-values, kind="stable")[:n_eigenvectors]
    return values[order], vectors[:, order]


def random_rotations(n: int, seed: int) -> NDArray[np.float64]:
    """(n, 3, 3), uniform: QR of Gaussian matrices with the signs fixed."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, 3, 3)))
    q = q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :]
    return q * np.linalg.det(q)[:, None, None]


def sphere_table(n: int, n_neighbors: int, seed: int = 0, noise: float = 0.0) -> NeighborTable:
    """The true neighbours, plain and mirrored, of n uniform views; ``noise`` radians are added to the true angles."""
    rotations = random_rotations(n, seed)
    views = rotations[:, :, 2]
    score = np.concatenate([views @ views.T, -views @ views.T], axis=1)
    score[np.arange(n), np.arange(n)] = score[np.arange(n), n + np.arange(n)] = -np.inf
    code = np.argsort(-score, axis=1, kind="stable")[:, :n_neighbors]
    indices, mirrored = code % n, code >= n
    rows = np.repeat(np.arange(n), n_neighbors)
    angles = pair_truth(rotations, rows, indices.ravel(), mirrored.ravel())[1].reshape(indices.shape)
    angles += noise * np.random.default_rng(seed + 1).normal(size=angles.shape)
    return NeighborTable(indices, mirrored, angles, np.take_along_axis(score, code, axis=1))


def side_by_side(first: NeighborTable, second: NeighborTable) -> NeighborTable:
    """Two tables as one, without an edge between them."""
    moved = second.indices + first.n_particles
    return NeighborTable(
        np.concatenate([first.indices, moved]),
        np.concatenate([first.mirrored, second.mirrored]),
        np.concatenate([first.angles, second.angles]),
        np.concatenate([first.scores, second.scores]),
    )
