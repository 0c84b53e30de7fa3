"""What real stacks have and ideal ones have not: a spread of defocus, uneven contrast, coloured noise, junk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import check_numbers
from .errors import ParameterError
from .records import FloatArray, IndexArray

#: What ``junk_kind`` counts from 1 on; 0 is a particle as it should be.
JUNK_KINDS = ("empty", "off-centre", "contaminated")
EMPTY, OFF_CENTRE, CONTAMINATED = 1, 2, 3

_BLOBS = (1, 3)  # contaminations in one image, least and most
_BLOB_SIGMA = (0.04, 0.10)  # of the box
_BLOB_PEAK = (2.0, 5.0)  # over the brightest pixel of a clean projection


@dataclass(frozen=True)
class DefocusList:
    """Defocus values that particles draw from. Make it with :func:`make_defocus_list`."""

    defocus_u_angstrom: FloatArray  # (g,), positive for underfocus
    defocus_v_angstrom: FloatArray  # (g,)
    defocus_angle: FloatArray  # (g,), radians, from +x towards +y
    share: FloatArray  # (g,), of all particles; sums to 1

    def __len__(self) -> int:
        return len(self.share)


def make_defocus_list(
    defocus_u_angstrom: ArrayLike,
    defocus_v_angstrom: ArrayLike | None = None,
    defocus_angle: ArrayLike | None = None,
    weight: ArrayLike | None = None,
) -> DefocusList:
    """The defocus values of a session, all of shape (g,); ``weight`` may be the number of particles of each.

    Without ``defocus_v_angstrom`` there is no astigmatism; the angle is in radians. Raises ParameterError.

    >>> make_defocus_list([1e4, 2e4], weight=[1, 3]).share.tolist()
    [0.25, 0.75]
    """
    u = np.atleast_1d(check_numbers("defocus_u_angstrom", defocus_u_angstrom, error=ParameterError))
    given: dict[str, ArrayLike] = {
        "defocus_u_angstrom": u,
        "defocus_v_angstrom": u if defocus_v_angstrom is None else defocus_v_angstrom,
        "defocus_angle": np.zeros(u.shape) if defocus_angle is None else defocus_angle,
        "weight": np.ones(u.shape) if weight is None else weight,
    }
    columns = {name: check_numbers(name, values, error=ParameterError).astype(float) for name, values in given.items()}
    for name, values in columns.items():
        if values.shape != u.shape or values.ndim != 1 or not values.size:
            raise ParameterError(
                f"{name} must have one value for each of the {u.size} defocus values (at least 1), "
                f"got shape {values.shape}"
            )
        if not np.isfinite(values).all():
            raise ParameterError(f"{name}[{int(np.argmin(np.isfinite(values)))}] is not finite; leave that row out")
    total = columns["weight"].sum()
    if (columns["weight"] < 0).any() or not total > 0:
        raise ParameterError("weight must be 0 or more everywhere and above 0 somewhere; give numbers of particles")
    columns["share"] = columns.pop("weight") / total
    return DefocusList(**columns)


def draw_groups(share: FloatArray, count: int, rng: np.random.Generator) -> IndexArray:
    """Entries (count,) of a list, drawn with the given shares; the first ones do not depend on ``count``."""
    edges = np.cumsum(share)
    return np.searchsorted(edges / edges[-1], rng.random(count), side="right").astype(np.int64)


def draw_contrast(std: float, count: int, rng: np.random.Generator) -> FloatArray:
    """Log-normal factors (count,) of mean 1 and the given standard deviation; exactly 1 for 0."""
    log_variance = np.log1p(std**2)
    return np.exp(np.sqrt(log_variance) * rng.standard_normal(count) - 0.5 * log_variance)


def draw_junk(fraction: float, count: int, rng: np.random.Generator) -> IndexArray:
    """Kinds (count,) of junk, each equally often, 0 for good particles; the first do not depend on ``count``."""
    position = rng.random(count)
    kind = 1 + np.floor(position / max(fraction, 1e-300) * len(JUNK_KINDS))
    return np.where(position < fraction, np.minimum(kind, len(JUNK_KINDS)), 0).astype(np.int64)


def off_centre_shifts(box_size: int, count: int, rng: np.random.Generator) -> FloatArray:
    """Shifts (count, 2) by half a box in random directions: what leaves on one side comes in on the other.

    That is what is picked between two neighbours: parts of particles at the edges and nothing in the middle.
    """
    angle = 2 * np.pi * rng.random(count)
    return 0.5 * box_size * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def contamination_transform(box_size: int, brightness: float, rng: np.random.Generator) -> NDArray[np.complex64]:
    """rfft2 (L, L // 2 + 1) of one to three bright Gaussian blobs anywhere in the box, several times ``brightness``.

    >>> blobs = np.fft.irfft2(contamination_transform(32, 1.0, np.random.default_rng(0)), s=(32, 32))
    >>> bool(blobs.max() > 1.5)
    True
    """
    fy, fx = np.fft.fftfreq(box_size)[:, None], np.fft.rfftfreq(box_size)[None, :]
    out = np.zeros((box_size, box_size // 2 + 1), np.complex128)
    for _ in range(rng.integers(_BLOBS[0], _BLOBS[1] + 1)):
        sigma = box_size * rng.uniform(*_BLOB_SIGMA)
        peak = brightness * rng.uniform(*_BLOB_PEAK)
        x, y = rng.uniform(0, box_size, 2)
        waves = [np.exp(-2 * (np.pi * sigma * f) ** 2 - 2j * np.pi * f * at) for f, at in ((fy, y), (fx, x))]
        out += 2 * np.pi * sigma**2 * peak * waves[0] * waves[1]
    out[np.hypot(fy, fx) >= 0.5] = 0  # as the projections
    return out.astype(np.complex64)


def noise_filter(box_size: int, falloff: float) -> NDArray[np.float32]:
    """Square root (L, L // 2 + 1) of a noise spectrum that falls exponentially, for rfft2 of white noise.

    The power at frequency 0 is ``falloff`` times that at half a cycle per pixel and beyond; its mean over all
    frequencies, and so the variance of a pixel, is 1.

    >>> shape = noise_filter(16, 4.0) ** 2
    >>> round(float(shape[0, 0] / shape[0, 8]), 5)
    4.0
    """
    fy, fx = np.fft.fftfreq(box_size)[:, None], np.fft.rfftfreq(box_size)[None, :]
    full = falloff ** (-2 * np.minimum(np.hypot(fy, np.fft.fftfreq(box_size)[None, :]), 0.5))
    power = falloff ** (-2 * np.minimum(np.hypot(fy, fx), 0.5)) / full.mean()
    return np.sqrt(power).astype(np.float32)
