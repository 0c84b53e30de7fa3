"""Matching within random groups of a large stack, in time that grows with n rather than n^2.

The templates of views are smooth functions on the views: some ten thousand of them cover the views densely, and more
of them are more of the same. Each particle is compared with those of its own group, in several rounds of other groups.
The neighbours that are kept then come from as wide a cap of views as those of a smaller stack, which also keeps the
leading eigenvalues of the graph apart, and their number within reach of a short polynomial.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

import numpy as np

from ..errors import ParameterError
from ..progress import Report, piece_of
from ..records import IndexArray, NeighborTable, SteerableCoefficients
from .cells import Cells
from .match import match_neighbors

CELLS_FROM = 8_000  # particles: of fewer, cells of so many templates are too coarse, and all are compared as fast
PARTICLES_PER_NEIGHBOR = 100  # or more, or the cells that are looked at hold much of all
ALL_UP_TO = 20_000  # particles: beyond, they are matched in groups
# The groups of one round are joined by those of the others alone: the fewer the rounds, the more they look like
# separate stacks to the graph (an eigenvalue of 1 / ROUNDS, which must be less than those of the views).
ROUNDS = 4
LATER_PART = 2  # later rounds look for half as many: they give about a quarter of the neighbours each


def n_compared(n_particles: int) -> int:
    """How many templates each particle is compared with.

    >>> n_compared(5_000), n_compared(80_000)
    (5000, 20000)
    """
    return min(n_particles, ALL_UP_TO)


def worth_cells(n_particles: int, n_neighbors: int) -> bool:
    """Whether templates are to be divided in cells: all are in one group, but many more than the neighbours asked for.

    >>> [worth_cells(n, 50) for n in (2_000, 10_000, 40_000)]
    [False, True, False]
    """
    return max(CELLS_FROM, PARTICLES_PER_NEIGHBOR * n_neighbors) <= n_particles <= ALL_UP_TO


def random_groups(n_particles: int, seed: int = 0) -> Iterator[list[IndexArray]]:
    """For each round, groups of about ALL_UP_TO / ROUNDS particles, ascending; one of all particles if there are few.

    >>> [len(groups) for groups in random_groups(40_000)]
    [8, 8, 8, 8]
    """
    if n_particles <= ALL_UP_TO:
        yield [np.arange(n_particles)]
        return
    rng = np.random.default_rng([seed, n_particles])
    for _ in range(ROUNDS):
        parts = np.array_split(rng.permutation(n_particles), max(1, n_particles * ROUNDS // ALL_UP_TO))
        yield [np.sort(part) for part in parts]


def match_in_groups(
    observed: SteerableCoefficients,
    templates: SteerableCoefficients,
    particles: IndexArray,
    n_neighbors: int,
    *,
    cells: Cells | None = None,
    seed: int = 0,
    threads: int | None = None,
    progress: Report | None = None,
) -> NeighborTable:
    """As :func:`mfvdm_fast.neighbors.match.match_neighbors`; of more than ALL_UP_TO templates the best of some of them.

    Each particle is compared with the templates of its group in each round: about ALL_UP_TO of them. Same errors, and
    the same memory per round.

    Parameters
    ----------
    observed, templates, particles, n_neighbors, threads, progress : as in ``match_neighbors``.
    cells : as in ``match_neighbors``, where there is one group; see :func:`worth_cells`.
    seed : of the groups.

    Raises
    ------
    ParameterError
        When a group has no more than K particles.

    Examples
    --------
    >>> from mfvdm_fast.records import SteerableCoefficients
    >>> b = np.array([[1, np.exp(-0.5j), 1j * np.exp(-1j)], [1, 1, 1j], [1, 1, -0.5j]], np.complex64)
    >>> templates = SteerableCoefficients(b, np.array([0, 1, 2, 3]))
    >>> match_in_groups(templates, templates, np.arange(3), 1).indices.ravel()
    array([1, 0, 1])
    """
    rounds = list(random_groups(templates.n_particles, seed))
    total, done = sum(map(len, rounds)), 0

    def match_round(groups: list[IndexArray]) -> NeighborTable:
        nonlocal done
        count = n_neighbors if done == 0 else -(-n_neighbors // LATER_PART)
        found = _empty(len(particles), count)
        for members in groups:
            if len(members) <= n_neighbors:
                raise ParameterError(
                    f"groups of {len(members)} particles cannot give {n_neighbors} neighbours each: ask for fewer"
                )
            rows = np.flatnonzero(np.isin(particles, members, assume_unique=True))
            part = match_neighbors(
                _some(observed, rows),
                _some(templates, members),
                np.searchsorted(members, particles[rows]),
                count,
                cells=cells,
                threads=threads,
                progress=None if progress is None else piece_of(progress, done, total),
            )
            found.indices[rows], found.mirrored[rows] = members[part.indices], part.mirrored
            found.angles[rows], found.scores[rows] = part.angles, part.scores
            done += 1
        return found

    return reduce(merge_tables, map(match_round, rounds))


def merge_tables(first: NeighborTable, second: NeighborTable) -> NeighborTable:
    """The K best of the entries of two tables, the first of K, each once; ties go to the smaller index, then plain.

    >>> tables = [
    ...     NeighborTable(np.array([[j, 3]]), np.zeros((1, 2), bool), np.zeros((1, 2)), np.array([[s, 0.5]]))
    ...     for j, s in ((1, 0.7), (2, 0.9))
    ... ]
    >>> merge_tables(*tables).indices
    array([[2, 1]])
    """
    indices, mirrored, angles, scores = (
        np.concatenate([getattr(first, name), getattr(second, name)], axis=1)
        for name in ("indices", "mirrored", "angles", "scores")
    )
    codes = 2 * indices + mirrored
    order = np.argsort(codes, axis=1, kind="stable")
    in_order = np.take_along_axis(codes, order, axis=1)
    again = np.zeros(codes.shape, bool)
    np.put_along_axis(again, order[:, 1:], in_order[:, 1:] == in_order[:, :-1], axis=1)
    kept = np.lexsort((codes, -scores, again), axis=1)[:, : first.n_neighbors]
    return NeighborTable(*(np.take_along_axis(part, kept, axis=1) for part in (indices, mirrored, angles, scores)))


def _some(features: SteerableCoefficients, rows: IndexArray) -> SteerableCoefficients:
    if len(rows) == features.n_particles:
        return features
    return SteerableCoefficients(features.packed[rows], features.offsets)


def _empty(n: int, k: int) -> NeighborTable:
    return NeighborTable(np.empty((n, k), np.int64), np.empty((n, k), bool), np.empty((n, k)), np.empty((n, k)))
