"""A block of vectors under polynomials of the frequency graph, and its Rayleigh-Ritz step: all that costs time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..ext.hermitian import fill_values, fill_zero_frequency
from ..kernels.spmm import PANEL, filter_panel, load_panel, store_panel
from ..records import Coefficients, FloatArray, FrequencyGraph
from ..threads import map_in_order

Block = NDArray[np.float32]

ROWS = 1024  # in one piece of work; fixed, so that results do not depend on the number of threads
SUMS = 32  # partial sums of a Gram matrix, whose rounding errors grow with the number of rows in each
DEPENDENT = 1e-5  # of the largest eigenvalue of the Gram matrix: what float32 cannot tell from the other vectors


class FilteredBlock:
    """T(S_k) x and S_k T(S_k) x for ``width`` vectors x, kept in the real form (parts n, width), rows Re x_i, Im x_i.

    Memory: 2 x 8 n ``width`` bytes, and 384 n.
    """

    def __init__(self, graph: FrequencyGraph, k: int, width: int, threads: int) -> None:
        self.graph, self.width, self.threads, self.parts = graph, width, threads, 2 if k else 1
        if k:
            self.values, self.mirrored = fill_values(graph, k, threads=threads), graph.mirrored
        else:  # vectors are real: an edge acts on them in the same way whether mirrored or not
            self.values = fill_zero_frequency(graph, threads=threads).astype(np.complex64)
            self.mirrored = np.zeros_like(graph.mirrored)
        self.columns = PANEL // self.parts  # in one panel
        padded = self.parts * graph.n_particles, -(-width // self.columns) * self.columns
        self.padded = np.empty(padded, np.float32), np.empty(padded, np.float32)
        self.x, self.sx = (block[:, :width] for block in self.padded)
        self.panels = np.empty((3, graph.n_particles, PANEL), np.float32)

    def apply(self, centre: float, half: float, degree: int) -> tuple[Block, Block]:
        """T_degree((S - centre) / half) of the vectors in ``panels[0]``, and S times that: views of ``panels``."""
        g = self.graph
        interval = np.float32(centre), np.float32(half)
        filter_panel(g.indptr, g.indices, self.mirrored, self.values, self.panels, *interval, degree)
        return self.panels[degree % 2], self.panels[2]

    def filter(self, start: Coefficients, centre: float, half: float, degree: int) -> None:
        """The same for all of ``start`` (n, width)."""
        for column in range(0, self.width, self.columns):
            load_panel(start, column, self.parts, self.panels[0])
            for panel, block in zip(self.apply(centre, half, degree), self.padded, strict=True):
                store_panel(panel, column, self.parts, block)

    def ritz(self) -> tuple[Block, FloatArray]:
        """Rotation (width, r) of the block to Ritz vectors, and Ritz values (r,), descending.

        r is less than ``width`` when vectors depend on one another.
        """
        rows = len(self.x)
        size = max(ROWS, -(-rows // SUMS))

        def multiply(first: int) -> FloatArray:
            sums = np.zeros((2, self.width, self.width))
            stop = min(first + size, rows)
            for start in range(first, stop, ROWS):
                x = self.x[start : min(start + ROWS, stop)]
                sums[0] += x.T @ x
                sums[1] += x.T @ self.sx[start : min(start + ROWS, stop)]
            return sums

        gram, projected = np.add.reduce(map_in_order(multiply, range(0, rows, size), self.threads))
        scale = 1 / np.sqrt(np.maximum(np.diagonal(gram), np.finfo(np.float32).tiny))
        weight, turn = np.linalg.eigh(gram * np.outer(scale, scale))
        kept = weight > DEPENDENT * weight[-1]
        basis = scale[:, None] * turn[:, kept] / np.sqrt(weight[kept])
        values, mix = np.linalg.eigh(basis.T @ ((projected + projected.T) / 2) @ basis)
        return np.ascontiguousarray((basis @ mix)[:, ::-1], np.float32), values[::-1].copy()

    def rotate(self, rotation: Block, values: FloatArray) -> tuple[Coefficients, FloatArray]:
        """Ritz vectors (n, m) of the ``rotation`` (width, m) to ``values`` (m,), and the norms of their residuals."""
        m = len(values)
        out = np.empty((self.graph.n_particles, m), np.complex64)
        shift = values.astype(np.float32)

        def turn(first: int) -> FloatArray:
            rows = slice(first * self.parts, (first + ROWS) * self.parts)
            y = self.x[rows] @ rotation
            difference = self.sx[rows] @ rotation
            difference -= y * shift
            piece = out[first : first + ROWS]
            piece.real = y[:: self.parts]
            piece.imag = y[1::2] if self.parts == 2 else 0
            return np.einsum("ij,ij->j", difference, difference, dtype=np.float64)

        squares = map_in_order(turn, range(0, len(out), ROWS), self.threads)
        return out, np.sqrt(np.add.reduce(squares))
