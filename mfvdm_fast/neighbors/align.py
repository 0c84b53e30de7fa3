"""In-plane angles of given pairs of images."""

from __future__ import annotations

import numpy as np

from ..errors import ParameterError
from ..kernels.pairs import pack_lanes
from ..kernels.peaks import align_lanes
from ..records import BoolArray, FloatArray, IndexArray, SteerableCoefficients
from ..threads import use_threads


def align_pairs(
    features: SteerableCoefficients, indices: IndexArray, mirrored: BoolArray, *, threads: int | None = None
) -> tuple[FloatArray, FloatArray]:
    """Angles (n, K) in (-pi, pi] and scores (n, K) of the pairs (i, indices[i, :])."""
    n = features.n_particles
    if indices.size and (indices.min() < 0 or indices.max() >= n):
        raise ParameterError("index")
    with use_threads(threads):
        lanes = pack_lanes(features.packed, features.offsets, np.arange(features.k_max + 1))
        return align_lanes(lanes, features.k_max, np.ascontiguousarray(indices), np.ascontiguousarray(mirrored))
