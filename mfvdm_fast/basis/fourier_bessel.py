"""The Fourier-Bessel basis of the paper: J_k on the disc |xi| <= c of Fourier space, through polar resampling."""

from __future__ import annotations

import math
import threading

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.special import jv

from ..errors import ParameterError
from ..kernels.polar import LANES, PolarPlan, gather_rings, real_circles
from ..records import Coefficients, FloatArray, Images, IndexArray
from ..threads import map_in_order, use_threads
from .bessel import bessel_rows, bessel_zeros
from .folded import FoldedBasis, OctantGrid
from .interface import as_images, as_packed, as_transfer, check_disc

_BLOCK = 8 * LANES  # images whose radial products are taken together, always as many: see folded._BLOCK


class FourierBessel:
    """(-i)^k N_kq J_k(R_kq xi/c) e^{ik theta} on |xi| <= c, kept when R_{k,q+1} <= 2 pi c R.

    N_kq = 1 / (c sqrt(pi) |J_{k+1}(R_kq)|), R_kq the q-th zero of J_k.

    Zhao, Shkolnisky & Singer (2016), with the factor i^k carried so that mirroring is plain conjugation.
    ``box_size`` L in pixels, ``radius_px`` R below (L + 1) // 2, ``bandlimit`` c in cycles/px, at most 0.5; pixels
    beyond R are not used. ``expand`` is the inner product with each function (relative error 1e-4), ``evaluate`` its
    adjoint; the functions leak a little out of the disc, so a round trip is good to 2 %. The quadrature takes 4cR + 4
    radii and 16cR angles. Memory: 1/2 byte x (pixels in the disc) x 2P for ``evaluate``, 2 kB x (k_max + 1) x cR work
    space per thread for ``expand``. Raises ParameterError when an argument breaks its rule or no function fits.

    >>> basis = FourierBessel(17, 8.0, 0.25)
    >>> basis.expand(np.zeros((2, 17, 17), np.float32)).shape == (2, basis.n_coefs)
    True
    """

    def __init__(self, box_size: int, radius_px: float, bandlimit: float) -> None:
        check_disc(box_size, radius_px, bandlimit)
        self.box_size, self.radius_px, self.bandlimit = int(box_size), float(radius_px), float(bandlimit)
        zeros = [row[:-1] for row in bessel_zeros(2 * np.pi * self.bandlimit * self.radius_px) if len(row) > 1]
        if not zeros:
            raise ParameterError(
                f"no Fourier-Bessel function fits radius_px {radius_px:g} at bandlimit {bandlimit:g} cycles/px: "
                f"2 pi c R must reach 5.520, raise one of them"
            )
        self.n_radial = tuple(len(row) for row in zeros)
        self.k_max = len(zeros) - 1
        self.offsets: IndexArray = np.concatenate([[0], np.cumsum(self.n_radial)]).astype(np.int64)
        self.n_coefs = int(self.offsets[-1])
        roots = np.concatenate(zeros)
        orders = np.repeat(np.arange(self.k_max + 1), self.n_radial)
        self._prepare_polar(orders, roots)
        grid = OctantGrid.build(self.box_size, self.radius_px)
        radial = _real_space(self.bandlimit, orders, roots, self.offsets, grid.radii)
        self._folded = FoldedBasis(self.box_size, grid, orders, radial, with_projection=False)

    def _prepare_polar(self, orders: IndexArray, roots: FloatArray) -> None:
        c = self.bandlimit
        nodes, weights = np.polynomial.legendre.leggauss(math.ceil(4 * c * self.radius_px) + 4)
        self.radial_nodes: FloatArray = c / 2 * (nodes + 1)
        self._n_theta = 4 * scipy.fft.next_fast_len(math.ceil(4 * c * self.radius_px), real=True)
        pixel = np.arange(self.box_size) - self.box_size // 2
        window = (pixel[:, None] ** 2 + pixel**2 <= self.radius_px**2).astype(np.float32)
        self._plan = PolarPlan(self.box_size, self.radial_nodes, self._n_theta, window)
        root_weight = np.sqrt(np.pi * c * weights * self.radial_nodes)  # sqrt of 2 pi w xi, w = c/2 weights
        rows = bessel_rows(orders, roots / c, self.radial_nodes) * root_weight
        rows /= (c * np.sqrt(np.pi) * np.abs(jv(orders + 1, roots)))[:, None]
        # _radial[k] (p_k, n_r): orthonormal rows; the square root of the quadrature weight is on either side
        self._radial = np.split(rows.astype(np.float32), self.offsets[1:-1])
        self._ring_weight = (root_weight / self._n_theta).astype(np.float32)

    def expand(self, images: Images, threads: int | None = None) -> Coefficients:
        """Coefficients (b, P) complex64 of ``images`` (b, L, L); the same bits for any threads."""
        images = as_images(images, self.box_size)
        packed = np.empty((len(images), self.n_coefs), dtype=np.complex64)
        local = threading.local()

        def one(start: int) -> None:
            if not hasattr(local, "rings"):
                local.rings = np.zeros((self.k_max + 1, len(self.radial_nodes), _BLOCK), dtype=np.complex64)
            rows = slice(start, min(start + _BLOCK, len(images)))
            self._angular_transforms(images[rows], local.rings)
            for k, radial in enumerate(self._radial):
                coefs = (radial @ local.rings[k].view(np.float32)).view(np.complex64)
                if k % 4 in (1, 2):
                    np.negative(coefs, out=coefs)
                packed[rows, self.offsets[k] : self.offsets[k + 1]] = coefs.T[: rows.stop - rows.start]

        with use_threads(threads) as count:
            map_in_order(one, range(0, len(images), _BLOCK), count)
        packed[:, : self.n_radial[0]].imag = 0
        return packed

    def _angular_transforms(self, images: Images, rings: NDArray[np.complex64]) -> None:
        """Fourier coefficients over theta, times the square root of the radial weight, to ``rings`` (k, n_r, b)."""
        circles = np.empty((len(self.radial_nodes), self._n_theta, LANES), dtype=np.float32)
        for rows, samples in self._plan.batches(images):
            real_circles(samples, circles)
            gather_rings(scipy.fft.rfft(circles, axis=1), self._ring_weight, rows.start, rings)

    def evaluate(self, packed: Coefficients, threads: int | None = None) -> Images:
        """Images (b, L, L) float32 of ``packed`` (b, P), from the closed form in real space, zero outside the disc."""
        return self._folded.evaluate(packed, threads)

    def apply_radial(
        self, packed: Coefficients, transfer: NDArray[np.floating], out: Coefficients | None = None
    ) -> Coefficients:
        """Project the filtered functions back: T_k^T diag(w h) T_k, exact to quadrature; ``out`` may be ``packed``."""
        packed = as_packed(packed, self.n_coefs)
        out = np.empty_like(packed) if out is None else out
        transfer = as_transfer(transfer, len(packed), len(self.radial_nodes))
        for k, radial in enumerate(self._radial):
            columns = slice(self.offsets[k], self.offsets[k + 1])
            for part in ("real", "imag") if k else ("real",):
                on_nodes = getattr(packed, part)[:, columns] @ radial
                on_nodes *= transfer
                getattr(out, part)[:, columns] = on_nodes @ radial.T
        out[:, : self.n_radial[0]].imag = 0
        return out


def _real_space(
    bandlimit: float, orders: IndexArray, roots: FloatArray, offsets: IndexArray, radii: FloatArray
) -> FloatArray:
    """2 c sqrt(pi) (-1)^q R_kq J_k(b) / (b^2 - R_kq^2), b = 2 pi c r, at ``radii``: (P, len(radii)); q from 1.

    The inverse Fourier transform of the basis function; at b = R_kq it is -J_{k+1}(R_kq) / 2 R_kq times the constants.
    """
    b = 2 * np.pi * bandlimit * radii
    numerator = bessel_rows(np.arange(orders[-1] + 1), np.full(orders[-1] + 1, 2 * np.pi * bandlimit), radii)[orders]
    q = np.arange(1, len(orders) + 1) - offsets[orders]
    root = roots[:, None]
    gap = b - root
    close = np.abs(gap) < 1e-5
    ratio = np.where(close, -jv(orders + 1, roots)[:, None], numerator / np.where(close, 1.0, gap)) / (b + root)
    return (2 * bandlimit * np.sqrt(np.pi) * (-1.0) ** q * roots)[:, None] * ratio
