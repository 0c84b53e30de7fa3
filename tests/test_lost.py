"""Particles at a wrong place are found where they stand, and what is in doubt stays so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from mfvdm_fast import lost, preset
from mfvdm_fast.centring import Scene, make_scene
from mfvdm_fast.imaging.fourier_shift import shift_images
from mfvdm_fast.lost import find_lost, match_elsewhere
from mfvdm_fast.params import settle_size
from mfvdm_fast.prepare import Preparation
from mfvdm_fast.progress import StageTimes
from mfvdm_fast.records import FloatArray, IndexArray, NeighborTable
from mfvdm_fast.restore import template_features
from mfvdm_fast.run import Run
from mfvdm_fast.simulate import SimulationSettings, simulate_stack
from mfvdm_fast.synthetic import synthetic_particle

from .reference.templates import log_likelihood

N, STEP = 900, 1.7
LOST = np.arange(0, 500, 50)


@dataclass(frozen=True)
class Case:
    """A stack that is centred but for the particles LOST, which stand STEP px off along x."""

    scene: Scene
    table: NeighborTable
    likelihood: FloatArray

    def wrong(self, rows: IndexArray) -> FloatArray:
        """Where ``rows`` were moved to."""
        return np.isin(rows, LOST)[:, None] * np.array([STEP, 0.0])


@pytest.fixture(scope="module")
def case() -> Case:
    moved = simulate_stack(synthetic_particle(33), 5.0, N, SimulationSettings(snr=0.2, shift_std_px=1.2), seed=4)
    params = settle_size(preset(n_neighbors=20, centre=True, n_matchings=1, refine=False), N)
    progress = StageTimes()
    prepared = Preparation(moved, params, 2, progress)
    prepared.shifts_px = moved.shifts_px.copy()
    prepared.shifts_px[LOST] += [STEP, 0.0]
    run = Run(params, 2, progress, prepared)
    coefs = prepared.expand()
    run.pca, coordinates = prepared.reduce(coefs)
    table, seen = run.first_table(coordinates), prepared.observation(coefs)
    fitted = run.templates(table, coefs, seen, 0)
    table = run.match(fitted, table, coefs, seen)
    assert run.presence is not None
    return Case(make_scene(prepared, coefs, seen, fitted, 2), table, run.presence.log_likelihood)


def test_lost_particles_are_found_elsewhere(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost, "LOST", 1.0)  # so small a step off the centre does not stand out
    scene, likelihood = case.scene, case.likelihood
    found, places = find_lost(scene, likelihood)
    assert (np.diff(found) > 0).all()
    assert len(np.intersect1d(found, LOST)) >= 9
    assert len(np.setdiff1d(found, LOST)) < 0.05 * N
    back = (places + case.wrong(found))[np.isin(found, LOST)]
    assert np.median(np.hypot(*back.T)) < 0.5
    monkeypatch.setattr(lost, "LOST_AT_ONCE", 300)
    in_pieces = find_lost(scene, likelihood)
    np.testing.assert_array_equal(in_pieces[0], found)
    np.testing.assert_array_equal(in_pieces[1], places)
    monkeypatch.setattr(lost, "LOST", 0.05)
    in_groups = find_lost(scene, likelihood)[0]
    assert len(in_groups) > 0
    assert np.isin(in_groups, found).all()
    monkeypatch.setattr(lost, "LOST", 0.03)
    likely = np.where(np.isin(np.arange(N), LOST), 0.0, 100.0)
    looked_at = np.zeros(0, np.int64)  # in groups, for as long as a tenth of each is found
    for some in np.array_split(np.argsort(likely, kind="stable"), np.arange(0, N, int(np.ceil(0.03 * N)))[1:]):
        looked_at = np.concatenate([looked_at, some])
        if np.isin(some, found).mean() < lost.MANY_LOST:
            break
    assert len(looked_at) < 0.1 * N
    np.testing.assert_array_equal(find_lost(scene, likely)[0], np.intersect1d(found, looked_at))
    assert not np.isin(find_lost(scene, -likely)[0], LOST).any()  # the likely ones are not looked at


def test_lost_particles_are_matched_elsewhere(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost, "LOST", 1.0)
    found, here, places = match_elsewhere(case.scene, case.table, case.likelihood)
    assert np.median(here[LOST]) < 0.05
    assert np.median(here) > 0.9
    gone = LOST[here[LOST] < 0.5]
    assert len(gone) >= 8
    assert np.median(np.hypot(*(places[gone] + case.wrong(gone)).T)) < 0.5
    assert (np.diff(found.scores, axis=1) <= 0).all()
    sure = np.flatnonzero(here == 1)  # what matches nothing elsewhere keeps its matches
    assert len(sure) > 50
    for name in ("indices", "mirrored", "angles"):
        np.testing.assert_array_equal(getattr(found, name)[sure, :5], getattr(case.table, name)[sure, :5])
    monkeypatch.setattr(lost, "LOST_AT_ONCE", 300)
    again = match_elsewhere(case.scene, case.table, case.likelihood)
    assert np.mean(again[0].indices == found.indices) > 0.99  # but for ties
    np.testing.assert_allclose(again[1], here, atol=1e-3)


def test_scores_are_log_likelihoods_at_a_place(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the image moved there; a third of the templates stand for all."""
    monkeypatch.setattr(lost, "LOST", 1.0)
    monkeypatch.setattr(lost, "TEMPLATES_IN_DOUBT", N // 3)
    monkeypatch.setattr(template_features, "ENERGY", 1.0)
    found, here, places = match_elsewhere(case.scene, case.table, case.likelihood)
    scene, prepared, basis = case.scene, case.scene.prepared, case.scene.prepared.basis
    assert prepared.shifts_px is not None
    variance = max((prepared.shifts_px**2).sum(axis=1).mean() / 2, (0.3 * scene.wavelength / prepared.scale) ** 2)
    width, offsets = int(scene.templates.offsets[-1]), scene.templates.offsets
    some = LOST[here[LOST] < 0.01]
    assert len(some) > 5
    near = 0
    for i in some:
        image = np.repeat(basis.evaluate(scene.coefs.packed[[i]]), len(scene.places), axis=0)
        moved = basis.expand(shift_images(image, scene.places))[:, :width]
        template = scene.templates.without(int(scene.templates.part[i]))[found.indices[i, 0]]
        h, turn = scene.seen.transfer[scene.seen.group[i], :width], (found.angles[i, 0], found.mirrored[i, 0])
        expected = [log_likelihood(y, template, h, scene.seen.noise_power, offsets, turn) for y in moved]
        at = scene.places / prepared.scale
        expected -= ((prepared.shifts_px[i] + at) ** 2).sum(axis=1) / (2 * variance)
        off = np.abs(found.scores[i, 0] - expected - 2 * np.log(3))
        assert off.min() < 0.2
        near += bool(np.hypot(*(places[i] - at[off.argmin()])) < 0.5)
    assert near > 0.5 * len(some)


def test_only_the_least_likely_are_matched_elsewhere(case: Case) -> None:
    likely = np.where(np.isin(np.arange(N), LOST), 100.0, 0.0) + case.likelihood
    found, here, places = match_elsewhere(case.scene, case.table, likely)
    assert (here[LOST] == 1).all()
    assert not places[LOST].any()
    np.testing.assert_array_equal(found.scores[LOST], case.table.scores[LOST])
