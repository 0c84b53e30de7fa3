"""Steerable bases of images on a disc, behind one interface (``SteerableBasis``)."""

from .disk_harmonics import DiskHarmonics
from .fourier_bessel import FourierBessel
from .interface import SteerableBasis

__all__ = ["DiskHarmonics", "FourierBessel", "SteerableBasis"]
