"""The reference eigensolver: SciPy's ARPACK on the real form of the frequency graph."""

from __future__ import annotations

import numpy as np

from ..errors import SolverError
from ..records import Eigenbasis, FrequencyGraph
from .arrangement import ArrangedGraph
from .frequency_graph import real_matrix

SMALLEST_EIGENVALUE = 1e-6  # only positive eigenvalues take part; zero is what an empty graph gives
MOST_NOISE = 0.5  # of an eigenvalue that is taken for noise, however deep the spectrum reaches
DENSE_SIZE = 256  # rows up to which LAPACK is quick; it also sees every copy of a multiple eigenvalue


def smallest_signal(noise_margin: float, lowest: float) -> float:
    """What an eigenvalue must exceed to count: the margin times the depth of the spectrum, at most MOST_NOISE.

    Good neighbours of a large stack reach deep as well, and a threshold above 1 would leave nothing.

    >>> smallest_signal(1.8, -0.1), smallest_signal(1.8, -0.9)
    (0.18, 0.5)
    """
    return max(SMALLEST_EIGENVALUE, min(-noise_margin * lowest, MOST_NOISE))


def solve_with_arpack(
    graph: FrequencyGraph | ArrangedGraph, k: int, n_eigenvectors: int, noise_margin: float = 0.0, seed: int = 0
) -> Eigenbasis:
    """The leading eigenpairs, float64, on the real form of 2n (k = 0: n) rows.

    Only positive ones, and with a ``noise_margin`` those that many times farther from 0 than the lowest.

    Tiny graphs go to dense LAPACK. ARPACK starts from one vector and may miss copies of an eigenvalue that a graph of
    several components repeats.

    Raises
    ------
    SolverError
        When ARPACK does not converge, or the graph has no edges.

    Examples
    --------
    >>> from mfvdm_fast.graph.frequency_graph import build_frequency_graph
    >>> from mfvdm_fast.records import NeighborTable
    >>> table = NeighborTable(np.array([[1], [0]]), np.zeros((2, 1), bool), np.zeros((2, 1)), np.ones((2, 1)))
    >>> solve_with_arpack(build_frequency_graph(table), 1, 2).values.round(6).tolist()
    [1.0, 1.0]
    """
    from scipy.sparse.linalg import ArpackError, eigsh

    matrix = real_matrix(graph.graph if isinstance(graph, ArrangedGraph) else graph, k)
    size = matrix.shape[0]
    if 4 * n_eigenvectors >= size or size <= DENSE_SIZE:
        values, x = np.linalg.eigh(matrix.toarray())
        lowest = float(values[0])
    else:
        start = np.random.default_rng([seed, k]).standard_normal(size)
        try:
            values, x = eigsh(matrix, n_eigenvectors, which="LA", v0=start)
            lowest = float(eigsh(matrix, 1, which="SA", v0=start)[0][0]) if noise_margin else -1.0
        except ArpackError as error:  # not converged, or a graph without edges
            found = len(getattr(error, "eigenvalues", ()))
            raise SolverError(
                f"eigenbasis of frequency k = {k}: ARPACK found {found} of {n_eigenvectors} eigenvectors; "
                "ask for fewer or use the solver 'chebyshev'"
            ) from error
    order = np.argsort(values)[::-1][:n_eigenvectors]
    order = order[values[order] > smallest_signal(noise_margin, lowest)]
    values, x = values[order], x[:, order]
    residuals = np.linalg.norm(matrix @ x - x * values, axis=0)
    n = graph.n_particles
    vectors = x.astype(np.complex64) if k == 0 else (x[:n] + 1j * x[n:]).astype(np.complex64)
    if isinstance(graph, ArrangedGraph):
        vectors[graph.order] = vectors.copy()
    return Eigenbasis(k, values, vectors, residuals, 1, "converged", lowest)
