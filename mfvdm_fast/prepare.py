"""From particle images to what the pipeline works on: noise, support, basis, coefficients, principal coordinates.

Every image is read and expanded once, as it was observed. The sign of the CTF, the whitening and the signed CTF are
radial filters, which the basis applies to coefficients: no image is Fourier transformed for them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .basis.interface import SteerableBasis
from .basis.make import make_basis
from .basis.steerable_pca import CovarianceSums, expand_components, pca_from_sums, project
from .budget import CHUNK_BYTES, mebibytes, sample_size
from .errors import OutputError
from .imaging.background import EvenStack, estimate_unevenness, even_out
from .imaging.blocks import map_blocks
from .imaging.chunks import checked_chunks
from .imaging.copies import image_keys, refuse_all_alike, warn_about_copies
from .imaging.ctf import (
    check_pixel_size,
    classify_ctf,
    evaluate_ctf_radial,
    group_by_ctf,
    is_astigmatic,
    phase_flip_images,
)
from .imaging.fourier_shift import shift_images
from .imaging.noise import (
    estimate_noise,
    estimate_noise_power,
    is_white,
    like_the_others,
    refuse_wild_pixels,
    relative_power,
)
from .imaging.origins import warn_if_misplaced
from .imaging.resample import resample_images, working_box
from .imaging.support import estimate_bandlimit, estimate_radius, warn_if_even, warn_if_inverted
from .overlap import overlap
from .params import DenoiseParams
from .progress import StageTimes
from .records import (
    Coefficients,
    CtfParameters,
    DiskSupport,
    FloatArray,
    Images,
    ImageStack,
    IndexArray,
    NoiseModel,
    OriginColumns,
    SteerableCoefficients,
    SteerablePCA,
)
from .restore.ctf_division import interpolate_transfer, transfer_grid
from .restore.wiener import Observation, describe_observation
from .threads import map_in_order

BLOCK, PIECE = 2048, 256  # rows of coefficients in work at once, and those that one thread takes
CTF_CLASSES = 100  # at most


class Preparation:
    """The stages before the neighbour search; images are read in chunks and never held whole."""

    def __init__(self, stack: ImageStack, params: DenoiseParams, threads: int, progress: StageTimes) -> None:
        self.stack, self.params, self.threads, self.progress = stack, params, threads, progress
        self.keep = True  # the coefficients of all particles in memory
        self.ctf = stack.ctf if params.ctf else None
        self.shifts_px: FloatArray | None = getattr(stack, "known_shifts_px", None)
        self.misplaced = False  # by these, seen before the work begins
        self.noise, self.support = self.look()
        self.basis = self.make_basis()

    def look(self) -> tuple[NoiseModel, DiskSupport]:
        """Noise and support, from a sample of the stack."""
        self.progress("noise and support", 0, 1)
        rows = sample_rows(self.stack)
        sample = self.stack.read(rows)
        self.unevenness = estimate_unevenness(sample, self.threads)
        if not self.unevenness.is_even:
            self.stack = EvenStack(self.stack, self.unevenness, self.threads)
            sample = even_out(sample, self.unevenness, self.threads)
        deviations = map_blocks(lambda images: images.std(axis=(1, 2), dtype=np.float64), sample, self.threads)
        self.deviation = float(np.median(deviations))  # of an image
        refuse_wild_pixels(sample, rows, self.deviation, self.threads)
        refuse_all_alike(sample, self.deviation, self.threads)
        noise = estimate_noise(sample, threads=self.threads)
        radius = given_radius(self.stack, self.params) or estimate_radius(sample, noise, self.threads)
        if self.params.method != "cwf":  # which has no other defence against junk than to take it for noise
            alike = like_the_others(sample, noise, radius, self.threads)
            if not alike.all():
                rows, sample = rows[alike], sample[alike]
                noise = estimate_noise(sample, threads=self.threads)
        warn_if_inverted(sample, noise, radius, self.where, self.threads)
        if self.params.whiten is not False:
            coloured = estimate_noise_power(sample, noise, radius, self.threads)
            if self.params.whiten is True or not is_white(coloured):
                noise = coloured
        known = None if self.shifts_px is None else self.shifts_px[rows]
        self.misplaced = warn_if_misplaced(sample, known, noise, radius, self.origin_columns, self.where, self.threads)
        bandlimit = self.params.bandlimit
        if bandlimit is None:
            bandlimit = estimate_bandlimit(sample, noise, self.threads)
        self.progress("noise and support", 1, 1)
        return noise, DiskSupport(radius, bandlimit)

    def holds_particles(self) -> bool:
        """Whether the middle of the images stands out; warns where it does not."""
        sample = self.stack.read(sample_rows(self.stack))
        return not warn_if_even(sample, self.noise, self.support, self.where, self.threads)

    def make_basis(self) -> SteerableBasis:
        """The steerable basis, on a coarser grid when the box is large and the bandlimit low."""
        support = self.support
        box = working_box(self.stack.box_size, support.bandlimit)
        scale = box / self.stack.box_size
        radius = min(support.radius_px * scale, float((box - 1) // 2))
        return make_basis(self.params.basis, box, DiskSupport(radius, support.bandlimit / scale))

    def expand(self, out: SteerableCoefficients | None = None) -> SteerableCoefficients:
        """Steerable coefficients of the images as observed, centred where ``shifts_px`` says; into ``out`` if given."""
        n, basis, shifts = self.stack.n_particles, self.basis, self.shifts_px
        coefs = out or SteerableCoefficients(allocate(n, basis.n_coefs, self.keep), basis.offsets)
        astigmatic = self.ctf is not None and is_astigmatic(self.ctf, float(self.nodes().max()))
        flipped = self.ctf is not None and getattr(self.stack, "phase_flipped", False)
        keys, done = np.empty(n, np.int64), 0
        size = max(1, CHUNK_BYTES // 2 // (4 * self.stack.box_size**2))  # of two chunks at once

        def read() -> Iterator[tuple[IndexArray, Images]]:
            for rows, images in checked_chunks(self.stack, size):
                keys[rows] = image_keys(images)
                refuse_wild_pixels(images, rows, self.deviation, self.threads)
                yield rows, images - np.float32(self.noise.mean)

        def expand(chunk: tuple[IndexArray, Images]) -> int:
            rows, images = chunk
            centres = None if shifts is None else shifts[rows]
            if self.ctf is not None and astigmatic and not flipped:
                images = phase_flip_images(images, self.ctf[rows], self.stack.pixel_size, self.threads, centres)
            elif centres is not None:
                images = shift_images(images, centres, self.threads)
            packed = basis.expand(resample_images(images, basis.box_size, self.threads), self.threads)
            if astigmatic or flipped:  # with the sign of the radial CTF, what is left of astigmatism is in its modulus
                packed = basis.apply_radial(packed, self.ctf_signs(rows))
            coefs.packed[rows] = packed
            return len(rows)

        self.progress("expand", 0, n)
        for count in overlap(read(), expand, self.threads):
            done += count
            self.progress("expand", done, n)
        if out is None:
            warn_about_copies(keys, self.where)
        return coefs

    @property
    def where(self) -> str:
        """What messages about the stack begin with: the name of its file, if it has one."""
        paths = getattr(self.stack, "paths", ())
        return f"{paths[0].name}: " if paths else ""

    @property
    def origin_columns(self) -> OriginColumns:
        """How messages about origins name them."""
        return getattr(self.stack, "origin_columns", OriginColumns(pixel_size=self.stack.pixel_size))

    @property
    def scale(self) -> float:
        """Pixels of the basis' grid per pixel of the images."""
        return self.basis.box_size / self.stack.box_size

    def nodes(self) -> FloatArray:
        """Radial frequencies at which the basis takes filters, in 1/Å."""
        return self.basis.radial_nodes * self.scale / check_pixel_size(self.stack.pixel_size)

    def ctf_signs(self, rows: IndexArray) -> FloatArray:
        """(b, nodes), the sign of each particle's radial CTF; 1 without CTF."""
        if self.ctf is None:
            return np.ones((1, len(self.basis.radial_nodes)))
        groups, member = group_by_ctf(self.ctf[rows])
        return np.where(evaluate_ctf_radial(groups, self.nodes()) < 0, -1.0, 1.0)[member]

    def noise_power(self) -> FloatArray:
        """(nodes,) noise variance of coefficients."""
        relative = relative_power(self.noise, self.basis.radial_nodes * self.scale)
        return self.noise.variance * self.scale**2 * relative

    def reduce(self, coefs: SteerableCoefficients) -> tuple[SteerablePCA, SteerableCoefficients]:
        """Steerable PCA of the phase-flipped, whitened coefficients, and every particle's coordinates in it."""
        n, basis = self.stack.n_particles, self.basis
        variance = self.noise.variance * self.scale**2
        whiten = np.sqrt(variance / self.noise_power())

        def flipped() -> Iterator[tuple[IndexArray, Coefficients]]:
            for start in range(0, n, BLOCK):
                rows = np.arange(start, min(start + BLOCK, n))
                packed = np.empty((len(rows), basis.n_coefs), np.complex64)

                def flip(piece: slice, rows: IndexArray = rows, packed: Coefficients = packed) -> None:
                    signs = self.ctf_signs(rows[piece]) * whiten
                    basis.apply_radial(coefs.packed[rows[piece]], signs, out=packed[piece])

                pieces = [slice(first, first + PIECE) for first in range(0, len(rows), PIECE)]
                map_in_order(flip, pieces, self.threads)
                yield rows, packed

        sums = CovarianceSums(basis.offsets)
        self.progress("principal components", 0, 2 * n)
        for rows, packed in flipped():
            sums.add(packed, self.threads)
            self.progress("principal components", int(rows[-1]) + 1, 2 * n)
        pca = pca_from_sums(sums, variance)
        out = np.empty((n, int(pca.offsets[-1])), np.complex64)
        for rows, packed in flipped():
            out[rows] = project(packed, basis.offsets, pca, self.threads)
            self.progress("principal components", n + int(rows[-1]) + 1, 2 * n)
        return pca, SteerableCoefficients(out, pca.offsets)

    def observation(self, coefs: SteerableCoefficients) -> Observation:
        """How the coefficients were observed: signed CTF by classes of like ones, and noise."""
        if self.ctf is None:
            return describe_observation(coefs, self.noise_power())
        transfer, member = classify_ctf(self.ctf, self.nodes(), CTF_CLASSES)
        return describe_observation(coefs, self.noise_power(), transfer, member)

    def ctf_magnitude(self, ctf: CtfParameters) -> NDArray[np.float32]:
        """(n, f), |CTF| of every particle at the frequencies of :func:`transfer_grid`."""
        groups, member = group_by_ctf(ctf)
        grid = transfer_grid(self.basis.bandlimit, self.basis.box_size)
        pixel_size = check_pixel_size(self.stack.pixel_size) / self.scale
        return np.abs(evaluate_ctf_radial(groups, grid / pixel_size)).astype(np.float32)[member]

    def undo(
        self,
        coordinates: SteerableCoefficients,
        pca: SteerablePCA,
        transfer: NDArray[np.float32] | None,
        out: SteerableCoefficients,
    ) -> None:
        """Coefficients ``out`` of principal coordinates, whitening undone and ``transfer`` divided out (Eq. 13)."""
        basis = self.basis
        grid = transfer_grid(basis.bandlimit, basis.box_size)
        factor = np.sqrt(self.noise_power() / self.noise.variance)[None, :] / self.scale
        for start in range(0, coordinates.n_particles, BLOCK):
            rows = slice(start, start + BLOCK)
            packed = expand_components(coordinates.packed[rows], basis.offsets, pca)
            division = 1.0 if transfer is None else interpolate_transfer(transfer[rows], grid, basis.radial_nodes)
            out.packed[rows] = basis.apply_radial(packed, factor / division)


def given_radius(stack: ImageStack, params: DenoiseParams) -> float | None:
    """The radius in pixels that the parameters set; None when it is to be estimated."""
    if params.particle_diameter_angstrom is not None and stack.pixel_size:
        return params.particle_diameter_angstrom / 2 / stack.pixel_size
    return params.radius_px


def allocate(n_particles: int, n_coefs: int, keep: bool) -> Coefficients:
    """(n, P) complex64, in memory or, to save it, in a temporary file that goes away with the array.

    Raises OutputError when the folder of temporary files has no room.

    >>> allocate(3, 2, keep=False).shape
    (3, 2)
    """
    if keep:
        return np.empty((n_particles, n_coefs), np.complex64)
    size = 8 * n_particles * n_coefs
    try:
        with tempfile.TemporaryFile(prefix="mfvdm_fast_") as file:
            if hasattr(os, "posix_fallocate"):  # a mapped file that finds no room later kills the process
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, np.complex64, "w+", shape=(n_particles, n_coefs))
    except OSError as error:
        raise OutputError(
            f"{tempfile.gettempdir()}: no room for {mebibytes(size)} of coefficients ({error.strerror or error}), "
            "which the memory limit leaves to a temporary file; set TMPDIR to another folder or allow more memory"
        ) from error


def sample_rows(stack: ImageStack) -> IndexArray:
    """Rows of a sample of the images, in up to 16 contiguous runs spread over the stack."""
    n = stack.n_particles
    wanted = sample_size(n, stack.box_size)
    if wanted == n:
        return np.arange(n, dtype=np.int64)
    runs = min(16, wanted)
    starts = np.linspace(0, n - wanted // runs, runs).astype(np.int64)
    return np.unique((starts[:, None] + np.arange(wanted // runs)).ravel())
