"""From eigenbases to the features whose inner products are the multi-frequency affinity (Eqs. 5-9 of arXiv:1904.07772).

z_k(i, j) = sum_l lambda_l^{2t} u_l(i) conj(u_l(j)) for plain pairs, without the conjugate for mirrored ones. With
v_k(i) = lambda^t u(i) it is the inner product C_k of the rotation-invariant search, so that the search kernel serves
both: A(i, j) = sum_k |z_k(i, j)|^2 / (z_k(i, i) z_k(j, j)) needs neither m^2-long features nor 2n nodes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import ParameterError
from ..records import Eigenbasis, FloatArray, NeighborTable, SteerableCoefficients

WEAK_NODE = 0.1  # of the median of z_k(i, i): below it, a node would look like everyone's neighbour


def diffusion_features(bases: Sequence[Eigenbasis], diffusion_time: int = 1) -> SteerableCoefficients:
    """v_k = lambda^t u for k = 1 .. k~, packed; k = 0 is empty.

    Parameters
    ----------
    bases : the eigenbases of frequencies 1, 2, ... k~, in this order.
    diffusion_time : t in Eq. 5; at least 1.

    Raises
    ------
    ParameterError
        When the frequencies do not run 1, 2, ... or t < 1.

    Examples
    --------
    >>> import numpy as np
    >>> from mfvdm_fast.records import Eigenbasis
    >>> basis = Eigenbasis(1, np.array([0.5]), np.ones((3, 1), np.complex64), np.zeros(1), 1, "converged")
    >>> diffusion_features([basis])[1].real.ravel().tolist()
    [0.5, 0.5, 0.5]
    """
    if [basis.k for basis in bases] != list(range(1, len(bases) + 1)) or not bases:
        raise ParameterError(f"eigenbases of k = 1, 2, ... are needed in this order, got k = {[b.k for b in bases]}")
    if diffusion_time < 1:
        raise ParameterError(f"the diffusion time must be at least 1, got {diffusion_time}")
    widths = [0] + [basis.n_eigenvectors for basis in bases]
    offsets = np.concatenate([[0], np.cumsum(widths)]).astype(np.int64)
    packed = np.concatenate([b.vectors * (b.values**diffusion_time).astype(np.float32) for b in bases], axis=1)
    return SteerableCoefficients(packed, offsets)


def normalize_features(features: SteerableCoefficients) -> SteerableCoefficients:
    """v_k(i) / sqrt(z_k(i, i)), with z_k(i, i) kept above a tenth of its median over the particles (Eq. 7)."""
    packed = np.empty_like(features.packed)
    for k in range(1, features.k_max + 1):
        v = features[k]
        power: FloatArray = np.einsum("ij,ij->i", v, v.conj()).real.astype(np.float64)
        floor = max(WEAK_NODE * float(np.median(power)), float(np.finfo(np.float32).tiny))
        scale = 1 / np.sqrt(np.maximum(power, floor))
        packed[:, features.offsets[k] : features.offsets[k + 1]] = v * scale[:, None].astype(np.float32)
    return SteerableCoefficients(packed, features.offsets)


def edge_affinity(features: SteerableCoefficients, table: NeighborTable) -> FloatArray:
    """A(i, j) = sum_k |z_k(i, j)|^2 / (z_k(i, i) z_k(j, j)) of the entries of a table (Eq. 7): weights for its edges.

    Parameters
    ----------
    features : from :func:`normalize_features`.
    table : neighbours of the same n particles.

    Returns
    -------
    (n, K) float64, between 0 and k~.

    Examples
    --------
    >>> one = np.ones((2, 1), np.complex64)
    >>> table = NeighborTable(np.array([[1], [0]]), np.zeros((2, 1), bool), np.zeros((2, 1)), np.zeros((2, 1)))
    >>> edge_affinity(SteerableCoefficients(one, np.array([0, 0, 1])), table).tolist()
    [[1.0], [1.0]]
    """
    affinity = np.zeros(table.indices.shape)
    for start in range(0, table.n_particles, 256):
        rows = slice(start, start + 256)
        for k in range(1, features.k_max + 1):
            other = features[k][table.indices[rows]]
            other = np.where(table.mirrored[rows][..., None], other, other.conj())
            affinity[rows] += np.abs(np.einsum("im,ikm->ik", features[k][rows], other)) ** 2
    return affinity
