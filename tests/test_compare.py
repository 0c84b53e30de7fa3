"""The comparers accept what is equal up to what they allow, and reject everything else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mfvdm_fast.records import NeighborTable

from .compare import (
    angle_distance,
    assert_same_angles,
    assert_same_eigenspaces,
    assert_same_neighbors,
    assert_same_subspace,
    stacked,
    subspace_angle,
)


def test_angles_on_the_circle() -> None:
    assert angle_distance(np.pi - 0.1, -np.pi + 0.1) == pytest.approx(0.2)
    assert_same_angles([0.0, np.pi], [2 * np.pi, -np.pi])
    with pytest.raises(AssertionError, match=r"angle \(1,\) is off by 0.1 rad, allowed 0.01"):
        assert_same_angles([0, 3.1], [0, 3.2], atol=0.01)
    with pytest.raises(AssertionError, match=r"is off by 3.14 rad"):
        assert_same_angles([[0.0]], [[np.pi]])
    with pytest.raises(AssertionError, match="an angle is not finite"):
        assert_same_angles([np.nan], [0])
    with pytest.raises(AssertionError, match=r"shapes differ: \(2,\) and \(1,\)"):
        assert_same_angles([0, 0], [0])


def test_subspaces(rng: np.random.Generator) -> None:
    basis = np.linalg.qr(rng.normal(size=(20, 4)))[0]
    turned = basis @ np.linalg.qr(rng.normal(size=(4, 4)))[0]
    assert_same_subspace(turned, basis, 1e-7)
    assert_same_subspace(-basis, basis, 1e-7)
    tilted = turned.copy()
    tilted[:, 0] += 1e-3 * rng.normal(size=20)
    with pytest.raises(AssertionError, match="rad apart, allowed 1e-06"):
        assert_same_subspace(tilted, basis)
    repeated = basis[:, [0, 1, 2, 2]]
    with pytest.raises(AssertionError, match=r"subspaces are 1.57 rad apart"):
        assert_same_subspace(repeated, basis)
    assert subspace_angle(repeated, repeated) == pytest.approx(np.pi / 2)
    with pytest.raises(AssertionError, match="shapes differ"):
        assert_same_subspace(basis[:, :3], basis)


def test_o2_pairs_span_over_the_reals() -> None:
    pair = np.array([[1.0 + 0j], [1j]])
    assert_same_subspace(stacked(-2 * pair), stacked(pair))
    with pytest.raises(AssertionError, match="rad apart"):
        assert_same_subspace(stacked(1j * pair), stacked(pair))  # the same complex line, another real one


def test_eigenspaces_are_compared_by_multiplet(rng: np.random.Generator) -> None:
    values = np.array([3.0, 2.0, 2.0, 1.0, 1.0])
    vectors = np.linalg.qr(rng.normal(size=(10, 6)))[0]
    mixed = vectors[:, :5].copy()
    mixed[:, [1, 2]] = vectors[:, [1, 2]] @ np.array([[0.6, -0.8], [0.8, 0.6]])
    assert_same_eigenspaces(values, mixed, vectors[:, :5], atol=1e-7)
    swapped = vectors[:, [1, 0, 2, 3, 4]]
    with pytest.raises(AssertionError, match="rad apart"):
        assert_same_eigenspaces(values, swapped, vectors[:, :5])
    cut = vectors[:, [0, 1, 2, 5]]  # another member of the multiplet that four vectors cut
    assert_same_eigenspaces(values, cut, vectors[:, :4])
    with pytest.raises(AssertionError, match="rad apart"):
        assert_same_eigenspaces(values[:4], cut, vectors[:, :4])
    with pytest.raises(AssertionError, match="no whole multiplet"):
        assert_same_eigenspaces([1.0, 1.0], vectors[:, :1], vectors[:, :1])


def table() -> NeighborTable:
    return NeighborTable(
        np.array([[1, 2, 1], [0, 2, 3], [3, 0, 1], [2, 1, 0]]),
        np.array([[False, False, True]] * 4),
        np.linspace(-3, 3, 12).reshape(4, 3),
        np.array([[0.9, 0.5, 0.2]] * 4),
    )


def taken(source: NeighborTable, columns: list[int]) -> NeighborTable:
    arrays = (source.indices, source.mirrored, source.angles, source.scores)
    return NeighborTable(*(a[:, columns] for a in arrays))


def changed(name: str, place: tuple[int, int], value: float) -> NeighborTable:
    array = getattr(table(), name).copy()
    array[place] = value
    return replace(table(), **{name: array})


def test_equal_neighbor_tables_pass() -> None:
    assert_same_neighbors(table(), table())
    assert_same_neighbors(changed("angles", (0, 0), -3 + 2 * np.pi), table())
    assert_same_neighbors(changed("angles", (0, 0), 0.5), table(), angle_atol=None)


def test_ties_in_the_list_and_at_its_end_pass() -> None:
    tied = replace(table(), scores=np.array([[0.9, 0.9, 0.2]] * 4))
    assert_same_neighbors(taken(tied, [1, 0, 2]), tied)
    assert_same_neighbors(changed("indices", (0, 2), 3), table())  # another one with the last score


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (changed("indices", (0, 0), 3), r"row 0: \(3, False\) with score 0.9 is in one list only"),
        (changed("mirrored", (1, 1), True), r"row 1: \(2, True\) with score 0.5 is in one list only"),
        (changed("angles", (2, 1), 0.0), r"row 2: angle of \(0, False\) is off by"),
        (changed("scores", (3, 2), 0.1), r"row 3: scores differ by 0.1"),
        (changed("scores", (3, 2), np.nan), "row 3 "),
        (changed("indices", (0, 1), 1), "row 0 lists a neighbour twice"),
        (changed("indices", (2, 1), 2), "row 2 lists itself"),
        (changed("scores", (1, 1), 0.95), "row 1 is not sorted, best first"),
    ],
)
def test_wrong_neighbor_tables_are_rejected(wrong: NeighborTable, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        assert_same_neighbors(wrong, table())


def test_swapped_scores_are_rejected() -> None:
    first, second = table(), table()
    first.indices[0, :2] = [2, 1]  # the order of two that are no tie
    with pytest.raises(AssertionError, match=r"row 0: scores of \(\d, False\) differ by 0.4"):
        assert_same_neighbors(first, second)
    with pytest.raises(AssertionError, match="differ"):
        assert_same_neighbors(taken(first, [0, 1]), second)
