"""All-pairs search, alignment and affinity at the sizes of a real job, with sgemm beside them.

Run with: OPENBLAS_NUM_THREADS=1 python -m pytest benchmarks/bench_neighbors.py --benchmark-only
Features are those of a common particle seen from random directions through noise: like real ones, most pairs are
dropped early. Every result is checked on some rows before it is timed; compilation does not count.
"""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from mfvdm_fast.kernels.distance import grid_size
from mfvdm_fast.neighbors.align import align_pairs
from mfvdm_fast.neighbors.search import search_affinity, search_neighbors
from mfvdm_fast.records import SteerableCoefficients

N_PARTICLES, N_NEIGHBORS = 10_000, 50
SIZES = (8, 9, 9, 8, 8, 8, 7, 7, 6, 5, 5, 4, 4, 3, 3, 3)  # 97 components, k_max = 15
N_FREQUENCIES, N_EIGENVECTORS = 10, 50
CHECKED = 40


def views(rng: np.random.Generator) -> np.ndarray:
    """Random rotations: unit quaternions as two complex numbers each, (n, 2)."""
    q = rng.standard_normal((N_PARTICLES, 4))
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    return np.stack([q[:, 0] + 1j * q[:, 3], q[:, 2] + 1j * q[:, 1]], axis=1)


def smooth_features(sizes: tuple[int, ...], noise: float) -> SteerableCoefficients:
    """Polynomials of the rotation that turn as steerable coefficients do, plus noise, norm 1.

    With a, b the spin-1/2 coordinates, an in-plane turn multiplies both by a phase: a^p b^r conj(a)^s conj(b)^t has
    angular frequency (p + r - s - t) / 2.
    """
    rng = np.random.default_rng(3)
    a, b = views(rng).T
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    packed = np.empty((N_PARTICLES, offsets[-1]), np.complex64)
    for k, size in enumerate(sizes):
        for q in range(size):
            extra = q // 2
            r = rng.integers(0, 2 * k + extra + 1)
            s = rng.integers(0, extra + 1)
            value = a ** (2 * k + extra - r) * b**r * np.conj(a) ** (extra - s) * np.conj(b) ** s
            value = value / np.sqrt(np.mean(np.abs(value) ** 2)) * np.exp(-(k + q) / 5)
            noisy = value + noise * np.exp(-(k + q) / 10) * (
                rng.standard_normal(N_PARTICLES) + 1j * rng.standard_normal(N_PARTICLES)
            )
            packed[:, offsets[k] + q] = noisy.real if k == 0 else noisy
    weight = np.repeat(np.where(np.arange(len(sizes)) == 0, 1, 2), sizes)
    norm = np.sqrt((np.abs(packed) ** 2 * weight).sum(axis=1, keepdims=True))
    return SteerableCoefficients((packed / norm).astype(np.complex64), offsets)


@pytest.fixture(scope="module")
def features() -> SteerableCoefficients:
    return smooth_features(SIZES, 0.3)


@pytest.fixture(scope="module")
def spectral() -> SteerableCoefficients:
    """Norm 1 in each of k = 1 .. 10, as the normalised diffusion features are."""
    plain = smooth_features((0, *[N_EIGENVECTORS] * N_FREQUENCIES), 0.3)
    parts = [plain[k] / np.linalg.norm(plain[k], axis=1, keepdims=True) for k in range(1, N_FREQUENCIES + 1)]
    return SteerableCoefficients(np.concatenate(parts, axis=1), plain.offsets)


def row_coefficients(features: SteerableCoefficients, rows: slice) -> np.ndarray:
    """C_k of some rows with all particles, (2, k_max + 1, rows, n)."""
    ks = range(features.k_max + 1)
    return np.array(
        [[features[k][rows] @ features[k].conj().T for k in ks], [features[k][rows] @ features[k].T for k in ks]]
    )


def check_scores(scores: np.ndarray, expected: np.ndarray, atol: float) -> None:
    """scores (rows, K) are the best of expected (2, rows, n), the particle itself excluded."""
    rows = np.arange(expected.shape[1])
    expected[:, rows, rows] = -np.inf
    best = -np.sort(-expected.transpose(1, 0, 2).reshape(len(rows), -1), axis=1)[:, : scores.shape[1]]
    np.testing.assert_allclose(scores[: len(rows)], best, atol=atol)


@pytest.mark.parametrize("threads", [1, 2])
def test_search(benchmark: BenchmarkFixture, features: SteerableCoefficients, threads: int) -> None:
    table = benchmark.pedantic(
        search_neighbors, (features, N_NEIGHBORS), {"threads": threads}, rounds=3, warmup_rounds=1
    )
    c = row_coefficients(features, slice(0, CHECKED))
    k = np.arange(features.k_max + 1)
    best = np.full((2, CHECKED, N_PARTICLES), -np.inf)
    for alpha in 2 * np.pi * np.arange(4 * grid_size(features.k_max)) / (4 * grid_size(features.k_max)):
        wave = np.where(k == 0, 1, 2) * np.exp(1j * k * alpha)
        best = np.maximum(best, np.tensordot(wave, c, axes=(0, 1)).real)
    check_scores(table.scores, best, atol=3e-3)  # what a grid of 4 k_max angles can miss at the end of a list
    pairs, components = N_PARTICLES * (N_PARTICLES - 1) / 2, features.packed.shape[1]
    flops = pairs * (8 * components + 2 * 8 * (features.k_max + 1) * (grid_size(features.k_max) // 4 + 1) / 2)
    if benchmark.stats:
        benchmark.extra_info["GF of the plain algorithm"] = flops / benchmark.stats["min"] / 1e9


@pytest.mark.parametrize("threads", [1, 2])
def test_affinity(benchmark: BenchmarkFixture, spectral: SteerableCoefficients, threads: int) -> None:
    arguments = (spectral, N_NEIGHBORS)
    _, _, scores = benchmark.pedantic(search_affinity, arguments, {"threads": threads}, rounds=3, warmup_rounds=1)
    expected = (np.abs(row_coefficients(spectral, slice(0, CHECKED))) ** 2).sum(axis=1)
    check_scores(scores, expected, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["features", "spectral"])
def test_align(benchmark: BenchmarkFixture, request: pytest.FixtureRequest, kind: str, threads: int) -> None:
    given: SteerableCoefficients = request.getfixturevalue(kind)
    rng = np.random.default_rng(4)
    indices = rng.integers(0, N_PARTICLES, (N_PARTICLES, N_NEIGHBORS))
    mirrored = rng.random(indices.shape) < 0.5
    angles, scores = benchmark.pedantic(
        align_pairs, (given, indices, mirrored), {"threads": threads}, rounds=3, warmup_rounds=1
    )
    c = row_coefficients(given, slice(0, CHECKED))
    k = np.arange(given.k_max + 1)
    rows = np.arange(CHECKED)[:, None]
    chosen = c.transpose(0, 2, 3, 1)[mirrored[:CHECKED].astype(int), rows, indices[:CHECKED]]
    waves = np.where(k == 0, 1, 2) * np.exp(1j * k * angles[:CHECKED, :, None])
    np.testing.assert_allclose(scores[:CHECKED], (chosen * waves).real.sum(axis=2), atol=1e-4)
    grid = np.where(k == 0, 1, 2) * np.exp(2j * np.pi * np.outer(np.arange(720), k) / 720)
    assert (scores[:CHECKED] >= (chosen @ grid.T).real.max(axis=2) - 1e-5).all()


def test_sgemm(benchmark: BenchmarkFixture) -> None:
    """What the machine gives at best: one thread of BLAS, float32."""
    a = np.random.default_rng(5).standard_normal((1024, 1024), dtype=np.float32)
    benchmark(np.matmul, a, a)
    if benchmark.stats:
        benchmark.extra_info["GF"] = 2 * 1024**3 / benchmark.stats["min"] / 1e9
