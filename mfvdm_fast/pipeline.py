"""The main job: the stages of Multi-Frequency Vector Diffusion Maps in order, from particles to denoised particles."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial

import numpy as np

from .basis.steerable_pca import weigh_features
from .budget import Budget, predict
from .errors import InputError, ParameterError
from .graph.affinity import diffusion_features, normalize_features
from .graph.eigenbasis import SolverOptions, solve_eigenbasis
from .graph.frequency_graph import build_frequency_graph
from .neighbors.agreement import measure_closure
from .neighbors.align import align_pairs
from .neighbors.match import match_neighbors
from .neighbors.search import search_affinity, search_neighbors
from .params import DenoiseParams, settle, settle_size
from .prepare import Preparation, given_radius
from .progress import Progress, StageTimes, no_progress
from .records import (
    DiskSupport,
    Eigenbasis,
    FloatArray,
    FrequencyGraph,
    ImageStack,
    NeighborTable,
    SteerableCoefficients,
    SteerablePCA,
)
from .restore.ctf_division import filter_transfer
from .restore.graph_map import SolveBasis, restore_graph_map
from .restore.spectral import apply_spectral_filter
from .restore.templates import split_in_halves, template_features
from .restore.wiener import Observation, restore_wiener
from .result import DenoiseResult
from .threads import resolve_threads, use_threads

SMALLEST_RADIUS = 4.0  # px
# Eigenvectors that restorations are made of: coarse ones do, and those that wrong edges make are left out.
RESTORATION = SolverOptions(tolerance=0.1, degree=4, noise_margin=1.8)


def denoise(
    stack: ImageStack,
    params: DenoiseParams | None = None,
    *,
    threads: int | None = None,
    max_memory_bytes: int | None = None,
    progress: Progress = no_progress,
) -> DenoiseResult:
    """Denoise a particle stack: by MFVDM as published (arXiv:1904.07772, preset "paper"), or better (preset "default").

    The images are read in chunks and never held whole. Peak memory: :func:`mfvdm_fast.budget.predict`.

    Parameters
    ----------
    stack : anything with the attributes of :class:`mfvdm_fast.records.ImageStack`; see ``open_stack`` and
        ``ParticleStack.from_array``.
    params : the preset "default" when left out.
    threads : all cores this process may use when left out; the result does not depend on it.
    max_memory_bytes : when all coefficients do not fit, they are kept in a temporary file instead; same result.
    progress : called as ``progress(stage, done, total)``.

    Raises
    ------
    InputError
        When the stack cannot be denoised (too few particles, constant or masked images, no signal above the noise).
    ParameterError
        When a parameter breaks its rule, or the job does not fit ``max_memory_bytes``.
    SolverError
        When the eigensolver fails.

    Examples
    --------
    >>> from mfvdm_fast import ParticleStack, preset, simulate_stack, synthetic_particle
    >>> simulated = simulate_stack(synthetic_particle(33), 5.0, 300)
    >>> images = simulated.read(np.arange(300))
    >>> result = denoise(ParticleStack.from_array(images, 5.0, simulated.ctf), preset("paper", n_neighbors=10))
    >>> result.images().shape
    (300, 33, 33)
    """
    params = settle_size(params or DenoiseParams(), stack.n_particles)
    check_stack(stack, params)
    count = resolve_threads(threads)
    with use_threads(count):
        times = StageTimes(progress)
        prepared = Preparation(stack, params, count, times)
        budget = _budget(prepared)
        budget.check(max_memory_bytes)
        prepared.keep = max_memory_bytes is None or budget.memory_bytes <= max_memory_bytes
        return _Run(params, count, times, prepared).run()


def estimate_budget(stack: ImageStack, params: DenoiseParams | None = None, *, threads: int | None = None) -> Budget:
    """What :func:`denoise` will need, after a look at a sample of the images; raises what ``denoise`` raises by then.

    >>> from mfvdm_fast import simulate_stack, synthetic_particle
    >>> budget = estimate_budget(simulate_stack(synthetic_particle(33), 5.0, 300))
    >>> 1e8 < budget.memory_bytes < 1e9
    True
    """
    params = settle_size(params or DenoiseParams(), stack.n_particles)
    check_stack(stack, params)
    with use_threads(threads) as count:
        return _budget(Preparation(stack, params, count, StageTimes()))


def _budget(prepared: Preparation) -> Budget:
    basis, stack = prepared.basis, prepared.stack
    support = DiskSupport(basis.radius_px, basis.bandlimit)
    return predict(stack.n_particles, stack.box_size, prepared.params, has_ctf=stack.ctf is not None, support=support)


def check_stack(stack: ImageStack, params: DenoiseParams) -> None:
    """Raise InputError or ParameterError for what can be known to fail before any long work."""
    n, neighbors = stack.n_particles, settle_size(params, stack.n_particles).n_neighbors or 0
    if n <= neighbors:
        raise InputError(
            f"the stack has {n} particles, but {neighbors} neighbours are asked for each: "
            + (f"use more particles, or at most {n - 1} neighbours (--neighbors)" if n > 2 else "use more particles")
        )
    if stack.box_size < 16:
        raise InputError(f"the box is {stack.box_size} px wide; at least 16 px are needed to see a particle")
    needs_pixel_size = (params.ctf and stack.ctf is not None) or params.particle_diameter_angstrom is not None
    if needs_pixel_size and not stack.pixel_size:
        raise InputError(
            "the pixel size is not known, but the CTF or the particle diameter needs it: "
            "add it to the STAR file (rlnImagePixelSize), or leave out the diameter and correct no CTF (--no-ctf)"
        )
    largest = (stack.box_size - 1) // 2
    radius = given_radius(stack, params)
    if radius is not None and radius < SMALLEST_RADIUS:
        raise ParameterError(
            f"the particle radius of {radius:.3g} px is too small: at least {SMALLEST_RADIUS:g} px are needed to tell "
            "images apart; give a larger particle diameter"
        )
    if radius is not None and radius > largest:
        raise ParameterError(
            f"the particle radius of {radius:.1f} px does not fit the box of {stack.box_size} px "
            f"(at most {largest} px): give a smaller particle diameter"
        )


class _Run:
    """One run of the pipeline: the stages as methods, in the order of ``run``."""

    def __init__(self, params: DenoiseParams, threads: int, progress: StageTimes, prepared: Preparation) -> None:
        self.params, self.threads, self.progress, self.prepared = params, threads, progress, prepared
        self.n_neighbors = settle_size(params, prepared.stack.n_particles).n_neighbors or 0
        self.initial: NeighborTable | None = None
        self.neighbors: NeighborTable | None = None
        self.log_likelihood: FloatArray | None = None
        self.eigenvalues: dict[int, FloatArray] = {}

    def run(self) -> DenoiseResult:
        prepared = self.prepared
        coefs = prepared.expand()
        pca, coordinates = prepared.reduce(coefs)
        if self.params.method == "cwf":
            self.progress("restore", 0, 1)
            restore_wiener(coefs, prepared.observation(coefs), out=coefs.packed)
            self.progress("restore", 1, 1)
        else:
            self.initial = self.search(weigh_features(coordinates, pca))
            self.params = settle(self.params, measure_closure(self.initial))
            table = self.refine(self.initial) if self.params.refine else self.initial
            if self.params.method == "spectral":
                self.filter(table, coordinates, pca, coefs)
            else:
                del coordinates
                table = self.restore(table, coefs)
            self.neighbors = table
        return DenoiseResult(
            neighbors=self.neighbors,
            initial_neighbors=self.initial,
            log_likelihood=self.log_likelihood,
            eigenvalues=self.eigenvalues,
            box_size=prepared.stack.box_size,
            basis=prepared.basis,
            coefs=coefs,
            pca=pca,
            ctf_corrected=prepared.ctf is not None,
            noise=prepared.noise,
            support=prepared.support,
            params=self.params,
            seconds=self.progress.seconds,
            threads=self.threads,
        )

    def search(self, features: SteerableCoefficients) -> NeighborTable:
        """The initial table: exact rotation-invariant distances, with mirrors."""
        report = partial(self.progress, "search")
        return search_neighbors(features, self.n_neighbors, threads=self.threads, progress=report)

    def refine(self, table: NeighborTable) -> NeighborTable:
        """Algorithm 1: neighbours and angles on which several angular frequencies agree (Eqs. 5-9)."""
        graph = build_frequency_graph(table, threads=self.threads)
        total = self.params.n_frequencies
        solve = self.solver(graph, self.params.n_eigenvectors)
        bases = []
        self.progress("eigenvectors", 0, total)
        for k in range(1, total + 1):
            bases.append(solve(k))
            self.progress("eigenvectors", k, total)
        features = diffusion_features(bases, self.params.diffusion_time)
        del bases, graph, solve  # the features hold all that is needed: keep the peak low
        indices, mirrored, affinity = search_affinity(
            normalize_features(features),
            self.n_neighbors,
            threads=self.threads,
            progress=partial(self.progress, "refine"),
        )
        angles, _ = align_pairs(features, indices, mirrored, threads=self.threads)
        return NeighborTable(indices, mirrored, angles, affinity)

    def solver(self, graph: FrequencyGraph, n_eigenvectors: int, options: SolverOptions | None = None) -> SolveBasis:
        """Eigenbases of one graph, to be asked for upwards in k: each starts from those before."""
        options = replace(options or SolverOptions(), method=self.params.solver)
        known: dict[int, Eigenbasis] = {}

        def solve(k: int) -> Eigenbasis:
            basis = solve_eigenbasis(
                graph,
                k,
                min(n_eigenvectors, graph.n_particles),
                options=options,
                neighbor=known.get(k - 1) if k > 1 else None,  # k = 0 has a spectrum of its own
                unit=known.get(1),
                seed=self.params.seed,
                threads=self.threads,
            )
            known.pop(k - 1 if k > 2 else 0, None)
            known[k] = basis
            self.eigenvalues[k] = basis.values
            return basis

        return solve

    def filter(
        self, table: NeighborTable, coordinates: SteerableCoefficients, pca: SteerablePCA, out: SteerableCoefficients
    ) -> None:
        """Algorithm 2 on the principal subspace of every frequency, in place, and the CTF divided out into ``out``."""
        prepared = self.prepared
        graph = build_frequency_graph(table, threads=self.threads)
        solve = self.solver(graph, self.params.n_eigenvectors)
        transfer = None
        self.progress("restore", 0, coordinates.k_max + 1)
        for k in range(coordinates.k_max + 1):
            b = coordinates[k]
            if k <= 1 or b.shape[1]:
                eigenbasis = solve(k)
                b[:] = apply_spectral_filter(b, eigenbasis, graph.degrees, self.params.spectral_filter)
                if k == 0 and prepared.ctf is not None:
                    magnitude = prepared.ctf_magnitude(prepared.ctf)
                    transfer = filter_transfer(magnitude, eigenbasis, graph.degrees, self.params.spectral_filter)
            self.progress("restore", k + 1, coordinates.k_max + 1)
        prepared.undo(coordinates, pca, transfer, out)

    def match(self, table: NeighborTable, coefs: SteerableCoefficients, seen: Observation, sweep: int) -> NeighborTable:
        """A better table: every image against restorations that its own half of the particles had no part in."""
        graph = build_frequency_graph(table, threads=self.threads)
        solve = self.solver(graph, self.params.n_template_eigenvectors, RESTORATION)
        k_max, total = min(self.params.n_template_frequencies, coefs.k_max), self.params.n_matchings or 0

        def watched(k: int) -> Eigenbasis:
            self.progress("templates", sweep * (k_max + 1) + k, total * (k_max + 1))
            return solve(k)

        half = split_in_halves(coefs.n_particles, self.params.seed + sweep)
        sides = template_features(coefs, seen, watched, graph.degrees, half, k_max=k_max, threads=self.threads)
        if not sides:
            return table
        shape = (coefs.n_particles, self.n_neighbors)
        found = NeighborTable(np.empty(shape, np.int64), np.empty(shape, bool), np.empty(shape), np.empty(shape))
        self.log_likelihood = np.empty(coefs.n_particles)
        for side in sides:
            part = match_neighbors(
                side.observed,
                side.templates,
                side.particles,
                self.n_neighbors,
                threads=self.threads,
                progress=partial(self.progress, "match"),
            )
            for field in fields(found):
                getattr(found, field.name)[side.particles] = getattr(part, field.name)
            self.log_likelihood[side.particles] = part.scores[:, 0] + side.baseline
        return found

    def restore(self, table: NeighborTable, coefs: SteerableCoefficients) -> NeighborTable:
        """Graph MAP on the graph of the matched particles, in place; the table that the graph was made from."""
        seen = self.prepared.observation(coefs)
        for sweep in range(self.params.n_matchings or 0):
            table = self.match(table, coefs, seen, sweep)
        graph = build_frequency_graph(table, threads=self.threads)
        solve = self.solver(graph, self.params.n_restoration_eigenvectors, RESTORATION)

        def watched(k: int) -> Eigenbasis:
            self.progress("restore", k, coefs.k_max + 1)
            return solve(k)

        restore_graph_map(coefs, seen, watched, graph.degrees, out=coefs.packed, threads=self.threads)
        self.progress("restore", coefs.k_max + 1, coefs.k_max + 1)
        return table
