"""The graph and its polynomials by SciPy's sparse matrices and NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mfvdm_fast.records import FrequencyGraph


def apply_graph(graph: FrequencyGraph, values: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
    """S x for x (n, m) complex: mirrored edges take conj(x)."""
    n = graph.n_particles
    plain, mirrored = (
        sp.csr_array((np.where(flag, values, 0), graph.indices, graph.indptr), shape=(n, n))
        for flag in (~graph.mirrored, graph.mirrored)
    )
    return plain @ x + mirrored @ x.conj()


def chebyshev(
    graph: FrequencyGraph, values: NDArray[Any], x: NDArray[Any], centre: float, half: float, degree: int
) -> NDArray[Any]:
    """T_degree((S - centre) / half) x by T_{j+1} = 2 t T_j - T_{j-1}."""

    def mapped(v: NDArray[Any]) -> NDArray[Any]:
        return (apply_graph(graph, values, v) - centre * v) / half

    older, newer = x, mapped(x)
    if degree == 0:
        return older
    for _ in range(degree - 1):
        older, newer = newer, 2 * mapped(newer) - older
    return newer
