"""Images to steerable coefficients and back: polar resampling, both bases, phase flipping, steerable PCA."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from conftest import Recorder
from inputs import PIXEL, Chain
from measure import Work

from mfvdm_fast.basis import DiskHarmonics, FourierBessel
from mfvdm_fast.basis.steerable_pca import estimate_steerable_pca, project
from mfvdm_fast.imaging.ctf import make_ctf, phase_flip_images
from mfvdm_fast.imaging.fourier_shift import shift_images
from mfvdm_fast.imaging.support import estimate_support
from mfvdm_fast.kernels.polar import WIDTH, PolarPlan
from tests.reference import ctf as ctf_twin
from tests.reference import polar as polar_twin
from tests.reference import steerable_pca as pca_twin

IMAGES = 512
BOXES = [65, 129]
BASES = [DiskHarmonics, FourierBessel]
BANDLIMIT = 0.5


def noise(box_size: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((IMAGES, box_size, box_size), dtype=np.float32)


def size_of(box_size: int) -> str:
    return f"{IMAGES} x {box_size} px"


@cache
def whole_disc(kind: type, box_size: int) -> Any:
    """A basis for the largest disc of the box and all of its frequencies."""
    return kind(box_size, (box_size - 1) // 2, BANDLIMIT)


def polar_points(box_size: int) -> tuple[np.ndarray, int]:
    count = int(np.ceil(2 * BANDLIMIT * (box_size - 1)))
    return BANDLIMIT * (np.polynomial.legendre.leggauss(count)[0] + 1) / 2, 4 * count


def polar_work(plan: PolarPlan) -> Work:
    rows, columns = plan.box_size * 2.5 * plan.grid_size, plan.grid_size / 2 * 5 * plan.grid_size
    flops = (rows + columns) * np.log2(plan.grid_size) + 4 * WIDTH**2 * plan.n_points
    return Work("2.5 N log2 N for each real and 5 N log2 N for each complex FFT, 4 x 36 for each point", IMAGES * flops)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("box_size", BOXES)
def test_polar(record: Recorder, box_size: int, threads: int) -> None:
    plan, images = PolarPlan(box_size, *polar_points(box_size)), noise(box_size)

    def check(found: np.ndarray) -> None:
        radii, n_theta = polar_points(box_size)
        expected = polar_twin.transform(images[:1], radii[::16], n_theta)
        assert np.linalg.norm(found[:1, ::16] - expected) < 1e-4 * np.linalg.norm(expected)

    work = polar_work(plan)
    record("polar resampling", size_of(box_size), lambda: plan.transform(images, threads), threads=threads, check=check,
           work=work)  # fmt: skip


@pytest.mark.parametrize("box_size", BOXES)
def test_polar_finufft(record: Recorder, box_size: int) -> None:
    finufft = pytest.importorskip("finufft")
    radii, n_theta = polar_points(box_size)
    theta = 2 * np.pi / n_theta * np.arange(n_theta // 2)
    images = noise(box_size)
    plan = finufft.Plan(2, images.shape[1:], n_trans=IMAGES, eps=1e-4, isign=-1, dtype="complex64", nthreads=1)
    points = [2 * np.pi * np.ravel(radii[:, None] * part) for part in (np.sin(theta), np.cos(theta))]
    plan.setpts(*[part.astype(np.float32) for part in points])
    values = images.astype(np.complex64)

    def check(found: np.ndarray) -> None:
        ours = PolarPlan(box_size, radii, n_theta).transform(images[:3]).reshape(3, -1)
        assert np.linalg.norm(ours - found[:3]) < 2e-4 * np.linalg.norm(ours)

    record("polar resampling", size_of(box_size), lambda: plan.execute(values), by="finufft", check=check)


def dense_work(basis: Any) -> Work:
    half = (basis.box_size - 1) // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    pixels = np.count_nonzero(x**2 + y**2 <= basis.radius_px**2)
    flops = 2 * 3 / 16 * pixels * (2 * basis.n_coefs - basis.n_radial[0])
    return Work("2 for each pixel of the disc and real coefficient, x 3/16 by the symmetry of the grid", IMAGES * flops)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("box_size", BOXES)
@pytest.mark.parametrize("kind", BASES)
def test_expand(record: Recorder, kind: type, box_size: int, threads: int) -> None:
    basis, images = whole_disc(kind, box_size), noise(box_size)

    def check(packed: np.ndarray) -> None:
        assert np.abs(np.mean(np.abs(packed) ** 2) - 1) < 0.02  # white noise keeps its variance
        turned = basis.expand(np.rot90(images[:4], axes=(1, 2)).copy())  # a quarter turn from +y to +x
        phase = np.exp(0.5j * np.pi * np.repeat(np.arange(basis.k_max + 1), basis.n_radial))
        np.testing.assert_allclose(turned, packed[:4] * phase, atol=2e-2)

    work = dense_work(basis) if kind is DiskHarmonics else None
    record(f"expand, {kind.__name__}", size_of(box_size), lambda: basis.expand(images, threads), threads=threads,
           check=check, work=work, rounds=10)  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("box_size", BOXES)
def test_synthesis(record: Recorder, box_size: int, threads: int) -> None:
    basis = whole_disc(DiskHarmonics, box_size)
    packed = basis.expand(noise(box_size))

    def check(images: np.ndarray) -> None:
        again = basis.expand(images)
        assert np.linalg.norm(again - packed) < 0.05 * np.linalg.norm(packed)

    record("synthesis, DiskHarmonics", size_of(box_size), lambda: basis.evaluate(packed, threads), threads=threads,
           check=check, work=dense_work(basis), rounds=10)  # fmt: skip


@pytest.mark.parametrize("name", ["FFBBasis2D", "FLEBasis2D"])
@pytest.mark.parametrize("box_size", BOXES)
def test_expand_aspire(record: Recorder, name: str, box_size: int) -> None:
    """The adjoint, as far as ASPIRE goes without its iterative solver."""
    aspire_basis = pytest.importorskip("aspire.basis")
    image = pytest.importorskip("aspire.image")
    basis = getattr(aspire_basis, name)(box_size, dtype=np.float32)
    images = image.Image(noise(box_size))
    record("expand", size_of(box_size), lambda: basis.evaluate_t(images), by=f"ASPIRE {name}", rounds=1)


@pytest.mark.parametrize("box_size", BOXES)
def test_expand_fle(record: Recorder, box_size: int) -> None:
    fle = pytest.importorskip("fle_2d")
    basis = fle.FLEBasis2D(box_size, box_size, 1e-4, mode="complex", precision="single")
    images = noise(box_size)
    record("expand", size_of(box_size), lambda: basis.evaluate_t(images), by="fle_2d", rounds=1)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("box_size", BOXES)
def test_phase_flip(record: Recorder, box_size: int, threads: int) -> None:
    images, ctf = noise(box_size), make_ctf(np.resize(np.linspace(1e4, 4e4, 20), IMAGES))

    def check(found: np.ndarray) -> None:
        expected = ctf_twin.reference_phase_flip(images[:4], ctf[np.arange(4)], PIXEL)
        np.testing.assert_allclose(found[:4], expected, atol=1e-4)

    work = Work("two real FFTs, 2.5 N log2 N each, N = pixels", IMAGES * 5 * box_size**2 * np.log2(box_size**2))
    record("phase flip", size_of(box_size), lambda: phase_flip_images(images, ctf, PIXEL, threads), threads=threads,
           check=check, work=work, rounds=10)  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2])
def test_shift(record: Recorder, threads: int) -> None:
    images, shifts = noise(129), np.random.default_rng(2).uniform(-5, 5, (IMAGES, 2))

    def check(found: np.ndarray) -> None:
        np.testing.assert_allclose(shift_images(found, -shifts), images, atol=1e-4)

    work = Work("two real FFTs, 2.5 N log2 N each, N = pixels", IMAGES * 5 * 129**2 * np.log2(129**2))
    record("centring", size_of(129), lambda: shift_images(images, shifts, threads), threads=threads, check=check,
           work=work, rounds=5)  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2])
def test_support(record: Recorder, chain: Chain, threads: int) -> None:
    images = chain.images[:4096]

    def check(found: Any) -> None:
        assert abs(found.radius_px - chain.basis.radius_px) <= 1

    record("support", f"{len(images):,} x 65 px", lambda: estimate_support(images, chain.noise, threads),
           threads=threads, check=check)  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2])
def test_pca(record: Recorder, chain: Chain, threads: int) -> None:
    coefs, variance = chain.flipped, chain.noise.variance
    widths = np.diff(coefs.offsets)

    def call() -> tuple[Any, np.ndarray]:
        pca = estimate_steerable_pca(coefs, variance, threads)
        return pca, project(coefs.packed, coefs.offsets, pca, threads)

    def check(found: tuple[Any, np.ndarray]) -> None:
        k = 3
        values = np.linalg.eigvalsh(pca_twin.covariance(coefs[k][:2000], k))[::-1]
        few = estimate_steerable_pca(type(coefs)(coefs.packed[:2000], coefs.offsets), variance)
        np.testing.assert_allclose(few.eigenvalues[k], values[: few.n_components[k]], rtol=1e-4)
        assert found[1].shape == (chain.n, int(found[0].offsets[-1]))

    flops = 2 * 2 * 2 * chain.n * float((widths**2).sum())
    work = Work("products of the coefficients of each k with themselves, float64 counted twice", flops)
    size = f"n = {chain.n:,}, {widths.sum()} coefficients"
    record("steerable PCA", size, call, threads=threads, check=check, work=work, rounds=10)
