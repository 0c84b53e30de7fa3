"""A block of vectors under polynomials of the frequency graph, and its Rayleigh-Ritz step: all that costs time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..ext.hermitian import fill_values, fill_zero_frequency
from ..kernels._simd import empty_aligned
from ..kernels.spmm import PANEL, filter_panel, join_rows, put_rows, split_rows
from ..records import Coefficients, FloatArray, IndexArray
from ..threads import map_in_order, may_overlap, use_kernel_threads
from .arrangement import ArrangedGraph

Block = NDArray[np.float32]
Rows = Callable[[IndexArray], Coefficients]  # of some particles: (r, width)

ROWS = 512  # particles in one piece of work; fixed, so that results do not depend on the number of threads
GRAM_ROWS = 1024  # in one product of a Gram matrix, at most: products of fewer cost more
TRIANGLE = 96  # columns of a symmetric product in one piece, at least
PANELS_AT_ONCE = 4  # at most; further threads share the rows of a panel
SLAB = 48  # rows of a Gram matrix that are added in one piece
SAMPLE = 1024  # particles that residuals are measured on
SUMS = 16  # partial sums of a Gram matrix, whose rounding errors grow with the number of rows in each
DEPENDENT = 1e-5  # of the largest eigenvalue of the Gram matrix: what float32 cannot tell from the other vectors


class FilteredBlock:
    """x and S_k x for ``width`` vectors x after a filter, each as panels of 32 complex or 64 real vectors.

    Rows of the panels stand in the order of the arranged graph; vectors come and go in that of the particles. Panels
    are what the filter works on; for dense products some rows at a time are put together, in the real form (parts r,
    width), rows Re x_i, Im x_i.

    Memory: 2 x 8 n ``width`` bytes, and 768 n for each of up to four threads.
    """

    def __init__(self, arranged: ArrangedGraph, k: int, width: int, threads: int) -> None:
        self.arranged, self.width, self.threads, self.parts = arranged, width, threads, 2 if k else 1
        graph, self.n = arranged.graph, arranged.graph.n_particles
        if k:
            self.values = fill_values(graph, k, threads=threads)
        else:  # vectors are real: an edge acts on them in the same way whether mirrored or not
            self.values = fill_zero_frequency(graph, threads=threads).astype(np.complex64)
        shape = -(-width * self.parts // PANEL), self.n, PANEL
        self.x, self.sx = empty_aligned(shape), empty_aligned(shape)
        self.at_once = min(threads, PANELS_AT_ONCE, len(self.x)) if may_overlap() else 1
        self.free = [empty_aligned((3, self.n, PANEL)) for _ in range(self.at_once)]

    def multiply(self, panel: Block) -> Block:
        """S times one panel (n, 64) of vectors: a view, until the next product."""
        panels = self.free[0]
        panels[0] = panel
        return self._apply(panels, 0.0, 1.0, 0)[1]

    def _apply(self, panels: Block, centre: float, half: float, degree: int) -> tuple[Block, Block]:
        """T_degree((S - centre) / half) of the vectors in ``panels[0]``, and S times that: views of ``panels``."""
        g, interval = self.arranged, (np.float32(centre), np.float32(half))
        filter_panel(g.graph.indptr, g.splits, g.columns, self.values, self.parts, panels, *interval, degree)
        return panels[degree % 2], panels[2]

    def filter(self, start: Rows, centre: float, half: float, degree: int) -> None:
        """x = T_degree((S - centre) / half) applied to the vectors of which ``start`` gives rows, and S x.

        Threads that share a panel wait for each other after each degree; so each takes a panel of its own, and works
        on a copy that stays in its cache.
        """

        def split(first: int) -> None:
            split_rows(start(self.arranged.order[first : first + ROWS]), first, self.parts, self.x)

        def filter_column(column: int, threads: int) -> None:
            panels = self.free.pop()  # list operations are atomic
            panels[0] = self.x[column]
            with use_kernel_threads(threads):
                self.x[column], self.sx[column] = self._apply(panels, centre, half, degree)
            self.free.append(panels)

        map_in_order(split, range(0, self.n, ROWS), self.threads)
        rounds = len(self.x) // self.at_once * self.at_once
        alone = partial(filter_column, threads=self.threads // self.at_once)
        map_in_order(alone, range(rounds), self.at_once)
        for column in range(rounds, len(self.x)):
            filter_column(column, self.threads)

    def rows(self, panels: Block, rows: IndexArray) -> Block:
        """Some rows of ``x`` or ``sx`` in the real form, (parts r, width)."""
        block = np.empty((self.parts * len(rows), len(panels) * PANEL // self.parts), np.float32)
        join_rows(panels, rows, self.parts, block)
        return block[:, : self.width]

    def ritz(self) -> tuple[Block, FloatArray]:
        """Rotation (width, r) of the block to Ritz vectors, and Ritz values (r,), descending.

        r is less than ``width`` when vectors depend on one another.
        """
        size = max(ROWS, -(-self.n // SUMS))
        bounds = np.linspace(0, self.width, 1 + max(1, self.width // TRIANGLE)).astype(int).tolist()
        columns = [slice(*pair) for pair in itertools.pairwise(bounds)]

        def pieces(first: int) -> Iterator[IndexArray]:
            stop = min(first + size, self.n)
            step = -(-size // -(-size // GRAM_ROWS))
            return (np.arange(start, min(start + step, stop)) for start in range(first, stop, step))

        def square(first: int) -> FloatArray:
            total = np.zeros((self.width, self.width))
            for piece in pieces(first):
                x = self.rows(self.x, piece)
                total += x.T @ x
            return total

        def project(first: int) -> FloatArray:
            # x^T S x is symmetric: its lower triangle does, in a few blocks of columns (and BLAS sees it of x^T x).
            total = np.zeros((self.width, self.width))
            for piece in pieces(first):
                x, sx = self.rows(self.x, piece), self.rows(self.sx, piece)
                for few in columns:
                    total[few.start :, few] += sx[:, few.start :].T @ x[:, few]
            return total

        gram = add_up(map_in_order(square, range(0, self.n, size), self.threads), self.threads)
        # Independent directions are found while other threads go on.
        first, *others = map_in_order(
            lambda piece: independent_directions(gram) if piece is None else project(piece),
            [None, *range(0, self.n, size)],
            self.threads,
        )
        projected = add_up(others, self.threads)
        projected = np.tril(projected) + np.tril(projected, -1).T
        values, mix = np.linalg.eigh(first.T @ projected @ first)
        return np.ascontiguousarray((first @ mix)[:, ::-1], np.float32), values[::-1].copy()

    def rotate(self, rotation: Block, values: FloatArray) -> tuple[Coefficients, FloatArray]:
        """Ritz vectors (n, m) of the ``rotation`` (width, m) to ``values`` (m,), and the norms of their residuals.

        Of more than SAMPLE particles, only about as many, evenly spread, tell the norms: within a few per cent.
        """
        m = len(values)
        out = np.empty((self.n, m), np.complex64)
        shift = values.astype(np.float32)
        step = max(1, self.n // SAMPLE)

        def turn(first: int) -> FloatArray:
            stop = min(first + ROWS, self.n)
            y = self.rows(self.x, np.arange(first, stop)) @ rotation
            put_rows(y, self.parts, self.arranged.order[first:stop], out)
            seen = np.arange(-first % step, stop - first, step)
            difference = self.rows(self.sx, first + seen) @ rotation
            difference -= y.reshape(stop - first, self.parts, m)[seen].reshape(len(difference), m) * shift
            return np.einsum("ij,ij->j", difference, difference, dtype=np.float64)

        squares = map_in_order(turn, range(0, self.n, ROWS), self.threads)
        return out, np.sqrt(np.add.reduce(squares) * (self.n / len(range(0, self.n, step))))


def independent_directions(gram: FloatArray) -> FloatArray:
    """Combinations (width, r) of vectors with this Gram matrix that are orthonormal.

    >>> independent_directions(np.array([[4.0, 4.0], [4.0, 4.0]])).round(3).tolist()
    [[0.25], [0.25]]
    """
    scale = 1 / np.sqrt(np.maximum(np.diagonal(gram), np.finfo(np.float32).tiny))
    weight, turn = np.linalg.eigh(gram * np.outer(scale, scale))
    kept = weight > DEPENDENT * weight[-1]
    directions: FloatArray = scale[:, None] * turn[:, kept] / np.sqrt(weight[kept])
    return directions


def add_up(parts: Sequence[FloatArray], threads: int) -> FloatArray:
    """The sum of matrices, in their order; some rows at a time, to share the work.

    >>> add_up([np.eye(2), np.ones((2, 2))], 2).tolist()
    [[2.0, 1.0], [1.0, 2.0]]
    """
    total = parts[0].copy()

    def add(first: int) -> None:
        for part in parts[1:]:
            total[first : first + SLAB] += part[first : first + SLAB]

    map_in_order(add, range(0, len(total), SLAB), threads)
    return total
