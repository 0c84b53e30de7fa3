"""CTF correction of the published method: the filtered image divided by the equally filtered |CTF| (Eqs. 12-13)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..records import Eigenbasis, FloatArray
from .spectral import apply_spectral_filter

# |CTF| starts at the amplitude contrast (0.07-0.1 in practice): a floor near that would destroy the low frequencies.
SMALLEST_TRANSFER = 0.02


def filter_transfer(
    transfer: NDArray[np.floating], basis: Eigenbasis, degrees: FloatArray, spectral_filter: str = "2λ-λ²"
) -> NDArray[np.float32]:
    """The |CTF| that a particle has after Algorithm 2: its own and its neighbours', mixed as the images were (Eq. 12).

    Parameters
    ----------
    transfer : (n, f), |CTF| of each particle at f radial frequencies.
    basis : eigenbasis of k = 0.
    degrees : (n,), node degrees of the graph.
    spectral_filter : as for the images.

    Returns
    -------
    (n, f) float32, at least SMALLEST_TRANSFER.

    Examples
    --------
    >>> import numpy as np
    >>> from mfvdm_fast.records import Eigenbasis
    >>> u = np.full((2, 1), 0.5**0.5, np.complex64)
    >>> basis = Eigenbasis(0, np.array([1.0]), u, np.zeros(1), 1, "converged")
    >>> filter_transfer(np.array([[0.2], [0.6]]), basis, np.ones(2)).astype(float).round(6).ravel().tolist()
    [0.4, 0.4]
    """
    filtered = apply_spectral_filter(transfer.astype(np.complex64), basis, degrees, spectral_filter)
    return np.maximum(filtered.real, np.float32(SMALLEST_TRANSFER), dtype=np.float32)


def transfer_grid(bandlimit: float, box_size: int) -> FloatArray:
    """Radial frequencies, cycles/px, at which |CTF| is filtered: steps of 1/(4 L) from 0 to beyond the bandlimit.

    >>> transfer_grid(0.25, 4).tolist()
    [0.0, 0.0625, 0.125, 0.1875, 0.25, 0.3125]
    """
    return np.arange(int(np.ceil(bandlimit * 4 * box_size - 1e-9)) + 2) / (4 * box_size)


def interpolate_transfer(transfer: NDArray[np.floating], grid: FloatArray, frequencies: FloatArray) -> FloatArray:
    """Linear interpolation of each row of ``transfer`` (b, f) from ``grid`` (f,) to ``frequencies`` (P,): (b, P).

    >>> interpolate_transfer(np.array([[0.0, 1.0, 0.0]]), np.array([0.0, 0.1, 0.2]), np.array([0.05, 0.2])).tolist()
    [[0.5, 0.0]]
    """
    position = np.interp(frequencies, grid, np.arange(len(grid)))
    left = np.minimum(position.astype(np.int64), len(grid) - 2)
    share = position - left
    return transfer[:, left] * (1 - share) + transfer[:, left + 1] * share
