"""The records handed between stages. Shapes, dtypes and units are documented here, once.

n is the number of particles, L the box size in pixels, K the number of neighbours, k an angular frequency,
p_k the number of radial functions of frequency k, m the number of eigenvectors. Arrays are in the order of the
particles in the input table. Angles are radians. All records are frozen; the arrays in them are not copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Images = NDArray[np.float32]
Coefficients = NDArray[np.complex64]


@dataclass(frozen=True)
class CtfParameters:
    """CTF of each particle in RELION's convention (white protein, +amplitude contrast at zero frequency).

    All fields are float64 of shape (n,). Defocus is positive for underfocus.
    """

    voltage_kv: FloatArray
    cs_mm: FloatArray
    amplitude_contrast: FloatArray
    defocus_u_angstrom: FloatArray
    defocus_v_angstrom: FloatArray
    defocus_angle: FloatArray  # radians, from +x (columns) towards +y (rows)
    phase_shift: FloatArray  # radians
    bfactor_angstrom2: FloatArray
    scale: FloatArray

    def __len__(self) -> int:
        return len(self.voltage_kv)

    def __getitem__(self, rows: object) -> CtfParameters:
        """The CTF parameters of a subset of the particles (any NumPy index that keeps one dimension)."""
        return CtfParameters(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


@runtime_checkable
class ImageStack(Protocol):
    """What the pipeline needs of a particle stack; ``io.stack.ParticleStack`` is the one implementation."""

    @property
    def n_particles(self) -> int: ...

    @property
    def box_size(self) -> int:
        """L in pixels."""

    @property
    def pixel_size(self) -> float | None:
        """Å per pixel; None when the input does not say."""

    @property
    def ctf(self) -> CtfParameters | None:
        """None when the input carries no CTF."""

    def chunks(self, max_images: int) -> Iterator[tuple[IndexArray, Images]]:
        """Yield (rows, images (b, L, L)) in file order; every particle exactly once, b <= max_images."""

    def read(self, rows: IndexArray) -> Images:
        """Images (b, L, L) float32 of the given particles, in the given order."""


@dataclass(frozen=True)
class OriginColumns:
    """The columns in which a table keeps, or would keep, its origins, for words about them."""

    x: str = "rlnOriginX"
    y: str = "rlnOriginY"
    in_angstrom: bool = False  # else in px
    pixel_size: float | None = None  # Å

    def amount(self, px: float) -> str:
        """A length in the unit of the columns, and in the other where the pixel size is known; both with their sign.

        >>> OriginColumns(in_angstrom=True, pixel_size=2.0).amount(1.5), OriginColumns().amount(-1.5)
        ('+3 Å (+1.5 px)', '-1.5 px')
        """
        in_px = f"{round(px, 1):+g} px"
        if not self.pixel_size:
            return in_px
        in_angstrom = f"{round(px * self.pixel_size, 1):+g} Å"
        return f"{in_angstrom} ({in_px})" if self.in_angstrom else f"{in_px} ({in_angstrom})"


@dataclass(frozen=True)
class NoiseModel:
    """Noise of the pixels: variance, and (when whitening) the radial power spectrum divided by it."""

    variance: float  # sigma^2 per pixel, in squared units of the input
    mean: float  # background level
    frequencies: FloatArray | None = None  # (f,) cycles/px, ascending from 0
    relative_power: FloatArray | None = None  # (f,) power / variance; None means white


@dataclass(frozen=True)
class Unevenness:
    """How images differ beyond noise and particles, and what is taken out of each: nothing of most stacks."""

    has_levels: bool = False  # the mean of each image is taken out
    has_ramps: bool = False  # and the slopes of the plane that fits it best
    has_gains: bool = False  # each is multiplied by the deviation of most backgrounds over its own
    deviation: float = 0.0  # of a pixel in the background of most images
    level_spread: float = 0.0  # standard deviation of the levels, in those of a pixel; 0 where they are left
    ramp_spread: float = 0.0  # the same of their slopes along x and y, per px
    gain_ratio: float = 1.0  # between the deviations of the middle 90 % of the images; 1 where they are left
    n_far: int = 0  # images that lie far off while the others are even, of those that were looked at

    @property
    def is_even(self) -> bool:
        """Whether there is nothing to take out."""
        return not (self.has_levels or self.has_ramps or self.has_gains)

    def describe(self) -> str:
        """What is taken out of each image, in words.

        >>> Unevenness(has_levels=True, level_spread=0.123).describe()
        'levels (standard deviation 0.12 of the noise)'
        """
        parts = []
        if self.level_spread:
            parts.append(f"levels (standard deviation {self.level_spread:.2g} of the noise)")
        if self.has_ramps:
            parts.append(f"ramps ({self.ramp_spread:.2g} of it per px)")
        if self.has_gains:
            parts.append(f"scales (a factor of {self.gain_ratio:.3g} between the middle 90 %)")
        return " and ".join(parts) + (f", {self.n_far} of the images looked at far off" if self.n_far else "")


@dataclass(frozen=True)
class DiskSupport:
    """Where the particle lives: radius in real space (pixels), bandlimit in Fourier space (cycles per pixel)."""

    radius_px: float
    bandlimit: float


@dataclass(frozen=True)
class SteerableCoefficients:
    """Coefficients of n images in a steerable basis, all frequencies packed side by side.

    ``packed`` is (n, sum p_k) complex64; ``coefs[k]`` is a view (n, p_k). Rotation by alpha multiplies ``coefs[k]``
    by exp(-i k alpha), mirroring (y -> -y) conjugates; k = 0 is real.
    """

    packed: Coefficients
    offsets: IndexArray  # (k_max + 2,), ascending; coefs[k] = packed[:, offsets[k]:offsets[k + 1]]

    def __getitem__(self, k: int) -> Coefficients:
        return self.packed[:, self.offsets[k] : self.offsets[k + 1]]

    @property
    def n_particles(self) -> int:
        return self.packed.shape[0]

    @property
    def k_max(self) -> int:
        return len(self.offsets) - 2


@dataclass(frozen=True)
class NeighborTable:
    """K neighbours of each particle, best first.

    Neighbour j of i with angle alpha: coef_k(i) ~ exp(-i k alpha) coef_k(j), or exp(-i k alpha) conj(coef_k(j)) when
    mirrored. The same (i, j) may stand once plain and once mirrored; i itself never.
    """

    indices: IndexArray  # (n, K)
    mirrored: BoolArray  # (n, K)
    angles: FloatArray  # (n, K), radians in (-pi, pi]
    scores: FloatArray  # (n, K): larger is closer; correlation (search) or affinity (refine)

    @property
    def n_particles(self) -> int:
        return self.indices.shape[0]

    @property
    def n_neighbors(self) -> int:
        return self.indices.shape[1]

    def take(self, rows: IndexArray) -> NeighborTable:
        """The same for some of the particles."""
        return NeighborTable(*(getattr(self, field.name)[rows] for field in fields(self)))

    def nearest(self, count: int) -> NeighborTable:
        """The first ``count`` neighbours of each particle, or all where there are fewer."""
        return NeighborTable(*(getattr(self, field.name)[:, :count] for field in fields(self)))


@dataclass(frozen=True)
class SteerablePCA:
    """Principal components of each angular frequency (r_k of them kept at k) and their Wiener-like weights."""

    mean: FloatArray  # (p_0,): mean coefficient of k = 0
    components: tuple[FloatArray, ...]  # per k: (p_k, r_k), orthonormal columns
    eigenvalues: tuple[FloatArray, ...]  # per k: (r_k,), descending, of the sample covariance
    weights: tuple[FloatArray, ...]  # per k: (r_k,), in (0, 1)

    @property
    def n_components(self) -> tuple[int, ...]:
        return tuple(len(w) for w in self.weights)

    @property
    def offsets(self) -> IndexArray:
        """(last k with a component + 2,), as in SteerableCoefficients, of coordinates in these components."""
        last = max((k for k, count in enumerate(self.n_components) if count), default=0)
        return np.concatenate([[0], np.cumsum(self.n_components[: last + 1])]).astype(np.int64)


@dataclass(frozen=True)
class FrequencyGraph:
    """The symmetric neighbour graph as one CSR pattern, shared by all angular frequencies.

    Every edge (i, j, mirrored) stands in both rows; its angle follows NeighborTable's convention, so the angle of
    (j, i) is minus that of (i, j) for plain edges and the same for mirrored ones.
    """

    indptr: IndexArray  # (n + 1,)
    indices: IndexArray  # (nnz,), ascending within a row
    mirrored: BoolArray  # (nnz,)
    angles: FloatArray  # (nnz,), radians
    weights: FloatArray  # (nnz,), positive, symmetric
    degrees: FloatArray  # (n,): sum of the weights of each row

    @property
    def n_particles(self) -> int:
        return len(self.degrees)


@dataclass(frozen=True)
class Eigenbasis:
    """Leading eigenpairs of the frequency graph at one k, in the O(2) form: orthonormal for Re sum conj(x) y."""

    k: int
    values: FloatArray  # (m,), descending, positive
    vectors: Coefficients  # (n, m) complex64; imaginary part 0 at k = 0
    residuals: FloatArray  # (m,): norm of S u - lambda u; of large stacks as a sample of the particles shows it
    iterations: int
    outcome: str  # "converged", or what happened and what to try next
    lower_bound: float = -1.0  # hardly any eigenvalue of the graph, at this or the neighbouring frequency, lies below

    @property
    def n_eigenvectors(self) -> int:
        return len(self.values)
