"""One run of the main job, from a prepared stack to the result: the stages in order."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial

import numpy as np

from .basis.steerable_pca import weigh_features
from .centring import (
    FIRST_SPREAD,
    NEXT_SPREAD,
    find_lost,
    find_shifts,
    follow_templates,
    make_scene,
    stand_off_centre,
)
from .graph.affinity import diffusion_features, normalize_features
from .graph.arrangement import arrange_graph
from .graph.eigenbasis import SolverOptions, solve_eigenbasis
from .graph.frequency_graph import build_frequency_graph, build_trusted_graph
from .neighbors.agreement import measure_closure
from .neighbors.align import align_pairs
from .neighbors.groups import match_in_groups, n_compared
from .neighbors.search import search_affinity, search_neighbors
from .params import DenoiseParams, settle, settle_size
from .prepare import Preparation
from .progress import StageTimes
from .records import (
    Eigenbasis,
    FloatArray,
    FrequencyGraph,
    NeighborTable,
    SteerableCoefficients,
    SteerablePCA,
)
from .restore.ctf_division import filter_transfer
from .restore.graph_map import SolveBasis, restore_graph_map
from .restore.score import (
    JUNK_BELOW,
    Presence,
    average_over_views,
    explained,
    junk_below,
    other_signals,
    score_particles,
    trust_in,
    warn_if_noise,
)
from .restore.spectral import apply_spectral_filter
from .restore.templates import Templates, fit_templates, split_in_halves
from .restore.wiener import Observation, restore_wiener
from .result import DenoiseResult

# Eigenvectors that restorations are made of: coarse ones do, and those that wrong edges make are left out.
RESTORATION = SolverOptions(tolerance=0.1, degree=16, noise_margin=1.8)
MUCH_JUNK = 0.1  # of a stack, where particles are matched twice
SWEEPS = 3  # in which particles follow the templates that they match; more bring little
# Of the matched neighbours those that the restored graph is made of: as many as come from a cap of views within which
# restorations are alike; farther ones blur more than they average.
LEAST_NEAREST, PARTICLES_PER_NEAREST = 30, 330


class Run:
    """One run of the pipeline: the stages as methods, in the order of ``run``."""

    def __init__(self, params: DenoiseParams, threads: int, progress: StageTimes, prepared: Preparation) -> None:
        self.params, self.threads, self.progress, self.prepared = params, threads, progress, prepared
        self.n_neighbors = settle_size(params, prepared.stack.n_particles).n_neighbors or 0
        self.asked = params
        self.initial: NeighborTable | None = None
        self.neighbors: NeighborTable | None = None
        self.presence: Presence | None = None
        self.score: FloatArray | None = None
        self.junk_below: float | None = None
        self.eigenvalues: dict[int, FloatArray] = {}

    def run(self) -> DenoiseResult:
        prepared = self.prepared
        coefs = prepared.expand()
        self.pca, coordinates = prepared.reduce(coefs)
        if self.params.method == "cwf":
            self.progress("restore", 0, 1)
            restore_wiener(coefs, prepared.observation(coefs), out=coefs.packed)
            self.progress("restore", 1, 1)
        elif self.params.method == "spectral":
            self.neighbors = self.first_table(coordinates)
            self.filter(self.neighbors, coordinates, self.pca, coefs)
        else:
            table = self.first_table(coordinates)
            del coordinates
            self.neighbors = self.restore(table, coefs)
        return DenoiseResult(
            neighbors=self.neighbors,
            initial_neighbors=self.initial,
            log_likelihood=None if self.presence is None else self.presence.log_likelihood,
            score=self.score,
            junk_below=self.junk_below,
            eigenvalues=self.eigenvalues,
            box_size=prepared.stack.box_size,
            basis=prepared.basis,
            coefs=coefs,
            pca=self.pca,
            shifts_px=prepared.shifts_px,
            ctf_corrected=prepared.ctf is not None,
            noise=prepared.noise,
            support=prepared.support,
            params=self.params,
            seconds=self.progress.seconds,
            threads=self.threads,
        )

    def first_table(self, coordinates: SteerableCoefficients) -> NeighborTable:
        """Neighbours of the observed images; decides what depends on how well they agree."""
        self.initial = self.search(weigh_features(coordinates, self.pca))
        asked, n = replace(self.asked, centre=self.params.centre), self.initial.n_particles
        self.params = settle(asked, measure_closure(self.initial), n)
        return self.refine(self.initial) if self.params.refine else self.initial

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

        half = split_in_halves(coefs.n_particles, self.params.seed + sweep)
        templates = fit_templates(coefs, seen, watched, graph.degrees, half, k_max=k_max, threads=self.threads)
        self.progress("templates", k_max + 1, k_max + 1)
        return templates

    def graph(self, table: NeighborTable, trust: FloatArray | None) -> FrequencyGraph:
        """The graph of ``table``, in which each particle has a say as far as it is trusted."""
        if trust is None:
            return build_frequency_graph(table, threads=self.threads)
        return build_trusted_graph(table, trust, threads=self.threads)

    def match(
        self, templates: Templates, table: NeighborTable, coefs: SteerableCoefficients, seen: Observation
    ) -> NeighborTable:
        """A better table: every image against restorations that its own half of the particles had no part in."""
        shape = (coefs.n_particles, self.n_neighbors)
        found = NeighborTable(np.empty(shape, np.int64), np.empty(shape, bool), np.empty(shape), np.empty(shape))
        presence = Presence(*(np.empty(coefs.n_particles) for _ in fields(Presence)))
        matched = False
        for side in templates.features(coefs, seen):
            matched = True
            part = match_in_groups(
                side.observed,
                side.templates,
                side.particles,
                self.n_neighbors,
                seed=self.params.seed,
                threads=self.threads,
                progress=partial(self.progress, "match"),
            )
            for field in fields(found):
                getattr(found, field.name)[side.particles] = getattr(part, field.name)
            likelihood = part.scores + side.baseline[:, None]
            n_views = 2 * n_compared(coefs.n_particles) * (2 * side.observed.k_max + 1)  # angles that can be told apart
            presence.log_likelihood[side.particles] = likelihood[:, 0]
            presence.average[side.particles] = average_over_views(likelihood, n_views)
            presence.power[side.particles] = side.power(part.indices[:, 0])
        if not matched:  # a graph without eigenvectors
            return table
        self.presence = presence
        return found

    def move(self, shifts_px: FloatArray, coefs: SteerableCoefficients) -> NeighborTable:
        """Expand all images again, moved by ``shifts_px`` more, into ``coefs``; the first table of them."""
        before = self.prepared.shifts_px
        self.prepared.shifts_px = shifts_px if before is None else before + shifts_px
        self.prepared.expand(coefs)
        self.pca, coordinates = self.prepared.reduce(coefs)
        return self.first_table(coordinates)

    def centre(
        self, table: NeighborTable, coefs: SteerableCoefficients, seen: Observation
    ) -> tuple[NeighborTable, Templates]:
        """Find the particles that stand off the centre, and move them there; the first table and templates of them."""
        prepared, seed, threads = self.prepared, self.params.seed, self.threads
        templates = self.templates(table, coefs, seen, 0)
        self.progress("centre", 0, 1)
        off = self.params.centre or stand_off_centre(make_scene(prepared, coefs, seen, templates, threads), seed)
        self.progress("centre", 1, 1)
        self.params = replace(self.params, centre=bool(off))
        if not off:
            return table, templates
        for spread in (FIRST_SPREAD, NEXT_SPREAD):
            if (self.params.n_matchings or 0) > 1:  # first tables that agree little
                table = self.match(templates, table, coefs, seen)
                templates = self.templates(table, coefs, seen, 1)
            self.progress("centre", 0, 1)
            shifts = find_shifts(make_scene(prepared, coefs, seen, templates, threads), spread, seed)
            self.progress("centre", 1, 1)
            table = self.move(shifts, coefs)
            templates = self.templates(table, coefs, seen, 0)
        for sweep in range(SWEEPS):
            table = self.match(templates, table, coefs, seen)
            self.progress("centre", 0, 1)
            scene = make_scene(prepared, coefs, seen, templates, threads)
            shifts = follow_templates(scene, table, seed)
            if sweep < SWEEPS - 1 and self.presence is not None:
                lost, places = find_lost(scene, self.presence.log_likelihood, seed)
                shifts[lost] = places
            self.progress("centre", 1, 1)
            table = self.move(shifts, coefs)
            templates = self.templates(table, coefs, seen, sweep)
        return table, templates

    def judge(
        self, templates: Templates, presence: Presence, coefs: SteerableCoefficients, seen: Observation
    ) -> FloatArray:
        """The score of every particle, by what matching says and what its own template leaves unexplained."""
        first, last = int(coefs.offsets[1]), int(coefs.offsets[templates.k_max + 1])
        part, basis = seen.columns(0, last), self.prepared.basis
        others = other_signals(part.noise_power, basis.radial_nodes[:last] / basis.bandlimit)
        energies = np.zeros((coefs.n_particles, 3, len(others)))
        for k in range(templates.k_max + 1):
            here = slice(int(coefs.offsets[k]), int(coefs.offsets[k + 1]))
            own = seen.columns(here.start, here.stop)
            energies += explained(coefs[k], templates.frequency(k), own, others[:, here], k, self.threads)
        return score_particles(presence, energies, part, others, first)

    def restore(self, table: NeighborTable, coefs: SteerableCoefficients) -> NeighborTable:
        """Graph MAP on the graph of the matched particles, in place; the table whose nearest the graph was made from.

        What looks like junk is restored as all are, but its neighbours listen to it less. Where there is much of it,
        junk has made templates for junk: particles are matched once more, with templates in which it has no say.
        """
        seen = self.prepared.observation(coefs)
        templates = None
        if self.params.centre or (self.params.centre is None and self.params.n_matchings):
            table, templates = self.centre(table, coefs, seen)
        sweep, trust, told = 0, None, seen
        while sweep < (self.params.n_matchings or 0):
            templates = templates or self.templates(table, coefs, told, sweep)
            table = self.match(templates, table, coefs, seen)
            if self.presence is not None:
                self.score = self.judge(templates, self.presence, coefs, seen)
                trust = trust_in(self.score)
                self.junk_below = junk_below(self.score, self.presence.average)
                if trust is not None and self.junk_below > JUNK_BELOW and trust.mean() < 1 - MUCH_JUNK:
                    told = replace(seen, trust=trust)
                    if self.asked.n_matchings is None:
                        self.params = replace(self.params, n_matchings=2)
            templates, sweep = None, sweep + 1
        if self.presence is not None:
            warn_if_noise(self.presence.average, self.prepared.where)
        count = max(LEAST_NEAREST, n_compared(coefs.n_particles) // PARTICLES_PER_NEAREST)
        near = table if self.score is None else table.nearest(count)
        graph = self.graph(near, trust)
        solve = self.solver(graph, self.params.n_restoration_eigenvectors, RESTORATION)

        def watched(k: int, most: int | None) -> Eigenbasis:
            self.progress("restore", k, coefs.k_max + 1)
            return solve(k, most)

        seen = replace(seen, trust=trust)
        restore_graph_map(coefs, seen, watched, graph.degrees, out=coefs.packed, threads=self.threads)
        self.progress("restore", coefs.k_max + 1, coefs.k_max + 1)
        return table
