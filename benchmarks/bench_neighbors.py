"""All-pairs search, alignment and affinity at the size of a real job; each checked on some rows before it is timed."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import Recorder
from inputs import Chain, K
from measure import Work

from mfvdm_fast.kernels.distance import grid_size
from mfvdm_fast.neighbors.align import align_pairs
from mfvdm_fast.neighbors.search import search_affinity, search_neighbors
from mfvdm_fast.records import NeighborTable, SteerableCoefficients
from tests.reference.peaks import peak

CHECKED = 40


def row_coefficients(features: SteerableCoefficients) -> np.ndarray:
    """C_k of the first rows with all particles, (2, k_max + 1, rows, n)."""
    parts = [features[k].astype(np.complex128) for k in range(features.k_max + 1)]
    return np.array([[b[:CHECKED] @ b.conj().T for b in parts], [b[:CHECKED] @ b.T for b in parts]])


def check_scores(scores: np.ndarray, expected: np.ndarray, atol: float) -> None:
    """scores (rows, K) are the best of expected (2, rows, n), the particle itself excluded."""
    rows = np.arange(expected.shape[1])
    expected[:, rows, rows] = -np.inf
    best = -np.sort(-expected.transpose(1, 0, 2).reshape(len(rows), -1), axis=1)[:, : scores.shape[1]]
    np.testing.assert_allclose(scores[: len(rows)], best, atol=atol)


def size_of(features: SteerableCoefficients) -> str:
    return f"n = {features.n_particles:,}, {features.packed.shape[1]} components"


@pytest.mark.parametrize("threads", [1, 2])
def test_search(record: Recorder, chain: Chain, threads: int) -> None:
    features = chain.features
    n_angles = grid_size(features.k_max)

    def check(table: NeighborTable) -> None:
        c = row_coefficients(features)
        k = np.arange(features.k_max + 1)
        best = np.full((2, CHECKED, chain.n), -np.inf)
        for alpha in 2 * np.pi * np.arange(4 * n_angles) / (4 * n_angles):
            wave = np.where(k == 0, 1, 2) * np.exp(1j * k * alpha)
            best = np.maximum(best, np.tensordot(wave, c, axes=(0, 1)).real)
        check_scores(table.scores, best, atol=3e-3)  # what a grid of 4 k_max angles can miss at the end of a list

    pairs = chain.n * (chain.n - 1) / 2
    flops = pairs * (8 * features.packed.shape[1] + 8 * (features.k_max + 1) * (n_angles // 4 + 1))
    how = "8 for each pair and component, 8 for each pair, k and angle of a quarter circle; bounds spare some of it"
    record("search, top 50", size_of(features), lambda: search_neighbors(features, K, threads=threads),
           threads=threads, check=check, work=Work(how, flops), rounds=2)  # fmt: skip


def test_search_brute_force(record: Recorder, chain: Chain) -> None:
    """scikit-learn on the same numbers as plain vectors: no rotation, no mirror, so a quarter of the products."""
    neighbors = pytest.importorskip("sklearn.neighbors")
    plain = chain.features.packed.view(np.float32)
    search = neighbors.NearestNeighbors(n_neighbors=K + 1, algorithm="brute").fit(plain)
    record("search, top 50", size_of(chain.features), lambda: search.kneighbors(plain, return_distance=False),
           by="scikit-learn, no rotation", rounds=1)  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2])
def test_align(record: Recorder, chain: Chain, threads: int) -> None:
    features = chain.features
    rng = np.random.default_rng(4)
    indices = rng.integers(0, chain.n, (chain.n, K))
    mirrored = rng.random(indices.shape) < 0.5

    def check(found: tuple[np.ndarray, np.ndarray]) -> None:
        c = row_coefficients(features)
        for row, column in zip(range(CHECKED), rng.integers(0, K, CHECKED), strict=True):
            chosen = c[int(mirrored[row, column]), :, row, indices[row, column]]
            assert abs(peak(chosen)[1] - found[1][row, column]) < 1e-4

    width = features.packed.shape[1]
    flops = indices.size * (8 * width + 8 * (features.k_max + 1) * (2 * features.k_max + 1))
    how = "8 for each pair and component, 8 for each k and angle of half a circle in steps of a quarter turn / k_max"
    record("align pairs", f"{indices.size:,} pairs, {width} components",
           lambda: align_pairs(features, indices, mirrored, threads=threads), threads=threads, check=check,
           work=Work(how, flops))  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2])
def test_affinity(record: Recorder, chain: Chain, threads: int) -> None:
    features, plain = chain.normalized, chain.diffusion

    def call() -> tuple[np.ndarray, np.ndarray]:
        indices, mirrored, affinity = search_affinity(features, K, threads=threads)
        return affinity, align_pairs(plain, indices, mirrored, threads=threads)[0]

    def check(found: tuple[np.ndarray, np.ndarray]) -> None:
        check_scores(found[0], (np.abs(row_coefficients(features)) ** 2).sum(axis=1), atol=1e-4)

    pairs, width = chain.n * (chain.n - 1) / 2, features.packed.shape[1]
    work = Work("8 for each pair and component; bounds spare most of it", 8 * pairs * width)
    record("affinity + angles", size_of(features), call, threads=threads, check=check, work=work, rounds=2)
