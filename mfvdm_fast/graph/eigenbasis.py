"""Leading eigenpairs of the frequency graph, by Chebyshev-filtered subspace iteration or by SciPy's ``eigsh``.

Both work on the O(2) form: S_k as a real symmetric operator on (Re x; Im x), n complex nodes instead of the 2n nodes of
Eqs. 2-4 (arXiv:1904.07772), with the same spectrum. At k = 0 the vectors are real.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from ..errors import ParameterError, SolverError
from ..ext.hermitian import fill_values, fill_zero_frequency
from ..kernels.spmm import ROWS_PER_BLOCK, block_gram, block_multiply, chebyshev_step, chebyshev_step_real
from ..records import Eigenbasis, FloatArray, FrequencyGraph
from ..threads import use_threads
from .frequency_graph import real_matrix

Block = NDArray[np.float32]
log = logging.getLogger(__name__)

EDGE_BELOW_GUESS = 0.8
MAX_GROWTH = 1e5  # of the leading eigenvector within one filter
LARGEST_EDGE = 0.999  # of a filter: many components give the eigenvalue 1 more often than there are vectors
SMALLEST_EIGENVALUE = 1e-6  # only positive eigenvalues take part; zero is what an empty graph gives
DENSE_SIZE = 256  # rows up to which LAPACK is quick; it also sees every copy of a multiple eigenvalue


@dataclass(frozen=True)
class SolverOptions:
    """How the eigenbasis is solved; every value has a use in a preset or a test."""

    method: str = "chebyshev"  # or "eigsh", the reference
    tolerance: float = 1e-2  # on |S u - lambda u|, with |S| <= 1
    degree: int = 10  # of the Chebyshev filter
    max_iterations: int = 40


def solve_eigenbasis(
    graph: FrequencyGraph,
    k: int,
    n_eigenvectors: int,
    *,
    options: SolverOptions | None = None,
    neighbor: Eigenbasis | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> Eigenbasis:
    """The ``n_eigenvectors`` largest (algebraic, positive) eigenpairs of S_k.

    Peak memory: five blocks of (n, 2 (1.2 m + 16)) float32.

    Parameters
    ----------
    graph : the neighbour graph.
    k : angular frequency, >= 0.
    n_eigenvectors : m; fewer are returned when fewer are positive.
    options : method and tolerance.
    neighbor : the eigenbasis of another frequency of the same graph. Spectra change slowly with k, so that its smallest
        eigenvalue tells the first filter what to damp: a third of the work less, the same result within the tolerance.
    seed : start vectors are drawn from it and from ``k``.
    threads : see :func:`mfvdm_fast.threads.resolve_threads`; the result does not depend on it.

    Raises
    ------
    ParameterError
        When m is not between 1 and the number of particles, or k is negative.
    SolverError
        When the residuals stay above ten times the tolerance, or ARPACK fails.

    Examples
    --------
    >>> import numpy as np
    >>> from mfvdm_fast.graph.frequency_graph import build_frequency_graph
    >>> from mfvdm_fast.records import NeighborTable
    >>> ring = np.arange(30)
    >>> zero = np.zeros((30, 2))
    >>> table = NeighborTable((ring[:, None] + [1, 2]) % 30, zero.astype(bool), zero, zero)
    >>> basis = solve_eigenbasis(build_frequency_graph(table), k=1, n_eigenvectors=2)
    >>> basis.values.round(4).tolist()
    [1.0, 1.0]
    """
    options = options or SolverOptions()
    n = graph.n_particles
    if not 1 <= n_eigenvectors <= n:
        raise ParameterError(
            f"n_eigenvectors must lie between 1 and the number of particles ({n}), got {n_eigenvectors}"
        )
    if k < 0:
        raise ParameterError(f"the angular frequency k must not be negative, got {k}")
    if options.method not in ("chebyshev", "eigsh"):
        raise ParameterError(f"the eigensolver must be 'chebyshev' or 'eigsh', got {options.method!r}")
    if options.method == "eigsh" or 4 * n_eigenvectors >= (n if k == 0 else 2 * n):
        return _solve_with_scipy(graph, k, n_eigenvectors, seed)
    with use_threads(threads):
        guess = None if neighbor is None or not neighbor.n_eigenvectors else float(neighbor.values[-1])
        return _ChebyshevSolver(graph, k, n_eigenvectors, options, seed).solve(guess)


class _ChebyshevSolver:
    """Subspace iteration with a Chebyshev filter that damps [lower, edge] (Zhou, Saad, Tiago & Chelikowsky 2006)."""

    def __init__(self, graph: FrequencyGraph, k: int, n_wanted: int, options: SolverOptions, seed: int) -> None:
        self.graph, self.k, self.n_wanted, self.options = graph, k, n_wanted, options
        self.values = fill_zero_frequency(graph) if k == 0 else fill_values(graph, k)
        # Guard vectors, up to a whole number of 16-float registers.
        self.width = min(-(-(n_wanted + n_wanted // 20 + 10) // 16) * 16, graph.n_particles)
        self.rng = np.random.default_rng([seed, k])
        self.parts = 1 if k == 0 else 2
        self.zero = self._empty()
        self.zero[:] = 0

    def solve(self, guess: float | None) -> Eigenbasis:
        x = self.rng.standard_normal((self.graph.n_particles, self.parts * self.width), np.float32)
        lower = self._lower_bound()
        x, sx, ritz = self._rayleigh_ritz(x)
        # A first edge too high loses vectors, one too low only costs time: aim below the guess.
        edge = float(np.median(ritz)) if guess is None else lower + EDGE_BELOW_GUESS * (guess - lower)
        edge = float(np.clip(edge, lower + 0.1, 0.9))
        outcome = "not converged"
        for iteration in range(1, self.options.max_iterations + 1):
            x = self._filter(x, sx, lower, edge)
            x, sx, ritz = self._rayleigh_ritz(x)
            residuals = self._residuals(x, sx, ritz)
            wanted = ritz[: self.n_wanted] > SMALLEST_EIGENVALUE
            worst = float(residuals[: self.n_wanted][wanted].max(initial=0.0))
            log.debug("k=%d iteration %d: edge %.4f, worst residual %.2e", self.k, iteration, edge, worst)
            if worst <= self.options.tolerance:
                outcome = "converged"
                break
            edge = float(np.clip(ritz[-1], lower + 0.05, LARGEST_EDGE))
        if outcome != "converged":
            outcome = (
                f"largest residual {worst:.1e} above the tolerance {self.options.tolerance:.1e} after {iteration} "
                "iterations: ask for fewer eigenvectors or use the solver 'eigsh'"
            )
            if worst > 10 * self.options.tolerance:
                raise SolverError(f"eigenbasis of frequency k = {self.k}: {outcome}")
            log.warning("eigenbasis of frequency k = %d: %s", self.k, outcome)
        return self._result(x, ritz, residuals, iteration, outcome)

    def _empty(self, width: int | None = None) -> Block:
        return np.empty((self.graph.n_particles, self.parts * (width or self.width)), np.float32)

    def _step(self, x: Block, previous: Block, scale: float, shift: float, out: Block) -> Block:
        g = self.graph
        arguments = (x, previous, np.float32(scale), np.float32(shift), out)
        if self.k == 0:
            chebyshev_step_real(g.indptr, g.indices, self.values, *arguments)
        else:
            chebyshev_step(g.indptr, g.indices, g.mirrored, self.values, *arguments)
        return out

    def _lower_bound(self) -> float:
        """A lower bound of the spectrum by twelve Lanczos steps; a filter is only as good as its interval is short."""
        zero = self._empty(1)
        zero[:] = 0
        v = self.rng.standard_normal(zero.shape, np.float32)
        v /= np.linalg.norm(v)
        basis: list[Block] = [v]
        alphas: list[float] = []
        betas: list[float] = []
        for _ in range(min(12, self.graph.n_particles - 1)):
            w: FloatArray = self._step(basis[-1], zero, 1.0, 0.0, self._empty(1)).astype(np.float64)
            alphas.append(float(np.vdot(basis[-1], w)))
            for u in basis:
                w -= np.vdot(u, w) * u
            betas.append(float(np.linalg.norm(w)))
            if betas[-1] < 1e-5:
                break
            basis.append((w / betas[-1]).astype(np.float32))
        ritz = scipy.linalg.eigvalsh_tridiagonal(np.array(alphas), np.array(betas[: len(alphas) - 1]))
        return max(-1.0, float(ritz[0]) - betas[-1])

    def _filter(self, x: Block, sx: Block, lower: float, edge: float) -> Block:
        """T_degree of the operator mapped so that [lower, edge] goes to [-1, 1]; everything above the edge grows."""
        centre, half = (edge + lower) / 2, (edge - lower) / 2
        # Growth is kept within what float32 can carry beside the vectors at the edge, which hardly grow at all.
        degree = min(self.options.degree, int(np.log(2 * MAX_GROWTH) / np.arccosh((1.0 - centre) / half)))
        previous: Block = x
        current: Block = ((sx - np.float32(centre) * x) / np.float32(half)).astype(np.float32, copy=False)
        for _ in range(max(degree, 2) - 1):
            out = self._step(current, previous, 2 / half, centre, previous)
            previous, current = current, out
        return current

    def _rayleigh_ritz(self, x: Block) -> tuple[Block, Block, FloatArray]:
        """Orthonormal Ritz vectors of the block, the operator applied to them, and Ritz values, descending."""
        norms = np.sqrt(np.diagonal(self._gram(x, x)))
        rows = x.reshape(-1, self.width)
        rows /= np.maximum(norms, 1e-30).astype(np.float32)
        sx = self._step(x, self.zero, 1.0, 0.0, self._empty())
        gram, projected = self._gram(x, x), self._gram(x, sx)
        weight, turn = np.linalg.eigh(gram)
        # Directions lost in float32 are replaced by fresh random ones, orthogonality being restored by the next call.
        kept = weight > 1e-5 * weight[-1]
        basis = turn[:, kept] / np.sqrt(weight[kept])
        ritz, mix = np.linalg.eigh(basis.T @ ((projected + projected.T) / 2) @ basis)
        rotation = (basis @ mix)[:, ::-1]
        missing = self.width - rotation.shape[1]
        ritz = np.concatenate([ritz[::-1], np.full(missing, -1.0)])
        x, sx = self._rotate(x, rotation), self._rotate(sx, rotation)
        if missing:
            fresh = self.rng.standard_normal((rows.shape[0], missing), np.float32) / np.float32(np.sqrt(rows.shape[0]))
            x.reshape(-1, self.width)[:, -missing:] = fresh
            self._step(x, self.zero, 1.0, 0.0, sx)
        return x, sx, ritz

    def _gram(self, a: Block, b: Block) -> FloatArray:
        a, b = a.reshape(-1, self.width), b.reshape(-1, self.width)
        partial = np.empty((-(-a.shape[0] // ROWS_PER_BLOCK), self.width, self.width), np.float32)
        block_gram(a, b, partial)
        return partial.sum(axis=0, dtype=np.float64)

    def _rotate(self, x: Block, rotation: FloatArray) -> Block:
        out = self._empty()
        padded = np.zeros((self.width, self.width), np.float32)
        padded[:, : rotation.shape[1]] = rotation
        block_multiply(x.reshape(-1, self.width), padded, out.reshape(-1, self.width))
        return out

    def _residuals(self, x: Block, sx: Block, ritz: FloatArray) -> FloatArray:
        difference = sx.reshape(-1, self.width) - x.reshape(-1, self.width) * ritz.astype(np.float32)
        return np.sqrt(np.einsum("ij,ij->j", difference, difference, dtype=np.float64))

    def _result(self, x: Block, ritz: FloatArray, residuals: FloatArray, iterations: int, outcome: str) -> Eigenbasis:
        m = int(np.count_nonzero(ritz[: self.n_wanted] > SMALLEST_EIGENVALUE))
        vectors = np.zeros((self.graph.n_particles, m), np.complex64)
        vectors.real = x[:, :m]
        if self.parts == 2:
            vectors.imag = x[:, self.width : self.width + m]
        return Eigenbasis(self.k, ritz[:m].copy(), vectors, residuals[:m].copy(), iterations, outcome)


def _solve_with_scipy(graph: FrequencyGraph, k: int, n_eigenvectors: int, seed: int) -> Eigenbasis:
    """The reference: ARPACK (dense LAPACK for tiny graphs) in float64 on the real form of 2n (k = 0: n) rows.

    ARPACK starts from one vector and may miss copies of an eigenvalue that a graph of several components repeats.
    """
    from scipy.sparse.linalg import ArpackError, eigsh

    matrix = real_matrix(graph, k)
    size = matrix.shape[0]
    if 4 * n_eigenvectors >= size or size <= DENSE_SIZE:
        values, x = np.linalg.eigh(matrix.toarray())
    else:
        start = np.random.default_rng([seed, k]).standard_normal(size)
        try:
            values, x = eigsh(matrix, n_eigenvectors, which="LA", v0=start)
        except ArpackError as error:  # not converged, or a graph without edges
            found = len(getattr(error, "eigenvalues", ()))
            raise SolverError(
                f"eigenbasis of frequency k = {k}: ARPACK found {found} of {n_eigenvectors} eigenvectors; "
                "ask for fewer or use the solver 'chebyshev'"
            ) from error
    order = np.argsort(values)[::-1][:n_eigenvectors]
    order = order[values[order] > SMALLEST_EIGENVALUE]
    values, x = values[order], x[:, order]
    residuals = np.linalg.norm(matrix @ x - x * values, axis=0)
    n = graph.n_particles
    vectors = x.astype(np.complex64) if k == 0 else (x[:n] + 1j * x[n:]).astype(np.complex64)
    return Eigenbasis(k, values, vectors, residuals, 1, "converged")
