"""Nearest neighbours over all pairs, exactly: by rotation-invariant correlation, and by multi-frequency affinity."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..kernels.affinity import nearest_by_affinity
from ..kernels.distance import nearest_by_rotation
from ..records import BoolArray, FloatArray, IndexArray, NeighborTable, SteerableCoefficients
from ..threads import use_threads
from .align import align_pairs
from .features import check_features, check_n_neighbors

Report = Callable[[int, int], None]

SPARE, SPARE_PART = 4, 8  # candidates beyond K: 4 + K / 8, so that the grid of angles does not decide who is in


def _with_spare(count: int, n_particles: int) -> int:
    return min(count + SPARE + count // SPARE_PART, 2 * (n_particles - 1))


def search_neighbors(
    features: SteerableCoefficients, n_neighbors: int, *, threads: int | None = None, progress: Report | None = None
) -> NeighborTable:
    """The most similar particles of each one, whatever their in-plane rotation, plain and mirrored.

    The score of a pair is max over alpha of Re[C_0 + 2 sum_k C_k exp(i k alpha)] (SCIENCE.md section 3): for features
    of norm 1 the correlation, and 2 - 2 score the squared rotation-invariant distance. All pairs are compared, at
    ``kernels.distance.grid_size(k_max)`` (at least 4 k_max) angles; the best of these, K and some more, are aligned
    exactly, and the K of largest exact score are kept. (j plain) and (j mirrored) are different candidates; ties go to
    the smaller j, then to the plain one. No n x n array is held: the extra memory is about five times that of the
    features, and 60 n K bytes.

    Parameters
    ----------
    features : n particles; frequency 0 is real. Taken as they are: give them norm 1.
    n_neighbors : K, fewer than n.
    threads : all cores this process may use when left out; the result does not depend on it.
    progress : called as ``progress(done, total)``.

    Raises
    ------
    InputError
        When the features are not finite or do not fit their offsets.
    ParameterError
        When there are not more than K particles.

    Examples
    --------
    >>> import numpy as np
    >>> from mfvdm_fast.records import SteerableCoefficients
    >>> b = np.array([[1, np.exp(-0.5j), 1j * np.exp(-1j)], [1, 1, 1j], [1, 1, -0.5j]], np.complex64)
    >>> table = search_neighbors(SteerableCoefficients(b, np.array([0, 1, 2, 3])), 1)
    >>> table.indices.ravel(), table.mirrored.ravel(), table.angles.ravel().round(3)
    (array([1, 0, 1]), array([False, False,  True]), array([ 0.5, -0.5,  0. ]))
    """
    packed, offsets = check_features(features)
    count = check_n_neighbors(n_neighbors, len(packed))
    with use_threads(threads):
        _, codes = nearest_by_rotation(packed, offsets, _with_spare(count, len(packed)), progress)
    angles, scores = align_pairs(features, codes // 2, codes % 2 == 1, threads=threads)
    order = np.lexsort((codes, -scores), axis=1)[:, :count]
    codes = np.take_along_axis(codes, order, axis=1)
    angles, scores = np.take_along_axis(angles, order, axis=1), np.take_along_axis(scores, order, axis=1)
    return NeighborTable(codes // 2, codes % 2 == 1, angles, scores)


def search_affinity(
    features: SteerableCoefficients, n_neighbors: int, *, threads: int | None = None, progress: Report | None = None
) -> tuple[IndexArray, BoolArray, FloatArray]:
    """The particles of largest affinity A(i, j) = sum_k |C_k(i, j)|^2 (Eq. 7), plain and mirrored.

    C_k(i, j) = sum_l v_k,l(i) conj(v_k,l(j)) (plain) or sum_l v_k,l(i) v_k,l(j) (mirrored). With v_k(i) =
    lambda^t u(i) / sqrt(z_k(i, i)) it is the affinity of the paper without its m^2-long features. The angles come from
    :func:`mfvdm_fast.neighbors.align.align_pairs` with the features before the division. Ties, memory, errors and
    parameters as in :func:`search_neighbors`.

    Returns
    -------
    indices : (n, K) int64. mirrored : (n, K) bool. affinities : (n, K) float64, descending, accurate to float32.

    Examples
    --------
    >>> import numpy as np
    >>> from mfvdm_fast.records import SteerableCoefficients
    >>> v = np.array([[1, 1j], [1, -0.9j], [0, 1]], np.complex64)
    >>> indices, mirrored, affinities = search_affinity(SteerableCoefficients(v, np.array([0, 0, 2])), 1)
    >>> indices.ravel(), mirrored.ravel(), affinities.ravel().round(2)
    (array([1, 0, 0]), array([ True,  True, False]), array([3.61, 3.61, 1.  ]))
    """
    packed, offsets = check_features(features)
    count = check_n_neighbors(n_neighbors, len(packed))
    with use_threads(threads):
        scores, codes = nearest_by_affinity(packed, offsets, count, progress)
    return codes // 2, codes % 2 == 1, scores.astype(np.float64)
