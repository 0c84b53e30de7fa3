"""What every steerable basis offers (one contract test runs for all of them), and what every one accepts."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import as_number, check_images, check_numbers, check_whole
from ..errors import InputError, ParameterError
from ..records import Coefficients, FloatArray, Images, IndexArray


@runtime_checkable
class SteerableBasis(Protocol):
    """Images on a disc as coefficients that a rotation by alpha multiplies by exp(-i k alpha) and a mirror conjugates.

    White pixel noise of variance s^2 gives E|noise|^2 = s^2 per coefficient. ``packed`` is laid out as in
    ``records.SteerableCoefficients``: frequency k in columns ``offsets[k]:offsets[k + 1]``, k = 0 real.
    """

    box_size: int  # L, pixels
    radius_px: float  # R, pixels
    bandlimit: float  # c, cycles/px
    k_max: int
    n_radial: tuple[int, ...]  # p_k
    offsets: IndexArray  # (k_max + 2,)
    n_coefs: int  # P = sum p_k
    radial_nodes: FloatArray  # cycles/px: where ``apply_radial`` wants its transfer function

    def expand(self, images: Images, threads: int | None = None) -> Coefficients:
        """``images`` (b, L, L) -> ``packed`` (b, P) complex64."""

    def evaluate(self, packed: Coefficients, threads: int | None = None) -> Images:
        """``packed`` (b, P) -> images (b, L, L) float32, zero outside the disc."""

    def apply_radial(
        self, packed: Coefficients, transfer: NDArray[np.floating], out: Coefficients | None = None
    ) -> Coefficients:
        """Multiply by a radial Fourier filter, ``transfer`` (b or 1, len(radial_nodes)) at ``radial_nodes``."""


def check_disc(box_size: int, radius_px: float, bandlimit: float) -> None:
    """Raise ParameterError unless the disc lies in the box and the bandlimit in (0, 0.5]."""
    largest = (check_whole("box_size", box_size, 3, "use larger images") - 1) // 2
    if not 1 <= as_number(radius_px) < largest + 1:
        raise ParameterError(
            f"radius_px must be at least 1 and below {largest + 1} for box_size {box_size}, got {radius_px!r}; "
            f"the largest whole radius is {largest}"
        )
    if not 0 < as_number(bandlimit) <= 0.5:
        raise ParameterError(
            f"bandlimit must be above 0 and at most 0.5 cycles/px (Nyquist), got {bandlimit!r}; "
            f"multiply 1/Å by the pixel size"
        )


def as_images(images: ArrayLike, box_size: int) -> Images:
    """``images`` as a contiguous float32 array (b, L, L); raises InputError for another box, or no finite numbers."""
    array = check_images("images", images)
    if array.shape[1] != box_size:
        raise InputError(
            f"images must have shape (n, {box_size}, {box_size}) for this basis, got {array.shape}; "
            f"make a basis for the box size of the images"
        )
    return array


def as_packed(packed: ArrayLike, n_coefs: int) -> Coefficients:
    """``packed`` as a contiguous complex64 array (b, P); raises InputError when P is another."""
    array = np.ascontiguousarray(check_numbers("packed", packed, "fiubc"), dtype=np.complex64)
    if array.ndim != 2 or array.shape[1] != n_coefs:
        raise InputError(
            f"packed must have shape (n, {n_coefs}) for this basis, got {array.shape}; "
            f"coefficients belong to the basis that made them"
        )
    return array


def as_transfer(transfer: ArrayLike, n_images: int, n_nodes: int) -> NDArray[np.float32]:
    """``transfer`` as float32 (1 or b, n_nodes); raises InputError when it fits neither images nor radial nodes."""
    array = np.atleast_2d(np.asarray(check_numbers("transfer", transfer), dtype=np.float32))
    if array.ndim != 2 or array.shape[0] not in (1, n_images) or array.shape[1] != n_nodes:
        raise InputError(
            f"transfer must have shape (1 or {n_images}, {n_nodes}), got {array.shape}; "
            f"sample the filter at radial_nodes"
        )
    return array
