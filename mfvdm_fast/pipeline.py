"""The main job: the stages of Multi-Frequency Vector Diffusion Maps in order, from a particle stack to denoised particles."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial

import numpy as np

from .basis.interface import SteerableBasis
from .basis.make import make_basis
from .basis.steerable_pca import estimate_steerable_pca, project_components, project_features
from .errors import InputError, MfvdmWarning, ParameterError
from .graph.affinity import diffusion_features, normalize_features
from .graph.eigenbasis import SolverOptions, solve_eigenbasis
from .graph.frequency_graph import build_frequency_graph
from .imaging.ctf import evaluate_ctf_radial, group_by_ctf, phase_flip_images
from .imaging.noise import estimate_noise, estimate_noise_power, is_white, relative_power, whiten_images
from .imaging.support import estimate_bandlimit, estimate_radius, warn_if_inverted
from .neighbors.align import align_pairs
from .neighbors.search import search_affinity, search_neighbors
from .params import DenoiseParams
from .progress import Progress, StageTimes, no_progress
from .records import (
    Coefficients,
    DiskSupport,
    Eigenbasis,
    FloatArray,
    FrequencyGraph,
    Images,
    ImageStack,
    IndexArray,
    NeighborTable,
    NoiseModel,
    SteerableCoefficients,
    SteerablePCA,
)
from .restore.ctf_division import filter_transfer
from .restore.spectral import apply_spectral_filter
from .threads import resolve_threads

SAMPLE_BYTES = 128 * 2**20  # of images looked at to estimate noise and support
CHUNK_BYTES = 32 * 2**20


@dataclass(frozen=True)
class DenoiseResult:
    """What :func:`denoise` found; images are synthesised when asked for.

    Attributes
    ----------
    neighbors : the refined table (the initial one without refinement); ``scores`` is the affinity.
    initial_neighbors : the table of the exact rotation-invariant search.
    eigenvalues : per angular frequency of the restoration graph, descending.
    coefs : restored, CTF-corrected coefficients in ``basis``.
    noise, support, pca : what was estimated on the way.
    ctf_corrected, whitened : what was done to the images.
    seconds : wall-clock time per stage.
    """

    neighbors: NeighborTable
    initial_neighbors: NeighborTable
    eigenvalues: dict[int, FloatArray]
    basis: SteerableBasis
    coefs: SteerableCoefficients
    noise: NoiseModel
    support: DiskSupport
    pca: SteerablePCA
    ctf_corrected: bool
    whitened: bool
    seconds: dict[str, float]
    threads: int

    def images(self, rows: IndexArray | None = None) -> Images:
        """Denoised particles (b, L, L) float32 in the units of the input, background 0; all of them without ``rows``."""
        packed = self.coefs.packed if rows is None else self.coefs.packed[rows]
        return self.basis.evaluate(packed, threads=self.threads)


def denoise(
    stack: ImageStack,
    params: DenoiseParams | None = None,
    *,
    threads: int | None = None,
    progress: Progress = no_progress,
) -> DenoiseResult:
    """Denoise a particle stack by MFVDM (arXiv:1904.07772, Algorithms 1 and 2, Eqs. 12-13).

    Peak memory: see :func:`mfvdm_fast.budget.predict`; the images themselves are read in chunks and never held whole.

    Parameters
    ----------
    stack : anything with the attributes of :class:`mfvdm_fast.records.ImageStack`; see ``open_stack`` and
        ``ParticleStack.from_array``.
    params : the preset "paper" when left out.
    threads : all cores this process may use when left out; the result does not depend on it.
    progress : called as ``progress(stage, done, total)``.

    Raises
    ------
    InputError
        When the stack cannot be denoised (too few particles, constant or masked images, no signal above the noise).
    ParameterError
        When a parameter breaks its rule.
    SolverError
        When the eigensolver fails.

    Examples
    --------
    >>> from mfvdm_fast import DenoiseParams, ParticleStack, denoise, simulate
    >>> simulated = simulate(400, box_size=33, snr=0.2)
    >>> stack = ParticleStack.from_array(simulated.read(range(400)), simulated.pixel_size, simulated.ctf)
    >>> result = denoise(stack, DenoiseParams(n_neighbors=10))
    >>> result.images().shape
    (400, 33, 33)
    """
    params = params or DenoiseParams()
    count = resolve_threads(threads)
    check_stack(stack, params)
    times = StageTimes(progress)
    return _Run(stack, params, count, times).run()


def check_stack(stack: ImageStack, params: DenoiseParams) -> None:
    """Raise InputError or ParameterError for what can be known to fail before any long work."""
    n = stack.n_particles
    if n <= params.n_neighbors:
        raise InputError(
            f"the stack has {n} particles, but {params.n_neighbors} neighbours are asked for each: "
            f"use more particles, or at most {max(1, n - 1)} neighbours (--neighbors)"
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
    if radius is not None and radius > largest:
        raise ParameterError(
            f"the particle radius of {radius:.1f} px does not fit the box of {stack.box_size} px (at most {largest} px): "
            "give a smaller particle diameter"
        )


def _given_radius(stack: ImageStack, params: DenoiseParams) -> float | None:
    if params.particle_diameter_angstrom is not None and stack.pixel_size:
        return params.particle_diameter_angstrom / 2 / stack.pixel_size
    return params.radius_px


class _Run:
    """One run of the pipeline: the stages as methods, in the order of ``run``."""

    def __init__(self, stack: ImageStack, params: DenoiseParams, threads: int, progress: StageTimes) -> None:
        self.stack, self.params, self.threads, self.progress = stack, params, threads, progress
        self.ctf = stack.ctf if params.ctf else None
        self.options = SolverOptions(method=params.solver)

    def run(self) -> DenoiseResult:
        noise, support, whitened = self.look()
        basis = make_basis(self.params.basis, self.stack.box_size, support)
        coefs = self.expand(basis, noise, whitened)
        pca = estimate_steerable_pca(coefs, noise.variance)
        initial = self.find_neighbors(coefs, pca)
        neighbors = self.refine(initial) if self.params.refine else initial
        graph = build_frequency_graph(neighbors, threads=self.threads)
        eigenvalues = self.restore(graph, coefs, pca, basis, noise, whitened)
        return DenoiseResult(
            neighbors, initial, eigenvalues, basis, coefs, noise, support, pca, self.ctf is not None, whitened,
            self.progress.seconds, self.threads,
        )  # fmt: skip

    def look(self) -> tuple[NoiseModel, DiskSupport, bool]:
        """Noise and support, from a sample of the stack."""
        self.progress("noise and support", 0, 1)
        sample = self.stack.read(sample_rows(self.stack))
        noise = estimate_noise(sample)
        given = _given_radius(self.stack, self.params)
        radius = given or estimate_radius(sample, noise)
        warn_if_inverted(sample, noise, radius)
        whitened = self.params.whiten is not False
        if whitened:
            noise = estimate_noise_power(sample, noise, radius, self.threads)
            whitened = self.params.whiten is True or not is_white(noise)
        if whitened:
            sample = whiten_images(sample - np.float32(noise.mean), noise, self.threads)
            bandlimit = estimate_bandlimit(sample, NoiseModel(noise.variance, 0.0), self.threads)
        else:
            noise = NoiseModel(noise.variance, noise.mean)
            bandlimit = estimate_bandlimit(sample, noise, self.threads)
        support = DiskSupport(radius, self.params.bandlimit or bandlimit)
        self.progress("noise and support", 1, 1)
        return noise, support, whitened

    def expand(self, basis: SteerableBasis, noise: NoiseModel, whitened: bool) -> SteerableCoefficients:
        """Steerable coefficients of the phase-flipped, whitened images, in one pass over the stack."""
        n = self.stack.n_particles
        packed = np.empty((n, basis.n_coefs), np.complex64)
        done = 0
        self.progress("expand", 0, n)
        for rows, images in self.stack.chunks(max(1, CHUNK_BYTES // (4 * self.stack.box_size**2))):
            images = images - np.float32(noise.mean)
            if self.ctf is not None:
                images = phase_flip_images(images, self.ctf[rows], self.stack.pixel_size, self.threads)
            if whitened:
                images = whiten_images(images, noise, self.threads)
            packed[rows] = basis.expand(images, self.threads)
            done += len(rows)
            self.progress("expand", done, n)
        return SteerableCoefficients(packed, basis.offsets)

    def find_neighbors(self, coefs: SteerableCoefficients, pca: SteerablePCA) -> NeighborTable:
        """The initial table: exact rotation-invariant distances of the weighted principal coefficients."""
        features = project_features(coefs, pca)
        report = partial(self.progress, "search")
        return search_neighbors(features, self.params.n_neighbors, threads=self.threads, progress=report)

    def refine(self, table: NeighborTable) -> NeighborTable:
        """Algorithm 1: neighbours and angles that agree over several frequencies (Eqs. 5-9)."""
        graph = build_frequency_graph(table, threads=self.threads)
        bases = []
        for k in range(1, self.params.n_frequencies + 1):
            self.progress("eigenvectors", k - 1, self.params.n_frequencies)
            bases.append(self.solve(graph, k))
        self.progress("eigenvectors", self.params.n_frequencies, self.params.n_frequencies)
        features = diffusion_features(bases, self.params.diffusion_time)
        indices, mirrored, affinity = search_affinity(
            normalize_features(features),
            self.params.n_neighbors,
            threads=self.threads,
            progress=partial(self.progress, "refine"),
        )
        angles, _ = align_pairs(features, indices, mirrored, threads=self.threads)
        return NeighborTable(indices, mirrored, angles, affinity)

    def solve(self, graph: FrequencyGraph, k: int) -> Eigenbasis:
        m = min(self.params.n_eigenvectors, graph.n_particles)
        return solve_eigenbasis(graph, k, m, options=self.options, seed=self.params.seed, threads=self.threads)

    def restore(
        self,
        graph: FrequencyGraph,
        coefs: SteerableCoefficients,
        pca: SteerablePCA,
        basis: SteerableBasis,
        noise: NoiseModel,
        whitened: bool,
    ) -> dict[int, FloatArray]:
        """Algorithm 2 on the principal subspace of each frequency, then division by the filtered |CTF|; in place."""
        eigenvalues: dict[int, FloatArray] = {}
        used = [k for k in range(coefs.k_max + 1) if k == 0 or pca.n_components[k]]
        transfer = None
        for step, k in enumerate(used):
            self.progress("restore", step, len(used))
            eigenbasis = self.solve(graph, k)
            eigenvalues[k] = eigenbasis.values
            if k == 0 and self.ctf is not None:
                transfer = self.filtered_ctf(eigenbasis, graph.degrees, basis)
            projected = project_components(coefs[k], pca, k)
            coefs[k][:] = apply_spectral_filter(projected, eigenbasis, graph.degrees, self.params.spectral_filter)
        for k in set(range(coefs.k_max + 1)) - set(used):
            coefs[k][:] = 0
        self.divide(coefs.packed, transfer, basis, noise, whitened)
        self.progress("restore", len(used), len(used))
        return eigenvalues

    def filtered_ctf(self, eigenbasis: Eigenbasis, degrees: FloatArray, basis: SteerableBasis) -> FloatArray:
        """|CTF| of every particle on a grid of 2 box_size frequencies up to Nyquist, filtered as the images are (Eq. 12)."""
        assert self.ctf is not None and self.stack.pixel_size is not None
        groups, member = group_by_ctf(self.ctf)
        magnitude = np.abs(evaluate_ctf_radial(groups, transfer_grid(basis) / self.stack.pixel_size))
        return filter_transfer(magnitude[member], eigenbasis, degrees, self.params.spectral_filter)

    def divide(
        self,
        packed: Coefficients,
        transfer: FloatArray | None,
        basis: SteerableBasis,
        noise: NoiseModel,
        whitened: bool,
    ) -> None:
        """Undo whitening and divide by the filtered |CTF| (Eq. 13), by blocks of rows, in place."""
        recolour = np.sqrt(relative_power(noise, basis.radial_nodes)) if whitened else np.ones(len(basis.radial_nodes))
        if transfer is None and not whitened:
            return
        grid = transfer_grid(basis)
        position = np.clip(np.interp(basis.radial_nodes, grid, np.arange(len(grid))), 0, len(grid) - 1)
        left = np.minimum(position.astype(np.int64), len(grid) - 2)
        share = position - left
        for start in range(0, len(packed), 1024):
            rows = slice(start, start + 1024)
            factor = recolour[None, :]
            if transfer is not None:
                block = transfer[rows]
                factor = recolour / (block[:, left] * (1 - share) + block[:, left + 1] * share)
            packed[rows] = basis.apply_radial(packed[rows], factor)


def transfer_grid(basis: SteerableBasis) -> FloatArray:
    """Radial frequencies, cycles/px, at which per-particle |CTF| is held: steps of 1/(4 L) up to the bandlimit."""
    steps = int(np.ceil(basis.bandlimit * 4 * basis.box_size)) + 1
    return np.arange(steps + 1) / (4 * basis.box_size)


def sample_rows(stack: ImageStack) -> IndexArray:
    """Rows of up to 4096 images (and 128 MB), in up to 16 contiguous runs spread over the stack."""
    n = stack.n_particles
    wanted = min(n, 4096, max(64, SAMPLE_BYTES // (4 * stack.box_size**2)))
    if wanted == n:
        return np.arange(n, dtype=np.int64)
    runs = min(16, wanted)
    starts = np.linspace(0, n - wanted // runs, runs).astype(np.int64)
    return np.unique((starts[:, None] + np.arange(wanted // runs)).ravel())


def warn_about(result: DenoiseResult) -> None:
    """Warn (MfvdmWarning) about what a user should look at in a result."""
    if result.noise.variance <= 0:
        warnings.warn("no noise found", MfvdmWarning, stacklevel=2)
