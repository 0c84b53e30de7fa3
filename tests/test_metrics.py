"""Neighbour, angle and image scores against their twins, scikit-image and simulated pairs with known answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from mfvdm_fast.errors import ParameterError
from mfvdm_fast.metrics import (
    angle_error_deg,
    evaluate_constant,
    evaluate_images,
    evaluate_neighbors,
    fit_affine,
    pair_truth,
    structural_similarity,
    summarize_images,
)
from mfvdm_fast.records import NeighborTable
from mfvdm_fast.simulate import SimulationSettings, simulate_stack
from mfvdm_fast.synthetic import synthetic_particle

from .reference.metrics import reference_pair_truth, reference_ssim
from .reference.simulate import in_plane_rotation

MIRROR = np.diag([1.0, -1.0, -1.0])


def _turn(image: np.ndarray, angle: float) -> np.ndarray:
    """R_alpha I (r, theta) = I(r, theta - alpha), theta from +x (columns) towards +y (rows)."""
    c, s = np.cos(angle), np.sin(angle)
    matrix = np.array([[c, -s], [s, c]])  # output (row, column) to input
    centre = np.full(2, image.shape[0] // 2)
    return affine_transform(image, matrix, offset=centre - matrix @ centre, order=3)


def _random_table(rng: np.random.Generator, n: int, k: int) -> NeighborTable:
    return NeighborTable(
        indices=rng.integers(n, size=(n, k)),
        mirrored=rng.random((n, k)) < 0.5,
        angles=rng.uniform(-np.pi, np.pi, (n, k)),
        scores=np.zeros((n, k)),
    )


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("angle", [0.7, -2.1])
def test_true_angle_turns_the_neighbour_onto_the_particle(mirrored: bool, angle: float) -> None:
    # The definition itself: I_i = R_alpha I_j, or R_alpha M I_j with M: y -> -y. Odd box, so M is a plain reversal.
    stack = simulate_stack(synthetic_particle(49), 4.0, 2, SimulationSettings(snr=np.inf, ctf=False))
    base = stack.rotations[0]
    neighbor = base @ in_plane_rotation(angle) @ (MIRROR if mirrored else np.eye(3))
    rotations = np.stack([base, neighbor])
    image, other = replace(stack, rotations=rotations).read_clean(np.arange(2))
    view, alpha = pair_truth(rotations, [0], [1], [mirrored])
    assert view[0] == pytest.approx(0.0, abs=1e-6)
    assert alpha[0] == pytest.approx(angle)
    turned = _turn(other[::-1] if mirrored else other, alpha[0])
    assert np.corrcoef(turned.ravel(), image.ravel())[0, 1] > 0.995
    for wrong in (_turn(other[::-1] if mirrored else other, -alpha[0]), _turn(other, alpha[0] if mirrored else 0.0)):
        assert np.corrcoef(wrong.ravel(), image.ravel())[0, 1] < 0.9


def test_pairs_twin(rng: np.random.Generator) -> None:
    rotations = Rotation.from_quat(rng.standard_normal((12, 4))).as_matrix()
    first, second = rng.integers(12, size=(2, 60))
    mirrored = rng.random(60) < 0.5
    view, angle = pair_truth(rotations, first, second, mirrored)
    for p in range(60):
        expected = reference_pair_truth(rotations[first[p]], rotations[second[p]], bool(mirrored[p]))
        assert view[p] == pytest.approx(expected[0], abs=1e-5)
        assert angle_error_deg(angle[p], expected[1]) < 1e-9 or first[p] == second[p]


def test_swapping_a_pair_negates_plain_angles_and_keeps_mirrored_ones(rng: np.random.Generator) -> None:
    rotations = Rotation.from_quat(rng.standard_normal((20, 4))).as_matrix()
    i, j = np.arange(19), np.arange(1, 20)
    for mirrored, sign in ((False, -1.0), (True, 1.0)):
        flags = np.full(19, mirrored)
        there, back = pair_truth(rotations, i, j, flags), pair_truth(rotations, j, i, flags)
        np.testing.assert_allclose(back[0], there[0], atol=1e-9)
        assert angle_error_deg(back[1], sign * there[1]).max() < 1e-9


def test_neighbor_errors(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    rotations = Rotation.from_quat(rng.standard_normal((9, 4))).as_matrix()
    table = _random_table(rng, 9, 4)
    errors = evaluate_neighbors(table, rotations)
    for i in range(9):
        for c in range(4):
            view, angle = reference_pair_truth(rotations[i], rotations[table.indices[i, c]], bool(table.mirrored[i, c]))
            assert errors.view_deg[i, c] == pytest.approx(view, abs=1e-5)
            expected = angle_error_deg(table.angles[i, c], angle)
            assert errors.in_plane_deg[i, c] == pytest.approx(float(expected), abs=1e-6) or view > 179.99
    monkeypatch.setattr("mfvdm_fast.metrics._BLOCK_PAIRS", 8)
    np.testing.assert_array_equal(evaluate_neighbors(table, rotations).view_deg, errors.view_deg)
    np.testing.assert_array_equal(evaluate_neighbors(table, rotations).in_plane_deg, errors.in_plane_deg)


def test_summaries_of_neighbor_errors() -> None:
    # Views tilted by 0, 4, 8 and 30 degrees about x; true in-plane angle 0 for every pair.
    rotations = Rotation.from_euler("x", [[0.0], [4.0], [8.0], [30.0]], degrees=True).as_matrix()
    table = NeighborTable(
        indices=np.array([[1, 2, 3]] * 4),
        mirrored=np.zeros((4, 3), dtype=bool),
        angles=np.radians([[3.0, -5.0, 90.0]] * 4),
        scores=np.zeros((4, 3)),
    )
    errors = evaluate_neighbors(table, rotations)
    np.testing.assert_allclose(errors.view_deg[0], [4, 8, 30])
    np.testing.assert_allclose(errors.in_plane_deg[0], [3, 5, 90])
    first = replace(errors, view_deg=errors.view_deg[:1], in_plane_deg=errors.in_plane_deg[:1])
    assert first.mean_view_deg == pytest.approx(14.0)


def test_angle_errors_go_round_the_circle() -> None:
    np.testing.assert_allclose(
        angle_error_deg(np.radians([179.0, -170.0, 10.0]), np.radians([-179.0, 170.0, 370.0])),
        [2.0, 20.0, 0.0],
        atol=1e-9,
    )


def test_published_tables_agree_with_the_truth_convention(shared: Path) -> None:
    # The oracle's README: its neighbours' in-plane angles agree with +a for plain and mirrored pairs alike.
    with np.load(shared / "oracle" / "mfvdm_matlab_n300.npz") as oracle:
        indices = oracle["mfvdm_class"].astype(np.int64)
        mirrored = oracle["mfvdm_refl"]
        table = NeighborTable(indices, mirrored, np.radians(oracle["mfvdm_rot_deg"]), np.zeros(indices.shape))
        errors = evaluate_neighbors(table, oracle["rotations"])
    best = slice(0, 5)
    assert np.median(errors.view_deg[:, best]) < 25
    for flag in (False, True):
        chosen = (mirrored == flag) & (errors.view_deg < 20)
        assert chosen.sum() > 100
        assert np.median(errors.in_plane_deg[chosen]) < 10


def _images(rng: np.random.Generator, n: int = 5) -> tuple[np.ndarray, np.ndarray]:
    clean = synthetic_particle(24)[6 : 6 + n] * 3.0
    return clean, (clean + 0.2 * rng.standard_normal(clean.shape)).astype(np.float32)


def test_image_scores_from_their_definitions(rng: np.random.Generator) -> None:
    clean, noisy = _images(rng)
    summary = summarize_images([clean])
    scores = evaluate_images([clean], [noisy], summary.data_range)
    error = np.mean((noisy.astype(np.float64) - clean) ** 2)
    assert scores.relative_mse == pytest.approx(error / np.mean(clean.astype(np.float64) ** 2))
    assert scores.psnr_db == pytest.approx(20 * np.log10(np.ptp(clean)) - 10 * np.log10(error))
    expected = [reference_ssim(a, b, summary.data_range) for a, b in zip(clean.astype(float), noisy, strict=True)]
    assert scores.ssim == pytest.approx(np.mean(expected), abs=1e-9)
    assert scores.n_images == 5
    assert evaluate_images([clean], [noisy], 2 * summary.data_range).psnr_db == pytest.approx(scores.psnr_db + 6.0206)


def test_ssim_is_that_of_scikit_image(rng: np.random.Generator) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    clean = rng.standard_normal((4, 19, 19)).astype(np.float32)
    noisy = (clean + rng.standard_normal(clean.shape)).astype(np.float32)
    for data_range in (1.0, 7.5):
        ours = structural_similarity(clean, noisy, data_range)
        for i in range(4):
            pair = clean[i].astype(np.float64), noisy[i].astype(np.float64)
            assert ours[i] == pytest.approx(metrics.structural_similarity(*pair, data_range=data_range), abs=1e-12)
            single = metrics.structural_similarity(clean[i], noisy[i], data_range=data_range)
            assert ours[i] == pytest.approx(float(single), abs=1e-4)


def test_perfect_images() -> None:
    clean = synthetic_particle(16)
    scores = evaluate_images([clean], [clean], 1.0)
    assert (scores.relative_mse, scores.psnr_db) == (0.0, np.inf)
    assert scores.ssim == pytest.approx(1.0)


def test_chunks_do_not_matter(rng: np.random.Generator) -> None:
    clean, noisy = _images(rng, 7)

    def cut(images: np.ndarray, size: int) -> Iterator[np.ndarray]:
        return (images[i : i + size] for i in range(0, len(images), size))

    whole = evaluate_images([clean], [noisy], 3.0)
    pieces = evaluate_images(cut(clean, 3), cut(noisy, 3), 3.0)
    assert pieces.psnr_db == pytest.approx(whole.psnr_db, rel=1e-12)
    assert pieces.ssim == pytest.approx(whole.ssim, rel=1e-12)
    assert pieces.relative_mse == pytest.approx(whole.relative_mse, rel=1e-12)
    one, many = summarize_images([clean]), summarize_images(cut(clean, 2))
    assert (one.n_images, one.minimum, one.maximum) == (many.n_images, many.minimum, many.maximum)
    assert many.mean == pytest.approx(one.mean)
    assert many.variance == pytest.approx(clean.astype(np.float64).var())
    assert fit_affine(cut(clean, 2), cut(noisy, 2)) == pytest.approx(fit_affine([clean], [noisy]))


def test_affine_fit_undoes_gain_and_offset(rng: np.random.Generator) -> None:
    clean, noisy = _images(rng)
    gain, offset = fit_affine([clean], [noisy])
    design = np.stack([noisy.ravel(), np.ones(noisy.size)], axis=1).astype(np.float64)
    np.testing.assert_allclose([gain, offset], np.linalg.lstsq(design, clean.ravel(), rcond=None)[0], rtol=1e-6)
    best = evaluate_images([clean], [noisy], 3.0, (gain, offset))
    scaled = -4.0 * noisy + 7.0
    again = evaluate_images([clean], [scaled], 3.0, fit_affine([clean], [scaled]))
    assert again.psnr_db == pytest.approx(best.psnr_db, abs=1e-4)
    assert best.psnr_db > evaluate_images([clean], [noisy], 3.0).psnr_db
    assert evaluate_images([clean], [scaled], 3.0).psnr_db < 0


def test_constant_image_is_the_mean_of_the_stack(rng: np.random.Generator) -> None:
    clean, _ = _images(rng)
    summary = summarize_images([clean])
    scores = evaluate_constant([clean], summary)
    expected = evaluate_images([clean], [np.full(clean.shape, summary.mean)], summary.data_range)
    assert scores.psnr_db == pytest.approx(expected.psnr_db, abs=1e-5)
    assert scores.psnr_db == pytest.approx(10 * np.log10(summary.data_range**2 / summary.variance), abs=1e-5)
    for other in (0.0, float(np.median(clean)), summary.maximum):
        worse = evaluate_images([clean], [np.full(clean.shape, other)], summary.data_range)
        assert worse.psnr_db < scores.psnr_db


def test_constant_image_reproduces_the_published_baseline(shared: Path) -> None:
    mrcfile = pytest.importorskip("mrcfile")
    volume = mrcfile.read(shared / "data" / "volumes" / "ribosome70S_65px_5A.mrc")
    stack = simulate_stack(volume, 5.0, 300, SimulationSettings(ctf=False), seed=0)
    clean = stack.read_clean(np.arange(300))
    scores = evaluate_constant([clean], summarize_images([clean]))
    assert scores.psnr_db == pytest.approx(23.7, abs=0.4)  # the range is that of the extreme pixels of each sample
    assert scores.ssim == pytest.approx(0.26, abs=0.015)


def test_neighbor_refusals(rng: np.random.Generator) -> None:
    table = _random_table(rng, 5, 2)
    rotations = Rotation.from_quat(rng.standard_normal((5, 4))).as_matrix()
    with pytest.raises(ParameterError, match=r"rotations must have shape \(n, 3, 3\), got \(5, 3\)"):
        evaluate_neighbors(table, rotations[:, 0])
    with pytest.raises(ParameterError, match="rotations has 4 rows for 5 particles in the table; give one each"):
        evaluate_neighbors(table, rotations[:4])
    for bad in (-1, 5):
        indices = table.indices.copy()
        indices[3, 1] = bad
        with pytest.raises(
            ParameterError, match=rf"neighbour indices must lie in 0 \.\.\. 4, got {bad}; score the table"
        ):
            evaluate_neighbors(replace(table, indices=indices), rotations)


def test_image_refusals(rng: np.random.Generator) -> None:
    clean, noisy = _images(rng)
    with pytest.raises(ParameterError, match="data_range must be above 0, got 0; give the range of the clean stack"):
        evaluate_images([clean], [noisy], 0)
    with pytest.raises(ParameterError, match="denoised_chunks ended after 5 images, the other goes on; give the same"):
        evaluate_images([clean, clean], [noisy], 1.0)
    with pytest.raises(ParameterError, match="clean_chunks ended after 5 images"):
        evaluate_images([clean], [noisy, noisy], 1.0)
    with pytest.raises(
        ParameterError, match=r"differ in shape after 0 images: clean \(5, 24, 24\), denoised \(4, 24, 24\)"
    ):
        evaluate_images([clean], [noisy[:4]], 1.0)
    with pytest.raises(
        ParameterError, match=r"clean_chunks must yield arrays of shape \(b, L, L\), got \(24, 24\); wrap"
    ):
        evaluate_images(clean, noisy, 1.0)
    with pytest.raises(ParameterError, match="clean_chunks and denoised_chunks held no images; iterators can be read"):
        evaluate_images([], [], 1.0)
    with pytest.raises(ParameterError, match="clean_chunks held no signal to compare with; give at least one image"):
        evaluate_images([0 * clean], [noisy], 1.0)
    with pytest.raises(ParameterError, match=r"chunks held no images; give at least one \(an iterator"):
        summarize_images([])
    with pytest.raises(
        ParameterError, match="denoised_chunks are constant, so no gain can be fitted; score them without"
    ):
        fit_affine([clean], [np.ones_like(clean)])
    with pytest.raises(ParameterError, match=r"images must be at least 7 px for SSIM, got shape \(1, 6, 6\)"):
        structural_similarity(np.zeros((1, 6, 6)), np.zeros((1, 6, 6)), 1.0)
