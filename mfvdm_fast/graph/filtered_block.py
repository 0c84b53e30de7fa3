"""A block of vectors under polynomials of the frequency graph, and its Rayleigh-Ritz step: all that costs time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..ext.hermitian import fill_values, fill_zero_frequency
from ..kernels.spmm import PANEL, filter_panel, load_panel, store_panel
from ..records import Coefficients, FloatArray
from ..threads import map_in_order, may_overlap, use_kernel_threads
from .arrangement import ArrangedGraph

Block = NDArray[np.float32]

ROWS = 1024  # in one piece of work; fixed, so that results do not depend on the number of threads
TRIANGLE = 96  # columns of a symmetric product in one piece, at least
PANELS_AT_ONCE = 4  # at most; further threads share the rows of a panel
SLAB = 48  # rows of a Gram matrix that are added in one piece
SAMPLE = 4096  # particles that residuals are measured on
SUMS = 16  # partial sums of a Gram matrix, whose rounding errors grow with the number of rows in each
DEPENDENT = 1e-5  # of the largest eigenvalue of the Gram matrix: what float32 cannot tell from the other vectors


class FilteredBlock:
    """T(S_k) x and S_k T(S_k) x for ``width`` vectors x, kept in the real form (parts n, width), rows Re x_i, Im x_i.

    Rows stand in the order of the arranged graph; vectors come and go in that of the particles.

    Memory: 2 x 8 n ``width`` bytes, and 384 n for each of up to four threads.
    """

    def __init__(self, arranged: ArrangedGraph, k: int, width: int, threads: int) -> None:
        self.arranged, self.width, self.threads, self.parts = arranged, width, threads, 2 if k else 1
        graph, self.n = arranged.graph, arranged.graph.n_particles
        if k:
            self.values, self.splits = fill_values(graph, k, threads=threads), arranged.splits
        else:  # vectors are real: an edge acts on them in the same way whether mirrored or not
            self.values = fill_zero_frequency(graph, threads=threads).astype(np.complex64)
            self.splits = graph.indptr[1:]
        self.columns = PANEL // self.parts  # in one panel
        padded = self.parts * self.n, -(-width // self.columns) * self.columns
        self.padded = np.empty(padded, np.float32), np.empty(padded, np.float32)
        self.x, self.sx = (block[:, :width] for block in self.padded)
        self.at_once = min(threads, PANELS_AT_ONCE) if may_overlap() else 1
        self.free = [np.empty((3, self.n, PANEL), np.float32) for _ in range(self.at_once)]
        self.panels = self.free[0]

    def apply(self, centre: float, half: float, degree: int) -> tuple[Block, Block]:
        """T_degree((S - centre) / half) of the vectors in ``panels[0]``, and S times that: views of ``panels``."""
        return self._apply(self.panels, centre, half, degree)

    def _apply(self, panels: Block, centre: float, half: float, degree: int) -> tuple[Block, Block]:
        g = self.arranged.graph
        interval = np.float32(centre), np.float32(half)
        filter_panel(g.indptr, self.splits, g.indices, self.values, panels, *interval, degree)
        return panels[degree % 2], panels[2]

    def filter(self, start: Coefficients, fresh: Coefficients, centre: float, half: float, degree: int) -> None:
        """The same for all of ``start`` (n, s) and ``fresh`` (n, width - s).

        Threads that share a panel wait for each other after each degree; so each takes a panel of its own.
        """
        whole = start.shape[1] // self.columns * self.columns
        rest = np.concatenate([start[:, whole:], fresh], axis=1)

        def filter_columns(column: int, threads: int) -> None:
            panels = self.free.pop()  # list operations are atomic
            vectors, first = (start, column) if column < whole else (rest, column - whole)
            with use_kernel_threads(threads):
                load_panel(vectors, self.arranged.order, first, self.parts, panels[0])
                for panel, block in zip(self._apply(panels, centre, half, degree), self.padded, strict=True):
                    store_panel(panel, column, self.parts, block)
            self.free.append(panels)

        columns = range(0, self.width, self.columns)
        rounds = len(columns) // self.at_once * self.at_once
        alone = partial(filter_columns, threads=self.threads // self.at_once)
        map_in_order(alone, columns[:rounds], self.at_once)
        for column in columns[rounds:]:
            filter_columns(column, self.threads)

    def ritz(self) -> tuple[Block, FloatArray]:
        """Rotation (width, r) of the block to Ritz vectors, and Ritz values (r,), descending.

        r is less than ``width`` when vectors depend on one another.
        """
        rows = len(self.x)
        size = max(ROWS, -(-rows // SUMS))
        bounds = np.linspace(0, self.width, 1 + max(1, self.width // TRIANGLE)).astype(int).tolist()
        columns = [slice(*pair) for pair in itertools.pairwise(bounds)]

        def pieces(first: int) -> Iterator[slice]:
            stop = min(first + size, rows)
            return (slice(start, min(start + ROWS, stop)) for start in range(first, stop, ROWS))

        def multiply(first: int) -> FloatArray:
            total = np.zeros((self.width, self.width))
            for piece in pieces(first):
                total += self.x[piece].T @ self.x[piece]
            return total

        def project(first: int) -> FloatArray:
            # x^T S x is symmetric: its lower triangle does, in a few blocks of columns (and BLAS sees it of x^T x).
            total = np.zeros((self.width, self.width))
            for piece in pieces(first):
                x, sx = self.x[piece], self.sx[piece]
                for few in columns:
                    total[few.start :, few] += sx[:, few.start :].T @ x[:, few]
            return total

        gram = add_up(map_in_order(multiply, range(0, rows, size), self.threads), self.threads)
        # Independent directions are found while other threads go on.
        first, *others = map_in_order(
            lambda piece: independent_directions(gram) if piece is None else project(piece),
            [None, *range(0, rows, size)],
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
            y = (self.x[first * self.parts : stop * self.parts] @ rotation).reshape(stop - first, self.parts, m)
            piece = np.zeros((stop - first, m), np.complex64)
            piece.real = y[:, 0]
            if self.parts == 2:
                piece.imag = y[:, 1]
            out[self.arranged.order[first:stop]] = piece
            seen = np.arange(-first % step, stop - first, step)
            difference = self.sx.reshape(self.n, self.parts, -1)[first + seen].reshape(-1, self.width) @ rotation
            difference -= y[seen].reshape(len(difference), m) * shift
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
