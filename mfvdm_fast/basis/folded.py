"""Dense products with functions f_kq(r) e^{ik theta} on the square grid, folded by the grid's eight symmetries.

cos and sin columns with k = 0 or 2 (mod 4) need one eighth of the pixels, those with odd k one quarter; together 3/16
of the flops of the plain product, exactly. The sine columns of odd k are the cosine columns on the transposed image.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import ssyrk
from scipy.linalg.lapack import dpotrf, dpotri

from ..errors import ParameterError
from ..kernels.fold import fold_images, pack_coefficients, unfold_images, unpack_coefficients
from ..records import Coefficients, FloatArray, Images, IndexArray
from ..threads import map_in_order, use_threads
from .interface import as_images, as_packed

# Images per product, the last block padded: BLAS adds in an order that depends on the shapes, which are thus always the
# same, and an image's bits depend neither on threads nor on the images beside it.
_BLOCK = 128
_Work = Callable[[slice, NDArray[np.float32], NDArray[np.float32]], None]


@dataclass(frozen=True)
class OctantGrid:
    """Pixels (x, y), 0 <= y <= x, r <= radius, of a box; each stands for its eight mirror images."""

    pixels: IndexArray  # (8, m) flat indices, in the order of kernels.fold
    weights: FloatArray  # (m,) 1 / number of symmetries that leave the pixel in place
    angles: FloatArray  # (m,) theta in [0, pi/4]
    radii: FloatArray  # (d,) the distinct radii, ascending
    ring: IndexArray  # (m,) radii[ring] is each pixel's radius

    @classmethod
    def build(cls, box_size: int, radius_px: float) -> OctantGrid:
        half = min(int(radius_px), (box_size - 1) // 2)
        y, x = np.nonzero(np.tri(half + 1, dtype=bool).T)
        inside = x * x + y * y <= radius_px * radius_px
        x, y = x[inside], y[inside]
        squares, ring = np.unique(x * x + y * y, return_inverse=True)
        moves = [(x, y), (-x, y), (x, -y), (-x, -y), (y, x), (y, -x), (-y, x), (-y, -x)]
        pixels = np.array([(b + box_size // 2) * box_size + a + box_size // 2 for a, b in moves], dtype=np.int64)
        weights = np.where(x == 0, 0.125, np.where((y == 0) | (x == y), 0.5, 1.0))
        return cls(pixels, weights, np.arctan2(y, x), np.sqrt(squares), ring.astype(np.int64))


class FoldedBasis:
    """Synthesis sum_kq 2 Re(coef_kq f_kq(r) e^{ik theta}) (k = 0 once) and, if asked for, projection onto its span.

    ``radial`` (P, d) float64 is f_kq at ``grid.radii``, ``orders`` (P,) int64 the k of each column, ascending from 0.
    The projection is by least squares: the dual basis is made at construction, one Cholesky factor per symmetry class.
    Memory for synthesis, and again for projection: 1/2 byte x (pixels in the disc) x (2P - p_0); work
    space per thread: 512 bytes x (pixels in the disc + 2P).
    """

    def __init__(
        self, box_size: int, grid: OctantGrid, orders: IndexArray, radial: FloatArray, *, with_projection: bool
    ) -> None:
        self.box_size = box_size
        self.n_coefs = len(orders)
        self._grid = grid
        self._projection: list[NDArray[np.float32]] = []
        self._synthesis: list[NDArray[np.float32]] = []
        self._parts: list[slice] = []  # where in the 8 * m folded values
        self._outputs: list[slice] = []  # where in the real coefficients
        self._columns = np.zeros((2, self.n_coefs), dtype=np.int64)
        self._signs = np.where(orders == 0, 0.0, np.where(orders % 4 == 1, -1.0, 1.0)).astype(np.float32)
        radial = radial.astype(np.float32)
        m = len(grid.weights)
        even, half, odd = (np.flatnonzero(orders % n == r) for n, r in ((4, 0), (4, 2), (2, 1)))
        # (columns, 0 for cos or 1 for sin, first folded part); odd k: cos, and by the transposed image also sin
        classes = [(even, 0, 0), (half, 0, 1), (half, 1, 2), (even[orders[even] > 0], 1, 3), (odd, 0, 4)]
        start = 0
        for columns, trig, part in classes:
            if not len(columns):
                continue
            basis = _class_rows(grid, orders[columns], radial[columns], trig)
            width = basis.shape[1]
            dual = _dual(basis, np.tile(grid.weights, width // m), 8 * m // width) if with_projection else None
            for twin in range(width // m):
                self._parts.append(slice(part * m + twin * width, part * m + (twin + 1) * width))
                self._outputs.append(slice(start, start + len(columns)))
                self._columns[trig + twin, columns] = np.arange(start, start + len(columns))
                start += len(columns)
                self._synthesis.append(basis)
                self._projection += [] if dual is None else [dual]
        self._n_real = start

    def expand(self, images: Images, threads: int | None = None) -> Coefficients:
        """Coefficients (b, P) complex64 of ``images`` (b, L, L)."""
        flat = as_images(images, self.box_size).reshape(-1, self.box_size * self.box_size)
        packed = np.empty((len(flat), self.n_coefs), dtype=np.complex64)

        def work(rows: slice, folded: NDArray[np.float32], real: NDArray[np.float32]) -> None:
            fold_images(flat[rows], self._grid.pixels, folded)
            wide = folded.reshape(_BLOCK, -1)
            for matrix, part, output in zip(self._projection, self._parts, self._outputs, strict=True):
                np.matmul(wide[:, part], matrix, out=real[:, output])
            pack_coefficients(real, self._columns, self._signs, packed[rows])

        self._run(work, len(flat), threads)
        return packed

    def evaluate(self, packed: Coefficients, threads: int | None = None) -> Images:
        """Images (b, L, L) float32, zero outside the disc, of coefficients ``packed`` (b, P)."""
        packed = as_packed(packed, self.n_coefs)
        images = np.zeros((len(packed), self.box_size * self.box_size), dtype=np.float32)

        def work(rows: slice, folded: NDArray[np.float32], real: NDArray[np.float32]) -> None:
            unpack_coefficients(packed[rows], self._columns, self._signs, real)
            wide = folded.reshape(_BLOCK, -1)
            for matrix, part, output in zip(self._synthesis, self._parts, self._outputs, strict=True):
                np.matmul(real[:, output], matrix, out=wide[:, part])
            unfold_images(folded, self._grid.pixels, images[rows])

        self._run(work, len(packed), threads)
        return images.reshape(-1, self.box_size, self.box_size)

    def _run(self, work: _Work, n_images: int, threads: int | None) -> None:
        """Call ``work(rows, folded, real)`` for blocks, from several Python threads (kernels and BLAS free the GIL)."""
        local = threading.local()

        def one(start: int) -> None:
            if not hasattr(local, "folded"):
                local.folded = np.zeros((_BLOCK, 8, len(self._grid.weights)), np.float32)
                local.real = np.zeros((_BLOCK, self._n_real), np.float32)
            work(slice(start, min(start + _BLOCK, n_images)), local.folded, local.real)

        with use_threads(threads) as count:
            map_in_order(one, range(0, n_images, _BLOCK), count)


def _class_rows(grid: OctantGrid, orders: IndexArray, radial: NDArray[np.float32], trig: int) -> NDArray[np.float32]:
    """(len(orders), m or, for odd k, 2 m): the functions that Re (trig 0) or Im (trig 1) of coefficients multiply."""
    theta, ring = grid.angles, grid.ring
    if orders[0] % 2:  # values at P, then at T = P with x and y swapped
        theta, ring = np.concatenate([theta, np.pi / 2 - theta]), np.concatenate([ring, ring])
    rows = np.empty((len(orders), len(ring)), dtype=np.float32)
    for k in np.unique(orders):
        angular = -2 * np.sin(k * theta) if trig else (2 if k else 1) * np.cos(k * theta)
        rows[orders == k] = radial[orders == k][:, ring] * angular.astype(np.float32)
    return rows


def _dual(basis: NDArray[np.float32], weights: FloatArray, n_images: int) -> NDArray[np.float32]:
    """(pixels, columns): W B^T G^-1, which folded values multiply; G = B (n_images W) B^T is the Gram matrix.

    n_images is the number of mirror images that the grid point of weight 1 stands for in this class.
    """
    root = np.sqrt(weights).astype(np.float32)
    scaled = (basis * root).T
    factor, info = dpotrf(ssyrk(n_images, scaled, trans=1, lower=1).astype(np.float64), lower=1, overwrite_a=1)
    pivots = np.diagonal(factor)
    if info or pivots.min() < 1e-2 * pivots.max():
        raise ParameterError(
            f"the basis functions are not independent on the pixel grid: the Gram matrix of {len(basis)} functions "
            f"is singular to working precision; lower bandlimit or raise radius_px"
        )
    inverse, _ = dpotri(factor, lower=1, overwrite_c=1)
    inverse = inverse.astype(np.float32)
    inverse += np.tril(inverse, -1).T
    dual = scaled @ inverse
    dual *= root[:, None]
    return dual
