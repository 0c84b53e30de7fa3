"""Images that hold no particle: told by their scores, and without a say in the others."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mfvdm_fast.doubts import MUCH_JUNK, warn_about_junk
from mfvdm_fast.errors import MfvdmWarning
from mfvdm_fast.io.stack import ParticleStack
from mfvdm_fast.metrics import evaluate_images
from mfvdm_fast.params import MOST_CHOSEN, preset
from mfvdm_fast.pipeline import denoise
from mfvdm_fast.records import FloatArray, Images, IndexArray
from mfvdm_fast.restore.junk import CLEAR, DOUBT, JUNK_BELOW, junk_below, share_of_junk, trust_in, warn_if_noise
from mfvdm_fast.restore.score import Presence
from mfvdm_fast.result import DenoiseResult
from mfvdm_fast.run import Judgement, Run
from mfvdm_fast.simulate import SimulationSettings, simulate_stack
from mfvdm_fast.synthetic import synthetic_particle

from .reference import score as reference

BOX, PIXEL_SIZE = 33, 6.0


def test_every_kind_of_junk_gets_low_scores() -> None:
    settings = SimulationSettings(snr=0.05, junk_fraction=0.3)
    noisy = simulate_stack(synthetic_particle(BOX), PIXEL_SIZE, 1000, settings, seed=3)
    found = denoise(noisy, preset("default", n_matchings=1, centre=False))
    score, flagged = found.score, found.junk
    assert score is not None
    assert flagged is not None
    assert flagged[noisy.junk].mean() > 0.4  # of which a hundred to one would find 26 %
    assert flagged[~noisy.junk].mean() < 0.02
    again = denoise(noisy, preset("default", centre=False))  # as the data ask: until lists agree, without the junk
    assert again.params.n_matchings == MOST_CHOSEN
    assert again.junk is not None
    assert again.junk[noisy.junk].mean() > flagged[noisy.junk].mean() + 0.05
    assert again.junk[~noisy.junk].mean() < 0.02
    good = np.sort(score[noisy.junk_kind == 0])
    areas = [1 - np.searchsorted(good, score[noisy.junk_kind == kind]).mean() / len(good) for kind in (1, 2, 3)]
    assert min(areas) > 0.85, areas


def test_a_stack_of_noise_is_warned_about() -> None:
    images = np.random.default_rng(1).normal(size=(500, BOX, BOX)).astype(np.float32)
    with pytest.warns(MfvdmWarning, match=r"^0% of the images are likelier to show a particle than nothing but noise"):
        found = denoise(ParticleStack.from_array(images, PIXEL_SIZE))
    assert found.may_be_noise
    assert found.junk is not None
    assert found.junk.mean() > 0.5


def test_a_stack_of_coloured_noise_is_warned_about() -> None:
    """Its lumps are alike: many images are likelier particles than noise."""
    f = np.hypot(np.fft.fftfreq(BOX)[:, None], np.fft.rfftfreq(BOX)[None, :])
    white = np.random.default_rng(1).normal(size=(500, BOX, BOX))
    images = np.fft.irfft2(np.fft.rfft2(white) * np.sqrt(1 + 20 * np.exp(-((f / 0.1) ** 2))), s=(BOX, BOX))
    with pytest.warns(MfvdmWarning, match=r"^the middle of the images holds no more than their corners do, so what is"):
        found = denoise(ParticleStack.from_array(images.astype(np.float32), PIXEL_SIZE), threads=1)
    assert found.whitened
    assert found.may_be_noise


def test_much_junk_is_warned_about() -> None:
    assert not warn_about_junk(np.arange(99) < MUCH_JUNK * 99)
    with pytest.warns(MfvdmWarning, match=r"^a\.star: about 60% of the images are .* 60% are told .* images of low"):
        assert warn_about_junk(np.arange(100) < 60, where="a.star: ")
    some, trust = np.arange(100) < 20, np.full(100, 0.6)  # more than is flagged
    with pytest.warns(MfvdmWarning, match=r"^about 40% of the images are likely no good particles; 20% are told \(mf"):
        assert warn_about_junk(some, trust)
    assert not warn_about_junk(some, trust + 0.1)


@pytest.mark.parametrize(("snr", "share"), [(0.1, 0.7), (0.2, 0.5)])
def test_much_junk_is_seen_where_less_of_it_is_flagged(snr: float, share: float) -> None:
    settings = SimulationSettings(snr=snr, junk_fraction=share)
    noisy = simulate_stack(synthetic_particle(BOX), PIXEL_SIZE, 1000, settings, seed=3)
    with pytest.warns(
        MfvdmWarning, match=r"^about \d\d% of the images are likely no good particles; \d\d% are told"
    ) as told:
        found = denoise(noisy, preset(centre=False), threads=1)
    assert len(told) == 1
    assert found.junk is not None
    assert found.junk.mean() < share - 0.1


def test_particles_in_much_noise_are_not_warned_about() -> None:  # warnings are errors
    noisy = simulate_stack(synthetic_particle(64), 4.0, 500, SimulationSettings(snr=0.02), seed=1)
    found = denoise(noisy, preset("default", n_matchings=1, centre=False))
    assert not found.may_be_noise
    assert found.junk is not None
    assert found.junk.mean() < 0.1


def test_junk_does_not_spoil_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    settings, params, gains = SimulationSettings(snr=0.1, junk_fraction=0.2), preset("default", centre=False), []
    for seed in (3, 4, 5):
        noisy = simulate_stack(synthetic_particle(BOX), PIXEL_SIZE, 1000, settings, seed=seed)
        good = np.flatnonzero(~noisy.junk)
        clean = noisy.read_clean(good)

        def error(found: DenoiseResult, good: IndexArray = good, clean: Images = clean) -> float:
            return evaluate_images([clean], [found.images(good)], float(np.ptp(clean))).psnr_db

        found = denoise(noisy, params, threads=1)
        assert not found.whitened  # the noise is white, whatever lies beside the particles
        assert np.isfinite(found.images(np.flatnonzero(noisy.junk))).all()
        if seed == 3:
            np.testing.assert_array_equal(denoise(noisy, params, threads=2).images(), found.images())
        with monkeypatch.context() as all_trusted:
            all_trusted.setattr("mfvdm_fast.run.trust_in", lambda score: None)
            gains.append(error(found) - error(denoise(noisy, params)))
    assert np.mean(gains) > 0.5


def test_scores_of_faint_particles_tell_no_share_of_junk() -> None:
    """Of particles that hardly stand out many have low scores."""
    score, n = np.repeat([3.0, -4.0], [50, 50]), 100

    def doubt(average: FloatArray) -> None:
        run = object.__new__(Run)
        run.prepared = SimpleNamespace(where="a.star: ")  # type: ignore[assignment]
        run.judged = Judgement(average, score, trust_in(score), JUNK_BELOW)
        run.presence = Presence(np.zeros(n), average, np.zeros(n))
        run.doubt()

    doubt(np.repeat([30.0, 5.0], [30, 70]))
    with pytest.warns(
        MfvdmWarning, match=r"a.star: about \d\d% of the images are likely no good particles; 0% are told"
    ):
        doubt(np.full(n, 30.0))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4])
def test_share_of_junk_is_the_likeliest(share: float) -> None:
    rng = np.random.default_rng(4)
    junk = rng.uniform(size=5000) < share
    x = rng.normal(np.where(junk, -2, 2))
    score = 4 * x  # log N(x; 2, 1) / N(x; -2, 1)
    found = share_of_junk(score)
    assert found == pytest.approx(reference.share_of_junk(score), abs=3e-4)
    assert found == pytest.approx(share, abs=0.02)
    trust = trust_in(score - DOUBT)
    if share:
        assert trust is not None
        good, bad = np.exp(-0.5 * (x - 2) ** 2), np.exp(-0.5 * (x + 2) ** 2)
        np.testing.assert_allclose(trust, (1 - found) * good / ((1 - found) * good + found * bad), rtol=1e-6)
        assert trust[~junk].mean() > 0.97
        assert trust[junk].mean() < 0.2


def test_without_junk_all_are_trusted() -> None:
    scores = np.random.default_rng(0).normal(3, 0.5, 1000)
    assert trust_in(scores) is None
    scores[:10] = -3.0
    assert trust_in(scores) is None  # in doubt
    scores[:10] = -20.0
    trust = trust_in(scores)
    assert trust is not None
    assert trust[:10].max() < 1e-5
    assert trust[10:].min() > 0.99


def test_where_much_is_junk_less_evidence_will_do() -> None:
    rng = np.random.default_rng(0)
    good, junk = rng.normal(20, 8, 700), rng.normal(-3.5, 1.5, 300)  # as of particles and of empty images
    score = np.concatenate([good, junk])
    assert (junk < JUNK_BELOW).mean() < 0.3
    clear = np.full(1000, 2 * CLEAR)
    below = junk_below(score, clear)
    assert (junk < below).mean() > 0.8
    assert (good < below).mean() < 0.01
    trust = trust_in(score)
    assert trust is not None
    np.testing.assert_array_equal(score < below, trust < 0.5)  # junk is likelier than not
    assert junk_below(score, clear - 1.5 * CLEAR) == JUNK_BELOW  # where particles do not stand out
    assert junk_below(junk, clear) == -DOUBT  # nothing but junk: even then in doubt it is none


@pytest.mark.parametrize("tail", [0, 10])
def test_a_clean_stack_is_judged_by_a_hundred_to_one(tail: int) -> None:
    score = np.random.default_rng(0).normal(20, 8, 1000)
    score[:tail] = -6.0
    assert junk_below(score, np.full(1000, 2 * CLEAR)) == JUNK_BELOW


def test_images_that_are_no_likelier_particles_than_noise_are_warned_about() -> None:
    average = np.linspace(-8, 0.5, 100)
    with pytest.warns(MfvdmWarning, match=r"^a\.star: 6% of the images are likelier to show a particle than nothing"):
        assert warn_if_noise(average, "a.star: ")
    assert not warn_if_noise(average + 1)
