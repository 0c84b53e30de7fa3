"""One run of the main job, from a prepared stack to the result: the stages in order."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
from .doubts import warn_about_junk
from .lost import find_lost, match_elsewhere
from .neighbors.agreement import measure_closure
from .params import DenoiseParams, settle, settle_matchings
from .prepare import Preparation
from .progress import StageTimes
from .records import (
    BoolArray,
    Coefficients,
    Eigenbasis,
    FloatArray,
    NeighborTable,
    SteerableCoefficients,
)
from .restore.graph_map import restore_graph_map
from .restore.junk import JUNK_BELOW, junk_below, stands_out, trust_in, warn_if_noise
from .restore.posterior import Matches, average_matches, compare_with_mean, weigh_matches
from .restore.score import (
    Presence,
    explained,
    other_signals,
    score_particles,
)
from .restore.templates import Templates
from .restore.wiener import Observation, restore_wiener
from .result import FAINT, DenoiseResult
from .stages import FOR_TEMPLATES, RESTORATION, Stages, nearest

MUCH_JUNK = 0.1  # of a stack, where particles are judged twice
SURE = 20.0  # log odds of a particle, that one image in ten of coloured noise does not reach
SWEEPS = 3  # in which particles follow the templates that they match; more bring little


@dataclass(frozen=True)
class Judgement:
    """What one matching says of every particle."""

    likelihood: FloatArray  # (n,) log likelihood with the best template, against noise alone
    score: FloatArray  # (n,)
    trust: FloatArray | None  # (n,); None: all are trusted
    junk_below: float

    @property
    def junk(self) -> BoolArray:
        """(n,)"""
        return self.score < self.junk_below

    @property
    def much_junk(self) -> bool:
        """Whether so much is junk that it has made templates for junk."""
        return self.trust is not None and self.junk_below > JUNK_BELOW and float(self.trust.mean()) < 1 - MUCH_JUNK


class Run(Stages):
    """One run of the pipeline, in the order of ``run``."""

    def __init__(self, params: DenoiseParams, threads: int, progress: StageTimes, prepared: Preparation) -> None:
        super().__init__(params, threads, progress, prepared)
        self.asked = params
        self.initial: NeighborTable | None = None
        self.neighbors: NeighborTable | None = None
        self.judged: Judgement | None = None  # by the last matching
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
            score=None if self.judged is None else self.judged.score,
            junk_below=None if self.judged is None else self.judged.junk_below,
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
    ) -> Judgement:
        """Every particle, by what matching says and what its own template leaves."""
        first, last = int(coefs.offsets[1]), int(coefs.offsets[templates.k_max + 1])
        part, basis = seen.columns(0, last), self.prepared.basis
        others = other_signals(part.noise_power, basis.radial_nodes[:last] / basis.bandlimit)
        energies = np.zeros((coefs.n_particles, 3, len(others)))
        for k in range(templates.k_max + 1):
            here = slice(int(coefs.offsets[k]), int(coefs.offsets[k + 1]))
            own = seen.columns(here.start, here.stop)
            energies += explained(coefs[k], templates.frequency(k), own, others[:, here], k, self.threads)
        score = score_particles(presence, energies, part, others, first)
        return Judgement(presence.log_likelihood, score, trust_in(score), junk_below(score, presence.average))

    def doubt(self) -> None:
        """Warn where there may be no particles, or more junk than is told."""
        if self.presence is None or self.judged is None:
            return
        average, where, junk = self.presence.average, self.prepared.where, self.judged.junk
        self.faint = float(np.mean(average[~junk] < SURE)) if not junk.all() else 1.0
        clear = stands_out(average, SURE)
        self.may_be_noise = not clear and (warn_if_noise(average, where) or not self.prepared.holds_particles())
        if not self.may_be_noise:
            # Scores of particles that hardly stand out do not tell their share of junk.
            warn_about_junk(junk, None if self.faint > FAINT else self.judged.trust, where)

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
        sweep, asked, told = 0, self.params.n_matchings or 0, seen
        kept: Judgement | None = None  # that of the table
        while sweep < (self.params.n_matchings or 0):
            if sweep or templates is None:
                templates = None  # to make room
                near = nearest(table, FOR_TEMPLATES) if sweep else table
                templates = self.templates(near, coefs, told, sweep)
            found = self.match(templates, table, coefs, seen)
            if self.presence is not None:
                self.judged = self.judge(templates, self.presence, coefs, seen)
            if sweep < asked:
                table, kept = found, self.judged
                good = None if kept is None else np.flatnonzero(~kept.junk)
                if self.asked.n_matchings is None and sweep + 1 == asked:
                    asked = settle_matchings(asked, measure_closure(table, rows=good))
                    self.params = replace(self.params, n_matchings=asked)
            if self.judged is not None and self.judged.much_junk:
                told = replace(seen, trust=self.judged.trust)
                if self.asked.n_matchings is None:
                    self.params = replace(self.params, n_matchings=max(2, asked))
            sweep += 1
        self.doubt()
        likely, here, last = table, np.ones(coefs.n_particles), -1 if templates is None else templates.k_max
        if self.params.centre and kept is not None and templates is not None:
            likely, here = self.consider_places(templates, table, kept.likelihood, coefs, seen)
        templates = None
        matches = None if kept is None else weigh_matches(likely)
        trust = None if self.judged is None else self.judged.trust
        energies = self.restore_on_graph(table, coefs, replace(seen, trust=trust), matches, last)
        if matches is not None:
            average_matches(coefs, matches, energies, here=here, out=coefs.packed, threads=self.threads)
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

    def restore_on_graph(
        self,
        table: NeighborTable,
        coefs: SteerableCoefficients,
        seen: Observation,
        matches: Matches | None = None,
        k_max: int = -1,
    ) -> FloatArray:
        """Graph MAP on the graph of the nearest of ``table``, in place; how images agree with the means of ``matches``.

        By the frequencies up to ``k_max``, (n, 4) from :func:`compare_with_mean`.
        """
        graph = self.graph(table if self.judged is None else nearest(table), seen.trust)
        solve = self.solver(graph, self.params.n_restoration_eigenvectors, RESTORATION)
        energies = np.zeros((k_max + 1, coefs.n_particles, 4))

        def watched(k: int, most: int | None) -> Eigenbasis:
            self.progress("restore", k, coefs.k_max + 1)
            return solve(k, most)

        def compare(k: int, observed: Coefficients, restored: Coefficients) -> None:
            if matches is not None and k <= k_max:
                part = seen.columns(int(coefs.offsets[k]), int(coefs.offsets[k + 1]))
                mean = matches.mean(restored, k, threads=self.threads)
                energies[k] = compare_with_mean(observed, restored, mean, part, k, self.threads)

        restore_graph_map(coefs, seen, watched, graph.degrees, watch=compare, out=coefs.packed, threads=self.threads)
        return np.asarray(energies.sum(axis=0))
