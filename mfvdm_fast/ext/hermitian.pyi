from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

class EdgePattern(Protocol):
    """``pattern.EdgePattern``, ``records.FrequencyGraph`` or anything else with these arrays."""

    @property
    def indptr(self) -> NDArray[np.int64]: ...
    @property
    def indices(self) -> NDArray[np.int64]: ...
    @property
    def mirrored(self) -> NDArray[np.bool_]: ...
    @property
    def angles(self) -> NDArray[np.float64]: ...
    @property
    def weights(self) -> NDArray[np.float64]: ...
    @property
    def degrees(self) -> NDArray[np.float64]: ...

# data, indices, indptr: the order that scipy.sparse.csr_array takes
Csr = tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]

def fill_values(
    pattern: EdgePattern, k: int, *, dtype: DTypeLike = ..., out: NDArray[Any] | None = None, threads: int = 1
) -> NDArray[Any]: ...
def fill_zero_frequency(
    pattern: EdgePattern,
    *,
    mirror_sign: int = 1,
    dtype: DTypeLike = ...,
    out: NDArray[Any] | None = None,
    threads: int = 1,
) -> NDArray[Any]: ...
def assemble_o2(pattern: EdgePattern, k: int, *, dtype: DTypeLike = ..., threads: int = 1) -> Csr: ...
def assemble_hermitian(pattern: EdgePattern, k: int, *, dtype: DTypeLike = ..., threads: int = 1) -> Csr: ...
