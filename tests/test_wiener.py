"""Covariance Wiener filtering: the equations, the physics, the gain, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from mfvdm_fast.errors import InputError, ParameterError
from mfvdm_fast.records import SteerableCoefficients
from mfvdm_fast.restore.wiener import (
    Observation,
    describe_observation,
    estimate_covariance,
    estimate_mean,
    match,
    restore_wiener,
)
from mfvdm_fast.threads import use_threads

from .reference import wiener as reference
from .steerable import turned

N = 300
WIDTHS = (3, 4, 2)
OFFSETS = np.concatenate([[0], np.cumsum(WIDTHS)]).astype(np.int64)
P = int(OFFSETS[-1])


def observed(
    rng: np.random.Generator, n: int = N, signal: float = 2.0
) -> tuple[SteerableCoefficients, SteerableCoefficients, Observation]:
    """(clean, observed coefficients, observation): correlated within a frequency, 3 CTFs, coloured noise."""
    k_zero = np.arange(P) < OFFSETS[1]
    clean = rng.normal(size=(n, P)) + 1j * rng.normal(size=(n, P))
    mix = np.zeros((P, P))
    for a, b in pairwise(OFFSETS):
        mix[a:b, a:b] = rng.normal(size=(b - a, b - a))
    clean = signal * clean @ mix + np.where(k_zero, 5.0, 0.0)
    group, power = rng.integers(0, 3, n), rng.uniform(0.5, 2.0, P)
    transfer = rng.uniform(-1, 1, (3, P))
    noise = (rng.normal(size=(n, P)) + 1j * rng.normal(size=(n, P))) * np.sqrt(power / 2)
    noise[:, k_zero] = noise[:, k_zero].real * np.sqrt(2)
    clean[:, k_zero] = clean[:, k_zero].real
    y = SteerableCoefficients((transfer[group] * clean + noise).astype(np.complex64), OFFSETS)
    x = SteerableCoefficients(clean.astype(np.complex64), OFFSETS)
    return x, y, describe_observation(y, power, transfer, group)


def test_equals_the_equations(rng: np.random.Generator) -> None:
    _, y, seen = observed(rng)
    found = restore_wiener(y, seen)
    for k in range(len(WIDTHS)):
        columns = slice(OFFSETS[k], OFFSETS[k + 1])
        h, power = seen.transfer[seen.group][:, columns], seen.noise_power[columns]
        expected = reference.restore(y[k].astype(complex), h, power, real=k == 0)
        np.testing.assert_allclose(found[k], expected, atol=2e-4 * np.abs(expected).max())
    assert not found[0].imag.any()


def test_covariance_of_many_particles_is_the_true_one(rng: np.random.Generator) -> None:
    sigma = np.array([[4.0, 1.0], [1.0, 2.0]])
    n = 40_000
    x = (rng.normal(size=(n, 2)) + 1j * rng.normal(size=(n, 2))) @ np.linalg.cholesky(sigma / 2).T
    transfer, group = np.array([[1.0, -0.5], [-0.7, 0.9]]), rng.integers(0, 2, n)
    y = transfer[group] * x + (rng.normal(size=(n, 2)) + 1j * rng.normal(size=(n, 2)))  # variance 2
    seen = Observation(transfer, group, np.full(2, 2.0))
    found = estimate_covariance(match(y.astype(np.complex64), seen, np.zeros(2), real=False), seen)
    np.testing.assert_allclose(found, sigma, atol=0.1)


@pytest.mark.parametrize("k", [0, 1])
def test_trust_weighs_every_particle(k: int, rng: np.random.Generator) -> None:
    _, y, seen = observed(rng)
    trust = rng.uniform(0, 1, N) * (rng.uniform(size=N) < 0.8)
    seen = replace(seen.columns(int(OFFSETS[k]), int(OFFSETS[k + 1])), trust=trust)
    h = seen.transfer[seen.group]
    mean = estimate_mean(y[k], seen) if k == 0 else np.zeros(WIDTHS[k])
    if k == 0:
        np.testing.assert_allclose(mean, (trust @ (h * y[k].real)) / (trust @ h**2), rtol=1e-5)
    found = estimate_covariance(match(y[k], seen, mean, real=k == 0), seen)
    expected = reference.covariance(y[k] - h * mean, h, seen.noise_power, k == 0, trust)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    matched = match(y[k], seen, mean, real=k == 0)
    whole, alike = (estimate_covariance(matched, replace(seen, trust=trust)) for trust in (np.ones(N), None))
    np.testing.assert_allclose(whole, alike, rtol=1e-5, atol=1e-4)
    assert np.abs(whole - found).max() > 1e-3


def test_removes_noise_and_ctf(rng: np.random.Generator) -> None:
    x, y, seen = observed(rng, n=2000)
    error = np.linalg.norm(restore_wiener(y, seen).packed - x.packed)
    assert error < 0.75 * np.linalg.norm(y.packed / seen.transfer[seen.group] - x.packed)
    assert error < 0.75 * np.linalg.norm(x.packed)


def test_pure_noise_comes_back_as_nothing(rng: np.random.Generator) -> None:
    _, y, seen = observed(rng, n=4000, signal=0.0)
    found = restore_wiener(y, seen).packed
    energy = np.linalg.norm(found[:, OFFSETS[1] :]) / np.linalg.norm(y.packed[:, OFFSETS[1] :])
    assert energy < 0.1
    np.testing.assert_allclose(found[:, : OFFSETS[1]].real.mean(axis=0), 5.0, atol=0.5)


def test_no_ctf_is_a_ctf_of_one(rng: np.random.Generator) -> None:
    _, y, _ = observed(rng)
    without = restore_wiener(y, describe_observation(y, 1.5))
    ones = describe_observation(y, np.full(P, 1.5), np.ones((2, P)), np.arange(N) % 2)
    np.testing.assert_allclose(without.packed, restore_wiener(y, ones).packed, atol=1e-4)


def test_a_vanishing_ctf_leaves_the_mean(rng: np.random.Generator) -> None:
    _, y, seen = observed(rng)
    transfer = seen.transfer.copy()
    transfer[:, 0] = transfer[:, 4] = 0
    found = restore_wiener(y, describe_observation(y, seen.noise_power, transfer, seen.group))
    assert np.isfinite(found.packed).all()
    assert np.abs(found.packed[:, [0, 4]]).max() < 1e-6


def test_turning_images_turns_the_results(rng: np.random.Generator) -> None:
    _, y, seen = observed(rng)
    angles = rng.uniform(-np.pi, np.pi, N)
    found = restore_wiener(turned(y, angles), seen)
    expected = turned(restore_wiener(y, seen), angles).packed
    np.testing.assert_allclose(found.packed, expected, atol=2e-5 * np.abs(expected).max())


def test_the_order_of_particles_and_threads_do_not_matter(rng: np.random.Generator) -> None:
    _, y, seen = observed(rng)
    expected = restore_wiener(y, seen).packed
    order = rng.permutation(N)
    mixed = SteerableCoefficients(y.packed[order], OFFSETS)
    found = restore_wiener(mixed, Observation(seen.transfer, seen.group[order], seen.noise_power)).packed
    np.testing.assert_allclose(found, expected[order], atol=2e-4)
    with use_threads(1):
        one = restore_wiener(y, seen).packed
    with use_threads(2):
        assert np.array_equal(restore_wiener(y, seen).packed, one)


def test_refuses_what_does_not_fit() -> None:
    y = SteerableCoefficients(np.zeros((4, 2), np.complex64), np.array([0, 2]))
    with pytest.raises(InputError, match=r"noise_power must have shape \(2,\), one per coefficient, got \(3,\)"):
        describe_observation(y, np.ones(3))
    with pytest.raises(ParameterError, match=r"noise_power\[1\] is 0; it must be a finite number above 0"):
        describe_observation(y, [1.0, 0.0])
    with pytest.raises(ParameterError, match="transfer and group belong together"):
        describe_observation(y, 1.0, transfer=np.ones((1, 2)))
    with pytest.raises(InputError, match=r"transfer must have shape \(g, 2\) and group \(4,\), got \(1, 3\) and"):
        describe_observation(y, 1.0, np.ones((1, 3)), np.zeros(4, int))
    with pytest.raises(InputError, match=r"group\[2\] is 1, but transfer has rows 0 to 0"):
        describe_observation(y, 1.0, np.ones((1, 2)), [0, 0, 1, 0])
    with pytest.raises(InputError, match=r"transfer\[0, 1\] is nan; correct the CTF parameters of class 0"):
        describe_observation(y, 1.0, [[1.0, np.nan]], np.zeros(4, int))
    y.packed[3, 0] = np.nan
    with pytest.raises(InputError, match="coefficients of particle 3 hold NaN or infinity"):
        describe_observation(y, 1.0)
