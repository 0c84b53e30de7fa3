"""Inputs as a real job has them: every stage's result, made from simulated particles when first asked for.

The particle is the built-in one, or the density map that the environment variable MFVDM_BENCH_MAP names; MFVDM_BENCH_N
particles instead of 10,000 make a quick look at the stages.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import cached_property

import mrcfile
import numpy as np

from mfvdm_fast.basis.disk_harmonics import DiskHarmonics
from mfvdm_fast.basis.steerable_pca import estimate_steerable_pca, project, weigh_features
from mfvdm_fast.graph.affinity import diffusion_features, normalize_features
from mfvdm_fast.graph.arrangement import arrange_graph
from mfvdm_fast.graph.eigenbasis import SolverOptions, solve_eigenbasis
from mfvdm_fast.graph.frequency_graph import build_frequency_graph
from mfvdm_fast.imaging.ctf import evaluate_ctf_radial, group_by_ctf, phase_flip_images
from mfvdm_fast.imaging.noise import estimate_noise
from mfvdm_fast.imaging.support import estimate_bandlimit, estimate_radius
from mfvdm_fast.neighbors.search import search_neighbors
from mfvdm_fast.records import (
    DiskSupport,
    Eigenbasis,
    FrequencyGraph,
    Images,
    NeighborTable,
    NoiseModel,
    SteerableCoefficients,
    SteerablePCA,
)
from mfvdm_fast.restore.wiener import Observation, describe_observation
from mfvdm_fast.simulate import SimulatedStack, SimulationSettings, simulate_stack
from mfvdm_fast.synthetic import resize_volume, synthetic_particle

MAP = os.environ.get("MFVDM_BENCH_MAP")
N = int(os.environ.get("MFVDM_BENCH_N", "10000"))
BOX, PIXEL, SNR = 65, 5.0, 0.05
K, M, FREQUENCIES, M_RESTORE = 50, 50, 10, 200


def particle(box_size: int) -> Images:
    """The density (L, L, L); a map is brought to the box."""
    if MAP is None:
        return synthetic_particle(box_size)
    with mrcfile.open(MAP) as file:
        return resize_volume(np.array(file.data, np.float32), 1.0, box_size)[0]


def solve_bases(
    graph: FrequencyGraph,
    frequencies: Iterable[int],
    m: int,
    options: SolverOptions | None = None,
    threads: int | None = None,
    known: Mapping[int, Eigenbasis] | None = None,
) -> list[Eigenbasis]:
    """Eigenbases of ascending frequencies, each from those before it (and those ``known``) where they are of use."""
    found, asked = dict(known or {}), list(frequencies)
    arranged = arrange_graph(graph, threads=threads)
    for k in asked:
        neighbor, unit = (found.get(k - 1), found.get(1)) if k > 1 else (None, None)
        found[k] = solve_eigenbasis(arranged, k, m, options=options, neighbor=neighbor, unit=unit, threads=threads)
    return [found[k] for k in asked]


class Chain:
    """One job, stage by stage, at its usual size."""

    n = N
    size = f"n = {N:,}, {BOX} px"

    @cached_property
    def simulated(self) -> SimulatedStack:
        return simulate_stack(particle(BOX), PIXEL, N, SimulationSettings(snr=SNR))

    @cached_property
    def images(self) -> Images:
        return self.simulated.read(np.arange(N))

    @cached_property
    def noise(self) -> NoiseModel:
        return estimate_noise(self.images[:4096])

    @cached_property
    def basis(self) -> DiskHarmonics:
        sample = self.images[:4096]
        support = DiskSupport(estimate_radius(sample, self.noise), estimate_bandlimit(sample, self.noise))
        return DiskHarmonics(BOX, support.radius_px, support.bandlimit)

    @cached_property
    def raw(self) -> SteerableCoefficients:
        """As the graph MAP wants them: with their CTF."""
        images = self.images - np.float32(self.noise.mean)
        return SteerableCoefficients(self.basis.expand(images), self.basis.offsets)

    @cached_property
    def flipped(self) -> SteerableCoefficients:
        images = phase_flip_images(self.images - np.float32(self.noise.mean), self.simulated.ctf, PIXEL)
        return SteerableCoefficients(self.basis.expand(images), self.basis.offsets)

    @cached_property
    def pca(self) -> SteerablePCA:
        return estimate_steerable_pca(self.flipped, self.noise.variance)

    @cached_property
    def coordinates(self) -> SteerableCoefficients:
        packed = project(self.flipped.packed, self.basis.offsets, self.pca)
        return SteerableCoefficients(packed, self.pca.offsets)

    @cached_property
    def features(self) -> SteerableCoefficients:
        return weigh_features(self.coordinates, self.pca)

    @cached_property
    def table(self) -> NeighborTable:
        return search_neighbors(self.features, K)

    @cached_property
    def graph(self) -> FrequencyGraph:
        return build_frequency_graph(self.table)

    @cached_property
    def bases(self) -> list[Eigenbasis]:
        """Of the refinement: k = 1 .. 10."""
        return solve_bases(self.graph, range(1, FREQUENCIES + 1), M)

    @cached_property
    def diffusion(self) -> SteerableCoefficients:
        return diffusion_features(self.bases)

    @cached_property
    def normalized(self) -> SteerableCoefficients:
        return normalize_features(self.diffusion)

    @cached_property
    def observation(self) -> Observation:
        groups, member = group_by_ctf(self.simulated.ctf)
        transfer = evaluate_ctf_radial(groups, self.basis.radial_nodes / PIXEL)
        return describe_observation(self.raw, self.noise.variance, transfer, member)
