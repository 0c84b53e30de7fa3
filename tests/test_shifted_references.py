"""Finding a particle among references that are turned, mirrored and moved."""

from __future__ import annotations

import numpy as np
import pytest

from mfvdm_fast.basis.disk_harmonics import DiskHarmonics
from mfvdm_fast.errors import InputError
from mfvdm_fast.imaging.fourier_shift import shift_images
from mfvdm_fast.records import Images, NeighborTable, SteerableCoefficients
from mfvdm_fast.restore.shifted_references import reference_features, shift_grid, synchronize_shifts, turns
from mfvdm_fast.restore.wiener import describe_observation
from mfvdm_fast.simulate import SimulationSettings, simulate_stack
from mfvdm_fast.synthetic import synthetic_particle

from .reference.distance import rotation_scores


def test_grid_is_round_symmetric_and_holds_the_centre() -> None:
    grid = shift_grid(0.7, 2.1)
    assert np.hypot(*grid.T).max() == pytest.approx(2.1)
    assert (grid == 0).all(axis=1).sum() == 1
    as_set = {tuple(place) for place in grid.round(6).tolist()}
    assert as_set == {(y, x) for x, y in as_set} == {(-x or 0.0, y) for x, y in as_set}
    assert len(shift_grid(5.0, 4.0)) == 1


def case(rng: np.random.Generator, n: int = 12, m: int = 5) -> tuple[SteerableCoefficients, np.ndarray, np.ndarray]:
    """Observed coefficients of three classes, references, the class of each particle."""
    offsets = np.array([0, 3, 5, 6])
    draw = rng.standard_normal((2, n + m, 6))
    packed = (draw[0] + 1j * draw[1] * (np.arange(6) > 2)).astype(np.complex64)
    return SteerableCoefficients(packed[:n], offsets), packed[n:], rng.integers(3, size=n)


def test_features_give_the_log_likelihood(rng: np.random.Generator) -> None:
    coefs, references, group = case(rng)
    transfer, power = rng.uniform(-1, 1, (3, 6)), rng.uniform(0.5, 2, 6)
    log_prior = rng.uniform(-1, 0, 5)
    seen = describe_observation(coefs, power, transfer, group)
    features = reference_features(coefs, seen, references, log_prior)
    weight = np.where(np.arange(6) < 3, 1, 2)
    for angle in (0.0, 0.8):
        turn = np.exp(-1j * angle * np.repeat([0, 1, 2], [3, 2, 1]))
        offsets = features.observed.offsets
        turned = np.exp(-1j * angle * np.repeat([0, 1, 2], np.diff(offsets)))
        twice = np.repeat([1, 2, 2], np.diff(offsets))
        scores = ((features.observed.packed * twice) @ (features.references.packed * turned).conj().T).real
        for i in range(12):
            h = transfer[group[i]]
            model = h * references * turn
            y = coefs.packed[i]
            expected = (weight * ((y * model.conj()).real - 0.5 * np.abs(model) ** 2) / power).sum(axis=1) + log_prior
            # what is below LEAST_PENALTY may be left out
            np.testing.assert_allclose(scores[i], expected, atol=0.2)


def test_penalty_of_one_class_is_exact(rng: np.random.Generator) -> None:
    coefs, references, _ = case(rng)
    features = reference_features(coefs, describe_observation(coefs, 2.0), references, np.zeros(5))
    assert features.observed.packed.shape[1] == 7
    penalty = 0.5 * (np.abs(references) ** 2 * [1, 1, 1, 2, 2, 2]).sum(axis=1) / 2
    found = features.observed.packed[0, 0] * features.references.packed[:, 0]
    np.testing.assert_allclose(found.real, -penalty, rtol=1e-5)


def placed(images: Images, places: np.ndarray) -> Images:
    """All images at every place, places first."""
    return np.concatenate([shift_images(images, np.tile(-place, (len(images), 1))) for place in places])


def test_moved_turned_and_mirrored_particles_are_found() -> None:
    box_size = 33
    stack = simulate_stack(synthetic_particle(box_size), 4.0, 3, SimulationSettings(ctf=False, snr=1e9), seed=5)
    basis = DiskHarmonics(box_size, 15.0, 0.2)
    places = shift_grid(1.5, 3.0)
    references = basis.expand(placed(stack.read_clean(np.arange(3)), places))
    truth = np.array([[1.5, -1.5], [0.0, 3.0], [-1.5, 0.0]])
    moved = basis.expand(shift_images(stack.read_clean(np.arange(3)), -truth))
    k = np.repeat(np.arange(basis.k_max + 1), basis.n_radial)
    angle, mirrored = np.array([0.4, -2.0, 3.0]), np.array([True, False, True])
    packed = np.where(mirrored[:, None], moved.conj(), moved) * np.exp(-1j * k * angle[:, None])
    seen_coefs = SteerableCoefficients(packed.astype(np.complex64), basis.offsets)
    prior = np.repeat(-(places**2).sum(axis=1) / 200, 3)
    features = reference_features(seen_coefs, describe_observation(seen_coefs, 0.1), references, prior)
    both = np.concatenate([features.observed.packed, features.references.packed])
    scores = rotation_scores(SteerableCoefficients(both, features.observed.offsets), 360)[:, :3, 3:]
    best = scores.transpose(1, 2, 0).reshape(3, -1).argmax(axis=1)
    index = best // 2
    np.testing.assert_array_equal(index % 3, [0, 1, 2])
    np.testing.assert_array_equal(best % 2 == 1, mirrored)
    # where a particle stands after mirroring and turning, and that images agree
    where = np.einsum("nab,nb->na", turns(mirrored, angle), np.repeat(places, 3, axis=0)[index])
    x, y = truth[:, 0], np.where(mirrored, -truth[:, 1], truth[:, 1])
    turned = (x + 1j * y) * np.exp(1j * angle)
    np.testing.assert_allclose(where, np.stack([turned.real, turned.imag], axis=1), atol=1e-9)
    centred = basis.expand(stack.read_clean(np.arange(3)))
    centred = np.where(mirrored[:, None], centred.conj(), centred) * np.exp(-1j * k * angle[:, None])
    back = shift_images(basis.evaluate(packed.astype(np.complex64)), where)
    expected = basis.evaluate(centred.astype(np.complex64))
    assert np.linalg.norm(back - expected) < 0.1 * np.linalg.norm(expected)  # what left the disc is lost


def matches(rng: np.random.Generator, shifts: np.ndarray, places: np.ndarray, wrong: float = 0.0) -> NeighborTable:
    """References at ``shifts`` (r, 2), all of one view at random angles: the place nearest to what each pair tells."""
    count, k = len(shifts), 20
    own = rng.uniform(-np.pi, np.pi, count)
    flipped = rng.random(count) < 0.5
    index, mirrored, angles = np.empty((count, k), np.int64), np.empty((count, k), bool), np.empty((count, k))
    turn = turns(flipped, own)
    for i in range(count):
        for column, j in enumerate(rng.choice(count, k, replace=False)):
            both = turn[i] @ turn[j].T  # from j to i
            mirrored[i, column] = np.linalg.det(both) < 0
            angles[i, column] = np.arctan2(both[1, 0], both[0, 0])
            place = both.T @ shifts[i] - shifts[j]
            if rng.random() < wrong:
                place = rng.uniform(-3, 3, 2)
            index[i, column] = np.argmin(((places - place) ** 2).sum(axis=1)) * count + j
    return NeighborTable(index, mirrored, angles, np.zeros((count, k)))


@pytest.mark.parametrize(("wrong", "largest"), [(0.0, 0.35), (0.2, 0.4)])
def test_references_are_synchronized_from_pairs(rng: np.random.Generator, wrong: float, largest: float) -> None:
    shifts = rng.normal(0, 1.5, (150, 2))
    found = synchronize_shifts(matches(rng, shifts, shift_grid(0.8, 6.0), wrong), shift_grid(0.8, 6.0))
    assert (found - shifts).std() < largest
    assert (found * shifts).sum() / (shifts**2).sum() == pytest.approx(0.85, abs=0.1)  # held back by the prior


def test_references_that_match_only_themselves_stay() -> None:
    plain, zero = np.zeros((3, 1), bool), np.zeros((3, 1))
    places = np.array([[0.0, 0.0], [1.0, 0.0]])
    found = synchronize_shifts(NeighborTable(np.array([[4], [0], [5]]), plain, zero, zero), places)
    assert found[0, 0] - found[1, 0] > 0.3
    assert not found[2].any()
    assert not synchronize_shifts(NeighborTable(np.array([[0], [1], [5]]), plain, zero, zero), places).any()


def test_arguments_that_do_not_fit(rng: np.random.Generator) -> None:
    coefs, references, _ = case(rng)
    seen = describe_observation(coefs, 1.0)
    with pytest.raises(
        InputError, match=r"must have shapes \(m, 6\) and \(m,\), got \(5, 5\) and \(5,\); expand the ref"
    ):
        reference_features(coefs, seen, references[:, :5], np.zeros(5))
    with pytest.raises(InputError, match=r"got \(5, 6\) and \(4,\)"):
        reference_features(coefs, seen, references, np.zeros(4))
