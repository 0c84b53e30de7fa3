"""Comparers for results that are only defined up to something: ties, bases of a subspace, full turns.

Each raises AssertionError saying where and by how much; ``test_compare.py`` feeds each of them wrong answers.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from mfvdm_fast.records import NeighborTable


def angle_distance(found: ArrayLike, expected: ArrayLike) -> NDArray[np.float64]:
    """Distance on the circle, in [0, pi]; radians in, radians out."""
    turn = np.subtract(found, expected)
    return np.abs(np.arctan2(np.sin(turn), np.cos(turn)))


def assert_same_angles(found: ArrayLike, expected: ArrayLike, atol: float = 1e-6) -> None:
    """Every angle within ``atol`` radians on the circle."""
    assert np.shape(found) == np.shape(expected), f"shapes differ: {np.shape(found)} and {np.shape(expected)}"
    distance = angle_distance(found, expected)
    assert np.isfinite(distance).all(), "an angle is not finite"
    if distance.size:
        worst = np.unravel_index(np.argmax(distance), distance.shape)
        place = tuple(int(i) for i in worst)
        assert distance[worst] <= atol, f"angle {place} is off by {distance[worst]:.3g} rad, allowed {atol:g}"


def subspace_angle(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Largest principal angle between the spans of the columns, radians; pi / 2 when the dimensions differ."""
    ranks = [np.linalg.matrix_rank(vectors) for vectors in (found, expected)]
    if ranks[0] != ranks[1] or ranks[0] < min(found.shape[1], expected.shape[1]):
        return float(np.pi / 2)
    return float(scipy.linalg.subspace_angles(found, expected).max(initial=0.0))


def stacked(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """O(2) pairs (n, m) complex as real columns (2n, m): their span is over the reals."""
    return np.concatenate([np.real(vectors), np.imag(vectors)])


def assert_same_subspace(found: NDArray[Any], expected: NDArray[Any], atol: float = 1e-6) -> None:
    """Columns span the same space up to ``atol`` radians; give O(2) pairs through :func:`stacked`."""
    assert found.shape == expected.shape, f"shapes differ: {found.shape} and {expected.shape}"
    angle = subspace_angle(found, expected)
    assert angle <= atol, f"subspaces are {angle:.3g} rad apart, allowed {atol:g}"


def assert_same_eigenspaces(
    values: ArrayLike, found: NDArray[Any], expected: NDArray[Any], gap: float = 1e-6, atol: float = 1e-6
) -> None:
    """Eigenvectors of each multiplet (values closer than ``gap``, descending) span the same space.

    A multiplet that the number of vectors cuts has no definite span: give more values than there are vectors, and the
    last multiplet is compared only when it is whole.
    """
    levels = np.asarray(values, float)
    m = found.shape[1]
    cuts = [0, *(np.flatnonzero(-np.diff(levels) > gap) + 1).tolist()]
    if len(levels) == m:
        cuts.append(m)
    assert len(cuts) > 1, "no whole multiplet to compare"
    for first, last in itertools.pairwise(cuts):
        if last <= m:
            assert_same_subspace(found[:, first:last], expected[:, first:last], atol)


def assert_same_neighbors(
    found: NeighborTable, expected: NeighborTable, score_atol: float = 1e-6, angle_atol: float | None = 1e-3
) -> None:
    """Neighbour lists agree up to ties of ``score_atol``, in the list and at its end; angles of common pairs agree.

    ``angle_atol=None`` leaves the angles out.
    """
    assert found.indices.shape == expected.indices.shape, f"{found.indices.shape} and {expected.indices.shape} differ"
    for i in range(found.n_particles):
        ours, theirs = _row(found, i), _row(expected, i)
        assert len(ours) == found.n_neighbors, f"row {i} lists a neighbour twice"
        assert all(j != i for j, _ in ours), f"row {i} lists itself"
        _assert_same_scores(i, ours, theirs, score_atol)
        _assert_same_members(i, ours, theirs, score_atol)
        if angle_atol is not None:
            for key in ours.keys() & theirs.keys():
                distance = float(angle_distance(ours[key][1], theirs[key][1]))
                assert distance <= angle_atol, f"row {i}: angle of {key} is off by {distance:.3g} rad"


Row = dict[tuple[int, bool], tuple[float, float]]


def _row(table: NeighborTable, i: int) -> Row:
    columns = (table.indices[i], table.mirrored[i], table.scores[i], table.angles[i])
    return {(int(j), bool(flag)): (float(s), float(a)) for j, flag, s, a in zip(*columns, strict=True)}


def _assert_same_scores(i: int, ours: Row, theirs: Row, atol: float) -> None:
    mine = np.array([score for score, _ in ours.values()])
    other = np.array([score for score, _ in theirs.values()])
    assert (np.diff(mine) <= atol).all(), f"row {i} is not sorted, best first"
    assert np.isfinite(mine).all(), f"row {i} has a score that is not finite"
    assert np.abs(mine - other).max(initial=0) <= atol, f"row {i}: scores differ by {np.abs(mine - other).max():.3g}"


def _assert_same_members(i: int, ours: Row, theirs: Row, atol: float) -> None:
    for mine, other in ((ours, theirs), (theirs, ours)):
        last = min((score for score, _ in other.values()), default=0.0)
        for key in mine.keys() - other.keys():
            assert mine[key][0] <= last + 2 * atol, f"row {i}: {key} with score {mine[key][0]:.6g} is in one list only"
    for key in ours.keys() & theirs.keys():
        difference = abs(ours[key][0] - theirs[key][0])
        assert difference <= atol, f"row {i}: scores of {key} differ by {difference:.3g}"
