"""The part of the particles' shifts that belongs to the views: a move of the particle's origin, which means nothing."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from ..records import Eigenbasis, FloatArray

WHOLE = (
    24  # leading eigenvectors, on the sphere those of degrees 1 to 4, of which all is taken for a move of the origin
)
BAND = 12  # of the others, in each of which they are as large as one another


def common_shift(shifts_px: FloatArray, basis: Eigenbasis, degrees: FloatArray) -> FloatArray:
    """What of ``shifts_px`` (n, 2), (x, y), is smooth over the graph: (n, 2).

    A shift turns with its image, so conj(x + i y) is a coefficient of k = 1, and a move of the particle's origin in
    space lies in the leading eigenvectors of the graph at k = 1. So does most of what estimates of shifts have in
    common that share neighbours. Shifts of separate particles are at random, and reach all eigenvectors alike, with
    the variance that is found outside of them: what a band of eigenvectors has beyond that is smooth (empirical Bayes,
    the positive part of James & Stein's estimate). Subtracting it leaves the images of each view where they stood on
    average.

    Raises InputError when the basis is of another frequency or other particles.

    >>> basis = Eigenbasis(1, np.ones(1), np.full((2, 1), 0.5**0.5, np.complex64), np.zeros(1), 1, "converged")
    >>> common_shift(np.array([[1.0, 5.0], [3.0, -5.0]]), basis, np.ones(2))[:, 0].round(6).tolist()
    [2.0, 2.0]
    """
    if basis.k != 1 or basis.vectors.shape[0] != len(shifts_px) or degrees.shape != (len(shifts_px),):
        raise InputError(
            f"{len(shifts_px)} shifts need an eigenbasis of k = 1 and as many particles, got k = {basis.k} and "
            f"{len(basis.vectors)} particles, {len(degrees)} degrees"
        )
    root = np.sqrt(degrees)
    z = (shifts_px[:, 0] - 1j * shifts_px[:, 1]) * root
    amplitudes = (basis.vectors.conj() * z[:, None]).real.sum(axis=0)
    rest = max(2 * len(z) - len(amplitudes), 1)
    at_random = max(float((np.abs(z) ** 2).sum() - (amplitudes**2).sum()) / rest, 0.0)
    smooth = np.divide(
        basis.vectors @ _shrink(amplitudes, at_random), root, out=np.zeros(len(z), complex), where=root > 0
    )
    return np.stack([smooth.real, -smooth.imag], axis=1)


def _shrink(amplitudes: FloatArray, variance: float) -> FloatArray:
    """Amplitudes (m,) less what of them is at random with ``variance``."""
    shrunk = amplitudes.copy()
    for start in range(WHOLE, len(amplitudes), BAND):
        band = slice(start, start + BAND)
        power = float(np.mean(amplitudes[band] ** 2))
        shrunk[band] *= max(1 - variance / power, 0.0) if power > 0 else 0.0
    return shrunk
