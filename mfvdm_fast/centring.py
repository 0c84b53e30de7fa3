"""Where the particles stand: shifts found from the images, for stacks whose particles are off the centres of the boxes.

A graph of particles that stand off the centre groups those that stand off alike, and a restoration follows its own
particle's shift. So a few restorations are matched with each other, one of them moved to every place of a grid, and
brought to a common centre (:func:`synchronize_shifts`); then every particle is matched with all of them at all places.
Once nearly all is centred, restorations no longer follow their particle, and each image is compared with those that it
matches, moved a little. Where the particles of one view stand on average is told by the lines that the view shares with
others: all are projections of one object.
Lengths are measured in the finest wavelength that is compared, detail of a fifth of the particle's radius.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .basis.gradient import gradient
from .basis.interface import SteerableBasis
from .graph.common_shift import CommonMoves
from .graph.eigenbasis import solve_eigenbasis
from .graph.frequency_graph import build_frequency_graph
from .imaging.fourier_shift import shift_copies, shift_images
from .neighbors.match import match_neighbors
from .params import CENTRED_FROM
from .prepare import Preparation
from .records import Coefficients, FloatArray, IndexArray, NeighborTable, SteerableCoefficients
from .restore.common_lines import bring_back, central_lines, match_lines
from .restore.places import mean_places
from .restore.shifted_references import (
    ReferenceFeatures,
    reference_features,
    shift_grid,
    synchronize_shifts,
    turns,
)
from .restore.templates import Templates
from .restore.wiener import Observation

N_REFERENCES = 300
LARGEST_ARGUMENT = 30.0  # 2 pi f R of the finest frequency f that is compared
STEP, REACH = 0.22, 0.70  # wavelengths: of the grid of places, and how far it goes
FIRST_SPREAD, NEXT_SPREAD = 0.3, 0.15  # wavelengths: of the shifts in each coordinate, before and after a first move
LEAST_SPREAD = 0.03  # a narrower one is taken for 0
TRUSTED = 0.8  # of all particles, the nearest: junk may stand anywhere
TRUSTED_SHARE = 1 + (1 - TRUSTED) / TRUSTED * np.log(1 - TRUSTED)  # of E|s|^2 of normal shifts is that of the nearest
SPREAD_PARTICLES, SPREAD_REFERENCES, SPREAD_STEPS = 2000, 64, 10
N_MATCHES = 50  # of each reference with others, and of each particle with references
TEMPERATURE = 10.0  # log likelihoods are divided by it: the references' views are not the particle's
ROWS = 8192  # particles matched at once
NEAR = 0.075  # wavelengths: what shifts may still be off, in each coordinate, when templates are followed
MOST_COMMON_MODES, PARTICLES_PER_MODE = 120, 20  # in which views stand off the centre together: more bring nothing
LINE_ROUNDS = 2  # of finding the lines that templates share, and where the templates stand
LINE_STEP, COARSEST_OF_LINES = 0.75, 0.3  # of 1 / (2 R): between frequencies; of the finest, the coarsest of them
MOVED_AT_ONCE = 640  # images


@dataclass(frozen=True)
class Scene:
    """The coarse part of all coefficients."""

    prepared: Preparation
    coefs: SteerableCoefficients
    seen: Observation
    templates: Templates
    columns: IndexArray
    offsets: IndexArray
    wavelength: float  # px of the basis' grid
    threads: int

    def observed(self, rows: slice | IndexArray) -> tuple[SteerableCoefficients, Observation]:
        """Coefficients of some particles, and how they were observed."""
        packed = np.ascontiguousarray(self.coefs.packed[rows][:, self.columns])
        seen = replace(self.coarse, group=self.seen.group[rows])
        return SteerableCoefficients(packed, self.offsets), seen

    @property
    def coarse(self) -> Observation:
        return Observation(self.seen.transfer[:, self.columns], self.seen.group, self.seen.noise_power[self.columns])

    @property
    def places(self) -> FloatArray:
        return shift_grid(STEP * self.wavelength, REACH * self.wavelength)

    def moved(self, references: Coefficients) -> Coefficients:
        """Coarse coefficients of ``references`` (r, P) at all places, (places x r, p): content moves by the place."""
        return self.at_all(references, -self.places, self.columns)

    def at_all(
        self, packed: Coefficients, centres: FloatArray, columns: IndexArray | slice = slice(None)
    ) -> Coefficients:
        """(s x r, P or ``columns``): ``packed`` (r, P), each of ``centres`` (s, 2) in turn brought to the centre."""
        basis, threads = self.prepared.basis, self.threads
        images = basis.evaluate(packed, threads)
        at_once = max(1, MOVED_AT_ONCE // max(1, len(images)))
        parts = []
        for start in range(0, len(centres), at_once):
            moved = shift_copies(images, centres[start : start + at_once], threads)
            parts.append(basis.expand(moved.reshape(-1, *images.shape[1:]), threads)[:, columns])
        return np.concatenate(parts)

    def match(self, features: ReferenceFeatures, n_matches: int) -> NeighborTable:
        return match_neighbors(features.observed, features.references, None, n_matches, threads=self.threads)


def finest_frequency(basis: SteerableBasis) -> float:
    """Of those that are compared, in cycles per px of the basis' grid."""
    return float(min(basis.bandlimit, LARGEST_ARGUMENT / (2 * np.pi * basis.radius_px)))


def reach_px(prepared: Preparation) -> float:
    """How far from the centre particles are looked for at once, in px of the input."""
    return REACH / (finest_frequency(prepared.basis) * prepared.scale)


def make_scene(
    prepared: Preparation, coefs: SteerableCoefficients, seen: Observation, templates: Templates, threads: int = 1
) -> Scene:
    """The coarse part of ``coefs``, of which ``templates`` are restorations."""
    basis = prepared.basis
    finest = finest_frequency(basis)
    columns = np.flatnonzero(basis.radial_nodes <= finest).astype(np.int64)
    orders = np.repeat(np.arange(basis.k_max + 1), basis.n_radial)[columns]
    offsets = np.searchsorted(orders, np.arange(orders.max() + 2)).astype(np.int64)
    return Scene(prepared, coefs, seen, templates, columns, offsets, 1 / finest, threads)


def stand_off_centre(scene: Scene, seed: int = 0) -> bool:
    """Whether the shifts of particles, against one another, spread by more than LEAST_SPREAD; from a sample.

    Never in stacks of fewer than CENTRED_FROM, of which too few share a view for the shifts to be found.
    """
    rng = np.random.default_rng(seed)
    n = scene.coefs.n_particles
    if n < CENTRED_FROM:
        return False
    references = scene.templates.coefficients(rng.permutation(n)[:SPREAD_REFERENCES])
    coefs, seen = scene.observed(rng.permutation(n)[:SPREAD_PARTICLES])
    moved, places = scene.moved(references), scene.places
    spread, least = FIRST_SPREAD * scene.wavelength, LEAST_SPREAD * scene.wavelength
    for _ in range(SPREAD_STEPS):
        features = reference_features(coefs, seen, moved, _log_prior(places, spread, len(references)))
        found = scene.match(features, 1)
        square = np.sort((places[found.indices[:, 0] // len(references)] ** 2).sum(axis=1))
        believed = square[: int(TRUSTED * len(square))].mean() / TRUSTED_SHARE
        spread = float(np.sqrt(0.5 * believed))
        if spread <= least:
            return False
    return True


def find_shifts(scene: Scene, spread: float = FIRST_SPREAD, seed: int = 0) -> FloatArray:
    """(n, 2): (x, y) in px of the input from the centre at which the particles stand.

    ``spread``, in wavelengths, is the standard deviation of each coordinate that is expected.
    """
    rows = np.random.default_rng(seed).permutation(scene.coefs.n_particles)[:N_REFERENCES]
    references = _centre(scene, scene.templates.coefficients(rows))
    return _match_places(scene, references, spread * scene.wavelength) / scene.prepared.scale


def _log_prior(places: FloatArray, spread: float, count: int) -> FloatArray:
    return np.repeat(-(places**2).sum(axis=1) / (2 * spread**2), count)


def _centre(scene: Scene, references: Coefficients) -> Coefficients:
    """References (r, P) brought to a common centre."""
    moved, count = scene.moved(references), len(references)
    # Restorations have no CTF: compared as if each had been seen through the mean of all.
    coarse = scene.coarse
    mean = np.sqrt(coarse.counts @ coarse.precision / coarse.counts.sum())
    alike = Observation(mean[None], np.zeros(count, np.int64), np.ones(len(mean)))
    seen_through = SteerableCoefficients((references[:, scene.columns] * mean).astype(np.complex64), scene.offsets)
    features = reference_features(seen_through, alike, moved, np.zeros(len(moved)))
    shifts = synchronize_shifts(scene.match(features, min(N_MATCHES, len(moved) - 1)), scene.places)
    basis = scene.prepared.basis
    return basis.expand(shift_images(basis.evaluate(references, scene.threads), shifts, scene.threads), scene.threads)


def _match_places(scene: Scene, references: Coefficients, spread: float) -> FloatArray:
    """(n, 2) px: mean place of all particles by the references that they match, weighted by likelihood."""
    moved, places, n = scene.moved(references), scene.places, scene.coefs.n_particles
    log_prior = _log_prior(places, spread, len(references))
    shifts = np.empty((n, 2))
    for start in range(0, n, ROWS):
        rows = slice(start, min(start + ROWS, n))
        found = scene.match(reference_features(*scene.observed(rows), moved, log_prior), N_MATCHES)
        where = np.einsum(
            "nkab,nkb->nka", turns(found.mirrored, found.angles), places[found.indices // len(references)]
        )
        weight = np.exp((found.scores - found.scores.max(axis=1, keepdims=True)) / TEMPERATURE)
        shifts[rows] = np.einsum("nk,nka->na", weight / weight.sum(axis=1, keepdims=True), where)
    return shifts


def follow_templates(scene: Scene, table: NeighborTable, seed: int = 0) -> FloatArray:
    """(n, 2): (x, y) in px of the input from the centre at which particles stand, by the templates of ``table``.

    Every image is compared, in all detail, with restorations that it had no part in, each a little moved. Neighbours
    stand with their templates where these do: that is found for all views together, and added.
    """
    prepared, templates, threads = scene.prepared, scene.templates, scene.threads
    n = scene.coefs.n_particles
    shifts = np.empty((n, 2))
    for part in range(len(templates.fits)):
        rows = np.flatnonzero(templates.part == part)
        some = SteerableCoefficients(scene.coefs.packed[rows], scene.coefs.offsets)
        slopes = gradient(templates.without(part), prepared.basis)
        near = NEAR * scene.wavelength
        shifts[rows] = mean_places(some, scene.seen.rows(rows), slopes, table.take(rows), near, threads=threads)
    shifts /= prepared.scale
    known = getattr(prepared.stack, "known_shifts_px", None)
    off = shifts + (0 if prepared.shifts_px is None else prepared.shifts_px) - (0 if known is None else known)
    graph = build_frequency_graph(table, threads=threads)
    n_modes = min(n, MOST_COMMON_MODES, max(3, n // PARTICLES_PER_MODE))
    unit = solve_eigenbasis(graph, 1, n_modes, seed=seed, threads=threads)
    common = CommonMoves.against(off * prepared.scale, unit, graph.degrees)
    return shifts + _places_of_views(scene, common, seed) / prepared.scale


def _places_of_views(scene: Scene, common: CommonMoves, seed: int) -> FloatArray:
    """(n, 2) px: where the templates of each view stand, so that all are projections of one object at one place."""
    basis, finest = scene.prepared.basis, 1 / scene.wavelength
    rows = np.random.default_rng(seed).permutation(scene.coefs.n_particles)[:N_REFERENCES]
    step = LINE_STEP / (2 * basis.radius_px)
    frequencies = np.arange(np.ceil(COARSEST_OF_LINES * finest / step), finest / step) * step
    lines = central_lines(basis.evaluate(scene.templates.coefficients(rows), scene.threads), frequencies)
    amplitudes = np.zeros(len(common.expected))
    for _ in range(LINE_ROUNDS):
        near = bring_back(lines, frequencies, common.places(amplitudes)[rows])
        found = match_lines(near, frequencies, threads=scene.threads)
        design = common.along(rows[found.first], found.along_first)
        design -= common.along(rows[found.second], found.along_second)
        amplitudes = common.fit(design, found.offsets + design @ amplitudes, amplitudes)
    return common.places(amplitudes)
