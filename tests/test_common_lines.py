"""Where views stand: by the lines that projections of one object share, and by the shifts of their particles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mfvdm_fast.errors import InputError
from mfvdm_fast.graph.common_shift import ALIKE, OF_ORIGIN, REWEIGHTINGS, ROBUST, CommonMoves
from mfvdm_fast.graph.eigenbasis import solve_eigenbasis
from mfvdm_fast.graph.frequency_graph import build_frequency_graph
from mfvdm_fast.imaging.fourier_shift import shift_images
from mfvdm_fast.metrics import pair_truth
from mfvdm_fast.records import Eigenbasis, FloatArray, FrequencyGraph, IndexArray, NeighborTable
from mfvdm_fast.restore.common_lines import N_LINES, bring_back, central_lines, match_lines
from mfvdm_fast.simulate import SimulatedStack, SimulationSettings, simulate_stack
from mfvdm_fast.synthetic import synthetic_particle

from .reference.common_lines import reference_fit, reference_match, reference_transform

BOX, N = 33, 40
FREQUENCIES = np.arange(1, 14) / 66


@pytest.fixture(scope="module")
def stack() -> SimulatedStack:
    return simulate_stack(synthetic_particle(BOX), 5.0, N, SimulationSettings(snr=np.inf, ctf=False), seed=3)


def true_lines(rotations: FloatArray, i: int, j: int) -> tuple[float, float]:
    """Angles of the line that views i and j share (x_volume = R x_image)."""
    line = np.cross(rotations[i, :, 2], rotations[j, :, 2])
    (x, y, _), (z, w, _) = rotations[i].T @ line, rotations[j].T @ line
    return float(np.arctan2(y, x)), float(np.arctan2(w, z))


def test_lines_are_the_transform_of_the_image(stack: SimulatedStack) -> None:
    images = stack.read_clean(np.arange(2))
    lines = central_lines(images, FREQUENCIES)
    assert lines.shape == (2, N_LINES // 2, len(FREQUENCIES))
    for a in (0, 13, 30, 47):
        angle = 2 * np.pi * a / N_LINES
        want = [reference_transform(images[1], f * np.cos(angle), f * np.sin(angle)) for f in FREQUENCIES]
        np.testing.assert_allclose(lines[1, a], want, atol=1e-4 * np.abs(lines).max())


def test_moved_images_are_brought_back(stack: SimulatedStack, rng: np.random.Generator) -> None:
    images, places = stack.read_clean(np.arange(5)), rng.normal(0, 1, (5, 2))
    moved = shift_images(images, -places)  # content at ``places``
    back = bring_back(central_lines(moved, FREQUENCIES), FREQUENCIES, places)
    still = central_lines(images, FREQUENCIES)
    assert np.abs(back - still).max() < 0.02 * np.abs(still).max()


def test_lines_match_those_of_the_reference(stack: SimulatedStack, rng: np.random.Generator) -> None:
    lines = central_lines(stack.read_clean(np.arange(4)), FREQUENCIES)[:, ::3]  # 20 lines, by way of 9 degrees
    found, again = (match_lines(lines, FREQUENCIES, threads=threads) for threads in (1, 2))
    angles = 2 * np.pi / 40 * np.arange(40)
    row = 0
    for i in range(4):
        for j in range(i + 1, 4):
            a, b, slope, curvature = reference_match(lines.astype(complex), FREQUENCIES, i, j)
            assert (found.first[row], found.second[row]) == (i, j)
            np.testing.assert_allclose(found.along_first[row], [np.cos(angles[a]), np.sin(angles[a])], atol=1e-12)
            np.testing.assert_allclose(found.along_second[row], [np.cos(angles[b]), np.sin(angles[b])], atol=1e-12)
            assert found.offsets[row] == pytest.approx(slope / curvature, abs=1e-4)
            row += 1
    assert row == len(found.offsets)
    for one, other in zip(vars(found).values(), vars(again).values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_projections_share_the_line_of_their_rotations(stack: SimulatedStack, rng: np.random.Generator) -> None:
    places = rng.normal(0, 0.3, (N, 2))
    lines = central_lines(shift_images(stack.read_clean(np.arange(N)), -places), FREQUENCIES)
    found = match_lines(lines, FREQUENCIES)
    errors = []
    for i, j, u, w in zip(found.first, found.second, found.along_first, found.along_second, strict=True):
        phi, psi = true_lines(stack.rotations, i, j)
        turn = [np.angle(complex(*u) * np.exp(-1j * phi)), np.angle(complex(*w) * np.exp(-1j * psi))]
        errors.append(np.degrees(min(np.abs(turn).max(), (np.pi - np.abs(turn)).max())))
    right = np.array(errors) < 8
    assert right.mean() > 0.6  # by chance 1 in 250
    said = np.einsum("ea,ea->e", places[found.first], found.along_first)
    said -= np.einsum("ea,ea->e", places[found.second], found.along_second)
    assert np.median(np.abs(found.offsets - said)[right]) < 0.1 < 0.15 < np.median(np.abs(said))


def test_phases_that_are_no_small_move_give_no_equation() -> None:
    lines = np.ones((2, 3, 2), np.complex64)
    lines[0, :, 1] = -1  # half a turn at the finer frequency alone
    assert len(match_lines(lines, np.array([0.05, 0.1])).offsets) == 0
    assert len(match_lines(lines[:1], np.array([0.05, 0.1])).offsets) == 0


def view_graph(n: int, k: int) -> tuple[FrequencyGraph, FloatArray]:
    """The graph of the nearest views, mirrored ones too, with true angles, and the rotations."""
    stack = simulate_stack(synthetic_particle(16), 4.0, n, seed=1)
    rotations = stack.rotations
    directions = stack.viewing_directions
    nearest = np.argsort(-(directions @ np.concatenate([directions, -directions]).T), axis=1)[:, 1 : k + 1]
    indices, mirrored = nearest % n, nearest >= n
    _, angles = pair_truth(rotations, np.repeat(np.arange(n), k), indices.ravel(), mirrored.ravel())
    return build_frequency_graph(NeighborTable(indices, mirrored, angles.reshape(n, k), np.ones((n, k)))), rotations


def true_equations(rotations: FloatArray, rng: np.random.Generator) -> tuple[IndexArray, FloatArray, FloatArray]:
    """Pairs (e, 2) of views and the unit vectors of the lines they share."""
    pairs = rng.integers(len(rotations), size=(30_000, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    lines = np.cross(rotations[pairs[:, 0], :, 2], rotations[pairs[:, 1], :, 2])
    u, w = (np.einsum("eab,ea->eb", rotations[some], lines)[:, :2] for some in pairs.T)
    length = np.linalg.norm(lines, axis=1, keepdims=True)
    return pairs, u / length, w / length


def test_a_move_of_the_origin_is_what_shifts_have_in_common(rng: np.random.Generator) -> None:
    """No line tells it: the shifts of the particles do."""
    n = 800
    graph, rotations = view_graph(n, 20)
    basis = solve_eigenbasis(graph, 1, 15)
    move = np.einsum("nab,a->nb", rotations, [1.5, -0.7, 0.4])[:, :2]
    noise = rng.standard_normal((n, 2))
    common = CommonMoves.against(move + noise, basis, graph.degrees)
    assert common.variance / graph.degrees.mean() == pytest.approx(1, abs=0.1)
    pairs, u, w = true_equations(rotations, rng)
    told = np.einsum("ea,ea->e", move[pairs[:, 0]], u) - np.einsum("ea,ea->e", move[pairs[:, 1]], w)
    assert np.abs(told).max() < 1e-10
    design = np.subtract(common.along(pairs[:, 0], u), common.along(pairs[:, 1], w))
    places = common.places(common.fit(design, told, np.zeros(15)))
    assert (places + move).std() < 0.15  # views stand where shifts against them cancel on average
    assert move.std() > 0.9


def test_other_moves_are_told_by_lines_though_a_third_of_them_are_wrong(rng: np.random.Generator) -> None:
    n, m = 800, 40
    graph, rotations = view_graph(n, 20)
    basis = solve_eigenbasis(graph, 1, m)
    common = CommonMoves.against(rng.normal(0, 2.0, (n, 2)), basis, graph.degrees)
    amplitudes = np.where(np.arange(m) >= OF_ORIGIN, rng.normal(0, 0.06 * np.sqrt(graph.degrees.sum()), m), 0)
    drift = common.places(amplitudes)
    pairs, u, w = true_equations(rotations, rng)
    told = np.einsum("ea,ea->e", drift[pairs[:, 0]], u) - np.einsum("ea,ea->e", drift[pairs[:, 1]], w)
    wrong = rng.random(len(told)) < 1 / 3
    told[wrong] += rng.normal(0, 3, wrong.sum())
    design = np.subtract(common.along(pairs[:, 0], u), common.along(pairs[:, 1], w))
    found = common.fit(design, told, np.zeros(m))
    np.testing.assert_allclose(found[:OF_ORIGIN], common.expected[:OF_ORIGIN], rtol=1e-4)
    left = common.places(np.where(np.arange(m) >= OF_ORIGIN, found - amplitudes, 0))
    assert drift.std() > 0.2
    assert left.std() < 0.15 * drift.std()

    without = replace(common, expected=common.expected[OF_ORIGIN:], modes=common.modes[:, OF_ORIGIN:])
    want = reference_fit(
        design[:, OF_ORIGIN:].astype(float), told, without.expected, common.variance, REWEIGHTINGS, ROBUST, ALIKE
    )
    np.testing.assert_allclose(found[OF_ORIGIN:], want, atol=1e-3 * np.abs(want).max())
    again = common.fit(design, told, found)
    assert np.abs(again - found).max() < 0.1 * np.abs(found).max()


def test_without_lines_the_shifts_of_the_particles_decide() -> None:
    graph, _ = view_graph(100, 10)
    basis = solve_eigenbasis(graph, 1, 4)
    common = CommonMoves.against(np.ones((100, 2)), basis, graph.degrees)
    np.testing.assert_array_equal(common.fit(np.zeros((0, 4), np.float32), np.zeros(0), np.zeros(4)), common.expected)
    still = CommonMoves.against(np.zeros((100, 2)), basis, graph.degrees)
    assert not still.fit(np.zeros((3, 4), np.float32), np.zeros(3), np.zeros(4)).any()


def test_arguments_that_do_not_fit() -> None:
    with pytest.raises(InputError, match=r"lines \(r, h, f\) need frequencies \(f,\), got \(2, 3, 4\) and \(5,\)"):
        match_lines(np.ones((2, 3, 4), np.complex64), np.ones(5))
    basis = Eigenbasis(2, np.ones(1), np.ones((3, 1), np.complex64), np.zeros(1), 1, "converged")
    with pytest.raises(
        InputError, match=r"3 shifts need an eigenbasis of k = 1 and as many particles, got k = 2 and 3"
    ):
        CommonMoves.against(np.zeros((3, 2)), basis, np.ones(3))
