"""The graph with neighbours side by side: what a product with it reads then stands in the nearest cache."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..ext.hermitian import fill_zero_frequency
from ..kernels.pairs import cluster_order
from ..kernels.spmm import PANEL, filter_panel
from ..records import FrequencyGraph, IndexArray
from ..threads import use_threads

SMOOTHING = 8, 8  # degrees of the polynomials after which random vectors are smooth over the graph
EDGE = 0.8  # of the spectrum: what lies within it is damped


@dataclass(frozen=True)
class ArrangedGraph:
    """A frequency graph whose rows and columns stand in another order, and plain edges before mirrored ones."""

    graph: (
        FrequencyGraph  # row i belongs to particle order[i]; ``indices`` are rows, ascending within each kind of edge
    )
    order: IndexArray  # (n,)
    splits: IndexArray  # (n,): where the mirrored edges of each row begin

    @property
    def n_particles(self) -> int:
        return self.graph.n_particles


def arrange_graph(graph: FrequencyGraph, *, seed: int = 0, threads: int | None = None) -> ArrangedGraph:
    """``graph`` in an order in which neighbours are mostly close to each other.

    Random vectors that a polynomial of S_0 has made smooth tell apart what is far apart on the graph; the particles are
    halved along them again and again (:func:`mfvdm_fast.kernels.pairs.cluster_order`). Peak memory: about 60 bytes per
    edge and 1 kB per particle.

    Examples
    --------
    >>> from mfvdm_fast.graph.frequency_graph import build_frequency_graph
    >>> from mfvdm_fast.records import NeighborTable
    >>> zero = np.zeros((2, 1))
    >>> arranged = arrange_graph(build_frequency_graph(NeighborTable(np.array([[1], [0]]), zero == 0, zero, zero)))
    >>> sorted(arranged.order.tolist()), arranged.splits.tolist()
    ([0, 1], [0, 1])
    """
    with use_threads(threads) as count:
        order = cluster_order(_smooth_vectors(graph, seed, count))
    row_of = np.empty_like(order)
    row_of[order] = np.arange(len(order))
    sizes = np.diff(graph.indptr)
    rows = np.repeat(row_of, sizes)
    edges = np.lexsort((row_of[graph.indices], graph.mirrored, rows))
    indptr = np.concatenate([[0], np.cumsum(sizes[order])]).astype(np.int64)
    plain = np.bincount(rows[~graph.mirrored], minlength=len(order))
    arranged = replace(
        graph,
        indptr=indptr,
        indices=row_of[graph.indices][edges],
        mirrored=graph.mirrored[edges],
        angles=graph.angles[edges],
        weights=graph.weights[edges],
        degrees=graph.degrees[order],
    )
    return ArrangedGraph(arranged, order, indptr[:-1] + plain)


def _smooth_vectors(graph: FrequencyGraph, seed: int, threads: int) -> NDArray[np.complex64]:
    """(n, 32), real: random functions on the particles, smooth over the graph, of mean 0."""
    n = graph.n_particles
    values = fill_zero_frequency(graph, threads=threads).astype(np.complex64)
    root = np.sqrt(graph.degrees).astype(np.float32)[:, None]
    panels = np.empty((3, n, PANEL), np.float32)
    panels[0] = np.random.default_rng([seed, n]).standard_normal((n, PANEL), np.float32)
    for degree in SMOOTHING:  # even: the outcome is in panels[0] again
        interval = np.float32(0), np.float32(EDGE)
        filter_panel(graph.indptr, graph.indptr[1:], graph.indices, values, panels, *interval, degree)
        panels[0] /= np.maximum(np.linalg.norm(panels[0], axis=0), np.finfo(np.float32).tiny)
    smooth = np.divide(panels[0], root, out=np.zeros((n, PANEL), np.float32), where=root > 0)
    smooth -= smooth.mean(axis=0)
    return smooth.astype(np.complex64)
