"""Steerable PCA against sums over particles, simulated spikes, and its own symmetries."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from mfvdm_fast.basis import steerable_pca
from mfvdm_fast.basis.steerable_pca import (
    CovarianceSums,
    estimate_steerable_pca,
    expand_components,
    pca_from_sums,
    project,
    shrink_eigenvalues,
    weigh_features,
)
from mfvdm_fast.errors import InputError
from mfvdm_fast.records import SteerableCoefficients, SteerablePCA

from .compare import assert_same_subspace
from .reference import steerable_pca as twin

OFFSETS = np.array([0, 6, 11, 15, 17])
SPIKES = {0: [9.0, 3.0], 1: [12.0, 5.0, 2.0], 2: [4.0], 3: []}  # signal variance per component


def spiked(n: int, variance: float, rng: np.random.Generator) -> SteerableCoefficients:
    """Coefficients with known principal components, random in-plane rotation, a mean at k = 0, and white noise."""
    packed = np.zeros((n, 17), complex)
    for k, spikes in SPIKES.items():
        p = OFFSETS[k + 1] - OFFSETS[k]
        axes = np.linalg.qr(rng.normal(size=(p, p)))[0]
        size = (n, p)
        noise, signal = rng.normal(size=size), rng.normal(size=(n, len(spikes))) * np.sqrt(spikes)
        if k:
            noise = (noise + 1j * rng.normal(size=size)) / np.sqrt(2)
            signal = signal * np.exp(1j * rng.uniform(0, 2 * np.pi, signal.shape))
        packed[:, OFFSETS[k] : OFFSETS[k + 1]] = signal @ axes[:, : len(spikes)].T + np.sqrt(variance) * noise
    packed[:, :6] += np.arange(6)
    return SteerableCoefficients(packed.astype(np.complex64), OFFSETS)


@pytest.fixture
def coefs(rng: np.random.Generator) -> SteerableCoefficients:
    return spiked(3000, 0.5, rng)


def test_equals_sums_over_particles(coefs: SteerableCoefficients) -> None:
    pca = estimate_steerable_pca(coefs, 0.5)
    expected = twin.components([coefs[k] for k in range(4)], 0.5)
    np.testing.assert_allclose(pca.mean, coefs[0].real.mean(axis=0, dtype=float), rtol=1e-6)
    for k, (values, vectors, weights) in enumerate(expected):
        np.testing.assert_allclose(pca.eigenvalues[k], values, rtol=1e-6)
        np.testing.assert_allclose(pca.weights[k], weights, rtol=1e-5)
        assert pca.components[k].shape == (OFFSETS[k + 1] - OFFSETS[k], len(values))
        for q in range(len(values)):
            assert_same_subspace(pca.components[k][:, [q]], vectors[:, [q]], atol=1e-5)
            assert pca.components[k][np.abs(pca.components[k][:, q]).argmax(), q] > 0


def test_finds_the_spikes_and_little_else(coefs: SteerableCoefficients) -> None:
    pca = estimate_steerable_pca(coefs, 0.5)
    for k, spikes in SPIKES.items():
        assert len(spikes) <= pca.n_components[k] <= len(spikes) + 1
        gamma = (OFFSETS[k + 1] - OFFSETS[k]) / (3000 if k == 0 else 6000)
        signal, _ = shrink_eigenvalues(pca.eigenvalues[k], 0.5, gamma)
        np.testing.assert_allclose(signal[: len(spikes)], spikes, rtol=0.12)
        assert (pca.weights[k][len(spikes) :] < 0.2).all()


@pytest.mark.parametrize("gamma", [0.001, 0.02, 0.5])
def test_shrinkage_equals_the_formulas(gamma: float) -> None:
    values = np.concatenate([np.linspace(0, 3, 40), [10.0, 1e3, 1e6]]) * 0.7
    signal, weight = shrink_eigenvalues(values, 0.7, gamma)
    expected = np.array([twin.weight_of(float(d), 0.7, gamma) for d in values])
    np.testing.assert_allclose(np.stack([signal, weight], axis=1), expected, rtol=1e-9, atol=1e-12)
    edge = 0.7 * (1 + np.sqrt(gamma)) ** 2
    assert (weight[values <= edge] == 0).all()
    assert (np.diff(weight) >= 0).all()
    assert weight[-1] == pytest.approx(1, abs=1e-5)


def test_shrinkage_undoes_the_bias_of_sample_eigenvalues() -> None:
    """A spike l shows up at (l + s^2)(1 + gamma s^2 / l) (Baik & Silverstein 2006)."""
    for spike in (1.0, 3.0, 20.0):
        sample = (spike + 0.5) * (1 + 0.1 * 0.5 / spike)
        assert shrink_eigenvalues(np.array([sample]), 0.5, 0.1)[0][0] == pytest.approx(spike)


def test_blocks_do_not_matter(coefs: SteerableCoefficients) -> None:
    whole, parts = estimate_steerable_pca(coefs, 0.5), CovarianceSums(OFFSETS)
    for start in range(0, 3000, 700):
        parts.add(coefs.packed[start : start + 700])
    found = pca_from_sums(parts, 0.5)
    for name in ("components", "eigenvalues", "weights"):
        for one, other in zip(getattr(found, name), getattr(whole, name), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-10)
    for k in range(4):
        np.testing.assert_allclose(parts.covariance(k), twin.covariance(coefs[k], k), atol=2e-6)


def test_turning_and_mirroring_images_changes_no_component(
    coefs: SteerableCoefficients, rng: np.random.Generator
) -> None:
    turned = coefs.packed.astype(complex)
    angles, flips = rng.uniform(0, 2 * np.pi, 3000), rng.random(3000) < 0.5
    for k in range(4):
        turned[:, OFFSETS[k] : OFFSETS[k + 1]] *= np.exp(-1j * k * angles)[:, None]
    turned[flips] = turned[flips].conj()
    before = estimate_steerable_pca(coefs, 0.5)
    after = estimate_steerable_pca(SteerableCoefficients(turned.astype(np.complex64), OFFSETS), 0.5)
    for k in range(4):
        np.testing.assert_allclose(after.eigenvalues[k], before.eigenvalues[k], rtol=1e-5)
        np.testing.assert_allclose(after.components[k], before.components[k], atol=1e-4)


def test_threads_do_not_matter(coefs: SteerableCoefficients) -> None:
    one, two = (estimate_steerable_pca(coefs, 0.5, threads) for threads in (1, 2))
    for k in range(4):
        np.testing.assert_array_equal(one.components[k], two.components[k])
        np.testing.assert_array_equal(one.eigenvalues[k], two.eigenvalues[k])


def features_of(coefs: SteerableCoefficients, pca: SteerablePCA) -> SteerableCoefficients:
    coordinates = SteerableCoefficients(project(coefs.packed, OFFSETS, pca), pca.offsets)
    return weigh_features(coordinates, pca)


def test_features_equal_their_formula(coefs: SteerableCoefficients) -> None:
    pca = estimate_steerable_pca(coefs, 0.5)
    features = features_of(coefs, pca)
    expected = []
    for k in range(4):
        centred = coefs[k] - (pca.mean if k == 0 else 0)
        expected.append(centred @ pca.components[k] * pca.weights[k])
    power = (np.abs(expected[0]) ** 2).sum(axis=1) + 2 * sum((np.abs(b) ** 2).sum(axis=1) for b in expected[1:])
    assert features.packed.dtype == np.complex64
    assert features.k_max == 2  # the last frequency with components; k = 3 has none
    for k in range(3):
        np.testing.assert_allclose(features[k], expected[k] / np.sqrt(power)[:, None], atol=2e-6)
    assert not features[0].imag.any()


def test_features_turn_and_mirror_as_images_do(coefs: SteerableCoefficients) -> None:
    pca = estimate_steerable_pca(coefs, 0.5)
    phase = np.exp(-0.7j * np.repeat(np.arange(4), np.diff(OFFSETS)))
    before = features_of(coefs, pca)
    turned = features_of(SteerableCoefficients((coefs.packed * phase).astype(np.complex64), OFFSETS), pca)
    mirrored = features_of(SteerableCoefficients(coefs.packed.conj(), OFFSETS), pca)
    for k in range(before.k_max + 1):
        np.testing.assert_allclose(turned[k], np.exp(-0.7j * k) * before[k], atol=2e-6)
    np.testing.assert_array_equal(mirrored.packed, before.packed.conj())


def test_an_image_equal_to_the_mean_has_no_features(coefs: SteerableCoefficients) -> None:
    pca = estimate_steerable_pca(coefs, 0.5)
    blank = np.zeros((1, 17), np.complex64)
    blank[0, :6] = pca.mean
    features = features_of(SteerableCoefficients(blank, OFFSETS), pca)
    assert np.isfinite(features.packed).all()


def test_expanding_projected_coefficients_is_the_projection(coefs: SteerableCoefficients) -> None:
    pca = estimate_steerable_pca(coefs, 0.5)
    back = expand_components(project(coefs.packed, OFFSETS, pca), OFFSETS, pca)
    for k in range(4):
        mean = pca.mean if k == 0 else 0
        expected = (coefs[k] - mean) @ pca.components[k] @ pca.components[k].T + mean
        np.testing.assert_allclose(back[:, OFFSETS[k] : OFFSETS[k + 1]], expected, atol=2e-5)
    again = expand_components(project(back, OFFSETS, pca), OFFSETS, pca)
    np.testing.assert_allclose(again, back, atol=2e-5)


def test_pure_noise_is_refused(rng: np.random.Generator) -> None:
    noise = rng.normal(size=(400, 17)).astype(np.complex64)
    message = r"no principal component of the 400 images stands above the noise \(variance 4 per pixel\): check that"
    with pytest.raises(InputError, match=message):
        estimate_steerable_pca(SteerableCoefficients(noise, OFFSETS), 4.0)


def test_docstring_examples() -> None:
    result = doctest.testmod(steerable_pca)
    assert result.attempted > 6
    assert result.failed == 0
