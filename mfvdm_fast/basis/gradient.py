"""The gradient of images, taken in their disk harmonics: what a small move adds to the coefficients."""

from __future__ import annotations

import numpy as np

from ..records import Coefficients, FloatArray
from .interface import SteerableBasis, as_packed


def gradient(packed: Coefficients, basis: SteerableBasis) -> tuple[Coefficients, Coefficients]:
    """Coefficients (b, P) of the derivatives along x and along y, per pixel of the basis' grid, of ``packed`` (b, P).

    (d/dx + i d/dy) J_k(a r) e^{ik theta} = -a J_{k+1}(a r) e^{i(k+1) theta} reaches the neighbouring frequency only.
    On the disc of radius R its inner product with the function of zero b R of J_{k+1} is, by Lommel's integral,
    (-1)^{q+q'} 2 a b / (R (a^2 - b^2)); d/dx - i d/dy is minus the adjoint. The basis must be the disk harmonics.
    What a move by s pixels adds is -s_x times the first and -s_y times the second.

    >>> import numpy as np
    >>> from .disk_harmonics import DiskHarmonics
    >>> basis = DiskHarmonics(33, 15.0, 0.2)
    >>> ramp = np.exp(-((np.mgrid[-16:17, -16:17] - 2.0) ** 2).sum(axis=0) / 18)[None].astype(np.float32)
    >>> along_x, along_y = gradient(basis.expand(ramp), basis)
    >>> bool(np.abs(basis.evaluate(along_x)[0, 18, 16:21] - np.gradient(ramp[0, 18])[16:21]).max() < 0.01)
    True
    """
    packed = as_packed(packed, basis.n_coefs)
    along_x, along_y = np.zeros_like(packed), np.zeros_like(packed)
    for k in range(basis.k_max):
        low, high = (slice(int(basis.offsets[f]), int(basis.offsets[f + 1])) for f in (k, k + 1))
        raised = _raise(basis, low, high).astype(np.float32)
        upwards, downwards = packed[:, low] @ raised.T, packed[:, high] @ raised
        along_x[:, high] += 0.5 * upwards
        along_y[:, high] += -0.5j * upwards
        along_x[:, low] -= 0.5 * downwards if k else downwards.real
        along_y[:, low] += -0.5j * downwards if k else downwards.imag
    return along_x, along_y


def _raise(basis: SteerableBasis, low: slice, high: slice) -> FloatArray:
    """(p_{k+1}, p_k): from the coefficients of one frequency to those of the next, under d/dx + i d/dy."""
    a, b = (2 * np.pi * basis.radial_nodes[part] for part in (low, high))
    sign = np.where(np.add.outer(np.arange(len(b)), np.arange(len(a))) % 2, -1.0, 1.0)
    matrix: FloatArray = sign * 2 * a * b[:, None] / (basis.radius_px * (a**2 - b[:, None] ** 2))
    return matrix
