"""What every steerable basis must do (the README's conventions), run for each of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mfvdm_fast.basis import DiskHarmonics, FourierBessel, SteerableBasis
from mfvdm_fast.basis.make import make_basis
from mfvdm_fast.errors import InputError, ParameterError
from mfvdm_fast.records import DiskSupport

from .reference import basis as reference

Factory = Callable[[int, float, float], SteerableBasis]
ROUND_TRIP = {DiskHarmonics: 1e-5, FourierBessel: 3e-2}  # the latter's functions reach out of the disc
TWIN = {DiskHarmonics: 3e-6, FourierBessel: 6e-5}  # float32; float32 and the polar kernel


def random_coefficients(basis: SteerableBasis, count: int, rng: np.random.Generator) -> np.ndarray:
    packed = rng.standard_normal((count, basis.n_coefs)) + 1j * rng.standard_normal((count, basis.n_coefs))
    packed[:, : basis.n_radial[0]].imag = 0
    return packed.astype(np.complex64)


def orders_of(basis: SteerableBasis) -> np.ndarray:
    return np.repeat(np.arange(basis.k_max + 1), basis.n_radial)


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.fixture(scope="module", params=[DiskHarmonics, FourierBessel], ids=["disk_harmonics", "fourier_bessel"])
def factory(request: pytest.FixtureRequest) -> Factory:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def basis(factory: Factory) -> SteerableBasis:
    return factory(33, 16.0, 0.4)


class TestContract:
    def test_attributes(self, basis: SteerableBasis) -> None:
        assert isinstance(basis, SteerableBasis)
        assert (basis.box_size, basis.radius_px, basis.bandlimit) == (33, 16.0, 0.4)
        assert len(basis.n_radial) == basis.k_max + 1
        assert min(basis.n_radial) >= 1
        assert basis.offsets.dtype == np.int64
        np.testing.assert_array_equal(np.diff(basis.offsets), basis.n_radial)
        assert basis.offsets[0] == 0
        assert basis.offsets[-1] == basis.n_coefs
        assert basis.radial_nodes.dtype == np.float64
        assert basis.radial_nodes.min() > 0
        assert basis.radial_nodes.max() <= 0.4

    @pytest.mark.parametrize(("box_size", "radius"), [(21, 10.0), (24, 9.5), (24, 11.9)])
    def test_slow_twin(self, factory: Factory, rng: np.random.Generator, box_size: int, radius: float) -> None:
        basis = factory(box_size, radius, 0.45)
        images = rng.standard_normal((5, box_size, box_size)).astype(np.float32)
        if factory is DiskHarmonics:
            functions = reference.disk_harmonics(box_size, radius, 0.45)
            expected = reference.least_squares(images, functions)
        else:
            functions = reference.fourier_bessel(box_size, radius, 0.45)
            expected = reference.inner_products(images, functions)
        assert basis.n_radial == functions.n_radial
        found = basis.expand(images)
        assert found.dtype == np.complex64
        assert relative(found, expected) < TWIN[factory]  # type: ignore[index]
        packed = random_coefficients(basis, 4, rng)
        synthesized = basis.evaluate(packed)
        assert synthesized.dtype == np.float32
        assert relative(synthesized, reference.synthesis(packed, functions)) < 1e-6

    def test_quarter_turn_is_a_phase(self, basis: SteerableBasis, rng: np.random.Generator) -> None:
        images = rng.standard_normal((6, 33, 33)).astype(np.float32)
        turned = images[:, ::-1].transpose(0, 2, 1)  # from +x (columns) towards +y (rows)
        assert turned[0, 16 + 5, 16] == images[0, 16, 16 + 5]
        expected = (-1j) ** orders_of(basis) * basis.expand(images)
        np.testing.assert_allclose(basis.expand(turned), expected, atol=5e-6)

    def test_mirror_is_plain_conjugation(self, basis: SteerableBasis, rng: np.random.Generator) -> None:
        images = rng.standard_normal((6, 33, 33)).astype(np.float32)
        np.testing.assert_allclose(basis.expand(images[:, ::-1]), basis.expand(images).conj(), atol=5e-6)

    def test_any_turn_is_a_phase(self, basis: SteerableBasis, rng: np.random.Generator) -> None:
        r, theta = reference.polar_pixels(33)
        x, y = r * np.cos(theta), r * np.sin(theta)
        angle = 0.7
        blobs = rng.uniform(-6, 6, (5, 2)), rng.standard_normal(5)

        def draw(alpha: float) -> np.ndarray:
            c, s = np.cos(alpha), np.sin(alpha)
            image = np.zeros((33, 33))
            for (bx, by), height in zip(*blobs, strict=True):
                image += height * np.exp(-((x - c * bx + s * by) ** 2 + (y - s * bx - c * by) ** 2) / 8)
            return image[None].astype(np.float32)

        expected = np.exp(-1j * angle * orders_of(basis)) * basis.expand(draw(0.0))
        assert relative(basis.expand(draw(angle)), expected) < 2e-3

    def test_k0_is_exactly_real(self, basis: SteerableBasis, rng: np.random.Generator) -> None:
        packed = basis.expand(rng.standard_normal((3, 33, 33)).astype(np.float32))
        assert not packed[:, : basis.n_radial[0]].imag.any()

    def test_white_noise_keeps_its_variance(self, factory: Factory, rng: np.random.Generator) -> None:
        basis = factory(33, 16.0, 0.3)
        power = np.zeros(basis.n_coefs)
        for _ in range(4):
            images = 1.5 * rng.standard_normal((1000, 33, 33), dtype=np.float32)
            power += np.mean(np.abs(basis.expand(images)) ** 2, axis=0) / 4
        power /= 1.5**2
        assert abs(power.mean() - 1) < 0.015
        # 4,000 draws: standard deviation 0.022 for real coefficients; rim functions of Fourier-Bessel leak 6 %
        np.testing.assert_allclose(power, 1, atol=0.12)

    def test_round_trip(self, factory: Factory, basis: SteerableBasis, rng: np.random.Generator) -> None:
        packed = random_coefficients(basis, 20, rng)
        images = basis.evaluate(packed)
        again = basis.expand(images)
        assert relative(again, packed) < ROUND_TRIP[factory]  # type: ignore[index]
        assert relative(basis.evaluate(again), images) < ROUND_TRIP[factory]  # type: ignore[index]

    def test_zero_outside_the_disc(self, factory: Factory, rng: np.random.Generator) -> None:
        basis = factory(24, 9.5, 0.4)
        images = basis.evaluate(random_coefficients(basis, 3, rng))
        outside = reference.polar_pixels(24)[0] > 9.5
        assert not images[:, outside].any()
        assert images[:, ~outside].any(axis=0).all()
        noise = rng.standard_normal((3, 24, 24)).astype(np.float32)
        np.testing.assert_array_equal(basis.expand(noise * ~outside), basis.expand(noise))

    def test_even_box_is_the_odd_one_with_a_row_to_spare(self, factory: Factory, rng: np.random.Generator) -> None:
        odd, even = factory(23, 11.0, 0.35), factory(24, 11.0, 0.35)
        images = rng.standard_normal((4, 23, 23)).astype(np.float32)
        padded = np.pad(images, ((0, 0), (1, 0), (1, 0)))
        np.testing.assert_allclose(even.expand(padded), odd.expand(images), atol=5e-4)
        packed = random_coefficients(odd, 4, rng)
        np.testing.assert_array_equal(even.evaluate(packed)[:, 1:, 1:], odd.evaluate(packed))

    def test_same_bits_for_threads_chunks_and_layouts(self, basis: SteerableBasis, rng: np.random.Generator) -> None:
        images = rng.standard_normal((300, 33, 33)).astype(np.float32)
        images.setflags(write=False)
        packed = basis.expand(images, threads=1)
        synthesized = basis.evaluate(packed, threads=1)
        np.testing.assert_array_equal(basis.expand(images, threads=2), packed)
        np.testing.assert_array_equal(basis.evaluate(packed, threads=2), synthesized)
        for size in (41, 200):
            chunks = [slice(i, i + size) for i in range(0, 300, size)]
            np.testing.assert_array_equal(np.concatenate([basis.expand(images[c]) for c in chunks]), packed)
            np.testing.assert_array_equal(np.concatenate([basis.evaluate(packed[c]) for c in chunks]), synthesized)
        np.testing.assert_array_equal(basis.expand(images.astype(np.float64)[:20]), packed[:20])
        np.testing.assert_array_equal(basis.expand(np.asfortranarray(images[:20])), packed[:20])
        np.testing.assert_array_equal(basis.evaluate(np.asfortranarray(packed[:20])), synthesized[:20])

    def test_no_images(self, basis: SteerableBasis) -> None:
        packed = basis.expand(np.empty((0, 33, 33), np.float32))
        assert packed.shape == (0, basis.n_coefs)
        assert basis.evaluate(packed).shape == (0, 33, 33)

    def test_radial_filter(self, basis: SteerableBasis) -> None:
        r, theta = reference.polar_pixels(33)
        x, y = r * np.cos(theta), r * np.sin(theta)
        images = np.exp(-((x - 2) ** 2 + (y + 1) ** 2) / 10)[None] - 0.8 * np.exp(-((x + 3) ** 2 + y**2) / 12)[None]

        def transfer(xi: np.ndarray) -> np.ndarray:
            return np.exp(-((xi / 0.15) ** 2)) * np.cos(40 * xi**2)

        expected = basis.expand(reference.filter_images(images, transfer).astype(np.float32))
        found = basis.apply_radial(basis.expand(images.astype(np.float32)), transfer(basis.radial_nodes)[None])
        assert relative(found, expected) < 0.02
        assert relative(basis.expand(images.astype(np.float32)), expected) > 0.1

    def test_unit_filter_changes_nothing(self, basis: SteerableBasis, rng: np.random.Generator) -> None:
        packed = random_coefficients(basis, 5, rng)
        found = basis.apply_radial(packed, np.ones((1, len(basis.radial_nodes))))
        np.testing.assert_allclose(found, packed, atol=5e-6)
        assert found is not packed

    def test_filter_of_each_image_and_in_place(self, basis: SteerableBasis, rng: np.random.Generator) -> None:
        packed = random_coefficients(basis, 5, rng)
        transfers = rng.uniform(-1, 1, (5, len(basis.radial_nodes)))
        found = basis.apply_radial(packed, transfers)
        for i in range(5):
            alone = basis.apply_radial(packed[i : i + 1], transfers[i : i + 1])
            np.testing.assert_allclose(found[i], alone[0], atol=2e-6)
        assert not found[:, : basis.n_radial[0]].imag.any()
        result = basis.apply_radial(packed, transfers, out=packed)
        assert result is packed
        np.testing.assert_array_equal(packed, found)

    def test_wrong_shapes_are_refused(self, basis: SteerableBasis) -> None:
        count, nodes = basis.n_coefs, len(basis.radial_nodes)
        with pytest.raises(
            InputError, match=r"images must have shape \(n, 33, 33\) for this basis, got \(2, 32, 32\); make"
        ):
            basis.expand(np.zeros((2, 32, 32), np.float32))
        with pytest.raises(
            InputError, match=rf"packed must have shape \(n, {count}\) for this basis, got \(2, 3\); coef"
        ):
            basis.evaluate(np.zeros((2, 3), np.complex64))
        with pytest.raises(InputError, match=r"packed must have shape"):
            basis.apply_radial(np.zeros((2, 3), np.complex64), np.ones((1, nodes)))
        with pytest.raises(
            InputError, match=rf"transfer must have shape \(1 or 2, {nodes}\), got \(3, {nodes}\); sample"
        ):
            basis.apply_radial(np.zeros((2, count), np.complex64), np.ones((3, nodes)))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((2, 1.0, 0.3), "box_size must be a whole number of at least 3, got 2; use larger images"),
            ((24, 12.0, 0.3), "radius_px must be at least 1 and below 12 for box_size 24, got 12.0; the largest whole"),
            ((24, 0.5, 0.3), "radius_px must be at least 1 and below 12 for box_size 24, got 0.5"),
            ((24, 8.0, 0.51), r"bandlimit must be above 0 and at most 0.5 cycles/px \(Nyquist\), got 0.51; multiply"),
            ((24, 8.0, 0.0), "bandlimit must be above 0"),
            ((24, 8.0, 0.01), "fits radius_px 8 at bandlimit 0.01 cycles/px: 2 pi c R must reach"),
        ],
    )
    def test_impossible_discs_are_refused(
        self, factory: Factory, arguments: tuple[int, float, float], message: str
    ) -> None:
        with pytest.raises(ParameterError, match=message):
            factory(*arguments)


def test_a_basis_of_no_such_name() -> None:
    with pytest.raises(ParameterError, match="basis must be one of 'disk_harmonics', 'fourier_bessel', got 'bessel'"):
        make_basis("bessel", 33, DiskSupport(14.0, 0.25))
