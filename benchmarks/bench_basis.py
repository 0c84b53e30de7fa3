"""Steerable bases and polar resampling, one thread, with finufft beside ours.

Run with: OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python -m pytest benchmarks/bench_basis.py --benchmark-only
Times are of 256 images; every function is called once before timing, so that compilation does not count.
"""

from __future__ import annotations

import finufft
import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from mfvdm_fast.basis import DiskHarmonics, FourierBessel
from mfvdm_fast.basis.bessel import bessel_zeros
from mfvdm_fast.kernels.polar import PolarPlan

N_IMAGES = 256
SIZES = [(65, 0.25), (65, 0.5), (129, 0.25), (129, 0.5)]
BASES = [DiskHarmonics, FourierBessel]


def noise(box_size: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((N_IMAGES, box_size, box_size), dtype=np.float32)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("box_size", "bandlimit"), SIZES)
@pytest.mark.parametrize("kind", BASES)
def test_expand(benchmark: BenchmarkFixture, kind: type, box_size: int, bandlimit: float, threads: int) -> None:
    basis, images = kind(box_size, (box_size - 1) // 2, bandlimit), noise(box_size)
    packed = benchmark.pedantic(basis.expand, (images, threads), rounds=5, warmup_rounds=1)
    benchmark.extra_info["n_coefs"] = basis.n_coefs
    assert np.abs(np.mean(np.abs(packed) ** 2) - 1) < 0.02


@pytest.mark.parametrize(("box_size", "bandlimit"), SIZES)
@pytest.mark.parametrize("kind", BASES)
def test_evaluate(benchmark: BenchmarkFixture, kind: type, box_size: int, bandlimit: float) -> None:
    basis = kind(box_size, (box_size - 1) // 2, bandlimit)
    packed = basis.expand(noise(box_size), 1)
    images = benchmark.pedantic(basis.evaluate, (packed, 1), rounds=5, warmup_rounds=1)
    again = basis.expand(images, 1)
    assert np.linalg.norm(again - packed) < 0.05 * np.linalg.norm(packed)


@pytest.mark.parametrize(("box_size", "bandlimit"), SIZES)
@pytest.mark.parametrize("kind", BASES)
def test_apply_radial(benchmark: BenchmarkFixture, kind: type, box_size: int, bandlimit: float) -> None:
    basis = kind(box_size, (box_size - 1) // 2, bandlimit)
    packed = basis.expand(noise(box_size), 1)
    transfer = np.full((N_IMAGES, len(basis.radial_nodes)), 0.5, dtype=np.float32)
    found = benchmark.pedantic(basis.apply_radial, (packed, transfer), rounds=5, warmup_rounds=1)
    np.testing.assert_allclose(found, 0.5 * packed, atol=1e-4)


@pytest.mark.parametrize(("box_size", "bandlimit"), [(65, 0.5), (129, 0.3), (129, 0.5)])
@pytest.mark.parametrize("kind", BASES)
def test_construct(benchmark: BenchmarkFixture, kind: type, box_size: int, bandlimit: float) -> None:
    basis = benchmark.pedantic(kind, (box_size, (box_size - 1) // 2, bandlimit), rounds=3, warmup_rounds=1)
    assert basis.n_coefs > 0


def test_zeros(benchmark: BenchmarkFixture) -> None:
    zeros = benchmark(lambda: bessel_zeros.__wrapped__(201.0))
    assert len(zeros) == 191


def polar_points(box_size: int, bandlimit: float) -> tuple[np.ndarray, int]:
    count = int(np.ceil(2 * bandlimit * (box_size - 1)))
    return bandlimit * (np.polynomial.legendre.leggauss(count)[0] + 1) / 2, 4 * count


@pytest.mark.parametrize(("box_size", "bandlimit"), SIZES)
def test_polar(benchmark: BenchmarkFixture, box_size: int, bandlimit: float) -> None:
    radii, n_theta = polar_points(box_size, bandlimit)
    plan, images = PolarPlan(box_size, radii, n_theta), noise(box_size)
    benchmark.extra_info["points"] = plan.n_points
    benchmark.pedantic(plan.transform, (images,), rounds=5, warmup_rounds=1)


@pytest.mark.parametrize(("box_size", "bandlimit"), SIZES)
def test_polar_finufft(benchmark: BenchmarkFixture, box_size: int, bandlimit: float) -> None:
    radii, n_theta = polar_points(box_size, bandlimit)
    theta = 2 * np.pi / n_theta * np.arange(n_theta // 2)
    images = noise(box_size)
    plan = finufft.Plan(2, images.shape[1:], n_trans=N_IMAGES, eps=1e-4, isign=-1, dtype="complex64", nthreads=1)
    points = [2 * np.pi * np.ravel(radii[:, None] * part) for part in (np.sin(theta), np.cos(theta))]
    plan.setpts(*[part.astype(np.float32) for part in points])
    complex_images = images.astype(np.complex64)
    samples = benchmark.pedantic(plan.execute, (complex_images,), rounds=5, warmup_rounds=1)
    ours = PolarPlan(box_size, radii, n_theta).transform(images[:3]).reshape(3, -1)
    assert np.linalg.norm(ours - samples[:3]) < 2e-4 * np.linalg.norm(ours)
