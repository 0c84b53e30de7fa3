"""A block of vectors under polynomials of the frequency graph, and its Rayleigh-Ritz step: all that costs time."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from ..ext.hermitian import fill_values, fill_zero_frequency
from ..kernels.spmm import PANEL, filter_panel, load_panel, store_panel
from ..records import Coefficients, FloatArray
from ..threads import map_in_order
from .arrangement import ArrangedGraph

Block = NDArray[np.float32]

ROWS = 1024  # in one piece of work; fixed, so that results do not depend on the number of threads
TRIANGLE = 96  # columns of a symmetric product in one piece, at least
SAMPLE = 4096  # particles that residuals are measured on
SUMS = 16  # partial sums of a Gram matrix, whose rounding errors grow with the number of rows in each
DEPENDENT = 1e-5  # of the largest eigenvalue of the Gram matrix: what float32 cannot tell from the other vectors


class FilteredBlock:
    """T(S_k) x and S_k T(S_k) x for ``width`` vectors x, kept in the real form (parts n, width), rows Re x_i, Im x_i.

    Rows stand in the order of the arranged graph; vectors come and go in that of the particles.

    Memory: 2 x 8 n ``width`` bytes, and 384 n.
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
        self.panels = np.empty((3, self.n, PANEL), np.float32)

    def apply(self, centre: float, half: float, degree: int) -> tuple[Block, Block]:
        """T_degree((S - centre) / half) of the vectors in ``panels[0]``, and S times that: views of ``panels``."""
        g = self.arranged.graph
        interval = np.float32(centre), np.float32(half)
        filter_panel(g.indptr, self.splits, g.indices, self.values, self.panels, *interval, degree)
        return self.panels[degree % 2], self.panels[2]

    def filter(self, start: Coefficients, centre: float, half: float, degree: int) -> None:
        """The same for all of ``start`` (n, width)."""
        for column in range(0, self.width, self.columns):
            load_panel(start, self.arranged.order, column, self.parts, self.panels[0])
            for panel, block in zip(self.apply(centre, half, degree), self.padded, strict=True):
                store_panel(panel, column, self.parts, block)

    def ritz(self) -> tuple[Block, FloatArray]:
        """Rotation (width, r) of the block to Ritz vectors, and Ritz values (r,), descending.

        r is less than ``width`` when vectors depend on one another.
        """
        rows = len(self.x)
        size = max(ROWS, -(-rows // SUMS))

        # x^T S x is symmetric: its lower triangle does, in a few blocks of columns (and BLAS sees it of x^T x).
        bounds = np.linspace(0, self.width, 1 + max(1, self.width // TRIANGLE)).astype(int).tolist()
        columns = [slice(*pair) for pair in itertools.pairwise(bounds)]

        def multiply(first: int) -> FloatArray:
            sums = np.zeros((2, self.width, self.width))
            stop = min(first + size, rows)
            for start in range(first, stop, ROWS):
                x, sx = (block[start : min(start + ROWS, stop)] for block in (self.x, self.sx))
                sums[0] += x.T @ x
                for few in columns:
                    sums[1, few.start :, few] += sx[:, few.start :].T @ x[:, few]
            return sums

        gram, projected = np.add.reduce(map_in_order(multiply, range(0, rows, size), self.threads))
        projected = np.tril(projected) + np.tril(projected, -1).T
        scale = 1 / np.sqrt(np.maximum(np.diagonal(gram), np.finfo(np.float32).tiny))
        weight, turn = np.linalg.eigh(gram * np.outer(scale, scale))
        kept = weight > DEPENDENT * weight[-1]
        basis = scale[:, None] * turn[:, kept] / np.sqrt(weight[kept])
        values, mix = np.linalg.eigh(basis.T @ projected @ basis)
        return np.ascontiguousarray((basis @ mix)[:, ::-1], np.float32), values[::-1].copy()

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
