"""The symmetric neighbour graph on which every angular frequency has its matrix S_k (Eqs. 2-4 of arXiv:1904.07772)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array

from ..checks import check_kind
from ..errors import InputError
from ..ext.hermitian import assemble_o2, fill_zero_frequency
from ..ext.pattern import build_pattern
from ..records import FloatArray, FrequencyGraph, NeighborTable
from ..threads import resolve_threads

LEAST_TRUST = 0.01  # in an edge: nobody is without neighbours
LEAST_TRUSTED = 0.5  # share of the neighbours of a node that must be trusted for it to count fully


def build_frequency_graph(
    table: NeighborTable, *, weights: ArrayLike | None = None, threads: int | None = None
) -> FrequencyGraph:
    """The union of the directed neighbour lists as one symmetric CSR pattern.

    The key of an edge is (i, j, mirrored): where i lists j and j lists i, their two angles are averaged on the circle,
    so that S_k is exactly self-adjoint. Peak memory: about 60 bytes per entry of the table.

    Parameters
    ----------
    table : neighbours of n particles.
    weights : (n, K), positive, one per entry; 1 when left out.
    threads : the result does not depend on it.

    Raises
    ------
    InputError
        When the table is inconsistent (an index outside -1 ... n - 1, arrays of different shapes, angles that are not
        finite). Index -1 leaves a slot empty.
    ParameterError
        When ``table`` is no NeighborTable.

    Examples
    --------
    >>> import numpy as np
    >>> table = NeighborTable(np.array([[1], [0]]), np.zeros((2, 1), bool), np.array([[0.5], [-0.5]]), np.ones((2, 1)))
    >>> build_frequency_graph(table).angles.tolist()
    [0.5, -0.5]
    """
    check_kind("table", table, NeighborTable, "make it with search_neighbors")
    try:
        pattern = build_pattern(table.indices, table.mirrored, table.angles, weights, threads=resolve_threads(threads))
    except ValueError as error:
        raise InputError(f"the neighbour table does not make a graph: {error}") from error
    return FrequencyGraph(**pattern._asdict())


def build_trusted_graph(table: NeighborTable, trust: FloatArray, *, threads: int | None = None) -> FrequencyGraph:
    """The graph of ``table`` with edges weighed by the trust in both ends, for stacks with junk.

    Edge (i, j) weighs t_i t_j, so that everyone listens to those who are trusted: row i of D^-1 W does not depend on
    t_i. Junk whose neighbours are junk would have a graph of its own for that, in which wrong edges make eigenvalues
    as far from 0 as they like. So the degree of i is at least t_i times half the number of its neighbours: that takes
    nothing from nodes most of whose neighbours are trusted, and fades the others out.

    Parameters
    ----------
    table : neighbours of n particles.
    trust : (n,) between 0 and 1.
    threads : the result does not depend on it.

    Raises
    ------
    InputError
        When the table is inconsistent, or trust is not one number between 0 and 1 for each particle.

    Examples
    --------
    >>> zero = np.zeros((3, 2))
    >>> table = NeighborTable(np.array([[1, 2], [0, 2], [0, 1]]), zero.astype(bool), zero, zero)
    >>> build_trusted_graph(table, np.array([1.0, 1.0, 0.1])).degrees.round(2).tolist()
    [1.1, 1.1, 0.2]
    """
    if trust.shape != (len(table.indices),) or not np.all((trust >= 0) & (trust <= 1)):
        raise InputError(
            f"trust must be a number between 0 and 1 for each of {len(table.indices)} particles, got shape "
            f"{trust.shape}; take it from restore.junk.trust_in"
        )
    at_least = np.maximum(trust, LEAST_TRUST)
    weights = at_least[:, None] * np.append(at_least, LEAST_TRUST)[table.indices]  # index -1 is an empty slot
    graph = build_frequency_graph(table, weights=weights, threads=threads)
    return replace(graph, degrees=np.maximum(graph.degrees, LEAST_TRUSTED * at_least * np.diff(graph.indptr)))


def real_matrix(graph: FrequencyGraph, k: int) -> csr_array:
    """S_k as SciPy sees it: real symmetric float64, 2n x 2n on (Re x; Im x) for k >= 1, n x n for k = 0.

    Examples
    --------
    >>> import numpy as np
    >>> table = NeighborTable(np.array([[1], [0]]), np.zeros((2, 1), bool), np.zeros((2, 1)), np.ones((2, 1)))
    >>> real_matrix(build_frequency_graph(table), 1).shape
    (4, 4)
    """
    n = graph.n_particles
    if k == 0:
        return csr_array((fill_zero_frequency(graph, dtype="float64"), graph.indices, graph.indptr), shape=(n, n))
    return csr_array(assemble_o2(graph, k), shape=(2 * n, 2 * n))
