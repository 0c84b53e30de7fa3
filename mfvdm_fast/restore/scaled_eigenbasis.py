"""The eigenbasis of a graph as regressors of coefficients, and all sums over particles that amplitudes follow from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..kernels.eigen_rows import add_squares, joint_rows, scaled_rows
from ..records import Eigenbasis, FloatArray, IndexArray
from ..threads import map_in_order
from .wiener import Observation, Real, covariance_of_products, members_of

ROWS = 256  # particles whose rows are in cache together; fixed, so that results do not depend on the number of threads
PIECES = 32  # that all particles make, at least, whatever their classes
SLAB = 2048  # numbers of a matrix of sums that are weighed in one piece


class ScaledEigenbasis:
    """Phi = D^{-1/2} U, columns of unit mean square, in the real form: n rows Re, and n rows Im but for k = 0.

    It is never held: its rows are made of eigenvectors where they are needed, in less time than memory takes to give
    them. A node without edges has a row of zeros.

    >>> basis = Eigenbasis(0, np.ones(1), np.full((2, 1), 0.5, np.complex64), np.zeros(1), 1, "converged")
    >>> (ScaledEigenbasis(basis, np.array([1.0, 0.0])).rows(0, 2) ** 2).astype(float).round(3).ravel().tolist()
    [2.0, 0.0]
    """

    def __init__(self, basis: Eigenbasis, degrees: FloatArray, threads: int = 1) -> None:
        self.n, self.m, self.copies = len(degrees), basis.n_eigenvectors, 2 if basis.k else 1
        self.vectors = np.ascontiguousarray(basis.vectors, np.complex64).view(np.float32)
        inverse = np.divide(1, np.sqrt(degrees), out=np.zeros(self.n), where=degrees > 0)
        self.row_scale = inverse.astype(np.float32)
        size = max(ROWS, -(-self.n // PIECES))

        def square(start: int) -> FloatArray:
            out = np.zeros(self.m)
            add_squares(self.vectors, self.row_scale, start, min(start + size, self.n), self.copies, out)
            return out

        # |x_i|^2 has unit mean over the n particles when z = 1: Re and Im together.
        squares = np.add.reduce(map_in_order(square, range(0, self.n, size), threads)) / (self.copies * self.n)
        self.column_scale = (1 / np.sqrt(np.maximum(squares, np.finfo(np.float32).tiny))).astype(np.float32)

    def rows(self, start: int, stop: int) -> Real:
        """Those of the particles from ``start`` to ``stop``: (copies r, m)."""
        out = np.empty((self.copies, stop - start, self.m), np.float32)
        scaled_rows(self.vectors, self.row_scale, self.column_scale, start, out)
        return out.reshape(-1, self.m)

    def blocks(self) -> list[tuple[int, int]]:
        """First and last particle (not included) of the blocks that rows are best made in."""
        return [(start, min(start + ROWS, self.n)) for start in range(0, self.n, ROWS)]

    def add_products(self, particles: IndexArray, matched: Real, weight: Real, out: Real) -> None:
        """Add J^T J over ``particles`` to ``out`` (m + p + 1, m + p + 1), J = ``weight`` [Phi, w, 1].

        ``matched`` (copies n, p) holds w, ``weight`` (n,). J ends with the 1 at k = 0 alone.
        """
        split, width = matched.reshape(self.copies, self.n, -1), len(out)
        for start in range(0, len(particles), ROWS):
            some = particles[start : start + ROWS]
            joint = np.empty((self.copies, len(some), width), np.float32)
            joint_rows(self.vectors, self.row_scale, self.column_scale, split, weight, some, joint)
            flat = joint.reshape(-1, width)
            out += flat.T @ flat


@dataclass(frozen=True)
class Regression:
    """What the amplitudes of one angular frequency, and their prior, follow from."""

    projected: FloatArray  # (m, p): Phi^T w
    information: Real  # (p, m, m) and more: sum over the classes g of precision_gq Phi_g^T Phi_g
    gram: Real  # (m, m): Phi^T Phi
    covariance: FloatArray  # (p, p) of the clean coefficients
    shift: FloatArray  # (p,): mean of the clean coefficients, besides the one that w is already without
    copies: int  # 2 in the real form, 1 for k = 0


def weigh_sums(
    phi: ScaledEigenbasis, matched: Real, seen: Observation, threads: int, part: IndexArray | None = None
) -> Real:
    """Sums of J^T J over the particles of each class, added up: (q, 1 + p, m + p + 1, m + p + 1) float32.

    J is that of :meth:`ScaledEigenbasis.add_products`, weighed by the root of the trust. Of the 1 + p sums the first is
    the plain one, the one after that of coefficient q is weighed by the precision of each class for it. One reading of
    the eigenvectors gives all of it: products with the data are few columns beside those of the Gram matrix.

    ``part`` (n,) gives q of them, each without the particles of one part; otherwise there is one, of all particles.
    Memory: 4 (q g + 32 q + q p) (m + p)^2 bytes.
    """
    n_parts, n_classes = 1 if part is None else int(part.max()) + 1, len(seen.transfer)
    root = np.ones(phi.n, np.float32) if seen.trust is None else np.sqrt(seen.trust).astype(np.float32)
    group = seen.group if part is None else n_classes * part + seen.group
    size = max(ROWS, -(-phi.n // PIECES))
    pieces = [
        (number, rows[start : start + size])
        for number, rows in enumerate(members_of(group, n_parts * n_classes))
        for start in range(0, len(rows), size)
    ]
    width = phi.m + matched.shape[1] + (phi.copies == 1)
    products = np.empty((len(pieces), width, width), np.float32)

    def multiply(number: int) -> None:
        products[number] = 0
        phi.add_products(pieces[number][1], matched, root, products[number])

    map_in_order(multiply, range(len(pieces)), threads)
    weights = np.vstack([np.ones(n_classes), seen.precision.T]).astype(np.float32)
    of_part = [np.flatnonzero([number // n_classes == one for number, _ in pieces]) for one in range(n_parts)]
    of_piece = np.array([number % n_classes for number, _ in pieces])
    out = np.empty((n_parts, len(weights), width * width), np.float32)

    def weigh(start: int) -> None:
        slab = slice(start, start + SLAB)
        flat, sums = products.reshape(len(pieces), -1)[:, slab], out[:, :, slab]
        for one, some in enumerate(of_part):
            np.matmul(weights[:, of_piece[some]], flat[some[0] : some[-1] + 1], out=sums[one])
        if n_parts > 1:
            np.subtract(np.add.reduce(sums), sums, out=sums)

    map_in_order(weigh, range(0, width * width, SLAB), threads)
    return out.reshape(n_parts, len(weights), width, width)


def set_up_regression(sums: Real, seen: Observation, m: int, copies: int) -> Regression:
    """The regression that ``sums``, from :func:`weigh_sums`, describe, of the particles that ``seen`` trusts.

    At k = 0 their mean is found, and taken out of the sums as if it had been taken out of w.
    """
    p = len(sums) - 1
    data = slice(m, m + p)
    projected = sums[0, :m, data].astype(np.float64)
    power = sums[0, data, data].astype(np.float64)
    shift = np.zeros(p)
    if copies == 1:  # w_i is to be less by precision * shift; the last column of J is 1
        known = sums[1:, -1, -1].astype(np.float64)
        shift = np.divide(sums[0, -1, data], known, out=shift, where=known > 0)
        projected -= shift * sums[1:, :m, -1].T
        cross = shift * sums[1:, data, -1].T
        both = (seen.precision * seen.weights[:, None]).T @ seen.precision
        power += np.outer(shift, shift) * both - cross - cross.T
    covariance = covariance_of_products(power, seen, copies)
    return Regression(projected, sums[1:], sums[0, :m, :m], covariance, shift, copies)
