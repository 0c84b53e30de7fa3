"""Particles that may stand elsewhere: in the noise a wrong view at a wrong place can look as likely as the right one.

A few references, compared coarsely, take some particles to a wrong view and place from which small moves do not lead
away. They match nothing well. So those of least likelihood are moved to all places and compared in all detail with the
templates of many others; then the next, for as long as there are such particles among them. While places are still
looked for, those that match one template much better elsewhere are moved there (:func:`find_lost`). In the end what
they may be at all places goes into the mean that is their restoration (:func:`match_elsewhere`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import numpy as np

from .centring import FIRST_SPREAD, Scene
from .neighbors.groups import n_compared
from .neighbors.match import match_neighbors
from .records import FloatArray, IndexArray, NeighborTable, SteerableCoefficients
from .restore.posterior import TEMPERATURE, posterior_weights

LOST = 0.03  # of the particles, those that match nothing well, are looked for again at all places
MANY_LOST = 0.1  # of these, found elsewhere, for which as many more are looked for
LOST_AT_ONCE, TEMPLATES_OF_LOST, TEMPLATES_IN_DOUBT = 128, 2000, 1000
LEAST_GAIN = 3.0  # in log likelihood, for which they are moved
MATCHES_AT_PLACE = 5  # of a particle at each place: more of them add little to its likelihood
MUCH_DOUBT = 0.2  # of being elsewhere, on average over some, for which as many more are looked at
FIELDS = [field.name for field in fields(NeighborTable)]


def find_lost(scene: Scene, log_likelihood: FloatArray, seed: int = 0) -> tuple[IndexArray, FloatArray]:
    """Particles that are found elsewhere, ascending, and (r, 2): (x, y) in px of the input from the centre where.

    Looked for are those of least ``log_likelihood`` (n,).
    """
    others, here = _others(scene, TEMPLATES_OF_LOST, seed), _here(scene)
    lost, places = np.zeros(0, np.int64), np.zeros((0, 2))
    for some in _least_likely_first(log_likelihood):
        matches = _match_everywhere(scene, some, others, 2)
        scores = matches.scores.reshape(len(some), -1, 2).max(axis=2) + _prior_of_places(scene, some)
        elsewhere = np.flatnonzero(scores.max(axis=1) - scores[:, here] > LEAST_GAIN)
        lost = np.concatenate([lost, some[elsewhere]])
        places = np.concatenate([places, scene.places[scores[elsewhere].argmax(axis=1)]])
        if len(elsewhere) < MANY_LOST * len(some):
            break
    ascending = np.argsort(lost)
    return lost[ascending], places[ascending] / scene.prepared.scale


def match_elsewhere(
    scene: Scene, table: NeighborTable, log_likelihood: FloatArray, seed: int = 0
) -> tuple[NeighborTable, FloatArray, FloatArray]:
    """Matches of all particles wherever they may stand, how likely each stands here, and the mean place of each.

    Parameters
    ----------
    scene : with the templates that all were matched with, or later ones in which junk has no say.
    table : (n, K) matches here, with log likelihoods up to a number for each particle.
    log_likelihood : (n,) that of the first match.

    Returns
    -------
    (n, K) the likeliest matches here and elsewhere, (n,) probabilities, and (n, 2): (x, y) in px of the input from the
    centre. Most particles are not looked for elsewhere, or found nowhere: these have the matches of ``table``,
    probability 1 and (0, 0).
    """
    n, here, others = scene.coefs.n_particles, _here(scene), _others(scene, TEMPLATES_IN_DOUBT, seed)
    chance, places = np.ones(n), np.zeros((n, 2))
    found = table.take(np.arange(n))
    # What as many templates as here would have added, as far as these are among the K best.
    more = TEMPERATURE * np.log(min(n_compared(n) / len(others), table.n_neighbors / MATCHES_AT_PLACE))
    place = np.repeat(np.arange(len(scene.places)), MATCHES_AT_PLACE)
    away = np.flatnonzero(place != here)
    place = np.concatenate([np.full(table.n_neighbors, here), place[away]])
    for some in _least_likely_first(log_likelihood):
        prior, near = _prior_of_places(scene, some), table.take(some)
        there = _match_everywhere(scene, some, others, MATCHES_AT_PLACE)
        near.scores[:] += (log_likelihood[some] - near.scores[:, 0] + prior[:, here])[:, None]
        there.scores[:] += np.repeat(prior, MATCHES_AT_PLACE, axis=1) + more
        both = _beside(near, there, away)
        best = np.argsort(-both.scores, axis=1, kind="stable")[:, : table.n_neighbors]
        weights = posterior_weights(np.take_along_axis(both.scores, best, axis=1))
        moved = ((weights > 0) & (place[best] != here)).any(axis=1)  # what has weight nowhere else stays as it is
        for name in FIELDS:
            getattr(found, name)[some[moved]] = np.take_along_axis(getattr(both, name), best, axis=1)[moved]
        at_place = np.zeros(prior.shape)
        np.add.at(at_place, (np.arange(len(some))[:, None], place[best]), weights)
        chance[some], places[some] = at_place[:, here], at_place @ scene.places
        if 1 - chance[some].mean() < MUCH_DOUBT:
            break
    return found, chance, places / scene.prepared.scale


def _others(scene: Scene, count: int, seed: int) -> IndexArray:
    """Particles whose templates those in doubt are compared with."""
    return np.sort(np.random.default_rng(seed).permutation(scene.coefs.n_particles)[:count])


def _here(scene: Scene) -> int:
    return int(np.flatnonzero((scene.places == 0).all(axis=1))[0])


def _least_likely_first(log_likelihood: FloatArray) -> Iterator[IndexArray]:
    """LOST of all particles at a time, ascending."""
    n = len(log_likelihood)
    order, size = np.argsort(log_likelihood, kind="stable"), int(np.ceil(LOST * n))
    return (np.sort(order[start : start + size]) for start in range(0, n, size))


def _prior_of_places(scene: Scene, particles: IndexArray) -> FloatArray:
    """(r, places): places are normal about the centres of the boxes, with the variance of those that are known."""
    prepared = scene.prepared
    known = np.zeros((scene.coefs.n_particles, 2))
    if prepared.shifts_px is not None:
        known = prepared.shifts_px * prepared.scale
    variance = max(0.5 * float((known**2).sum(axis=1).mean()), (FIRST_SPREAD * scene.wavelength) ** 2)
    prior: FloatArray = -((known[particles, None] + scene.places) ** 2).sum(axis=-1) / (2 * variance)
    return prior


def _match_everywhere(scene: Scene, particles: IndexArray, others: IndexArray, count: int) -> NeighborTable:
    """(r, places x count): at each place the ``count`` best of the templates of ``others``, with log likelihoods.

    That of a particle with its own template is -inf.
    """
    pieces = [
        _match_some(scene, particles[start : start + LOST_AT_ONCE], others, count)
        for start in range(0, len(particles), LOST_AT_ONCE)
    ]
    return NeighborTable(*(np.concatenate([getattr(one, name) for one in pieces]) for name in FIELDS))


def _match_some(scene: Scene, particles: IndexArray, others: IndexArray, count: int) -> NeighborTable:
    places, threads = scene.places, scene.threads
    moved = scene.at_all(scene.coefs.packed[particles], places)
    coefs, shape = SteerableCoefficients(moved, scene.coefs.offsets), (len(moved), count)
    table = NeighborTable(np.zeros(shape, np.int64), np.zeros(shape, bool), np.zeros(shape), np.full(shape, -np.inf))
    for side in scene.templates.of(others).features(coefs, scene.seen, np.tile(particles, len(places))):
        found = match_neighbors(side.observed, side.templates, None, count, threads=threads)
        table.indices[side.rows] = indices = others[found.indices]
        table.mirrored[side.rows], table.angles[side.rows] = found.mirrored, found.angles
        own = indices == side.particles[:, None]
        table.scores[side.rows] = np.where(own, -np.inf, found.scores + side.baseline[:, None])
    by_particle = (len(places), len(particles), count)
    return NeighborTable(
        *(getattr(table, name).reshape(by_particle).transpose(1, 0, 2).reshape(len(particles), -1) for name in FIELDS)
    )


def _beside(first: NeighborTable, second: NeighborTable, columns: IndexArray) -> NeighborTable:
    """Both tables side by side, of the second some columns."""
    return NeighborTable(
        *(np.concatenate([getattr(first, name), getattr(second, name)[:, columns]], axis=1) for name in FIELDS)
    )
