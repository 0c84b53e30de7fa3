"""What the stages say to arguments of the wrong kind, one after the other as in the README."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mfvdm_fast.basis.interface import SteerableBasis
from mfvdm_fast.basis.make import make_basis
from mfvdm_fast.basis.steerable_pca import estimate_steerable_pca, project, weigh_features
from mfvdm_fast.errors import InputError, ParameterError
from mfvdm_fast.graph.eigenbasis import solve_eigenbasis
from mfvdm_fast.graph.frequency_graph import build_frequency_graph
from mfvdm_fast.kernels.polar import PolarPlan
from mfvdm_fast.neighbors.align import align_pairs
from mfvdm_fast.neighbors.search import search_affinity, search_neighbors
from mfvdm_fast.records import DiskSupport, NeighborTable, SteerableCoefficients, SteerablePCA

L, N = 17, 50
RADII = np.linspace(0, 0.4, 5)
NO_NUMBERS: list[Any] = ["7", None, float("nan"), [7], np.ones((2, 2)), True, 1j]
NO_WHOLE: list[Any] = [*NO_NUMBERS, -1, 0, 7.5]
NO_RECORDS: list[Any] = ["7", None, 7, np.ones((2, 2))]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    y, x = np.mgrid[:L, :L] - L // 2
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, (N, 1, 1))
    along = x * np.cos(angle) + y * np.sin(angle)
    blob = np.exp(-((along - 2) ** 2) / 4 - (y * np.cos(angle) - x * np.sin(angle)) ** 2 / 20)
    return (blob + 0.1 * np.random.default_rng(1).standard_normal(blob.shape)).astype(np.float32)


@pytest.fixture(scope="module", params=["disk_harmonics", "fourier_bessel"])
def basis(request: pytest.FixtureRequest) -> SteerableBasis:
    return make_basis(request.param, L, DiskSupport(7.0, 0.3))


@pytest.fixture(scope="module")
def coefs(images: np.ndarray) -> SteerableCoefficients:
    disc = make_basis("disk_harmonics", L, DiskSupport(7.0, 0.3))
    return SteerableCoefficients(disc.expand(images), disc.offsets)


@pytest.fixture(scope="module")
def pca(coefs: SteerableCoefficients) -> SteerablePCA:
    return estimate_steerable_pca(coefs, 0.01)


@pytest.fixture(scope="module")
def features(coefs: SteerableCoefficients, pca: SteerablePCA) -> SteerableCoefficients:
    return weigh_features(SteerableCoefficients(project(coefs.packed, coefs.offsets, pca), pca.offsets), pca)


@pytest.fixture(scope="module")
def table(features: SteerableCoefficients) -> NeighborTable:
    return search_neighbors(features, 5)


@pytest.mark.parametrize("wrong", NO_WHOLE)
def test_sizes_of_a_polar_plan(wrong: Any) -> None:
    with pytest.raises(ValueError, match="box_size must be a whole number of at least 1, got "):
        PolarPlan(wrong, RADII, 8)
    with pytest.raises(ValueError, match="n_theta must be even and at least 2, got "):
        PolarPlan(L, RADII, wrong)


@pytest.mark.parametrize("wrong", ["a", [1.0, [2.0]], None, 1j, ["1"]])
def test_arrays_of_a_polar_plan_hold_numbers(wrong: Any) -> None:
    for call, name in (
        (lambda: PolarPlan(L, wrong, 8), "radii"),
        (lambda: PolarPlan(L, RADII, 8, wrong or "a"), "window"),
        (lambda: PolarPlan(L, RADII, 8).transform(wrong), "images"),
    ):
        with pytest.raises(ValueError, match=f"{name} must be real numbers, got (<U1|object|complex128|lists of sev)"):
            call()


@pytest.mark.parametrize("wrong", [[0.1, np.nan], [[0.1, 0.2]], 0.1])
def test_radii_are_finite_and_in_one_dimension(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"radii must lie in \[0, 0.5\] cycles/px, got "):
        PolarPlan(L, wrong, 8)


def test_a_window_is_of_the_size_of_the_images() -> None:
    with pytest.raises(ValueError, match=r"window must have shape \(17, 17\) as the images, got \(17, 16\)"):
        PolarPlan(L, RADII, 8, np.ones((17, 16)))


@pytest.mark.parametrize("wrong", [*NO_NUMBERS, -1, 0])
@pytest.mark.parametrize("name", ["disk_harmonics", "fourier_bessel"])
def test_numbers_of_a_basis(name: str, wrong: Any) -> None:
    with pytest.raises(ParameterError, match="box_size must be a whole number of at least 3, got "):
        make_basis(name, wrong, DiskSupport(7.0, 0.3))
    with pytest.raises(ParameterError, match="radius_px must be at least 1 and below 9 for box_size 17, got "):
        make_basis(name, L, DiskSupport(wrong, 0.3))
    with pytest.raises(ParameterError, match=r"bandlimit must be above 0 and at most 0.5 cycles/px \(Nyquist\), got "):
        make_basis(name, L, DiskSupport(7.0, wrong))


@pytest.mark.parametrize("wrong", NO_RECORDS)
def test_names_and_supports_of_a_basis(wrong: Any) -> None:
    with pytest.raises(ParameterError, match=r"support must be DiskSupport, got .*: as in DiskSupport\("):
        make_basis("disk_harmonics", L, wrong)
    with pytest.raises(ParameterError, match="basis must be one of 'disk_harmonics', 'fourier_bessel', got "):
        make_basis(wrong, L, DiskSupport(7.0, 0.3))


@pytest.mark.parametrize("wrong", ["a", [1.0, [2.0]], None, ["1"]])
def test_what_a_basis_works_on_holds_numbers(basis: SteerableBasis, wrong: Any) -> None:
    packed = np.zeros((2, basis.n_coefs), np.complex64)
    for call, name in (
        (lambda: basis.expand(wrong), "images"),
        (lambda: basis.evaluate(wrong), "packed"),
        (lambda: basis.apply_radial(packed, wrong), "transfer"),
    ):
        with pytest.raises(InputError, match=f"{name} must hold (real )?numbers, got (<U1|object|lists of several)"):
            call()


def test_images_to_expand_are_finite_and_real(basis: SteerableBasis, images: np.ndarray) -> None:
    with pytest.raises(InputError, match="images must hold real numbers, got complex128"):
        basis.expand(images.astype(complex))
    broken = images.copy()
    broken[3, 0, 0] = np.nan
    with pytest.raises(InputError, match=r"images\[3\] holds NaN or infinity; leave this particle out"):
        basis.expand(broken)


@pytest.mark.parametrize("wrong", [*NO_NUMBERS, -1, 0, float("inf")])
def test_the_variance_of_noise_is_a_number_above_0(coefs: SteerableCoefficients, wrong: Any) -> None:
    with pytest.raises(ParameterError, match="noise_variance must be a finite number above 0, got "):
        estimate_steerable_pca(coefs, wrong)


@pytest.mark.parametrize("wrong", NO_RECORDS)
def test_stages_take_the_records_of_those_before(
    coefs: SteerableCoefficients, pca: SteerablePCA, table: NeighborTable, wrong: Any
) -> None:
    flags = np.zeros((N, 1), bool)
    for call, message in (
        (
            lambda: estimate_steerable_pca(wrong, 1.0),
            "coefs must be SteerableCoefficients, got .*: make them of an arr",
        ),
        (
            lambda: project(coefs.packed, coefs.offsets, wrong),
            "pca must be SteerablePCA, got .*: make it with estimate_",
        ),
        (lambda: weigh_features(wrong, pca), "coordinates must be SteerableCoefficients, got "),
        (lambda: weigh_features(SteerableCoefficients(coefs.packed, coefs.offsets), wrong), "pca must be SteerablePCA"),
        (lambda: search_neighbors(wrong, 5), "features must be SteerableCoefficients, got "),
        (lambda: search_affinity(wrong, 5), "features must be SteerableCoefficients, got "),
        (lambda: align_pairs(wrong, flags + 0, flags), "features must be SteerableCoefficients, got "),
        (lambda: build_frequency_graph(wrong), "table must be NeighborTable, got .*: make it with search_neighbors"),
        (
            lambda: solve_eigenbasis(wrong, 1, 5),
            "graph must be FrequencyGraph, got .*: make it with build_frequency_gra",
        ),
    ):
        with pytest.raises(ParameterError, match=message):
            call()


@pytest.mark.parametrize("name", ["options", "neighbor", "unit"])
def test_what_the_solver_takes_besides(table: NeighborTable, name: str) -> None:
    graph = build_frequency_graph(table)
    kind = "SolverOptions" if name == "options" else "Eigenbasis"
    with pytest.raises(ParameterError, match=f"{name} must be {kind}, got str: "):
        solve_eigenbasis(graph, 1, 5, **{name: "7"})
    for wrong in [*NO_NUMBERS, -1, 7.5]:
        with pytest.raises(ParameterError, match="seed must be a whole number of at least 0, got "):
            solve_eigenbasis(graph, 1, 5, seed=wrong)


@pytest.mark.parametrize("part", [slice(0), slice(3, 4)])
def test_components_need_finite_coefficients(coefs: SteerableCoefficients, part: slice) -> None:
    packed = coefs.packed.copy()
    packed[3, 5] = np.nan
    with pytest.raises(InputError, match=r"coefs must be finite, and of one particle at least, got [01]: leave out"):
        estimate_steerable_pca(SteerableCoefficients(packed[part], coefs.offsets), 0.01)


def test_coefficients_and_components_are_of_one_basis(coefs: SteerableCoefficients, pca: SteerablePCA) -> None:
    fewer = coefs.offsets[:-1]
    with pytest.raises(
        InputError, match=r"coefs have \[.*\] components at k = 0, 1, ..., and pca is of \[.*\]: both must"
    ):
        project(coefs.packed[:, : fewer[-1]], fewer, pca)
    with pytest.raises(InputError, match=r"the offsets of coefs end at \d+, but the array has \d+ columns"):
        project(coefs.packed, fewer, pca)
    with pytest.raises(InputError, match=r"coordinates have the offsets \[.*\] and pca \[.*\]: give what project made"):
        weigh_features(coefs, pca)


def test_the_number_of_threads_of_a_projection(coefs: SteerableCoefficients, pca: SteerablePCA) -> None:
    wrong: Any = "7"
    with pytest.raises(ParameterError, match="threads must be a whole number of at least 1, got '7'"):
        project(coefs.packed, coefs.offsets, pca, wrong)
    every = project(coefs.packed, coefs.offsets, pca, None)
    np.testing.assert_array_equal(every, project(coefs.packed, coefs.offsets, pca))


@pytest.mark.parametrize("wrong", ["a", [1, [2]], None])
def test_tables_of_pairs_hold_numbers(features: SteerableCoefficients, table: NeighborTable, wrong: Any) -> None:
    for name in ("indices", "mirrored"):
        given = replace(table, **{name: wrong})
        with pytest.raises(
            ParameterError, match=f"{name} must hold (real )?numbers, got (<U1|object|lists of several)"
        ):
            align_pairs(features, given.indices, given.mirrored)
