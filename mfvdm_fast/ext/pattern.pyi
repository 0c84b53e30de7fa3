from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

HAS_OPENMP: bool

class EdgePattern(NamedTuple):
    indptr: NDArray[np.int64]
    indices: NDArray[np.int64]
    mirrored: NDArray[np.bool_]
    angles: NDArray[np.float64]
    weights: NDArray[np.float64]
    degrees: NDArray[np.float64]

def build_pattern(
    indices: ArrayLike, mirrored: ArrayLike, angles: ArrayLike, weights: ArrayLike | None = None, *, threads: int = 1
) -> EdgePattern: ...
