"""The authors' run, read, and the ways in which its graph differs from ours; none of them is in the package.

Where i lists j and j lists i the angle listed first stands alone (ours is the mean of both); a particle may list its
own mirror image, which gets the weight 2; and at k = 0 a pair listed plain and mirrored counts once. Their angles are
ours, in degrees. Inside their graph a mirrored edge carries 180 - angle, because their coefficients lack the factor
(-i)^k: S_k is then ours seen through x -> i^k x, so that spectra and affinities are the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from mfvdm_fast.basis.fourier_bessel import FourierBessel
from mfvdm_fast.graph.frequency_graph import build_frequency_graph, real_matrix
from mfvdm_fast.imaging.noise import radii_px
from mfvdm_fast.records import Eigenbasis, FrequencyGraph, NeighborTable

from .reference.eigenbasis import eigenpairs

N, K, M, K_MAX = 300, 50, 50, 10


@dataclass(frozen=True, eq=False)  # hashed by identity, so that what is computed from it can be cached
class Data:
    arrays: dict[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]


@cache
def load(path: Path) -> Data:
    with np.load(path) as file:
        return Data({name: file[name] for name in file.files})


def table_of(data: Data, stage: str) -> NeighborTable:
    """``stage`` "init" or "mfvdm": their table in our convention; the scores are not in it."""
    indices = data[f"{stage}_class"].astype(np.int64)
    angles = np.radians(data[f"{stage}_rot_deg"])
    return NeighborTable(indices, data[f"{stage}_refl"], angles, np.ones(indices.shape))


def their_graph(table: NeighborTable, zero_frequency: bool = False) -> FrequencyGraph:
    """Their dealing with repeated pairs and with particles that list themselves, see above."""
    first: dict[tuple[int, int, bool], tuple[int, int]] = {}
    for slot in range(K):
        for i, j in enumerate(table.indices[:, slot].tolist()):
            flag = bool(table.mirrored[i, slot]) and not zero_frequency
            first.setdefault((min(i, j), max(i, j), flag), (i, slot))
    indices = np.full_like(table.indices, -1)
    loops = []
    for (lower, upper, flag), (i, slot) in first.items():
        if lower == upper:
            loops.append((lower, flag, table.angles[i, slot]))
        else:
            indices[i, slot] = table.indices[i, slot]
    mirrored = table.mirrored & (not zero_frequency)
    return with_loops(build_frequency_graph(replace(table, indices=indices, mirrored=mirrored)), loops)


def with_loops(graph: FrequencyGraph, loops: list[tuple[int, bool, float]]) -> FrequencyGraph:
    node, flag, angle = (np.array(column) for column in zip(*loops, strict=True))
    rows = np.concatenate([np.repeat(np.arange(N), np.diff(graph.indptr)), node])
    indices, mirrored = np.concatenate([graph.indices, node]), np.concatenate([graph.mirrored, flag])
    angles, weights = np.concatenate([graph.angles, angle]), np.concatenate([graph.weights, np.full(len(node), 2.0)])
    order = np.lexsort((mirrored, indices, rows))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=N))])
    degrees = np.bincount(rows, weights, minlength=N)
    return FrequencyGraph(indptr, indices[order], mirrored[order], angles[order], weights[order], degrees)


@cache
def their_basis(data: Data, stage: str, k: int) -> Eigenbasis:
    """Their m eigenpairs of largest magnitude, from our matrix."""
    graph = their_graph(table_of(data, stage), zero_frequency=k == 0)
    values, x = eigenpairs(real_matrix(graph, k).toarray(), M, by_magnitude=True)
    vectors = x.astype(complex) if k == 0 else x[:N] + 1j * x[N:]
    return Eigenbasis(k, values, vectors.astype(np.complex64), np.zeros(M), 1, "converged")


def initial_bases(data: Data) -> list[Eigenbasis]:
    return [their_basis(data, "init", k) for k in range(1, K_MAX + 1)]


@cache
def their_disc(bandlimit: float, radius_px: float) -> FourierBessel:
    return FourierBessel(65, radius_px, bandlimit)


def basis_of(data: Data) -> FourierBessel:
    return their_disc(float(data["c"]), float(data["R"]))


def coefs_of(data: Data, k: int) -> np.ndarray:
    """Their coefficients in our convention, (300, p_k)."""
    return np.asarray((-1j) ** k * data[f"FB_{k}"].T, dtype=np.complex64)


@cache
def denoised_coefs(data: Data, name: str) -> np.ndarray:
    """The coefficients (20, P) whose synthesis is nearest to their denoised images: expansion, refined three times."""
    basis, images = basis_of(data), data[name]
    inside = radii_px(65) <= float(data["R"])
    packed = basis.expand(images)
    for _ in range(3):
        packed = packed + basis.expand((images - basis.evaluate(packed)) * inside)
    return packed
