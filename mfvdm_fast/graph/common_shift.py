"""Moves that all particles of a view have in common: fields that are smooth over the graph.

A move turns with its image, so conj(x + i y) is a coefficient of k = 1, and smooth fields of moves are combinations of
the leading eigenvectors of the graph at k = 1, with real amplitudes. A move of the particle's origin in space lies in
the first three of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..records import Coefficients, Eigenbasis, FloatArray, IndexArray

Real = NDArray[np.float32]

OF_ORIGIN = 3  # leading modes, about which projections of one object say nothing
REWEIGHTINGS = 4
ROBUST = 1.5  # median absolute residuals, beyond which equations lose their weight
ALIKE = 20.0  # equations say as much as one that is independent: they err alike where lines are near each other


@dataclass(frozen=True)
class CommonMoves:
    """Where the views stand: what is known of it from the shifts of their particles alone."""

    modes: Coefficients  # (n, m): conj(x + i y) of each field at each particle
    expected: FloatArray  # (m,), amplitudes for which what the particles' shifts have in common vanishes
    variance: float  # of these: shifts of separate particles at random reach all modes alike

    @classmethod
    def against(cls, shifts_px: FloatArray, basis: Eigenbasis, degrees: FloatArray) -> CommonMoves:
        """Of views against which particles stand at ``shifts_px`` (n, 2), (x, y).

        Particles are off their centres at random, so the shifts from where the views ought to stand have nothing in
        common but what is left of their mean: as much in each eigenvector as outside of them.

        Raises InputError when the basis is of another frequency or other particles.

        >>> basis = Eigenbasis(1, np.ones(1), np.full((2, 1), 0.5**0.5, np.complex64), np.zeros(1), 1, "converged")
        >>> moves = CommonMoves.against(np.array([[1.0, 5.0], [3.0, -5.0]]), basis, np.ones(2))
        >>> moves.places(moves.expected)[:, 0].round(6).tolist()
        [-2.0, -2.0]
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
        variance = max(float((np.abs(z) ** 2).sum() - (amplitudes**2).sum()) / rest, np.finfo(float).tiny)
        inverse = np.divide(1, root, out=np.zeros_like(root), where=root > 0)
        return cls((basis.vectors * inverse[:, None]).astype(np.complex64), -amplitudes, variance)

    def places(self, amplitudes: FloatArray) -> FloatArray:
        """(n, 2): (x, y) of the field with ``amplitudes`` (m,)."""
        field = self.modes @ amplitudes
        return np.stack([field.real, -field.imag], axis=1)

    def along(self, particles: IndexArray, directions: FloatArray) -> Real:
        """(e, m): what each mode moves ``particles`` (e,) along ``directions`` (e, 2)."""
        modes, (x, y) = self.modes[particles], directions.astype(np.float32).T
        return np.asarray(modes.real * x[:, None] - modes.imag * y[:, None])

    def fit(self, design: Real, offsets: FloatArray, start: FloatArray) -> FloatArray:
        """Amplitudes (m,) by equations ``design`` (e, m) @ amplitudes = ``offsets`` (e,), of which many are wrong.

        Iteratively reweighted least squares (Geman & McClure's weights) from the amplitudes ``start`` (m,), with
        what is expected as Gaussian prior.
        """
        told = design * (np.arange(len(start)) >= OF_ORIGIN).astype(np.float32)
        amplitudes = start if len(offsets) else self.expected
        for _ in range(REWEIGHTINGS if len(offsets) else 0):
            residual = offsets - told @ amplitudes
            scale = ROBUST * float(np.median(np.abs(residual))) + np.finfo(np.float32).tiny
            weight = (1 / (1 + (residual / scale) ** 2)).astype(np.float32) / np.float32(np.sqrt(ALIKE) * scale)
            weighted = told * weight[:, None]
            normal = weighted.T @ weighted + np.eye(len(amplitudes)) / self.variance
            right = weighted.T @ (weight * offsets) + self.expected / self.variance
            amplitudes = np.asarray(np.linalg.solve(normal, right))
        return amplitudes
