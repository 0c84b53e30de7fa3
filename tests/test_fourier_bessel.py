"""What is particular to the Fourier-Bessel basis, and the authors' own coefficients as an outside judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import jn_zeros

from mfvdm_fast.basis import FourierBessel
from mfvdm_fast.basis.fourier_bessel import _real_space
from mfvdm_fast.kernels.polar import PolarPlan

from .reference import basis as reference


def test_kept_functions_have_a_further_zero_within_the_bandlimit() -> None:
    basis = FourierBessel(33, 14.0, 0.4)
    limit = 2 * np.pi * 0.4 * 14.0
    for k, count in enumerate(basis.n_radial):
        zeros = jn_zeros(k, count + 2)
        assert zeros[count] <= limit < zeros[count + 1]
    assert jn_zeros(basis.k_max + 1, 2)[1] > limit


def test_synthesis_at_the_removable_singularity() -> None:
    """At 2 pi c r = R_kq the closed form is 0/0: it must go on smoothly."""
    roots = jn_zeros(3, 2)
    orders, offsets = np.array([3, 3]), np.array([0, 0, 0, 0, 2])
    at = roots[1] / (2 * np.pi * 0.3)
    radii = np.array([at - 1e-3, at, at + 1e-7, at + 1e-3])
    values = _real_space(0.3, orders, roots, offsets, radii)
    np.testing.assert_allclose(values[1, 1:3], (values[1, 0] + values[1, 3]) / 2, rtol=1e-5)


def test_evaluate_is_the_adjoint_of_expand(rng: np.random.Generator) -> None:
    basis = FourierBessel(29, 13.0, 0.35)
    images = rng.standard_normal((1, 29, 29)).astype(np.float32)
    packed = basis.expand(rng.standard_normal((1, 29, 29)).astype(np.float32))
    twice = np.where(np.arange(basis.n_coefs) < basis.n_radial[0], 1, 2)
    left = float(np.sum(twice * (basis.expand(images) * packed.conj()).real))
    right = float(np.sum(images * basis.evaluate(packed)))
    assert abs(left - right) < 2e-4 * np.sqrt(basis.n_coefs)
    assert abs(right) > 0.1


def test_filter_is_the_quadrature_of_the_product(rng: np.random.Generator) -> None:
    """<psi_p, h psi_q> = integral of N_p J_k(R_p xi/c) h(xi) N_q J_k(R_q xi/c) 2 pi xi, here with 300 nodes."""
    basis = FourierBessel(33, 15.0, 0.35)
    k = 2
    nodes, weights = np.polynomial.legendre.leggauss(300)
    xi, weights = 0.35 * (nodes + 1) / 2, 0.35 * weights / 2
    rows = reference.jv(k, jn_zeros(k, basis.n_radial[k])[:, None] * xi / 0.35)
    rows /= np.sqrt(rows**2 @ (2 * np.pi * weights * xi))[:, None]
    expected = (rows * (2 * np.pi * weights * xi * np.cos(25 * xi**2))) @ rows.T
    columns = slice(basis.offsets[k], basis.offsets[k + 1])
    unit = np.zeros((basis.n_radial[k], basis.n_coefs), np.complex64)
    unit[:, columns] = np.eye(basis.n_radial[k])
    found = basis.apply_radial(unit, np.cos(25 * basis.radial_nodes**2)[None])
    np.testing.assert_allclose(found[:, columns], expected, atol=3e-6)


def test_the_authors_own_coefficients(shared: Path) -> None:
    """Theirs carry no i^k and turn the other way round the half circle: ours = (-i)^k theirs, with the same scale.

    They use the square of 2 R pixels from -R on, where we use the disc.
    """
    path = shared / "oracle" / "mfvdm_matlab_n300.npz"
    if not path.exists():
        pytest.skip("no oracle beside the repository")
    with np.load(path) as oracle:
        radius, bandlimit = float(oracle["R"]), float(oracle["c"])
        images = oracle["phase_flipped_images"][:40]
        theirs = [oracle[f"FB_{k}"].T[:40] for k in range(58)]
    basis = FourierBessel(65, radius, bandlimit)
    assert basis.n_radial == tuple(coefs.shape[1] for coefs in theirs)
    expected = np.concatenate([(-1j) ** k * coefs for k, coefs in enumerate(theirs)], axis=1)
    disc = np.linalg.norm(basis.expand(images) - expected) / np.linalg.norm(expected)
    assert disc < 0.08
    pixel = np.arange(65) - 32
    square = ((pixel >= -radius) & (pixel < radius)).astype(np.float32)
    basis._plan = PolarPlan(65, basis.radial_nodes, basis._n_theta, np.outer(square, square))
    found = basis.expand(images)
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < 3e-4
