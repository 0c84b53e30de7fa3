"""The block products of the eigensolver, by SciPy's sparse matrices and NumPy."""

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


def as_halves(x: NDArray[Any]) -> NDArray[np.float32]:
    """Complex (n, m) as float32 (n, 2m): real parts, then imaginary parts."""
    return np.concatenate([x.real, x.imag], axis=1).astype(np.float32)
