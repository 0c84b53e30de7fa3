"""A built-in particle for demonstrations and tests, and a change of box for any volume."""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, NDArray

from .checks import check_choice, check_numbers, check_positive, check_whole
from .errors import ParameterError

_BLOBS = (30, 18, 12)  # three domains of different size: no rotation or mirror maps the particle to itself
_DOMAIN_CENTRES = np.array([[-0.12, -0.05, 0.02], [0.14, 0.03, 0.10], [0.05, 0.17, -0.13]])  # in boxes, (x, y, z)
_DOMAIN_RADII = (0.17, 0.12, 0.10)
_ROD = np.array([0.3, 0.3, 2.0])
_UNIT_CENTRE = np.array([0.24, 0.10, 0.16])  # of one of the copies of a symmetric particle, off all axes
_QUARTER_TURN, _HALF_TURN = ((0, -1, 0), (1, 0, 0), (0, 0, 1)), ((-1, 0, 0), (0, -1, 0), (0, 0, 1))  # about z
_GENERATORS = {
    "c4": (_QUARTER_TURN,),
    "d2": (_HALF_TURN, ((1, 0, 0), (0, -1, 0), (0, 0, -1))),
    "octahedral": (_QUARTER_TURN, ((0, 0, 1), (1, 0, 0), (0, 1, 0))),
}
SHAPES = ("globular", "elongated", "small", *_GENERATORS)
_REACH = 0.4  # distance from the centre, in boxes, that the two-sigma sphere of the outermost blob touches


def check_volume(volume: ArrayLike) -> NDArray[np.float32]:
    """``volume`` as float32; ParameterError unless it is a cube of at least 8 voxels with finite, unequal values."""
    cube = np.ascontiguousarray(check_numbers("volume", volume, error=ParameterError), dtype=np.float32)
    if cube.ndim != 3 or len(set(cube.shape)) != 1 or cube.shape[0] < 8:
        raise ParameterError(f"volume must be a cube of at least 8 voxels a side, got shape {cube.shape}; pad it first")
    if not np.isfinite(cube).all():
        raise ParameterError("volume must hold finite numbers, got NaN or infinity; replace them first")
    if cube.min() == cube.max():
        raise ParameterError(f"volume must not be constant, every voxel is {cube.flat[0]:g}; check the file")
    return cube


def synthetic_particle(box_size: int = 65, seed: int = 0, shape: str = "globular") -> NDArray[np.float32]:
    """A protein-like density (L, L, L) float32 [z, y, x]: three chains of 60 Gaussian blobs in all, peak 1.

    The centre of mass is at the centre voxel L // 2, the radius 0.4 L. ``shape`` is one of

    - "globular": asymmetric;
    - "elongated": the same drawn out along z to a rod, about three times as long as wide;
    - "small": the globular one at half the size, in the same box;
    - "c4", "d2", "octahedral": 4, 4 or 24 copies of smaller chains, with that symmetry about z (x, y, z).

    Raises ParameterError.

    >>> synthetic_particle(32).shape
    (32, 32, 32)
    """
    check_choice("shape", shape, SHAPES)
    box_size = check_whole("box_size", box_size, 8, "65 px is a good size for a demonstration")
    rng = np.random.default_rng(np.random.SeedSequence(check_whole("seed", seed, 0)))
    chains = []
    for count, centre, radius in zip(_BLOBS, _DOMAIN_CENTRES, _DOMAIN_RADII, strict=True):
        chains.append(centre + _folded_chain(count, radius, rng))
    places = np.concatenate(chains)
    sigma = rng.uniform(0.020, 0.034, len(places))
    peak = rng.uniform(0.6, 1.4, len(places))
    places -= np.average(places, axis=0, weights=peak * sigma**3)
    if shape == "elongated":
        places *= _ROD
    copies = symmetry_rotations(shape) if shape in _GENERATORS else np.eye(3)[None]
    if len(copies) > 1:
        centre = _UNIT_CENTRE - copies.mean(axis=0) @ _UNIT_CENTRE  # nothing along the only axis of c4
        places = places * len(copies) ** (-1 / 3) + centre
    places *= np.min((_REACH - 2 * sigma) / np.linalg.norm(places, axis=1))
    if shape == "small":
        places, sigma = 0.5 * places, 0.5 * sigma
    density = sum(_render(places @ copy.T, sigma, peak, box_size) for copy in copies)
    return np.asarray(density / np.max(density), dtype=np.float32)


def symmetry_rotations(group: str) -> NDArray[np.float64]:
    """The rotations (g, 3, 3) of "c4", "d2" or "octahedral", the identity first; they act on (x, y, z).

    >>> len(symmetry_rotations("octahedral"))
    24
    """
    check_choice("group", group, tuple(_GENERATORS))
    found = [np.eye(3)]
    for rotation in found:  # grows until closed
        for generator in _GENERATORS[group]:
            product = np.array(generator, np.float64) @ rotation
            if not any(np.array_equal(product, known) for known in found):
                found.append(product)
    return np.array(found)


def _render(
    places: NDArray[np.float64], sigma: NDArray[np.float64], peak: NDArray[np.float64], box_size: int
) -> NDArray[np.float64]:
    """Density (L, L, L) of Gaussian blobs at ``places`` (b, 3), all lengths in boxes."""
    axis = (np.arange(box_size) - box_size // 2) / box_size
    x, y, z = (np.exp(-0.5 * ((axis - places[:, i, None]) / sigma[:, None]) ** 2) for i in range(3))
    planes = (peak[:, None] * z)[:, :, None] * y[:, None, :]
    return np.asarray(planes.reshape(len(places), -1).T @ x).reshape((box_size,) * 3)


def _folded_chain(count: int, radius: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A random walk (count, 3) of fixed step that stays in a ball and keeps clear of its own earlier points."""
    step = 1.1 * radius / count ** (1 / 3)
    chain = np.zeros((count, 3))
    for i in range(1, count):
        directions = rng.standard_normal((32, 3))
        candidates = chain[i - 1] + step * directions / np.linalg.norm(directions, axis=1, keepdims=True)
        clearance = np.linalg.norm(candidates[:, None] - chain[None, :i], axis=2).min(axis=1)
        outside = np.maximum(np.linalg.norm(candidates, axis=1) - radius, 0.0)
        chain[i] = candidates[np.argmax(clearance - 4.0 * outside)]
    return chain


def resize_volume(volume: NDArray[np.float32], pixel_size: float, box_size: int) -> tuple[NDArray[np.float32], float]:
    """``volume`` (L, L, L) on a grid of ``box_size`` voxels by Fourier cropping or padding, and its new pixel size.

    The physical side of the box, the centre (voxel size // 2) and the density values stay as they are. The Nyquist
    planes of an even smaller grid are dropped, so that the result is real and unbiased.

    >>> small, pixel_size = resize_volume(synthetic_particle(32), 2.0, 16)
    >>> small.shape, pixel_size
    ((16, 16, 16), 4.0)
    """
    volume = check_volume(volume)
    box_size = check_whole("box_size", box_size, 8, "take 32 px or more")
    pixel_size = check_positive("pixel_size", pixel_size)
    old = volume.shape[0]
    if box_size == old:
        return volume.copy(), pixel_size
    kept = np.arange(-((min(old, box_size) - 1) // 2), (min(old, box_size) - 1) // 2 + 1)
    transform = scipy.fft.fftn(scipy.fft.ifftshift(volume))
    target = np.zeros((box_size,) * 3, dtype=np.complex64)
    target[np.ix_(kept, kept, kept)] = transform[np.ix_(kept, kept, kept)]
    resized = scipy.fft.fftshift(scipy.fft.ifftn(target).real) * (box_size / old) ** 3
    return np.ascontiguousarray(resized, dtype=np.float32), pixel_size * old / box_size
