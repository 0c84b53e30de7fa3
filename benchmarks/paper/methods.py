"""The methods of the tables: ours by preset, the simple ones they are to beat, and peers where they are installed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import peers

from mfvdm_fast import ParticleStack, denoise, preset
from mfvdm_fast.basis.interface import SteerableBasis
from mfvdm_fast.basis.make import make_basis
from mfvdm_fast.basis.steerable_pca import estimate_steerable_pca, expand_components, project, weigh_features
from mfvdm_fast.imaging.ctf import evaluate_ctf_radial, group_by_ctf, phase_flip_images
from mfvdm_fast.imaging.noise import estimate_noise, estimate_noise_power, is_white, relative_power
from mfvdm_fast.imaging.support import estimate_bandlimit, estimate_radius
from mfvdm_fast.neighbors.search import search_neighbors
from mfvdm_fast.params import PRESETS
from mfvdm_fast.records import (
    BoolArray,
    Coefficients,
    DiskSupport,
    FloatArray,
    Images,
    IndexArray,
    NeighborTable,
    NoiseModel,
    SteerableCoefficients,
)
from mfvdm_fast.restore.wiener import Observation, describe_observation, restore_wiener

BLOCK = 1000  # images expanded at a time
N_NEIGHBORS = 50


@dataclass(frozen=True)
class Outcome:
    """What a method made of a stack."""

    read: Callable[[IndexArray], Images]  # restored images of some particles
    cpu_s: float
    tables: dict[str, NeighborTable] = field(default_factory=dict)  # "initial", "final"
    seconds: dict[str, float] = field(default_factory=dict)  # wall-clock per stage
    junk_score: np.ndarray | None = None  # (n,), higher for junk, where the method gives one
    shifts_px: np.ndarray | None = None  # (n, 2), by which the restored images were moved, where the method finds them


@dataclass(frozen=True)
class Job:
    """What a method is given: a stack in memory and how to run."""

    stack: ParticleStack
    noise_variance: float  # for the peers' normalisation only
    threads: int | None
    work: Path  # scratch folder
    aspire_python: str


Method = Callable[[Job], Outcome]


def _preset(name: str, **changes: Any) -> Method:
    def run(job: Job) -> Outcome:
        start = time.process_time()
        result = denoise(job.stack, preset(name, **changes), threads=job.threads)
        cpu = time.process_time() - start
        tables = {"initial": result.initial_neighbors, "final": result.neighbors}
        junk = None if result.score is None else -result.score
        return Outcome(result.images, cpu, tables, dict(result.seconds), junk, result.shifts_px)

    return run


@dataclass(frozen=True)
class Expanded:
    """Steerable coefficients of a stack, as observed and phase-flipped."""

    basis: SteerableBasis
    noise: NoiseModel
    raw: SteerableCoefficients
    flipped: SteerableCoefficients
    seen: Observation


def expand(job: Job) -> Expanded:
    """The first stages of the pipeline at the box of the images, the whitening left to whoever weighs by noise."""
    stack = job.stack
    sample = stack.read(np.arange(min(stack.n_particles, 2000)))
    noise = estimate_noise(sample)
    radius = min(estimate_radius(sample, noise), (stack.box_size - 1) // 2)
    basis = make_basis("disk_harmonics", stack.box_size, DiskSupport(radius, estimate_bandlimit(sample, noise)))
    coloured = estimate_noise_power(sample, noise, radius, job.threads)
    noise = noise if is_white(coloured) else coloured
    raw, flipped = [], []
    for rows, images in stack.chunks(BLOCK):
        images = images - np.float32(noise.mean)
        raw.append(basis.expand(images, job.threads))
        if stack.ctf is not None:
            images = phase_flip_images(images, stack.ctf[rows], stack.pixel_size, job.threads)
        flipped.append(basis.expand(images, job.threads))
    coefs = SteerableCoefficients(np.concatenate(raw), basis.offsets)
    power = noise.variance * relative_power(noise, basis.radial_nodes)
    if stack.ctf is None:
        seen = describe_observation(coefs, power)
    else:
        groups, member = group_by_ctf(stack.ctf)
        seen = describe_observation(
            coefs, power, evaluate_ctf_radial(groups, basis.radial_nodes / stack.pixel_size), member
        )
    return Expanded(basis, noise, coefs, SteerableCoefficients(np.concatenate(flipped), basis.offsets), seen)


def _evaluated(basis: SteerableBasis, packed: Coefficients, start: float, **rest: Any) -> Outcome:
    cpu = time.process_time() - start
    return Outcome(lambda rows: basis.evaluate(np.ascontiguousarray(packed[rows])), cpu, **rest)


def run_spca(job: Job) -> Outcome:
    """Phase-flipped images on their principal components, each weighted as Wiener would; the CTF stays in."""
    start = time.process_time()
    given = expand(job)
    pca = estimate_steerable_pca(given.flipped, given.noise.variance)
    weighted = project(given.flipped.packed, given.basis.offsets, pca) * np.concatenate(pca.weights).astype(np.float32)
    return _evaluated(given.basis, expand_components(weighted, given.basis.offsets, pca), start)


def run_cwf(job: Job) -> Outcome:
    """Covariance Wiener filtering of every particle by itself."""
    start = time.process_time()
    given = expand(job)
    return _evaluated(given.basis, restore_wiener(given.raw, given.seen).packed, start)


def run_class_average(job: Job) -> Outcome:
    """The mean of a particle and its 50 first neighbours, aligned: sum h y / (sum h^2 + 1 / SNR)."""
    start = time.process_time()
    given = expand(job)
    pca = estimate_steerable_pca(given.flipped, given.noise.variance)
    coordinates = SteerableCoefficients(project(given.flipped.packed, given.basis.offsets, pca), pca.offsets)
    table = search_neighbors(weigh_features(coordinates, pca), N_NEIGHBORS, threads=job.threads)
    return _evaluated(given.basis, average_neighbors(given, table), start, tables={"initial": table, "final": table})


def average_neighbors(given: Expanded, table: NeighborTable, *, with_itself: bool = True) -> Coefficients:
    """CTF-corrected averages (n, P) of the aligned originals in the lists of ``table``."""
    h = given.seen.transfer.astype(np.float32)
    group, raw = given.seen.group, given.raw.packed
    snr = max(float((np.abs(raw) ** 2).mean() / given.seen.noise_power.mean()) - 1, 1e-3) / np.mean(h**2)
    out = np.empty_like(raw)
    for i in range(len(raw)):
        near = table.indices[i]
        y = steer(raw[near], given.raw.offsets, table.mirrored[i], table.angles[i])
        weight = h[group[near]]
        top, bottom = (weight * y).sum(axis=0), (weight**2).sum(axis=0)
        if with_itself:
            top, bottom = top + h[group[i]] * raw[i], bottom + h[group[i]] ** 2
        out[i] = top / (bottom + 1 / snr)
    return out


def steer(packed: Coefficients, offsets: IndexArray, mirrored: BoolArray, angles: FloatArray) -> Coefficients:
    """Coefficients (b, P) mirrored where flagged, then turned by their angles: a neighbour as its particle lies."""
    k = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    turn = np.exp(-1j * k[None, :] * angles[:, None]).astype(np.complex64)
    return np.where(mirrored[:, None], packed.conj(), packed) * turn


def _peer(run: Callable[..., tuple[Images, float]], **options: Any) -> Method:
    def make(job: Job) -> Outcome:
        images, cpu = run(job.stack, job.noise_variance, job.work, **options, **_python(run, job))
        return Outcome(lambda rows: images[rows], cpu)

    return make


def _python(run: Callable[..., Any], job: Job) -> dict[str, str]:
    return {"python": job.aspire_python} if run is peers.run_aspire else {}


# name: (title, how). The order is that of the tables.
METHODS: dict[str, tuple[str, Method]] = {
    "spca": ("sPCA, Wiener weights", run_spca),
    "classavg": ("average of 50 neighbours", run_class_average),
    "cwf": ("CWF", _preset("cwf") if "cwf" in PRESETS else run_cwf),
    "vdm": ("VDM", _preset("paper", n_frequencies=1)),
    "mfvdm_star": ("MFVDM*", _preset("paper", refine=False)),
    "paper": ("MFVDM (preset paper)", _preset("paper")),
    "default": ("preset default", _preset("default")),
    "default_50": ("preset default, 50 neighbours", _preset("default", n_neighbors=N_NEIGHBORS)),
    "aspire_cwf": ("ASPIRE, CWF", _peer(peers.run_aspire, method="cwf")),
    "aspire_classavg": ("ASPIRE, class averages", _peer(peers.run_aspire, method="classavg")),
    "relion": ("RELION, 2D classification", _peer(peers.run_relion)),
}
PEERS = ("aspire_cwf", "aspire_classavg", "relion")


def missing(name: str, aspire_python: str) -> str | None:
    """Why a method cannot run here; None when it can."""
    if name == "default" and name not in PRESETS:
        return "there is no preset of that name"
    if name.startswith("aspire") and not peers.has_aspire(aspire_python):
        return f"{aspire_python} has no aspire; install the extra 'peers', or name another Python with --aspire-python"
    if name == "relion" and not peers.has_relion():
        return "relion_refine is not on the path"
    return None
