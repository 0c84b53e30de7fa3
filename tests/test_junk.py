"""Images that hold no particle: told by their scores, and without a say in the others."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mfvdm_fast.doubts import MUCH_JUNK, warn_about_junk
from mfvdm_fast.errors import MfvdmWarning
from mfvdm_fast.io.stack import ParticleStack
from mfvdm_fast.metrics import evaluate_images
from mfvdm_fast.params import preset
from mfvdm_fast.pipeline import denoise
from mfvdm_fast.records import FloatArray
from mfvdm_fast.restore.score import Presence
from mfvdm_fast.result import DenoiseResult
from mfvdm_fast.run import Run
from mfvdm_fast.simulate import SimulationSettings, simulate_stack
from mfvdm_fast.synthetic import synthetic_particle

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
    again = denoise(noisy, preset("default", centre=False))  # as the data ask: once more, without the junk
    assert again.params.n_matchings == 2
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
    settings = SimulationSettings(snr=0.1, junk_fraction=0.2)
    noisy = simulate_stack(synthetic_particle(BOX), PIXEL_SIZE, 1000, settings, seed=3)
    good = np.flatnonzero(~noisy.junk)
    clean = noisy.read_clean(good)

    def error(found: DenoiseResult) -> float:
        return evaluate_images([clean], [found.images(good)], float(np.ptp(clean))).psnr_db

    params = preset("default", n_matchings=1, centre=False)
    found = denoise(noisy, params, threads=1)
    assert not found.whitened  # the noise is white, whatever lies beside the particles
    np.testing.assert_array_equal(denoise(noisy, params, threads=2).images(), found.images())
    assert np.isfinite(found.images(np.flatnonzero(noisy.junk))).all()
    monkeypatch.setattr("mfvdm_fast.run.trust_in", lambda score: None)
    assert error(found) > error(denoise(noisy, params)) + 0.5


def test_scores_of_faint_particles_tell_no_share_of_junk() -> None:
    """Of particles that hardly stand out many have low scores."""
    score, n = np.repeat([3.0, -4.0], [50, 50]), 100

    def doubt(average: FloatArray) -> None:
        run = object.__new__(Run)
        run.prepared, run.score, run.junk_below = SimpleNamespace(where="a.star: "), score, None  # type: ignore[assignment]
        run.presence = Presence(np.zeros(n), average, np.zeros(n))
        run.doubt()

    doubt(np.repeat([30.0, 5.0], [30, 70]))
    with pytest.warns(
        MfvdmWarning, match=r"a.star: about \d\d% of the images are likely no good particles; 0% are told"
    ):
        doubt(np.full(n, 30.0))
