"""In-plane angles of given pairs of images, from their steerable features (arXiv:1904.07772, Eq. 9)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..checks import check_numbers
from ..errors import ParameterError
from ..kernels.pairs import pack_lanes
from ..kernels.peaks import align_lanes
from ..records import BoolArray, FloatArray, IndexArray, SteerableCoefficients
from ..threads import use_threads
from .features import check_features


def align_pairs(
    features: SteerableCoefficients, indices: ArrayLike, mirrored: ArrayLike, *, threads: int | None = None
) -> tuple[FloatArray, FloatArray]:
    """Rotation that brings each listed neighbour onto its particle, and the correlation there.

    The angle maximises s(alpha) = Re[C_0 + 2 sum_k C_k exp(i k alpha)], C_k = sum_q b_i,kq conj(b_j,kq), without the
    conjugate when mirrored. The highest peak is found exactly (see ``kernels.peaks``); ties go to the smallest |alpha|.
    Features are taken as they are: unit features give correlations, the unnormalised ones of the graph (with an empty
    frequency 0) give twice the sum of Eq. 9. Extra memory: the features once or twice more.

    Parameters
    ----------
    features : n particles.
    indices : (n, K) neighbours of each particle.
    mirrored : (n, K), whether the neighbour is to be mirrored.
    threads : all cores this process may use when left out; the result does not depend on it.

    Returns
    -------
    angles : (n, K), radians in (-pi, pi], in the convention of :class:`mfvdm_fast.records.NeighborTable`.
    scores : (n, K), the maxima of s.

    Raises
    ------
    InputError
        When the features are not finite or do not fit their offsets.
    ParameterError
        When the tables have the wrong shape, or name a particle that does not exist.

    Examples
    --------
    >>> import numpy as np
    >>> from mfvdm_fast.records import SteerableCoefficients
    >>> b = np.array([[1, np.exp(-0.5j), np.exp(-1j)], [1, 1, 1]], np.complex64)  # image 0 is image 1 turned by 0.5
    >>> pair = SteerableCoefficients(b, np.array([0, 1, 2, 3]))
    >>> angles, scores = align_pairs(pair, [[1], [0]], [[False], [False]])
    >>> angles.ravel().round(4), scores.ravel().round(4)
    (array([ 0.5, -0.5]), array([5., 5.]))
    """
    packed, offsets = check_features(features)
    rows, flags = _check_table(
        check_numbers("indices", indices, error=ParameterError),
        check_numbers("mirrored", mirrored, error=ParameterError),
        len(packed),
    )
    with use_threads(threads):
        lanes = pack_lanes([(packed, None)], offsets)
        return align_lanes(lanes, len(offsets) - 2, rows, flags)


def _check_table(indices: IndexArray, mirrored: BoolArray, n: int) -> tuple[IndexArray, BoolArray]:
    if indices.ndim != 2 or len(indices) != n or indices.shape != mirrored.shape:
        raise ParameterError(
            f"indices and mirrored must both have shape ({n}, K), got {indices.shape} and {mirrored.shape}; "
            "give one row per particle"
        )
    if indices.dtype.kind not in "iu" or mirrored.dtype.kind != "b":
        raise ParameterError(
            f"indices must be whole numbers and mirrored True or False, got {indices.dtype} and {mirrored.dtype}"
        )
    outside = np.argwhere((indices < 0) | (indices >= n))
    if len(outside):
        row, column = outside[0]
        raise ParameterError(
            f"indices[{row}, {column}] is {indices[row, column]}, but particles are numbered 0 to {n - 1}; "
            "give the features that the table was made from"
        )
    return np.ascontiguousarray(indices, np.int64), np.ascontiguousarray(mirrored)
