"""One run of the main job, from a prepared stack to the result: the stages in order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .basis.steerable_pca import weigh_features
from .centring import (
    FIRST_SPREAD,
    NEXT_SPREAD,
    find_shifts,
    follow_templates,
    make_scene,
    stand_off_centre,
)
from .doubts import FAINT, warn_about_junk
from .lost import find_lost, match_elsewhere
from .neighbors.agreement import measure_closure
from .neighbors.groups import n_compared
from .params import DenoiseParams, settle
from .prepare import Preparation
from .progress import StageTimes
from .records import (
    Eigenbasis,
    FloatArray,
    NeighborTable,
    SteerableCoefficients,
)
from .restore.graph_map import restore_graph_map
from .restore.posterior import OWN, TEMPERATURE, average_matches
from .restore.score import (
    JUNK_BELOW,
    Presence,
    explained,
    junk_below,
    log_likelihood_of_own,
    other_signals,
    relative_contrast,
    score_particles,
    stands_out,
    trust_in,
    warn_if_noise,
)
from .restore.templates import Templates
from .restore.wiener import Observation, restore_wiener
from .result import DenoiseResult
from .stages import RESTORATION, Stages

MUCH_JUNK = 0.1  # of a stack, where particles are judged twice
SURE = 20.0  # log odds of a particle, that one image in ten of coloured noise does not reach
SWEEPS = 3  # in which particles follow the templates that they match; more bring little
# Of the matched neighbours those that the restored graph is made of: as many as come from a cap of views within which
# restorations are alike; farther ones blur more than they average.
LEAST_NEAREST, PARTICLES_PER_NEAREST = 30, 330


class Run(Stages):
    """One run of the pipeline, in the order of ``run``."""

    def __init__(self, params: DenoiseParams, threads: int, progress: StageTimes, prepared: Preparation) -> None:
        super().__init__(params, threads, progress, prepared)
        self.asked = params
        self.initial: NeighborTable | None = None
        self.neighbors: NeighborTable | None = None
        self.score: FloatArray | None = None
        self.junk_below: float | None = None
        self.may_be_noise, self.faint = False, 0.0

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
            may_be_noise=self.may_be_noise,
            faint=self.faint,
            eigenvalues=self.eigenvalues,
            box_size=prepared.stack.box_size,
            basis=prepared.basis,
            coefs=coefs,
            pca=self.pca,
            shifts_px=prepared.shifts_px,
            ctf_corrected=prepared.ctf is not None,
            noise=prepared.noise,
            support=prepared.support,
            unevenness=prepared.unevenness,
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
    ) -> tuple[FloatArray, FloatArray]:
        """The score of every particle, by what matching says and what its own template leaves; energies of both."""
        first, last = int(coefs.offsets[1]), int(coefs.offsets[templates.k_max + 1])
        part, basis = seen.columns(0, last), self.prepared.basis
        others = other_signals(part.noise_power, basis.radial_nodes[:last] / basis.bandlimit)
        energies = np.zeros((coefs.n_particles, 3, len(others)))
        for k in range(templates.k_max + 1):
            here = slice(int(coefs.offsets[k]), int(coefs.offsets[k + 1]))
            own = seen.columns(here.start, here.stop)
            energies += explained(coefs[k], templates.frequency(k), own, others[:, here], k, self.threads)
        return score_particles(presence, energies, part, others, first), energies

    def doubt(self) -> None:
        """Warn where there may be no particles, or more junk than is told."""
        if self.presence is None or self.score is None:
            return
        average, where = self.presence.average, self.prepared.where
        junk = self.score < (self.junk_below or JUNK_BELOW)
        self.faint = float(np.mean(average[~junk] < SURE)) if not junk.all() else 1.0
        clear = stands_out(average, SURE)
        self.may_be_noise = not clear and (warn_if_noise(average, where) or not self.prepared.holds_particles())
        if not self.may_be_noise:
            # Scores of particles that hardly stand out do not tell their share of junk.
            warn_about_junk(junk, None if self.faint > FAINT else trust_in(self.score), where)

    def restore(self, table: NeighborTable, coefs: SteerableCoefficients) -> NeighborTable:
        """Graph MAP on the graph of the matched particles, in place; the table whose nearest the graph was made from.

        Each restoration is averaged with those of its matches, at all places where the particle may stand.
        What looks like junk is restored as all are, but its neighbours listen to it less. Where there is much of it,
        junk has made templates for junk: particles are matched and judged once more, with templates in which it has no
        say. Only the judgement is kept, where one matching does: it makes up 0.1 to 0.3 dB, and another table loses it.
        """
        seen = self.prepared.observation(coefs)
        templates = None
        if self.params.centre or (self.params.centre is None and self.params.n_matchings):
            table, templates = self.centre(table, coefs, seen)
        sweep, trust, told, asked, used = 0, None, seen, self.params.n_matchings or 0, False
        likelihood, energies = np.zeros(coefs.n_particles), np.zeros((coefs.n_particles, 3, 1))
        while sweep < (self.params.n_matchings or 0):
            if used or templates is None:
                templates = None  # to make room
                templates = self.templates(table, coefs, told, sweep)
            found, used = self.match(templates, table, coefs, seen), True
            table = found if sweep < asked else table
            if self.presence is not None:
                self.score, found_energies = self.judge(templates, self.presence, coefs, seen)
                if sweep < asked:
                    likelihood, energies = self.presence.log_likelihood, found_energies
                trust = trust_in(self.score)
                self.junk_below = junk_below(self.score, self.presence.average)
                if trust is not None and self.junk_below > JUNK_BELOW and trust.mean() < 1 - MUCH_JUNK:
                    told = replace(seen, trust=trust)
                    if self.asked.n_matchings is None:
                        self.params = replace(self.params, n_matchings=2)
            sweep += 1
        self.doubt()
        likely, own = table, np.full(coefs.n_particles, OWN)
        lead = log_likelihood_of_own(energies) - likelihood
        if self.params.centre and used and templates is not None and self.presence is not None:
            likely, here = self.consider_places(templates, table, likelihood, coefs, seen)
            own, lead = own * here, lead + TEMPERATURE * np.log(np.maximum(here, np.finfo(np.float64).tiny))
        templates = None
        self.restore_on_graph(table, coefs, replace(seen, trust=trust))
        if used and self.presence is not None:
            contrast = relative_contrast(energies)
            average_matches(coefs, likely, own, lead=lead, contrast=contrast, out=coefs.packed, threads=self.threads)
        self.progress("restore", coefs.k_max + 1, coefs.k_max + 1)
        return table

    def consider_places(
        self,
        templates: Templates,
        table: NeighborTable,
        likelihood: FloatArray,
        coefs: SteerableCoefficients,
        seen: Observation,
    ) -> tuple[NeighborTable, FloatArray]:
        """Matches wherever particles may stand, and how likely they stand where they were moved; moves them on."""
        prepared = self.prepared
        self.progress("centre", 0, 1)
        scene = make_scene(prepared, coefs, seen, templates, self.threads)
        found, here, places = match_elsewhere(scene, table, likelihood, self.params.seed)
        prepared.shifts_px = places if prepared.shifts_px is None else prepared.shifts_px + places
        self.progress("centre", 1, 1)
        return found, here

    def restore_on_graph(self, table: NeighborTable, coefs: SteerableCoefficients, seen: Observation) -> None:
        """Graph MAP on the graph of the nearest of ``table``, in place."""
        count = max(LEAST_NEAREST, n_compared(coefs.n_particles) // PARTICLES_PER_NEAREST)
        graph = self.graph(table if self.score is None else table.nearest(count), seen.trust)
        solve = self.solver(graph, self.params.n_restoration_eigenvectors, RESTORATION)

        def watched(k: int, most: int | None) -> Eigenbasis:
            self.progress("restore", k, coefs.k_max + 1)
            return solve(k, most)

        restore_graph_map(coefs, seen, watched, graph.degrees, out=coefs.packed, threads=self.threads)
