"""What the main job gives back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .basis.interface import SteerableBasis
from .basis.steerable_pca import expand_components
from .imaging.noise import relative_power
from .imaging.resample import resample_images
from .records import (
    DiskSupport,
    FloatArray,
    Images,
    IndexArray,
    NeighborTable,
    NoiseModel,
    SteerableCoefficients,
    SteerablePCA,
)
from .restore.ctf_division import interpolate_transfer, transfer_grid
from .threads import use_threads


@dataclass(frozen=True)
class DenoiseResult:
    """What :func:`mfvdm_fast.denoise` found. Images are synthesised when asked for: no stack is held whole.

    Attributes
    ----------
    neighbors : the refined table, ``scores`` being the affinity; the initial one without refinement.
    initial_neighbors : the table of the exact rotation-invariant search.
    eigenvalues : per angular frequency k of the restoration graph, descending.
    box_size : of the images, L.
    basis, pca : in which the particles are restored; the basis of a large box has a coarser grid of its own.
    coordinates : restored coordinates in the principal components, before the CTF is divided out.
    transfer : (n, f), what is divided out (Eq. 13): |CTF| filtered as the images were; None without CTF.
    noise, support : what was estimated.
    whitened : whether the noise was whitened on the way.
    seconds : wall-clock time per stage.
    threads : used, and to be used by :meth:`images`.
    """

    neighbors: NeighborTable
    initial_neighbors: NeighborTable
    eigenvalues: dict[int, FloatArray]
    box_size: int
    basis: SteerableBasis
    pca: SteerablePCA
    coordinates: SteerableCoefficients
    transfer: NDArray[np.float32] | None
    noise: NoiseModel
    support: DiskSupport
    whitened: bool
    seconds: dict[str, float]
    threads: int

    @property
    def ctf_corrected(self) -> bool:
        return self.transfer is not None

    def images(self, rows: IndexArray | slice = slice(None)) -> Images:
        """Denoised particles (b, L, L) float32 in the units of the input, background 0; all without ``rows``."""
        with use_threads(self.threads):
            packed = expand_components(self.coordinates.packed[rows], self.basis.offsets, self.pca)
            nodes = self.basis.radial_nodes
            factor = np.sqrt(relative_power(self.noise, nodes * self.basis.box_size / self.box_size))[None, :]
            if self.transfer is not None:
                grid = transfer_grid(self.basis.bandlimit, self.basis.box_size)
                factor = factor / interpolate_transfer(self.transfer[rows], grid, nodes)
            images = self.basis.evaluate(self.basis.apply_radial(packed, factor), threads=self.threads)
            return resample_images(images, self.box_size, self.threads)
