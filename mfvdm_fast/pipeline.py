"""The main job: the stages of Multi-Frequency Vector Diffusion Maps in order, from particles to denoised particles."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from .basis.interface import SteerableBasis
from .basis.make import make_basis
from .basis.steerable_pca import CovarianceSums, pca_from_sums, project, weigh_features
from .budget import CHUNK_BYTES, predict, sample_size
from .errors import InputError, ParameterError
from .graph.affinity import diffusion_features, normalize_features
from .graph.eigenbasis import SolverOptions, solve_eigenbasis
from .graph.frequency_graph import build_frequency_graph
from .imaging.ctf import check_pixel_size, evaluate_ctf_radial, group_by_ctf, phase_flip_images
from .imaging.noise import estimate_noise, estimate_noise_power, is_white, whiten_images
from .imaging.resample import resample_images, working_box
from .imaging.support import estimate_bandlimit, estimate_radius, warn_if_inverted
from .neighbors.align import align_pairs
from .neighbors.search import search_affinity, search_neighbors
from .params import DenoiseParams
from .progress import Progress, StageTimes, no_progress
from .records import (
    Coefficients,
    CtfParameters,
    DiskSupport,
    Eigenbasis,
    FloatArray,
    FrequencyGraph,
    ImageStack,
    IndexArray,
    NeighborTable,
    NoiseModel,
    SteerableCoefficients,
    SteerablePCA,
)
from .restore.ctf_division import filter_transfer, transfer_grid
from .restore.spectral import apply_spectral_filter
from .result import DenoiseResult
from .threads import resolve_threads, use_threads

SMALLEST_RADIUS = 4.0  # px


def denoise(
    stack: ImageStack,
    params: DenoiseParams | None = None,
    *,
    threads: int | None = None,
    max_memory_bytes: int | None = None,
    progress: Progress = no_progress,
) -> DenoiseResult:
    """Denoise a particle stack by MFVDM (arXiv:1904.07772, Algorithms 1 and 2, Eqs. 12-13).

    The images are read in chunks and never held whole. Peak memory: :func:`mfvdm_fast.budget.predict`.

    Parameters
    ----------
    stack : anything with the attributes of :class:`mfvdm_fast.records.ImageStack`; see ``open_stack`` and
        ``ParticleStack.from_array``.
    params : the preset "paper" when left out.
    threads : all cores this process may use when left out; the result does not depend on it.
    max_memory_bytes : when all coefficients do not fit, the stack is read and expanded twice instead; same result.
    progress : called as ``progress(stage, done, total)``.

    Raises
    ------
    InputError
        When the stack cannot be denoised (too few particles, constant or masked images, no signal above the noise).
    ParameterError
        When a parameter breaks its rule, or the job does not fit ``max_memory_bytes``.
    SolverError
        When the eigensolver fails.

    Examples
    --------
    >>> from mfvdm_fast import ParticleStack, preset, simulate_stack, synthetic_particle
    >>> simulated = simulate_stack(synthetic_particle(33), 5.0, 300)
    >>> images = simulated.read(np.arange(300))
    >>> result = denoise(ParticleStack.from_array(images, 5.0, simulated.ctf), preset("paper", n_neighbors=10))
    >>> result.images().shape
    (300, 33, 33)
    """
    params = params or DenoiseParams()
    check_stack(stack, params)
    count = resolve_threads(threads)
    budget = predict(stack.n_particles, stack.box_size, params, has_ctf=stack.ctf is not None)
    budget.check(max_memory_bytes)
    keep = max_memory_bytes is None or budget.memory_bytes <= max_memory_bytes
    with use_threads(count):
        return _Run(stack, params, count, StageTimes(progress), keep).run()


def check_stack(stack: ImageStack, params: DenoiseParams) -> None:
    """Raise InputError or ParameterError for what can be known to fail before any long work."""
    n = stack.n_particles
    if n <= params.n_neighbors:
        raise InputError(
            f"the stack has {n} particles, but {params.n_neighbors} neighbours are asked for each: "
            + (f"use more particles, or at most {n - 1} neighbours (--neighbors)" if n > 2 else "use more particles")
        )
    if stack.box_size < 16:
        raise InputError(f"the box is {stack.box_size} px wide; at least 16 px are needed to see a particle")
    needs_pixel_size = (params.ctf and stack.ctf is not None) or params.particle_diameter_angstrom is not None
    if needs_pixel_size and not stack.pixel_size:
        raise InputError(
            "the pixel size is not known, but the CTF or the particle diameter needs it: "
            "add it to the STAR file (rlnImagePixelSize), or leave out the diameter and correct no CTF (--no-ctf)"
        )
    largest = (stack.box_size - 1) // 2
    radius = _given_radius(stack, params)
    if radius is not None and radius < SMALLEST_RADIUS:
        raise ParameterError(
            f"the particle radius of {radius:.3g} px is too small: at least {SMALLEST_RADIUS:g} px are needed to tell "
            "images apart; give a larger particle diameter"
        )
    if radius is not None and radius > largest:
        raise ParameterError(
            f"the particle radius of {radius:.1f} px does not fit the box of {stack.box_size} px "
            f"(at most {largest} px): give a smaller particle diameter"
        )


def _given_radius(stack: ImageStack, params: DenoiseParams) -> float | None:
    if params.particle_diameter_angstrom is not None and stack.pixel_size:
        return params.particle_diameter_angstrom / 2 / stack.pixel_size
    return params.radius_px


class _Run:
    """One run of the pipeline: the stages as methods, in the order of ``run``."""

    def __init__(
        self, stack: ImageStack, params: DenoiseParams, threads: int, progress: StageTimes, keep: bool
    ) -> None:
        self.stack, self.params, self.threads, self.progress, self.keep = stack, params, threads, progress, keep
        self.ctf = stack.ctf if params.ctf else None
        self.options = SolverOptions(method=params.solver)

    def run(self) -> DenoiseResult:
        noise, support, whitened = self.look()
        basis = self.make_basis(support)
        pca, coordinates = self.reduce(basis, noise)
        initial = self.search(weigh_features(coordinates, pca))
        neighbors = self.refine(initial) if self.params.refine else initial
        graph = build_frequency_graph(neighbors, threads=self.threads)
        eigenvalues, transfer = self.restore(graph, coordinates, basis)
        return DenoiseResult(
            neighbors=neighbors,
            initial_neighbors=initial,
            eigenvalues=eigenvalues,
            box_size=self.stack.box_size,
            basis=basis,
            pca=pca,
            coordinates=coordinates,
            transfer=transfer,
            noise=noise,
            support=support,
            whitened=whitened,
            seconds=self.progress.seconds,
            threads=self.threads,
        )

    def look(self) -> tuple[NoiseModel, DiskSupport, bool]:
        """Noise and support, from a sample of the stack."""
        self.progress("noise and support", 0, 1)
        sample = self.stack.read(sample_rows(self.stack))
        noise = estimate_noise(sample)
        radius = _given_radius(self.stack, self.params) or estimate_radius(sample, noise)
        warn_if_inverted(sample, noise, radius)
        if self.params.whiten is not False:
            coloured = estimate_noise_power(sample, noise, radius, self.threads)
            if self.params.whiten is True or not is_white(coloured):
                noise = coloured
        whitened = noise.relative_power is not None
        bandlimit = self.params.bandlimit
        if bandlimit is None:
            sample = whiten_images(sample - np.float32(noise.mean), noise, self.threads) if whitened else sample
            seen = NoiseModel(noise.variance, 0.0 if whitened else noise.mean)
            bandlimit = estimate_bandlimit(sample, seen, self.threads)
        self.progress("noise and support", 1, 1)
        return noise, DiskSupport(radius, bandlimit), whitened

    def make_basis(self, support: DiskSupport) -> SteerableBasis:
        """The steerable basis, on a coarser grid when the box is large and the bandlimit low."""
        box = working_box(self.stack.box_size, support.bandlimit)
        scale = box / self.stack.box_size
        radius = min(support.radius_px * scale, float((box - 1) // 2))
        return make_basis(self.params.basis, box, DiskSupport(radius, support.bandlimit / scale))

    def expand(self, basis: SteerableBasis, noise: NoiseModel, stage: str) -> Iterator[tuple[IndexArray, Coefficients]]:
        """Steerable coefficients of the phase-flipped, whitened images, chunk by chunk."""
        n, done = self.stack.n_particles, 0
        self.progress(stage, 0, n)
        for rows, images in self.stack.chunks(max(1, CHUNK_BYTES // (4 * self.stack.box_size**2))):
            images = images - np.float32(noise.mean)
            if self.ctf is not None:
                images = phase_flip_images(images, self.ctf[rows], self.stack.pixel_size, self.threads)
            if noise.relative_power is not None:
                images = whiten_images(images, noise, self.threads)
            yield rows, basis.expand(resample_images(images, basis.box_size, self.threads), self.threads)
            done += len(rows)
            self.progress(stage, done, n)

    def reduce(self, basis: SteerableBasis, noise: NoiseModel) -> tuple[SteerablePCA, SteerableCoefficients]:
        """Steerable PCA, and every particle's coordinates in it: all that later stages need of the images."""
        sums, kept = CovarianceSums(basis.offsets), []
        for rows, packed in self.expand(basis, noise, "expand"):
            sums.add(packed)
            if self.keep:
                kept.append((rows, packed))
        pca = pca_from_sums(sums, noise.variance * (basis.box_size / self.stack.box_size) ** 2)
        out = np.empty((self.stack.n_particles, int(pca.offsets[-1])), np.complex64)
        for rows, packed in kept if self.keep else self.expand(basis, noise, "expand again"):
            out[rows] = project(packed, basis.offsets, pca)
        return pca, SteerableCoefficients(out, pca.offsets)

    def search(self, features: SteerableCoefficients) -> NeighborTable:
        """The initial table: exact rotation-invariant distances, with mirrors."""
        report = partial(self.progress, "search")
        return search_neighbors(features, self.params.n_neighbors, threads=self.threads, progress=report)

    def refine(self, table: NeighborTable) -> NeighborTable:
        """Algorithm 1: neighbours and angles on which several angular frequencies agree (Eqs. 5-9)."""
        graph = build_frequency_graph(table, threads=self.threads)
        bases: list[Eigenbasis] = []
        total = self.params.n_frequencies
        self.progress("eigenvectors", 0, total)
        for k in range(1, total + 1):
            bases.append(self.solve(graph, k, bases[-1] if bases else None))
            self.progress("eigenvectors", k, total)
        features = diffusion_features(bases, self.params.diffusion_time)
        del bases, graph  # the features hold all that is needed: keep the peak low
        indices, mirrored, affinity = search_affinity(
            normalize_features(features),
            self.params.n_neighbors,
            threads=self.threads,
            progress=partial(self.progress, "refine"),
        )
        angles, _ = align_pairs(features, indices, mirrored, threads=self.threads)
        return NeighborTable(indices, mirrored, angles, affinity)

    def solve(self, graph: FrequencyGraph, k: int, neighbor: Eigenbasis | None = None) -> Eigenbasis:
        return solve_eigenbasis(
            graph,
            k,
            min(self.params.n_eigenvectors, graph.n_particles),
            options=self.options,
            neighbor=neighbor,
            seed=self.params.seed,
            threads=self.threads,
        )

    def restore(
        self, graph: FrequencyGraph, coordinates: SteerableCoefficients, basis: SteerableBasis
    ) -> tuple[dict[int, FloatArray], NDArray[np.float32] | None]:
        """Algorithm 2 on the principal subspace of every frequency, in place; eigenvalues and the filtered |CTF|."""
        eigenvalues: dict[int, FloatArray] = {}
        transfer, previous = None, None
        self.progress("restore", 0, coordinates.k_max + 1)
        for k in range(coordinates.k_max + 1):
            b = coordinates[k]
            if k == 0 or b.shape[1]:
                eigenbasis = self.solve(graph, k, previous)
                eigenvalues[k] = eigenbasis.values
                previous = eigenbasis if k else None  # k = 0 has a spectrum of its own
                b[:] = apply_spectral_filter(b, eigenbasis, graph.degrees, self.params.spectral_filter)
                if k == 0 and self.ctf is not None:
                    transfer = self.filtered_ctf(self.ctf, eigenbasis, graph.degrees, basis)
            self.progress("restore", k + 1, coordinates.k_max + 1)
        return eigenvalues, transfer

    def filtered_ctf(
        self, ctf: CtfParameters, eigenbasis: Eigenbasis, degrees: FloatArray, basis: SteerableBasis
    ) -> NDArray[np.float32]:
        """|CTF| of every particle, filtered as the images are (Eq. 12)."""
        groups, member = group_by_ctf(ctf)
        pixel_size = check_pixel_size(self.stack.pixel_size) * self.stack.box_size / basis.box_size
        grid = transfer_grid(basis.bandlimit, basis.box_size)
        magnitude = np.abs(evaluate_ctf_radial(groups, grid / pixel_size)).astype(np.float32)
        return filter_transfer(magnitude[member], eigenbasis, degrees, self.params.spectral_filter)


def sample_rows(stack: ImageStack) -> IndexArray:
    """Rows of a sample of the images, in up to 16 contiguous runs spread over the stack."""
    n = stack.n_particles
    wanted = sample_size(n, stack.box_size)
    if wanted == n:
        return np.arange(n, dtype=np.int64)
    runs = min(16, wanted)
    starts = np.linspace(0, n - wanted // runs, runs).astype(np.int64)
    return np.unique((starts[:, None] + np.arange(wanted // runs)).ravel())
