"""Steerable bases straight from their formulas: every function on every pixel, sums and least squares in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import jn_zeros, jv


@dataclass(frozen=True)
class Functions:
    """``values`` (P, L, L) complex128, zero outside the disc; ``orders`` (P,) k and ``roots`` (P,) of each function."""

    orders: NDArray[np.int64]
    roots: NDArray[np.float64]
    values: NDArray[np.complex128]

    @property
    def n_radial(self) -> tuple[int, ...]:
        return tuple(np.bincount(self.orders).tolist())


def polar_pixels(box_size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(r, theta) of every pixel, centre L // 2, theta from +x (columns) towards +y (rows)."""
    y, x = np.mgrid[:box_size, :box_size] - box_size // 2
    return np.hypot(x, y), np.arctan2(y, x)


def zeros_below(limit: float, spare: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(k, zero) of all zeros of J_k of which the ``spare``-th next one is still at most ``limit``."""
    pairs = []
    for k in range(int(limit) + 1):
        zeros = jn_zeros(k, int(limit) + 2)
        pairs += [(k, zeros[q]) for q in range(len(zeros) - spare) if zeros[q + spare] <= limit]
    return np.array([k for k, _ in pairs], dtype=np.int64), np.array([root for _, root in pairs])


def disk_harmonics(box_size: int, radius_px: float, bandlimit: float) -> Functions:
    """J_k(lambda r/R) e^{ik theta} / (sqrt(pi) R |J_{k+1}(lambda)|) on r <= R, lambda <= 2 pi c R."""
    orders, roots = zeros_below(2 * np.pi * bandlimit * radius_px, 0)
    r, theta = polar_pixels(box_size)
    k, root = orders[:, None, None], roots[:, None, None]
    values = (
        jv(k, root * r / radius_px) * np.exp(1j * k * theta) / (np.sqrt(np.pi) * radius_px * np.abs(jv(k + 1, root)))
    )
    return Functions(orders, roots, values * (r <= radius_px))


def fourier_bessel(box_size: int, radius_px: float, bandlimit: float) -> Functions:
    """Inverse Fourier transform of (-i)^k N J_k(R_kq xi/c) e^{ik theta} on |xi| <= c, cut to r <= R, by quadrature.

    Over the angle exactly, 2 pi i^k J_k(2 pi r xi) e^{ik theta}; over xi with 400 Gauss-Legendre nodes.
    """
    orders, roots = zeros_below(2 * np.pi * bandlimit * radius_px, 1)
    nodes, weights = np.polynomial.legendre.leggauss(400)
    xi, weights = bandlimit * (nodes + 1) / 2, bandlimit * weights / 2
    r, theta = polar_pixels(box_size)
    distinct, ring = np.unique(r, return_inverse=True)
    values = np.empty((len(orders), box_size, box_size), dtype=np.complex128)
    for i, (k, root) in enumerate(zip(orders, roots, strict=True)):
        norm = 1 / (bandlimit * np.sqrt(np.pi) * np.abs(jv(k + 1, root)))
        radial = (
            2 * np.pi * norm * jv(k, 2 * np.pi * distinct[:, None] * xi) @ (jv(k, root * xi / bandlimit) * weights * xi)
        )
        values[i] = radial[ring].reshape(r.shape) * np.exp(1j * k * theta)
    return Functions(orders, roots, values * (r <= radius_px))


def inner_products(images: NDArray[np.floating], functions: Functions) -> NDArray[np.complex128]:
    """sum I conj(psi): (b, P)."""
    return np.einsum("byx,pyx->bp", images.astype(np.float64), functions.values.conj(), optimize=True)


def synthesis(packed: NDArray[np.complexfloating], functions: Functions) -> NDArray[np.float64]:
    """Sum over all k, negative ones included: Re(coef psi), twice for k >= 1; (b, L, L)."""
    twice = np.where(functions.orders == 0, 1, 2)
    return np.einsum("bp,pyx->byx", packed * twice, functions.values, optimize=True).real


def least_squares(images: NDArray[np.floating], functions: Functions) -> NDArray[np.complex128]:
    """The coefficients whose synthesis is nearest to the images on the disc: (b, P)."""
    values, orders = functions.values.reshape(len(functions.orders), -1), functions.orders
    twice = np.where(orders == 0, 1, 2)[:, None]
    columns = np.concatenate([twice * values.real, -2 * values.imag[orders > 0]])
    solved = np.linalg.lstsq(columns.T, images.reshape(len(images), -1).T.astype(np.float64), rcond=None)[0].T
    packed = solved[:, : len(orders)].astype(np.complex128)
    packed[:, orders > 0] += 1j * solved[:, len(orders) :]
    return packed


def filter_images(images: NDArray[np.floating], transfer: object) -> NDArray[np.float64]:
    """Multiply the Fourier transforms by ``transfer(|xi|)``, xi in cycles/px, on a grid padded to twice the box."""
    size = images.shape[-1]
    wide = 2 * size
    radius = np.hypot(np.fft.fftfreq(wide)[:, None], np.fft.rfftfreq(wide))
    spectra = np.fft.rfft2(images, s=(wide, wide)) * transfer(radius)  # type: ignore[operator]
    return np.fft.irfft2(spectra, s=(wide, wide))[:, :size, :size]
