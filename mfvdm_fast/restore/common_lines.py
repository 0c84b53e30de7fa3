"""Where restorations of different views stand against each other: by the lines that their Fourier transforms share.

The transforms of two projections of one object agree along a line through the origin, at an angle phi in the one and
psi in the other (Crowther 1971; van Heel 1987). Of images whose content stands at c and d,

    F_1(f u) conj F_2(f w) = |F(f)|^2 exp(-2 pi i f (c . u - d . w)),  u = (cos phi, sin phi), w = (cos psi, sin psi):

one equation for the places of each pair. Which line is shared is found where the correlation is largest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..kernels.polar import PolarPlan
from ..records import Coefficients, FloatArray, Images, IndexArray
from ..threads import map_in_order

N_LINES = 120  # directions on the whole circle
LARGEST_PHASE = 2.0  # radians at the finest frequency: larger ones are not told from those of the wrong sign


@dataclass(frozen=True)
class LineEquations:
    """places[first] . along_first - places[second] . along_second = offsets, for e pairs of images."""

    first: IndexArray  # (e,)
    second: IndexArray  # (e,)
    along_first: FloatArray  # (e, 2), unit vectors (x, y)
    along_second: FloatArray  # (e, 2)
    offsets: FloatArray  # (e,), px


def central_lines(images: Images, frequencies: FloatArray) -> Coefficients:
    """Fourier transforms of ``images`` (r, L, L) along half the lines: (r, N_LINES / 2, f), f in cycles per px.

    >>> central_lines(np.ones((2, 9, 9), np.float32), np.array([0.1])).shape
    (2, 60, 1)
    """
    samples = PolarPlan(images.shape[1], frequencies, N_LINES).transform(images)
    return np.ascontiguousarray(samples.transpose(0, 2, 1))


def bring_back(lines: Coefficients, frequencies: FloatArray, places: FloatArray) -> Coefficients:
    """Lines (r, h, f) of images moved by minus ``places`` (r, 2) px.

    >>> bring_back(np.ones((1, 2, 1), np.complex64), np.array([0.25]), np.array([[1.0, 0.0]]))[0, :, 0].imag.round(2)
    array([1., 0.], dtype=float32)
    """
    along = places @ _directions(2 * lines.shape[1])[: lines.shape[1]].T
    moved: Coefficients = lines * np.exp(2j * np.pi * along[..., None] * frequencies).astype(np.complex64)
    return moved


def match_lines(lines: Coefficients, frequencies: FloatArray, *, threads: int = 1) -> LineEquations:
    """The line that each two of the images share, and the equation that it gives for their places.

    Parameters
    ----------
    lines : (r, h, f), from :func:`central_lines`.
    frequencies : (f,), cycles per px.
    threads : the result does not depend on it.

    Frequencies are given equal power, and what all lines have in common is left out of the correlation. Pairs whose
    phases are no small move's are left out. Memory: 4 h^2 r bytes per thread, and 150 r^2.

    Raises InputError when there is not one frequency for each sample of a line.

    >>> rng = np.random.default_rng(0)
    >>> spots = rng.uniform(-6, 6, (2, 5))  # in the plane of x and z
    >>> line = lambda u: np.exp(-2j * np.pi * np.arange(1, 6)[:, None] / 40 * u).sum(axis=1)
    >>> angles = 2 * np.pi / 120 * np.arange(60)
    >>> views = [[line(np.cos(a) * x) for a in angles] for x in spots]  # two views of what lies on an axis
    >>> match_lines(np.array(views, np.complex64), np.arange(1, 6) / 40).first
    array([0])
    """
    if lines.ndim != 3 or frequencies.shape != lines.shape[2:]:
        raise InputError(
            f"lines (r, h, f) need frequencies (f,), got {lines.shape} and {frequencies.shape}; give those at which "
            "the lines were sampled"
        )
    half = lines.shape[1]
    power = np.maximum((np.abs(lines) ** 2).mean(axis=(0, 1)), np.finfo(np.float32).tiny)
    even = lines / np.sqrt(power)
    own = even - even.mean(axis=(0, 1))
    own /= np.maximum(np.linalg.norm(own, axis=2, keepdims=True), np.finfo(np.float32).tiny)
    whole = np.concatenate([own, own.conj()], axis=1)  # the other half of the circle
    flat = np.concatenate([whole.real, whole.imag], axis=2).astype(np.float32)
    best = map_in_order(partial(_most_alike, flat, half), range(len(lines) - 1), threads)
    codes = np.concatenate([*best, np.zeros(0, np.int64)])
    first, second = np.triu_indices(len(lines), 1)
    return _equations(even, frequencies, first, second, codes)


def _most_alike(flat: NDArray[np.float32], half: int, i: int) -> IndexArray:
    """Of image i with each later one: line of the other (whole circle) x half + line of i (half circle)."""
    others = flat[i + 1 :]
    scores = others.reshape(-1, flat.shape[2]) @ flat[i, :half].T
    return scores.reshape(len(others), -1).argmax(axis=1)


def _equations(
    lines: Coefficients, frequencies: FloatArray, first: IndexArray, second: IndexArray, codes: IndexArray
) -> LineEquations:
    """What the phases along the chosen lines say of the places, to first order in them."""
    half = lines.shape[1]
    own, other = codes % half, codes // half
    opposite = lines[second, other % half]
    cross = lines[first, own] * np.where((other < half)[:, None], opposite.conj(), opposite)
    slope = -(frequencies * cross.imag).sum(axis=1)
    curvature = 2 * np.pi * (frequencies**2 * cross.real).sum(axis=1)
    limit = LARGEST_PHASE / (2 * np.pi * frequencies.max(initial=np.finfo(float).tiny))
    kept = np.abs(slope) < limit * curvature
    around = _directions(2 * half)
    return LineEquations(
        first[kept], second[kept], around[own[kept]], around[other[kept]], slope[kept] / curvature[kept]
    )


def _directions(count: int) -> FloatArray:
    angles = 2 * np.pi / count * np.arange(count)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)
