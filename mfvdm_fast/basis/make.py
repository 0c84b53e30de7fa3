"""The steerable bases by name."""

from __future__ import annotations

from ..checks import check_choice, check_kind
from ..records import DiskSupport
from .disk_harmonics import DiskHarmonics
from .fourier_bessel import FourierBessel
from .interface import SteerableBasis

BASES: dict[str, type[DiskHarmonics] | type[FourierBessel]] = {
    "disk_harmonics": DiskHarmonics,
    "fourier_bessel": FourierBessel,
}


def make_basis(name: str, box_size: int, support: DiskSupport) -> SteerableBasis:
    """The basis ``name`` for a box and the support of the particle.

    Raises ParameterError when there is none of that name, or the support does not fit the box.

    >>> make_basis("disk_harmonics", 33, DiskSupport(14.0, 0.25)).k_max > 0
    True
    """
    check_kind("support", support, DiskSupport, "as in DiskSupport(radius_px=14, bandlimit=0.25)")
    return BASES[check_choice("basis", name, tuple(BASES))](box_size, support.radius_px, support.bandlimit)
