"""The graph with neighbours side by side: what a product with it reads then stands in the nearest cache."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..ext.hermitian import fill_zero_frequency
from ..kernels._simd import empty_aligned
from ..kernels.pairs import cluster_order
from ..kernels.spmm import PANEL, filter_panel
from ..records import FrequencyGraph, IndexArray
from ..threads import map_in_order, use_threads

ROWS = 512  # of the graph in one piece of work
VECTORS = 32  # random ones that are made smooth; a panel has room for more, which would tell little more
SMOOTHING = 8, 8  # degrees of the polynomials after which random vectors are smooth over the graph
EDGE = 0.8  # of the spectrum: what lies within it is damped


@dataclass(frozen=True)
class ArrangedGraph:
    """A frequency graph whose rows and columns stand in another order, and plain edges before mirrored ones."""

    graph: (
        FrequencyGraph  # row i belongs to particle order[i]; ``indices`` are rows, ascending within each kind of edge
    )
    order: IndexArray  # (n,)
    columns: NDArray[np.int32]  # ``graph.indices`` once more: products read them in half the time
    splits: IndexArray  # (n,): where the mirrored edges of each row begin

    @property
    def n_particles(self) -> int:
        return self.graph.n_particles


def arrange_graph(graph: FrequencyGraph, *, seed: int = 0, threads: int | None = None) -> ArrangedGraph:
    """``graph`` in an order in which neighbours are mostly close to each other.

    Random vectors that a polynomial of S_0 has made smooth tell apart what is far apart on the graph; the particles are
    halved along them again and again (:func:`mfvdm_fast.kernels.pairs.cluster_order`). Peak memory: about 65 bytes per
    edge and 2 kB per particle.

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
        return _reorder(graph, order, count)


def _reorder(graph: FrequencyGraph, order: IndexArray, threads: int) -> ArrangedGraph:
    """The graph with rows and columns in this ``order``."""
    n, sizes = len(order), np.diff(graph.indptr)[order]
    row_of, plain = np.empty_like(order), np.empty_like(order)
    row_of[order] = np.arange(n)
    indptr, narrow = np.append(0, np.cumsum(sizes)), np.empty(len(graph.indices), np.int32)
    out = replace(
        graph,
        indptr=indptr,
        indices=np.empty_like(graph.indices),
        mirrored=np.empty_like(graph.mirrored),
        angles=np.empty_like(graph.angles),
        weights=np.empty_like(graph.weights),
        degrees=graph.degrees[order],
    )

    def fill(first: int) -> None:
        stop = min(first + ROWS, n)
        size, here = sizes[first:stop], slice(int(indptr[first]), int(indptr[stop]))
        row = np.repeat(np.arange(stop - first), size)
        edges = np.arange(here.start, here.stop) + (graph.indptr[order[first:stop]] - indptr[first:stop])[row]
        columns, mirrored = row_of[graph.indices[edges]], graph.mirrored[edges]
        place = np.argsort((2 * row + mirrored) * n + columns)
        edges = edges[place]
        out.indices[here] = narrow[here] = columns[place]
        out.mirrored[here] = mirrored[place]
        out.angles[here], out.weights[here] = graph.angles[edges], graph.weights[edges]
        plain[first:stop] = np.bincount(row[~mirrored], minlength=stop - first)

    map_in_order(fill, range(0, n, ROWS), threads)
    return ArrangedGraph(out, order, narrow, indptr[:-1] + plain)


def _smooth_vectors(graph: FrequencyGraph, seed: int, threads: int) -> NDArray[np.complex64]:
    """(n, 32), real: random functions on the particles, smooth over the graph, of mean 0."""
    n = graph.n_particles
    values = fill_zero_frequency(graph, threads=threads).astype(np.complex64)
    root = np.sqrt(graph.degrees).astype(np.float32)[:, None]
    panels, columns = empty_aligned((3, n, PANEL)), graph.indices.astype(np.int32)
    panels[0] = 0
    x = panels[0, :, :VECTORS]
    x[:] = np.random.default_rng([seed, n]).standard_normal(x.shape, np.float32)
    for degree in SMOOTHING:  # even: the outcome is in panels[0] again
        interval = np.float32(0), np.float32(EDGE)
        filter_panel(graph.indptr, graph.indptr[1:], columns, values, 1, panels, *interval, degree)
        x /= np.maximum(np.linalg.norm(x, axis=0), np.finfo(np.float32).tiny)
    smooth = np.divide(x, root, out=np.zeros(x.shape, np.float32), where=root > 0)
    smooth -= smooth.mean(axis=0)
    return smooth.astype(np.complex64)
