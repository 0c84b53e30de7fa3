"""Matching with templates, restoration by graph MAP and by Algorithm 2; eigenbases are made and timed apart."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from bench_graph import solver_work
from conftest import Recorder
from inputs import M_RESTORE, Chain, K, M, solve_bases
from measure import Work

from mfvdm_fast.neighbors.cells import CANDIDATES, PER_CELL, divide_in_cells
from mfvdm_fast.neighbors.match import match_neighbors
from mfvdm_fast.records import Eigenbasis, NeighborTable, SteerableCoefficients
from mfvdm_fast.restore.graph_map import GraphMap, restore_graph_map
from mfvdm_fast.restore.posterior import average_matches, posterior_weights, settle_shares, weigh_matches
from mfvdm_fast.restore.scaled_eigenbasis import ScaledEigenbasis
from mfvdm_fast.restore.spectral import apply_spectral_filter
from mfvdm_fast.restore.template_features import TemplateFeatures
from mfvdm_fast.restore.templates import PARTS, fit_templates, split_in_parts
from mfvdm_fast.stages import RESTORATION
from tests.reference.posterior import weights_of

K_TEMPLATE, CHECKED = 20, 20


class Bases(dict[int, Eigenbasis]):
    """Eigenbases for the graph MAP, kept once they were asked for."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain

    def __missing__(self, k: int) -> Eigenbasis:
        found = solve_bases(self.chain.graph, [k], M_RESTORE, RESTORATION, known=self)
        self[k] = found[0]
        return found[0]


@pytest.fixture(scope="module")
def bases(chain: Chain) -> Bases:
    return Bases(chain)


def size_of(coefs: SteerableCoefficients) -> str:
    return f"n = {coefs.n_particles:,}, {coefs.packed.shape[1]} coefficients, k <= {coefs.k_max}"


@pytest.fixture(scope="module")
def sides(chain: Chain, bases: Bases) -> list[TemplateFeatures]:
    templates = fit_templates(
        chain.raw,
        chain.observation,
        lambda k, most: bases[k],
        chain.graph.degrees,
        split_in_parts(chain.n),
        k_max=K_TEMPLATE,
    )
    return list(templates.features(chain.raw, chain.observation))


@pytest.mark.parametrize("threads", [1, 2])
def test_match(record: Recorder, chain: Chain, sides: list[TemplateFeatures], threads: int) -> None:
    """Each part of the particles against the templates, divided in cells once, as a job does it."""
    width = sides[0].templates.packed.shape[1]

    def call() -> list[NeighborTable]:
        power = np.mean(np.abs(sides[0].observed.packed) ** 2, axis=0)
        cells = divide_in_cells(sides[0].templates, power, threads)
        return [match_neighbors(s.observed, s.templates, s.particles, K, cells=cells, threads=threads) for s in sides]

    def check(found: list[NeighborTable]) -> None:
        side, ks = sides[0], range(sides[0].templates.k_max + 1)
        a, b = side.observed, side.templates
        plain = np.array([a[k][:CHECKED].astype(complex) @ b[k].conj().T for k in ks])
        mirrored = np.array([a[k][:CHECKED].astype(complex) @ b[k].T for k in ks])
        best = np.full((CHECKED, 2 * chain.n), -np.inf)
        for alpha in np.linspace(0, 2 * np.pi, 16 * len(ks), endpoint=False):
            wave = np.where(np.arange(len(ks)) == 0, 1, 2) * np.exp(1j * alpha * np.arange(len(ks)))
            both = [np.tensordot(wave, c, axes=(0, 0)).real for c in (plain, mirrored)]
            best = np.maximum(best, np.concatenate(both, axis=1))
        rows = np.arange(CHECKED)
        best[rows, side.particles[rows]] = best[rows, chain.n + side.particles[rows]] = -np.inf
        np.testing.assert_allclose(found[0].scores[:CHECKED, 0], best.max(axis=1), rtol=1e-2, atol=1e-2)

    pairs = float(chain.n) * (2 * chain.n / PER_CELL + CANDIDATES * (2 * K + 8))
    how = "8 for each pair that is compared and component; the maximum over angles not counted"
    record("match with templates, top 50", f"n = {chain.n:,}, {width} components", call, threads=threads, check=check,
           work=Work(how, 8 * pairs * width), rounds=2)  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2])
def test_templates(record: Recorder, chain: Chain, bases: Bases, threads: int) -> None:
    part = split_in_parts(chain.n)

    def call() -> list[TemplateFeatures]:
        templates = fit_templates(
            chain.raw,
            chain.observation,
            lambda k, most: bases[k],
            chain.graph.degrees,
            part,
            k_max=K_TEMPLATE,
            threads=threads,
        )
        return list(templates.features(chain.raw, chain.observation, threads=threads))

    def check(found: list[TemplateFeatures]) -> None:
        assert [len(side.particles) for side in found] == np.bincount(part).tolist()

    rows, columns = 4 * chain.n, int(chain.raw.offsets[K_TEMPLATE + 1])
    work = Work("Gram matrices of Phi, Phi^T w and Phi z of every frequency",
                rows * M_RESTORE * ((K_TEMPLATE + 1) * M_RESTORE + 2.0 * PARTS * columns))  # fmt: skip
    record(f"templates, m = {M_RESTORE}, k <= {K_TEMPLATE}", f"n = {chain.n:,}", call, threads=threads, check=check,
           work=work, rounds=3)  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2])
def test_posterior(record: Recorder, chain: Chain, sides: list[TemplateFeatures], threads: int) -> None:
    """The mean over the matches of each particle."""
    parts = [match_neighbors(side.observed, side.templates, side.particles, K) for side in sides]
    order = np.argsort(np.concatenate([side.particles for side in sides]))
    rows = {f.name: np.concatenate([getattr(part, f.name) for part in parts])[order] for f in fields(NeighborTable)}
    table, coefs = NeighborTable(**rows), chain.flipped
    matches = weigh_matches(table)

    def check(found: np.ndarray) -> None:
        k = np.repeat(np.arange(coefs.k_max + 1), np.diff(coefs.offsets))
        own, first, second = settle_shares(matches)
        for i in np.flatnonzero(second == 0)[:CHECKED]:  # the others reach the matches of their matches
            others = coefs.packed[table.indices[i]]
            others = np.where(table.mirrored[i][:, None], others.conj(), others)
            mean = weights_of(table.scores[i]) @ (np.exp(-1j * np.outer(table.angles[i], k)) * others)
            expected = own[i] * coefs.packed[i] + first[i] * mean
            assert np.linalg.norm(found[i] - expected) < 0.02 * np.linalg.norm(expected)

    kept = np.count_nonzero(posterior_weights(table.scores))
    work = Work("8 for each coefficient and match that has weight", 8.0 * kept * coefs.packed.shape[1])
    size = f"{size_of(coefs)}, {kept:,} matches"
    record("mean over matches", size, lambda: average_matches(coefs, matches, threads=threads), threads=threads,
           check=check, work=work)  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2])
def test_graph_map(record: Recorder, chain: Chain, bases: Bases, threads: int) -> None:
    def call() -> GraphMap:
        return restore_graph_map(
            chain.raw, chain.observation, lambda k, most: bases[k], chain.graph.degrees, threads=threads
        )

    def check(found: GraphMap) -> None:
        clean = chain.basis.expand(chain.simulated.read_clean(np.arange(500)))
        error = np.linalg.norm(found.coefs.packed[:500] - clean) / np.linalg.norm(clean)
        assert error < 0.5 * np.linalg.norm(chain.flipped.packed[:500] - clean) / np.linalg.norm(clean)
        assert 0.2 < found.captured < 1.2

    def work(_: GraphMap) -> Work:
        flops = 0.0
        for k, basis in bases.items():
            rows, m, p = (2 if k else 1) * chain.n, basis.n_eigenvectors, chain.raw[k].shape[1]
            flops += 2 * rows * m * (m + 2 * p)
        return Work("Gram matrices of Phi, Phi^T w and Phi z of the frequencies that the graph is asked about", flops)

    record(f"graph MAP, m = {M_RESTORE}", size_of(chain.raw), call, threads=threads, check=check, work=work, rounds=3)


@pytest.mark.parametrize("threads", [1, 2])
def test_graph_map_bases(record: Recorder, chain: Chain, bases: Bases, threads: int) -> None:
    """Those that the graph MAP asked for."""
    asked = sorted(bases) or [0, 1, 2]

    def call() -> list[Eigenbasis]:
        return solve_bases(chain.graph, asked, M_RESTORE, RESTORATION, threads)

    def check(found: list[Eigenbasis]) -> None:
        assert max(basis.residuals.max() for basis in found) <= RESTORATION.tolerance
        phi = ScaledEigenbasis(found[1], chain.graph.degrees).rows(0, chain.n)
        np.testing.assert_allclose((phi.astype(np.float64) ** 2).mean(axis=0), 1, rtol=1e-4)

    record(f"eigenbases, k = 0 .. {asked[-1]}, m = {M_RESTORE}", f"n = {chain.n:,}", call, threads=threads,
           check=check, work=lambda found: solver_work(found, chain.graph, RESTORATION.degree), rounds=1)  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2])
def test_spectral_restoration(record: Recorder, chain: Chain, threads: int) -> None:
    """Algorithm 2 as the preset "paper" has it: an eigenbasis for every frequency, and the filter."""
    graph, coordinates = chain.graph, chain.coordinates

    def call() -> tuple[SteerableCoefficients, list[Eigenbasis]]:
        found = solve_bases(graph, range(coordinates.k_max + 1), M, threads=threads)
        out = [apply_spectral_filter(coordinates[k], found[k], graph.degrees) for k in range(coordinates.k_max + 1)]
        return SteerableCoefficients(np.concatenate(out, axis=1), coordinates.offsets), found

    def check(found: tuple[SteerableCoefficients, list[Eigenbasis]]) -> None:
        restored, used = found
        k = 2
        u = np.concatenate([used[k].vectors.real, used[k].vectors.imag]).astype(np.float64)
        root = np.sqrt(np.tile(graph.degrees, 2))[:, None]
        stacked = np.concatenate([coordinates[k].real, coordinates[k].imag])
        expected = u @ ((2 * used[k].values - used[k].values ** 2)[:, None] * (u.T @ (root * stacked))) / root
        np.testing.assert_allclose(restored[k].real, expected[: chain.n], atol=1e-3 * np.abs(expected).max())

    record(f"Algorithm 2, m = {M}", size_of(coordinates), call, threads=threads, check=check,
           work=lambda found: solver_work(found[1], graph), rounds=1)  # fmt: skip
