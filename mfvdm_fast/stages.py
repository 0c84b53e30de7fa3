"""The stages of the main job, with the parameters and threads of one run: graphs, bases, templates, tables."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial

import numpy as np

from .graph.affinity import diffusion_features, normalize_features
from .graph.arrangement import arrange_graph
from .graph.eigenbasis import SolverOptions, solve_eigenbasis
from .graph.frequency_graph import build_frequency_graph, build_trusted_graph
from .neighbors.align import align_pairs
from .neighbors.cells import Cells, divide_in_cells
from .neighbors.groups import match_in_groups, n_compared, worth_cells
from .neighbors.search import search_affinity, search_neighbors
from .params import DenoiseParams, settle_size
from .prepare import Preparation
from .progress import StageTimes, piece_of
from .records import (
    Eigenbasis,
    FloatArray,
    FrequencyGraph,
    NeighborTable,
    SteerableCoefficients,
    SteerablePCA,
)
from .restore.ctf_division import filter_transfer
from .restore.graph_map import SolveBasis
from .restore.score import Presence, average_over_views
from .restore.spectral import apply_spectral_filter
from .restore.templates import Templates, fit_templates, split_in_parts
from .restore.wiener import Observation

# Eigenvectors that restorations are made of: coarse ones do, and those that wrong edges make are left out.
RESTORATION = SolverOptions(tolerance=0.1, degree=16, noise_margin=1.8)

# Of the matched neighbours those that the restored graph is made of: as many as come from a cap of views within which
# restorations are alike; farther ones blur more than they average. Templates are made of fewer: that gains .1 to .2 dB
# at SNR .01, where the farther ones are mostly wrong.
LEAST_NEAREST, PARTICLES_PER_NEAREST, FOR_TEMPLATES = 24, 416, 2 / 3


def nearest(table: NeighborTable, share: float = 1.0) -> NeighborTable:
    """The nearest of matched particles, or a ``share`` of them."""
    count = max(LEAST_NEAREST, n_compared(table.n_particles) // PARTICLES_PER_NEAREST)
    return table.nearest(round(share * count))


class Stages:
    """What is done in a run, stage by stage; in which order says :class:`mfvdm_fast.run.Run`."""

    def __init__(self, params: DenoiseParams, threads: int, progress: StageTimes, prepared: Preparation) -> None:
        self.params, self.threads, self.progress, self.prepared = params, threads, progress, prepared
        self.n_neighbors = settle_size(params, prepared.stack.n_particles).n_neighbors or 0
        self.presence: Presence | None = None
        self.eigenvalues: dict[int, FloatArray] = {}

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
            bases.append(solve(k, None))
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

    def graph(self, table: NeighborTable, trust: FloatArray | None) -> FrequencyGraph:
        """The graph of ``table``, in which each particle has a say as far as it is trusted."""
        if trust is None:
            return build_frequency_graph(table, threads=self.threads)
        return build_trusted_graph(table, trust, threads=self.threads)

    def solver(self, graph: FrequencyGraph, n_eigenvectors: int, options: SolverOptions | None = None) -> SolveBasis:
        """Eigenbases of one graph, to be asked for upwards in k: each starts from those before."""
        options = replace(options or SolverOptions(), method=self.params.solver)
        arranged = arrange_graph(graph, seed=self.params.seed, threads=self.threads)
        known: dict[int, Eigenbasis] = {}

        def solve(k: int, most: int | None) -> Eigenbasis:
            basis = solve_eigenbasis(
                arranged,
                k,
                min(n_eigenvectors, arranged.n_particles, most or n_eigenvectors),
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
                eigenbasis = solve(k, None)
                b[:] = apply_spectral_filter(b, eigenbasis, graph.degrees, self.params.spectral_filter)
                if k == 0 and prepared.ctf is not None:
                    magnitude = prepared.ctf_magnitude(prepared.ctf)
                    transfer = filter_transfer(magnitude, eigenbasis, graph.degrees, self.params.spectral_filter)
            self.progress("restore", k + 1, coordinates.k_max + 1)
        prepared.undo(coordinates, pca, transfer, out)

    def templates(self, table: NeighborTable, coefs: SteerableCoefficients, seen: Observation, sweep: int) -> Templates:
        """Restorations to match particles with, from the graph of ``table``; particles are trusted as ``seen`` says."""
        graph = self.graph(table, seen.trust)
        solve = self.solver(graph, self.params.n_template_eigenvectors, RESTORATION)
        k_max = min(self.params.n_template_frequencies, coefs.k_max)

        def watched(k: int, most: int | None) -> Eigenbasis:
            self.progress("templates", k, k_max + 1)
            return solve(k, most)

        part = split_in_parts(coefs.n_particles, self.params.seed + sweep)
        templates = fit_templates(coefs, seen, watched, graph.degrees, part, k_max=k_max, threads=self.threads)
        self.progress("templates", k_max + 1, k_max + 1)
        return templates

    def match(
        self, templates: Templates, table: NeighborTable, coefs: SteerableCoefficients, seen: Observation
    ) -> NeighborTable:
        """A better table: every image against restorations that its own part of the particles had no say in."""
        shape = (coefs.n_particles, self.n_neighbors)
        found = NeighborTable(np.empty(shape, np.int64), np.empty(shape, bool), np.empty(shape), np.empty(shape))
        presence = Presence(*(np.empty(coefs.n_particles) for _ in fields(Presence)))
        report, done, total = partial(self.progress, "match"), 0, len(templates.fits)
        in_cells = worth_cells(coefs.n_particles, self.n_neighbors)
        cells: Cells | None = None  # the same for all parts, whose templates are alike in the same way
        for side in templates.features(coefs, seen, threads=self.threads):
            if in_cells and cells is None:
                power = np.mean(np.abs(side.observed.packed) ** 2, axis=0)
                cells = divide_in_cells(side.templates, power, self.threads)
            part = match_in_groups(
                side.observed,
                side.templates,
                side.particles,
                self.n_neighbors,
                cells=cells,
                seed=self.params.seed,
                threads=self.threads,
                progress=piece_of(report, done, total),
            )
            done += 1
            for field in fields(found):
                getattr(found, field.name)[side.particles] = getattr(part, field.name)
            likelihood = part.scores + side.baseline[:, None]
            n_views = 2 * n_compared(coefs.n_particles) * (2 * side.observed.k_max + 1)  # angles that can be told apart
            presence.log_likelihood[side.particles] = likelihood[:, 0]
            presence.average[side.particles] = average_over_views(likelihood, n_views)
            presence.power[side.particles] = side.power(part.indices[:, 0])
        if not done:  # a graph without eigenvectors
            return table
        self.presence = presence
        return found
