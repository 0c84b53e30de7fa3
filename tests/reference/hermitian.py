"""Slow twins of the frequency graph's assembly: a dictionary of edges, and SciPy matrices from their definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

Edge = tuple[int, int, bool]


def edge_dictionary(
    indices: ArrayLike, mirrored: ArrayLike, angles: ArrayLike, weights: ArrayLike | None = None
) -> dict[Edge, tuple[float, float]]:
    """(i, j, mirrored) -> (angle, weight) for both directions of every listed edge; means where it is listed twice."""
    indices, mirrored, angles = np.asarray(indices), np.asarray(mirrored), np.asarray(angles)
    ones = np.ones(indices.shape) if weights is None else np.asarray(weights)
    found: dict[Edge, list[tuple[complex, float]]] = {}
    for i, slot in np.ndindex(*indices.shape):
        j, flag, alpha = int(indices[i, slot]), bool(mirrored[i, slot]), float(angles[i, slot])
        if j == i or j < 0:
            continue
        weight = float(ones[i, slot])
        found.setdefault((i, j, flag), []).append((complex(np.exp(1j * alpha)), weight))
        found.setdefault((j, i, flag), []).append((complex(np.exp(1j * alpha if flag else -1j * alpha)), weight))
    return {
        key: (float(np.angle(sum(z for z, _ in seen))), float(np.mean([w for _, w in seen])))
        for key, seen in sorted(found.items())
    }


def o2_matrix(edges: dict[Edge, tuple[float, float]], n: int, k: int) -> sp.csr_array:
    """The real symmetric 2n x 2n matrix, one rotation or reflection block per edge."""
    degree = np.zeros(n)
    for (i, _, _), (_, weight) in edges.items():
        degree[i] += weight
    matrix = sp.lil_array((2 * n, 2 * n))
    for (i, j, flag), (alpha, weight) in edges.items():
        if weight > 0:
            c, s = np.cos(k * alpha), np.sin(k * alpha)
            block = np.array([[c, -s], [-s, -c]] if flag else [[c, s], [-s, c]])
            block *= weight / np.sqrt(degree[i] * degree[j])
            for a in range(2):
                for b in range(2):
                    matrix[i + a * n, j + b * n] += block[a, b]
    return sp.csr_array(matrix)


def operator(edges: dict[Edge, tuple[float, float]], x: NDArray[Any], k: int) -> NDArray[np.complex128]:
    """(S_k x)_i straight from the sum over edges; x is (n,) complex."""
    n = len(x)
    degree = np.zeros(n)
    for (i, _, _), (_, weight) in edges.items():
        degree[i] += weight
    y = np.zeros(n, complex)
    for (i, j, flag), (alpha, weight) in edges.items():
        if weight > 0:
            phase = weight * np.exp(-1j * k * alpha) / np.sqrt(degree[i] * degree[j])
            y[i] += phase * (np.conj(x[j]) if flag else x[j])
    return y


def hermitian_matrix(edges: dict[Edge, tuple[float, float]], n: int, k: int) -> NDArray[np.complex128]:
    """The authors' doubled graph, dense: node i + n is the mirror image of node i."""
    adjacency = np.zeros((2 * n, 2 * n), complex)
    degree = np.zeros(2 * n)
    for (i, j, flag), (alpha, weight) in edges.items():
        phase = weight * np.exp(-1j * k * alpha)
        ends = ((i, j + n), (i + n, j)) if flag else ((i, j), (i + n, j + n))
        adjacency[ends[0]] += phase
        adjacency[ends[1]] += np.conj(phase)
        degree[[i, i + n]] += weight
    scale = np.where(degree > 0, 1 / np.sqrt(np.maximum(degree, 1e-300)), 0)
    return scale[:, None] * adjacency * scale[None, :]
