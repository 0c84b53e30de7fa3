"""The score of images: the densities it is made of, what it tells apart, and how often a good image looks like junk."""

from __future__ import annotations

import numpy as np
import pytest

from mfvdm_fast.errors import InputError
from mfvdm_fast.records import Coefficients, FloatArray
from mfvdm_fast.restore.junk import JUNK_BELOW
from mfvdm_fast.restore.score import (
    Presence,
    allow_for_contrast,
    contrast_variance,
    explained,
    fit_contrast,
    log_odds_of_more,
    other_signals,
    score_particles,
)
from mfvdm_fast.restore.wiener import Observation

from .reference import score as reference

N, FIRST, P = 400, 4, 24  # particles, coefficients of k = 0 and of all


def _observe(
    extra: float = 0.0, contrast: float = 0.0, seed: int = 0
) -> tuple[Coefficients, Coefficients, Observation, FloatArray]:
    """Images, their restorations, how they were seen, and variances of other signals."""
    rng = np.random.default_rng(seed)
    seen = Observation(rng.normal(size=(3, P)), rng.integers(3, size=N), rng.uniform(0.5, 2, P))

    def draw(variance: FloatArray | float) -> FloatArray:
        values = rng.normal(size=(N, P)) + 1j * rng.normal(size=(N, P))
        values[:, :FIRST] = np.sqrt(2) * values[:, :FIRST].real
        return np.asarray(np.sqrt(variance / 2) * values)

    x = draw(9.0)
    a = 1 + contrast * rng.normal(size=(N, 1))
    y = seen.transfer[seen.group] * (a * x + draw(extra)) + draw(seen.noise_power)
    frequencies = np.linspace(0.05, 1, P)
    return y.astype(np.complex64), x.astype(np.complex64), seen, other_signals(seen.noise_power, frequencies)


def _energies(
    y: Coefficients, x: Coefficients, seen: Observation, variances: FloatArray, threads: int = 1
) -> FloatArray:
    total = np.zeros((len(y), 3, len(variances)))
    for k, columns in enumerate((slice(0, FIRST), slice(FIRST, P))):
        part = seen.columns(columns.start, columns.stop)
        total += explained(y[:, columns], x[:, columns], part, variances[:, columns], k, threads)
    return total


@pytest.mark.parametrize("extra", [0.0, 30.0])
def test_odds_of_more_are_those_of_the_densities(extra: float) -> None:
    y, x, seen, variances = _observe(extra, contrast=0.3)
    x[0] = 0
    odds = log_odds_of_more(_energies(y, x, seen, variances), seen, variances, FIRST)
    for i in range(20):
        h = seen.transfer[seen.group[i]]
        expected = reference.log_odds_of_more(y[i], x[i], h, seen.noise_power, variances[:-1], FIRST)
        assert odds[i] == pytest.approx(expected, abs=1e-3)


def test_energies_do_not_depend_on_threads() -> None:
    seen = _observe()
    np.testing.assert_array_equal(_energies(*seen, threads=1), _energies(*seen, threads=2))


def test_contrast_is_averaged_over() -> None:
    likelihood, power = np.array([-5.0, 0.0, 40.0]), np.array([100.0, 30.0, 60.0])
    added = allow_for_contrast(likelihood, power, 0.04)
    expected = [reference.mean_over_contrast(c, p, 0.04) - c for c, p in zip(likelihood, power, strict=True)]
    np.testing.assert_allclose(added, expected, atol=1e-6)
    np.testing.assert_array_equal(allow_for_contrast(likelihood, power, 0.0), 0.0)


def test_contrast_and_its_spread_are_found() -> None:
    energies = _energies(*_observe(contrast=0.3))
    assert np.median(fit_contrast(energies)) == pytest.approx(1, abs=0.1)
    assert contrast_variance(energies) == pytest.approx(0.09, rel=0.4)
    assert contrast_variance(_energies(*_observe())) < 0.01


def test_junk_of_both_kinds_is_told_and_good_images_are_not() -> None:
    y, x, seen, variances = _observe()
    dirty = _observe(extra=200.0)[0]
    presence = Presence(np.full(N, 60.0), np.where(np.arange(N) < 40, -9.0, 50.0), np.full(N, 120.0))
    y[40:80] = dirty[40:80]
    score = score_particles(presence, _energies(y, x, seen, variances), seen, variances, FIRST)
    junk = score < JUNK_BELOW
    assert junk[:40].all()
    assert junk[40:80].mean() > 0.9
    assert junk[80:].mean() < 0.01


@pytest.mark.parametrize("contrast", [0.0, 0.3])
def test_a_good_image_reaches_odds_of_t_with_a_chance_of_one_in_t(contrast: float) -> None:
    odds = np.concatenate([
        log_odds_of_more(_energies(y, x, seen, variances), seen, variances, FIRST)
        for y, x, seen, variances in (_observe(contrast=contrast, seed=seed) for seed in range(5))
    ])  # fmt: skip
    for t in (3, 10, 100):
        assert (odds > np.log(t)).mean() < 1 / t


def test_what_all_particles_have_in_common_is_no_junk() -> None:
    y, x, seen, variances = _observe(extra=30.0)
    energies = _energies(y, x, seen, variances)
    presence = Presence(np.full(N, 60.0), np.full(N, 50.0), np.full(N, 120.0))
    assert np.median(log_odds_of_more(energies, seen, variances, FIRST)) > 5
    score = score_particles(presence, energies, seen, variances, FIRST)
    assert np.median(score) == pytest.approx(0, abs=1e-6)


def test_a_stack_without_signal_is_all_junk() -> None:
    seen, variances = Observation(np.ones((1, 1)), np.zeros(9, np.int64), np.ones(1)), np.array([[1.0], [np.inf]])
    y, x = np.ones((9, 1), np.complex64), np.zeros((9, 1), np.complex64)
    x[0] = 1e-3  # of the others nothing was restored
    presence = Presence(np.zeros(9), np.full(9, -6.0), np.zeros(9))
    score = score_particles(presence, explained(y, x, seen, variances, 0), seen, variances, 1)
    assert np.isfinite(score).all()
    assert (score < JUNK_BELOW).all()


def test_high_contrast_is_no_junk() -> None:
    """Templates are a tenth off: what they leave of bright particles is many times what they leave of others."""
    y, x, seen, variances = _observe(seed=1)
    off = (x + 0.4 * _observe(seed=2)[1]).astype(np.complex64)
    y[:20] += (2 * seen.transfer[seen.group] * x)[:20].astype(np.complex64)
    energies = _energies(y, off, seen, variances)
    presence = Presence(np.full(N, 60.0), np.full(N, 50.0), np.full(N, 120.0))
    more = log_odds_of_more(energies, seen, variances, FIRST)
    assert (more[:20] > np.quantile(more[20:], 0.95)).mean() > 0.8
    score = score_particles(presence, energies, seen, variances, FIRST)
    assert (score[:20] < JUNK_BELOW).mean() <= 0.1


def test_arrays_of_other_particles_are_refused() -> None:
    y, x, seen, variances = _observe()
    presence = Presence(*(np.ones(3) for _ in range(3)))
    with pytest.raises(InputError, match="3 particles were matched and 400 restored: give both of the same stack"):
        score_particles(presence, _energies(y, x, seen, variances), seen, variances, FIRST)
