"""Particle stacks with known truth: projections of a volume in random views, CTF, noise, junk where asked for.

Geometry: x_volume = R x_image, with x along columns, y along rows and z along the beam; a volume array is indexed
[z, y, x], as in an MRC file; the origin is the voxel (pixel) L // 2. The image is the sum of the density along z
in pixels, and the viewing direction is R[:, 2]. Frequencies of half a cycle per pixel and more are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, NDArray

from .checks import as_number, check_kind, check_rows, check_switch, check_whole
from .errors import ParameterError
from .imaging.ctf import check_pixel_size, evaluate_ctf_2d, make_ctf
from .imperfections import (
    CONTAMINATED,
    EMPTY,
    OFF_CENTRE,
    DefocusList,
    contamination_transform,
    draw_contrast,
    draw_groups,
    draw_junk,
    noise_filter,
    off_centre_shifts,
)
from .kernels.project import slice_grid, slice_volume, weight_table
from .records import BoolArray, CtfParameters, FloatArray, Images, IndexArray
from .synthetic import check_volume
from .threads import resolve_threads, use_threads

_BLOCK_IMAGES = 256  # images in work at once: 129 px take about 60 MB
# One stream of random numbers for each purpose: an option changes nothing but what it is about.
_ROTATION_STREAM, _GROUP_STREAM, _SHIFT_STREAM, _CONTRAST_STREAM, _NOISE_STREAM, _JUNK_STREAM, _EDGE_STREAM = range(7)
_BLOB_STREAM = 7


@dataclass(frozen=True)
class SimulationSettings:
    """What a simulated data set looks like; lengths in the units of the names."""

    snr: float = 0.05  # pixel variance of the CTF'd clean stack over the whole box / noise variance; inf: no noise
    ctf: bool = True
    n_defocus_groups: int = 20  # equally spaced from the least to the greatest defocus, drawn at random per particle
    defocus_min_angstrom: float = 10_000.0
    defocus_max_angstrom: float = 40_000.0
    voltage_kv: float = 200.0
    cs_mm: float = 2.0
    amplitude_contrast: float = 0.1
    shift_std_px: float = 0.0  # standard deviation of each coordinate of the particle's centre
    contrast_std: float = 0.0  # relative standard deviation of the (log-normal, mean 1) factor of each particle
    noise_falloff: float = 1.0  # noise power at frequency 0 over that at 0.5 cycles/px; 1: white
    junk_fraction: float = 0.0  # share of images without a particle in the middle, or with ice on it


@dataclass(frozen=True)
class SimulatedStack:
    """A simulated stack: truth in memory, images made when asked for (an ``ImageStack`` for the pipeline).

    The same image comes out bit for bit whatever the chunk size, the number of threads and the order of reading.
    ``chunks``/``read`` give the noisy images, ``read_clean`` those without CTF and noise, ``read_ctf`` those with CTF
    and without noise. Shifts, contrast and junk are part of all three.
    """

    pixel_size: float  # Å
    box_size: int  # L, px
    rotations: FloatArray  # (n, 3, 3), x_volume = R x_image
    ctf: CtfParameters | None  # n rows
    defocus_group: IndexArray  # (n,), all 0 without CTF
    shifts_px: FloatArray  # (n, 2): (x, y) of the particle's centre from the pixel L // 2
    contrast: FloatArray  # (n,)
    junk_kind: IndexArray  # (n,): 0, or 1 + the place in ``imperfections.JUNK_KINDS``
    signal_variance: float  # of the CTF'd clean stack without the junk, all pixels
    noise_variance: float  # sigma^2
    seed: int
    threads: int
    _brightness: float = field(repr=False)  # of the brightest pixel of a projection
    _grid: NDArray[np.float32] = field(repr=False)
    _group_ctf: Images | None = field(repr=False)  # (groups, L, L // 2 + 1)
    _noise_filter: NDArray[np.float32] | None = field(repr=False)  # (L, L // 2 + 1); None: white

    @property
    def n_particles(self) -> int:
        return len(self.rotations)

    @property
    def viewing_directions(self) -> FloatArray:
        """(n, 3) unit vectors."""
        return self.rotations[:, :, 2]

    @property
    def junk(self) -> BoolArray:
        """(n,): True where the image is no particle to be restored."""
        return self.junk_kind > 0

    def read(self, rows: IndexArray) -> Images:
        """Noisy images (b, L, L) float32 of the given particles."""
        images = self.read_ctf(rows)
        sigma = np.float32(np.sqrt(self.noise_variance))
        if sigma > 0:
            for image, row in zip(images, np.asarray(rows), strict=True):
                noise = _generator(self.seed, _NOISE_STREAM, int(row)).standard_normal(image.shape, dtype=np.float32)
                if self._noise_filter is not None:
                    noise = scipy.fft.irfft2(scipy.fft.rfft2(noise) * self._noise_filter, s=noise.shape)
                image += sigma * noise
        return images

    def read_clean(self, rows: IndexArray) -> Images:
        """Images (b, L, L) float32 without CTF and noise."""
        return self._images(rows, with_ctf=False)

    def read_ctf(self, rows: IndexArray) -> Images:
        """Images (b, L, L) float32 with CTF and without noise."""
        return self._images(rows, with_ctf=True)

    def chunks(self, max_images: int = 1000) -> Iterator[tuple[IndexArray, Images]]:
        """(rows, noisy images (b, L, L)) in order, b <= ``max_images``."""
        return ((rows, self.read(rows)) for rows in _row_blocks(self.n_particles, max_images))

    def clean_chunks(self, max_images: int = 1000) -> Iterator[tuple[IndexArray, Images]]:
        """(rows, images without CTF and noise (b, L, L)) in order, b <= ``max_images``."""
        return ((rows, self.read_clean(rows)) for rows in _row_blocks(self.n_particles, max_images))

    def _images(self, rows: IndexArray, *, with_ctf: bool) -> Images:
        rows = check_rows(rows, self.n_particles)
        images = np.empty((rows.size, self.box_size, self.box_size), dtype=np.float32)
        for block in _row_blocks(rows.size, _BLOCK_IMAGES):
            transform = self._transforms(rows[block], with_ctf=with_ctf)
            images[block] = scipy.fft.irfft2(transform, s=images.shape[1:], workers=self.threads)
        return images

    def _transforms(self, rows: IndexArray, *, with_ctf: bool) -> NDArray[np.complex64]:
        out = np.empty((rows.size, self.box_size, self.box_size // 2 + 1), dtype=np.complex64)
        with use_threads(self.threads):
            slice_volume(
                self._grid, self.rotations[rows], self.shifts_px[rows] + self.box_size // 2, weight_table(), out
            )
        if np.any(self.contrast[rows] != 1.0):
            out *= self.contrast[rows].astype(np.float32)[:, None, None]
        out[self.junk_kind[rows] == EMPTY] = 0
        for i in np.flatnonzero(self.junk_kind[rows] == CONTAMINATED):
            rng = _generator(self.seed, _BLOB_STREAM, int(rows[i]))
            out[i] += contamination_transform(self.box_size, self._brightness, rng)
        if with_ctf and self._group_ctf is not None:
            out *= self._group_ctf[self.defocus_group[rows]]
        return out


def simulate_stack(
    volume: ArrayLike,
    pixel_size: float,
    n_particles: int,
    settings: SimulationSettings | None = None,
    *,
    seed: int = 0,
    threads: int | None = None,
    defocus: DefocusList | None = None,
) -> SimulatedStack:
    """Simulate ``n_particles`` images of ``volume`` (L, L, L) [z, y, x] in uniformly random orientations.

    ``pixel_size`` is in Å; see :class:`SimulationSettings` for the rest, and ``synthetic.resize_volume`` for another
    box. Particles draw from ``defocus`` where given, instead of the groups of the settings. The signal variance that
    the SNR refers to is taken over every pixel of every image that is not junk, in a first pass that keeps no image.
    Orientations depend on ``seed`` alone, and so does the noise up to its scale: the same seed at another SNR gives
    the same particles. Relative error of a projection: about 5e-5. Raises ParameterError.

    >>> from mfvdm_fast.synthetic import synthetic_particle
    >>> stack = simulate_stack(synthetic_particle(16), 4.0, 3, SimulationSettings(snr=0.1), seed=1)
    >>> rows, images = next(stack.chunks(2))
    >>> images.shape, stack.rotations.shape
    ((2, 16, 16), (3, 3, 3))
    """
    settings = SimulationSettings() if settings is None else settings
    n_particles = check_whole("n_particles", n_particles, hint="ask for 1000 or more to see classes")
    seed = check_whole("seed", seed, 0, "any other number gives another data set")
    _check_settings(settings)
    pixel_size = check_pixel_size(pixel_size)
    if defocus is not None:
        check_kind("defocus", defocus, DefocusList, "make it with imperfections.make_defocus_list")
        if not settings.ctf:
            raise ParameterError("defocus is a list of defocus values, but ctf=False; leave one of them out")
    density = check_volume(volume)
    count = resolve_threads(threads)
    box_size = density.shape[0]
    groups = _defocus_groups(settings, defocus) if settings.ctf else None
    group_of = _draw_group_of(settings, defocus, n_particles, _generator(seed, _GROUP_STREAM))
    junk_kind = draw_junk(settings.junk_fraction, n_particles, _generator(seed, _JUNK_STREAM))
    shifts = settings.shift_std_px * _generator(seed, _SHIFT_STREAM).standard_normal((n_particles, 2))
    away = off_centre_shifts(box_size, n_particles, _generator(seed, _EDGE_STREAM))
    stack = SimulatedStack(
        pixel_size=pixel_size,
        box_size=box_size,
        rotations=_uniform_rotations(n_particles, _generator(seed, _ROTATION_STREAM)),
        ctf=None if groups is None else groups[group_of],
        defocus_group=group_of,
        shifts_px=np.where((junk_kind == OFF_CENTRE)[:, None], shifts + away, shifts),
        contrast=draw_contrast(settings.contrast_std, n_particles, _generator(seed, _CONTRAST_STREAM)),
        junk_kind=junk_kind,
        signal_variance=0.0,
        noise_variance=0.0,
        seed=seed,
        threads=count,
        _brightness=float(density.sum(axis=0).max()),
        _grid=slice_grid(density, count).view(np.float32),
        _group_ctf=None if groups is None else evaluate_ctf_2d(groups, box_size, pixel_size),
        _noise_filter=None if settings.noise_falloff == 1.0 else noise_filter(box_size, settings.noise_falloff),
    )
    variance = _signal_variance(stack)
    return replace(stack, signal_variance=variance, noise_variance=variance / settings.snr)


def _generator(seed: int, stream: int, index: int = 0) -> np.random.Generator:
    """An independent generator for each purpose and each particle."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(stream, index))))


def _row_blocks(count: int, size: int) -> Iterator[IndexArray]:
    size = check_whole("max_images", size, hint="1000 is a good chunk")
    return (np.arange(start, min(start + size, count), dtype=np.int64) for start in range(0, count, size))


def _uniform_rotations(count: int, rng: np.random.Generator) -> FloatArray:
    """Rotations (count, 3, 3), uniform on SO(3), from unit quaternions; the first ones do not depend on ``count``."""
    w, x, y, z = (q := rng.standard_normal((count, 4))).T / np.linalg.norm(q, axis=1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.ascontiguousarray(np.moveaxis(np.array(rows), 2, 0))


def _defocus_groups(settings: SimulationSettings, given: DefocusList | None) -> CtfParameters:
    microscope = {name: getattr(settings, name) for name in ("voltage_kv", "cs_mm", "amplitude_contrast")}
    if given is not None:
        return make_ctf(
            given.defocus_u_angstrom,
            defocus_v_angstrom=given.defocus_v_angstrom,
            defocus_angle=given.defocus_angle,
            **microscope,
        )
    defocus = np.linspace(settings.defocus_min_angstrom, settings.defocus_max_angstrom, settings.n_defocus_groups)
    return make_ctf(defocus, **microscope)


def _draw_group_of(
    settings: SimulationSettings, given: DefocusList | None, count: int, rng: np.random.Generator
) -> IndexArray:
    if not settings.ctf:
        return np.zeros(count, dtype=np.int64)
    if given is not None:
        return draw_groups(given.share, count, rng)
    return rng.integers(settings.n_defocus_groups, size=count)


def _signal_variance(stack: SimulatedStack) -> float:
    """Variance over all pixels of the CTF'd clean images but junk, by Parseval's theorem: no inverse transform."""
    good = np.flatnonzero(~stack.junk)
    if not good.size:
        raise ParameterError(f"all of the {stack.n_particles} images came out as junk; lower junk_fraction")
    pixels = stack.box_size**2
    weight = np.full(stack.box_size // 2 + 1, 2.0)
    weight[0] = 1.0  # the other columns stand for two frequencies each; the Nyquist column of an even box is empty
    square = np.empty(stack.n_particles)
    total = np.empty(stack.n_particles)
    for rows in _row_blocks(stack.n_particles, _BLOCK_IMAGES):
        for row, image in zip(rows, stack._transforms(rows, with_ctf=True), strict=True):
            power = image.real.astype(np.float64) ** 2 + image.imag.astype(np.float64) ** 2
            square[row] = (power.sum(axis=0) * weight).sum() / pixels**2
            total[row] = image[0, 0].real / pixels
    return float(square[good].mean() - total[good].mean() ** 2)


def _check_settings(settings: SimulationSettings) -> None:
    check_kind("settings", settings, SimulationSettings, "as in SimulationSettings(snr=0.1)")
    check_switch("ctf", settings.ctf)
    check_whole("n_defocus_groups", settings.n_defocus_groups, hint="or set ctf=False")
    given = vars(settings)
    value = {name: as_number(given[name]) for name in given if name != "ctf"}
    for name, number in value.items():
        if name not in ("snr", "noise_falloff") and not np.isfinite(number):  # those have rules of their own
            raise ParameterError(f"{name} must be a finite number, got {given[name]!r}; leave it out for the default")
    least, most = value["defocus_min_angstrom"], value["defocus_max_angstrom"]
    rules = (
        ("snr", value["snr"] > 0, "above 0; 0.05 is typical, inf means no noise"),
        ("defocus_min_angstrom", least <= most, f"at most defocus_max_angstrom ({most:g}); swap the two"),
        ("shift_std_px", value["shift_std_px"] >= 0, "0 px or more; 0 centres every particle"),
        ("contrast_std", value["contrast_std"] >= 0, "0 or more; 0 gives equal contrast"),
        ("noise_falloff", 0 < value["noise_falloff"] < np.inf, "above 0; 1 is white noise, 4 falls as in micrographs"),
        ("junk_fraction", 0 <= value["junk_fraction"] < 1, "at least 0 and below 1; 0.16 is common"),
    )
    for name, good, rule in rules:
        if not good:
            raise ParameterError(f"{name} must be {rule}, got {given[name]!r}")
