"""Leading eigenpairs of the frequency graph, by Chebyshev-filtered subspace iteration or by SciPy's ``eigsh``.

Both work on the O(2) form: S_k as a real symmetric operator on (Re x; Im x), n complex nodes instead of the 2n nodes of
Eqs. 2-4 (arXiv:1904.07772), with the same spectrum. At k = 0 the vectors are real.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from ..checks import check_kind, check_whole
from ..errors import ParameterError, SolverError
from ..kernels.spmm import multiply_rows
from ..records import Coefficients, Eigenbasis, FrequencyGraph, IndexArray
from ..threads import map_in_order, resolve_threads, use_threads
from .arpack import smallest_signal, solve_with_arpack
from .arrangement import ArrangedGraph, arrange_graph
from .filtered_block import ROWS, FilteredBlock, Rows

log = logging.getLogger(__name__)

ROUNDED_TO = 32  # numbers of vectors: those of a panel
GUARD = 10  # vectors beyond those that are wanted, at least; more of them take longer and gain nothing
LEADING = 3  # eigenvectors of ``unit`` that take part in products
LANCZOS_STEPS = 12
PARTICLES_PER_THREAD = 1024  # handing out pieces of a smaller graph takes longer than the work itself
# A filter ends at 1 - REST / degree of the way from the lower end of the spectrum to the smallest wanted: the higher
# its degree the steeper it is, and the closer it may come. What lies between the two is mixed into what is wanted.
REST = 0.8
LARGEST_EDGE = 0.999  # of a filter: many components give the eigenvalue 1 more often than there are vectors
# Growth of the leading eigenvector within one filter: beside it the others must keep their place in float32, all the
# more in vectors of which each holds all eigenvectors, as random ones and products do. The degree follows from it: the
# larger the stack, the more eigenvalues crowd below 1, the less the leading grows, and the steeper a filter may be.
MAX_GROWTH, MAX_GROWTH_OF_MIXED = 1e4, 1e3


@dataclass(frozen=True)
class SolverOptions:
    """How the eigenbasis is solved; every value has a use in a preset or a test."""

    method: str = "chebyshev"  # or "eigsh", the reference
    tolerance: float = 1e-2  # on |S u - lambda u|, with |S| <= 1
    degree: int = 10  # of the Chebyshev filter, at most
    max_iterations: int = 40
    noise_margin: float = 0.0  # how many times farther from 0 than the lower end of the spectrum an eigenvalue must lie


def solve_eigenbasis(
    graph: FrequencyGraph | ArrangedGraph,
    k: int,
    n_eigenvectors: int,
    *,
    options: SolverOptions | None = None,
    neighbor: Eigenbasis | None = None,
    unit: Eigenbasis | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> Eigenbasis:
    """The ``n_eigenvectors`` largest (algebraic, positive) eigenpairs of S_k.

    Wrong edges act as a random matrix, whose spectrum reaches about as far below 0 as above. Eigenvectors not far above
    that (``options.noise_margin``) are mostly noise, and the very noise of the images from which the graph was made.

    Peak memory: four blocks of (n, 2 (m + 42)) float32, and 768 n bytes for each of up to four threads.

    Parameters
    ----------
    graph : the neighbour graph; when several frequencies are solved, from :func:`~.arrangement.arrange_graph`.
    k : angular frequency, >= 0.
    n_eigenvectors : m; fewer are returned when fewer are positive.
    options : method and tolerance.
    neighbor : the eigenbasis of another frequency of the same graph. Spectra change slowly with k, so that its smallest
        eigenvalue tells the first filter what to damp; with a noise margin, at most 5 % + 5 more vectors are sought.
    unit : the eigenbasis of frequency ``k - neighbor.k``, mostly 1, of the same graph: products of its eigenvectors and
        those of ``neighbor`` are then the start. Half of the work or less, the same result within the tolerance.
    seed : start vectors are drawn from it and from ``k``.
    threads : see :func:`mfvdm_fast.threads.resolve_threads`; the result does not depend on it.

    Raises
    ------
    ParameterError
        When m is no whole number between 1 and the number of particles, k or the seed none of at least 0, or another
        argument is of another kind.
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
    if not isinstance(graph, ArrangedGraph):
        check_kind("graph", graph, FrequencyGraph, "make it with build_frequency_graph")
    options = check_kind("options", SolverOptions() if options is None else options, SolverOptions, "or leave them out")
    for name, basis in (("neighbor", neighbor), ("unit", unit)):
        if basis is not None:
            check_kind(name, basis, Eigenbasis, "give what solve_eigenbasis returned for another frequency")
    seed = check_whole("seed", seed, 0)
    n = graph.n_particles
    k, m = check_whole("k", k, 0), check_whole("n_eigenvectors", n_eigenvectors)
    if m > n:
        raise ParameterError(f"n_eigenvectors must be at most the number of particles ({n}), got {m}")
    if options.method not in ("chebyshev", "eigsh"):
        raise ParameterError(f"the eigensolver must be 'chebyshev' or 'eigsh', got {options.method!r}")
    if options.method == "eigsh" or 4 * m >= (n if k == 0 else 2 * n):
        return solve_with_arpack(graph, k, m, options.noise_margin, seed)
    if options.noise_margin and neighbor is not None and neighbor.k and k:
        m = min(m, neighbor.n_eigenvectors + neighbor.n_eigenvectors // 20 + 5)
    with use_threads(min(resolve_threads(threads), 1 + n // PARTICLES_PER_THREAD)) as count:
        arranged = graph if isinstance(graph, ArrangedGraph) else arrange_graph(graph, seed=seed, threads=count)
        return _ChebyshevSolver(arranged, k, m, options, seed, count).solve(neighbor, unit)


class _ChebyshevSolver:
    """Subspace iteration with a Chebyshev filter that damps [lower, edge] (Zhou, Saad, Tiago & Chelikowsky 2006)."""

    def __init__(
        self, graph: ArrangedGraph, k: int, n_wanted: int, options: SolverOptions, seed: int, threads: int
    ) -> None:
        self.n, self.k, self.n_wanted, self.options = graph.n_particles, k, n_wanted, options
        width = -(-(n_wanted + GUARD) // ROUNDED_TO) * ROUNDED_TO
        self.block = FilteredBlock(graph, k, min(width, self.n), threads)
        self.rng = np.random.default_rng([seed, k])

    def solve(self, neighbor: Eigenbasis | None, unit: Eigenbasis | None) -> Eigenbasis:
        if neighbor is not None and neighbor.n_eigenvectors:
            lower, guess = neighbor.lower_bound, float(neighbor.values[: self.n_wanted][-1])
        else:
            lower, guess = self._look_at_spectrum()
        smallest = smallest_signal(self.options.noise_margin, lower)
        growth, wanted = MAX_GROWTH_OF_MIXED, max(guess, smallest)
        if neighbor is not None and unit is not None and neighbor.k * unit.k and neighbor.k + unit.k == self.k:
            start = self._products(neighbor, unit)
        else:
            start = self._completed()
        lost = False
        for iteration in range(1, self.options.max_iterations + 1):
            edge, degree = self._shape_filter(lower, wanted, growth)
            self.block.filter(start, (edge + lower) / 2, (edge - lower) / 2, degree)
            rotation, ritz = self.block.ritz()
            m = int(np.count_nonzero(ritz[: self.n_wanted] > smallest))
            vectors, residuals = self.block.rotate(rotation[:, :m], ritz[:m])
            worst = float(residuals.max(initial=0.0))
            log.debug("k=%d iteration %d: edge %.3f, degree %d, residual %.1e", self.k, iteration, edge, degree, worst)
            # Start vectors may depend on one another: fewer directions than wanted are believed the second time only.
            believed, lost = lost or len(ritz) >= self.n_wanted, len(ritz) < self.n_wanted
            if worst <= self.options.tolerance and believed:
                break
            start = self._completed(vectors, self.block.rotate(rotation[:, m:], ritz[m:])[0])
            growth, wanted = MAX_GROWTH, max(smallest, float(ritz[: self.n_wanted][-1]))
        outcome = self._outcome(worst, iteration)
        return Eigenbasis(self.k, ritz[:m], vectors, residuals, iteration, outcome, lower)

    def _outcome(self, worst: float, iterations: int) -> str:
        tolerance = self.options.tolerance
        if worst <= tolerance:
            return "converged"
        outcome = (
            f"largest residual {worst:.1e} above the tolerance {tolerance:.1e} after {iterations} "
            "iterations: ask for fewer eigenvectors or use the solver 'eigsh'"
        )
        if worst > 10 * tolerance:
            raise SolverError(f"eigenbasis of frequency k = {self.k}: {outcome}")
        log.warning("eigenbasis of frequency k = %d: %s", self.k, outcome)
        return outcome

    def _shape_filter(self, lower: float, wanted: float, growth: float) -> tuple[float, int]:
        """Where the filter ends, and its degree: the steepest that lets the leading eigenvector grow by ``growth``.

        The Chebyshev polynomial stays within [-1, 1] on [lower, edge]; everything above the edge grows. An edge too
        high loses vectors, one too low leaves those below the wanted ones among them, or costs time.
        """
        edge, degree = lower + 0.05, 1
        for d in range(1, self.options.degree + 1):
            e = float(np.clip(lower + (1 - REST / d) * (wanted - lower), lower + 0.05, LARGEST_EDGE))
            if d > 1 and d * np.arccosh((2 - e - lower) / (e - lower)) > np.log(2 * growth):
                break
            edge, degree = e, d
        return edge, degree

    def _look_at_spectrum(self) -> tuple[float, float]:
        """A lower bound of the spectrum, and about where the last eigenvalue of the block lies, by Lanczos steps.

        The steps take a whole panel as one long vector, so that their quadrature is the density of eigenvalues averaged
        over its columns (Lin, Saad & Yang 2016).
        """
        v = self.rng.standard_normal(self.block.x.shape[1:], np.float32)
        v /= np.linalg.norm(v)
        before, alphas, betas = np.zeros_like(v), list[float](), [0.0]
        for _ in range(min(LANCZOS_STEPS, self.n - 1)):
            w = self.block.multiply(v)
            before *= np.float32(betas[-1])
            w -= before
            alphas.append(float(np.vdot(v, w)))
            w -= np.multiply(v, np.float32(alphas[-1]), out=before)
            betas.append(float(np.linalg.norm(w)))
            if betas[-1] < 1e-5:
                break
            before, v = v, np.divide(w, np.float32(betas[-1]), out=before)
        ritz, vectors = scipy.linalg.eigh_tridiagonal(np.array(alphas), np.array(betas[1:-1]))
        # The residual of the lowest Ritz vector tells how much lower the spectrum may reach.
        lower = max(-1.0, float(ritz[0] - betas[-1] * abs(vectors[-1, 0])))
        share = vectors[0] ** 2
        wanted = 1 - self.block.width / (self.block.parts * self.n)
        return lower, float(np.interp(wanted, np.cumsum(share) - share / 2, ritz))

    def _products(self, neighbor: Eigenbasis, unit: Eigenbasis) -> Rows:
        """Eigenvectors of two frequencies multiplied, and random vectors to the width of the block.

        On the sphere of views they are Wigner functions, and the products with the three leading ones of k = 1 hold
        those of the next frequency (Clebsch-Gordan): what is left for the filter is little.
        """
        m = min(neighbor.n_eigenvectors, self.n_wanted)
        factors, others = (
            np.ascontiguousarray(basis.vectors, np.complex64).view(np.float32) for basis in (unit, neighbor)
        )
        mix = self.rng.standard_normal((min(LEADING, unit.n_eigenvectors), m), np.float32)
        fresh = self._signs((self.n, self.block.width - m))

        def multiply(particles: IndexArray) -> Coefficients:
            out = np.empty((len(particles), self.block.width), np.complex64)
            multiply_rows(others, factors, mix, particles, out.view(np.float32))
            out[:, m:] = fresh[particles]
            return out

        return multiply

    def _completed(self, *known: Coefficients) -> Rows:
        """The ``known`` orthonormal vectors (n, s) and random ones to the width of the block.

        The random ones are orthogonal to the known ones, which would grow in them otherwise.
        """
        fresh = self._signs((self.n, self.block.width - sum(vectors.shape[1] for vectors in known)))
        for vectors in known if fresh.size else ():
            fresh -= vectors @ (vectors.conj().T @ fresh).real
        return lambda particles: np.concatenate([part[particles] for part in (*known, fresh)], axis=1)

    def _signs(self, shape: tuple[int, int]) -> Coefficients:
        """Random numbers +-1 or +-1 +-1j: as good a start as normal ones, in a tenth of the time."""
        n, width = shape
        signs = np.zeros(shape, np.complex64)
        parts = (signs.real, signs.imag)[: self.block.parts]
        drawn = [np.frombuffer(self.rng.bytes(-(-n * width // 8)), np.uint8) for _ in parts]

        def fill(first: int) -> None:
            stop = min(first + ROWS, n)
            for part, packed in zip(parts, drawn, strict=True):
                bits = np.unpackbits(packed[first * width // 8 :], count=(stop - first) * width)
                part[first:stop] = 2 * bits.reshape(stop - first, width).astype(np.float32) - 1

        map_in_order(fill, range(0, n, ROWS), self.block.threads)  # eight rows, and ROWS, begin with a byte
        return signs
