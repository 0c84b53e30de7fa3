"""The main job on small simulated stacks: that it denoises, that parameters matter, that threads and memory do not."""

from __future__ import annotations

import errno
from dataclasses import replace

import numpy as np
import pytest

from mfvdm_fast.budget import predict
from mfvdm_fast.errors import InputError, MfvdmWarning, OutputError, ParameterError
from mfvdm_fast.imaging.ctf import evaluate_ctf_2d, make_ctf
from mfvdm_fast.io.stack import ParticleStack
from mfvdm_fast.metrics import evaluate_constant, evaluate_images, evaluate_neighbors, summarize_images
from mfvdm_fast.neighbors import cells, groups
from mfvdm_fast.params import DenoiseParams, preset
from mfvdm_fast.pipeline import denoise
from mfvdm_fast.prepare import allocate, sample_rows
from mfvdm_fast.result import DenoiseResult
from mfvdm_fast.simulate import SimulatedStack, SimulationSettings, simulate_stack
from mfvdm_fast.synthetic import synthetic_particle

N, BOX, PIXEL_SIZE = 600, 33, 6.0
SMALL = {
    "n_neighbors": 15,
    "n_eigenvectors": 30,
    "n_frequencies": 6,
    "n_template_eigenvectors": 30,
    "n_restoration_eigenvectors": 50,
    "n_matchings": 1,
    "n_template_frequencies": 8,
}
PARAMS = preset("default", **SMALL)
PAPER = preset("paper", **{name: SMALL[name] for name in ("n_neighbors", "n_eigenvectors", "n_frequencies")})


@pytest.fixture(scope="module")
def simulated() -> SimulatedStack:
    return simulate_stack(synthetic_particle(BOX), PIXEL_SIZE, N, SimulationSettings(snr=0.15), seed=1)


@pytest.fixture(scope="module")
def clean(simulated: SimulatedStack) -> np.ndarray:
    return simulated.read_clean(np.arange(N))


@pytest.fixture(scope="module")
def result(simulated: SimulatedStack) -> DenoiseResult:
    return denoise(simulated, PARAMS)


@pytest.fixture(scope="module")
def published(simulated: SimulatedStack) -> DenoiseResult:
    return denoise(simulated, PAPER)


def psnr(result: DenoiseResult, clean: np.ndarray) -> float:
    return evaluate_images([clean], [result.images()], float(np.ptp(clean))).psnr_db


def test_denoised_particles_beat_the_noisy_ones_and_the_constant_image(
    simulated: SimulatedStack, clean: np.ndarray, result: DenoiseResult
) -> None:
    summary = summarize_images([clean])
    ours = evaluate_images([clean], [result.images()], summary.data_range)
    noisy = evaluate_images([clean], [simulated.read(np.arange(N))], summary.data_range)
    constant = evaluate_constant([clean], summary)
    assert ours.psnr_db > constant.psnr_db + 2 > noisy.psnr_db + 2
    assert ours.ssim > constant.ssim + 0.1


def test_refinement_finds_purer_neighbours_and_better_angles() -> None:
    noisy = simulate_stack(synthetic_particle(BOX), PIXEL_SIZE, 1500, SimulationSettings(snr=0.05), seed=2)
    found = denoise(noisy, PAPER)
    before = evaluate_neighbors(found.initial_neighbors, noisy.rotations)
    after = evaluate_neighbors(found.neighbors, noisy.rotations)
    assert np.mean(after.view_deg <= 20) > np.mean(before.view_deg <= 20)
    assert after.mean_view_deg < before.mean_view_deg


def test_matching_finds_purer_neighbours_and_better_images() -> None:
    noisy = simulate_stack(synthetic_particle(BOX), PIXEL_SIZE, 1500, SimulationSettings(snr=0.05), seed=2)
    clean = noisy.read_clean(np.arange(1500))
    params = preset("default", n_neighbors=40, refine=False)
    before, after = (denoise(noisy, replace(params, n_matchings=n)) for n in (0, 2))
    views = [evaluate_neighbors(found.neighbors, noisy.rotations).view_deg for found in (before, after)]
    assert np.mean(views[1] <= 20) > np.mean(views[0] <= 20)
    assert psnr(after, clean) > psnr(before, clean)
    assert (before.log_likelihood, before.score, before.junk) == (None, None, None)
    assert after.log_likelihood is not None
    assert after.log_likelihood.min() > 0  # particles all of them
    assert after.junk is not None
    assert after.junk.mean() < 0.01


def test_many_particles_are_matched_in_cells(
    monkeypatch: pytest.MonkeyPatch, simulated: SimulatedStack, clean: np.ndarray
) -> None:
    """Another, nearly as good table, the same for any number of threads."""
    params = replace(PARAMS, n_matchings=2, centre=False)
    whole = denoise(simulated, params)
    monkeypatch.setattr(groups, "CELLS_FROM", 200)
    monkeypatch.setattr(groups, "PARTICLES_PER_NEIGHBOR", 10)
    monkeypatch.setattr(cells, "CANDIDATES", 2)
    divided, again = (denoise(simulated, params, threads=threads) for threads in (1, 2))
    np.testing.assert_array_equal(divided.coefs.packed, again.coefs.packed)
    found, exact = divided.neighbors, whole.neighbors
    assert found is not None
    assert exact is not None
    same = np.mean([np.isin(*lists).mean() for lists in zip(found.indices, exact.indices, strict=True)])
    assert 0.8 < same < 1
    assert psnr(divided, clean) > psnr(whole, clean) - 0.2


def test_the_default_beats_the_published_method_and_the_wiener_filter(
    simulated: SimulatedStack, clean: np.ndarray, result: DenoiseResult, published: DenoiseResult
) -> None:
    wiener = denoise(simulated, preset(method="cwf"))
    assert wiener.neighbors is wiener.initial_neighbors is None
    assert psnr(result, clean) > max(psnr(published, clean), psnr(wiener, clean))


@pytest.mark.parametrize("params", [PARAMS, PAPER], ids=["default", "paper"])
def test_same_bits_for_any_number_of_threads(
    simulated: SimulatedStack, result: DenoiseResult, published: DenoiseResult, params: DenoiseParams
) -> None:
    expected = result if params is PARAMS else published
    for threads in (1, 2):
        other = denoise(simulated, params, threads=threads)
        assert other.neighbors is not None
        assert expected.neighbors is not None
        np.testing.assert_array_equal(other.neighbors.indices, expected.neighbors.indices)
        np.testing.assert_array_equal(other.neighbors.angles, expected.neighbors.angles)
        np.testing.assert_array_equal(other.images(), expected.images())


@pytest.mark.parametrize("params", [PARAMS, PAPER], ids=["default", "paper"])
def test_coefficients_in_a_file_to_save_memory_give_the_same_bits(
    simulated: SimulatedStack, result: DenoiseResult, published: DenoiseResult, params: DenoiseParams
) -> None:
    budget = predict(N, BOX, params)
    allowed = (budget.memory_bytes + budget.least_memory_bytes) // 2
    thrifty = denoise(simulated, params, max_memory_bytes=allowed)
    assert isinstance(thrifty.coefs.packed, np.memmap)
    np.testing.assert_array_equal(thrifty.images(), (result if params is PARAMS else published).images())


def test_a_full_temporary_folder_is_an_error_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(
        OutputError, match=r"no room for 77 MiB of coefficients \(No space left on device\).*set TMPDIR"
    ):
        allocate(1000, 10_000, keep=False)


def test_images_of_some_rows_equal_those_of_all(result: DenoiseResult) -> None:
    rows = np.array([5, 3, 599, 3])
    np.testing.assert_allclose(result.images(rows), result.images()[rows], rtol=1e-4, atol=1e-6)
    assert result.images(slice(0, 2)).shape == (2, BOX, BOX)


def test_output_is_in_the_units_of_the_input(simulated: SimulatedStack, result: DenoiseResult) -> None:
    images, reference = simulated.read(np.arange(N)), 1024 * result.images()
    for offset, allowed in ((0, 0), (7, 0.04)):  # the offset rounds the images: some neighbours change places
        moved = images * np.float32(1024) + np.float32(offset)
        ours = denoise(ParticleStack.from_array(moved, PIXEL_SIZE, simulated.ctf), PARAMS).images()
        assert np.linalg.norm(ours - reference) <= allowed * np.linalg.norm(reference)


@pytest.mark.parametrize(
    "change",
    [
        {"refine": False},
        {"n_frequencies": 1},
        {"diffusion_time": 2},
        {"spectral_filter": "λ"},
        {"n_eigenvectors": 12},
        {"n_neighbors": 8},
        {"ctf": False},
        {"whiten": True},
        {"radius_px": 11.0},
        {"bandlimit": 0.2},
        {"particle_diameter_angstrom": 130.0},
        {"method": "graph_map"},
    ],
    ids=str,
)
def test_every_parameter_changes_the_images_but_not_the_job(
    simulated: SimulatedStack, clean: np.ndarray, published: DenoiseResult, change: dict[str, object]
) -> None:
    other = denoise(simulated, replace(PAPER, **change))
    difference = np.linalg.norm(other.images() - published.images()) / np.linalg.norm(published.images())
    assert difference > 1e-3
    if change != {"ctf": False}:
        assert abs(psnr(other, clean) - psnr(published, clean)) < 3


@pytest.mark.parametrize(
    "change",
    [
        {"n_matchings": 2},
        {"n_template_eigenvectors": 15},
        {"n_template_frequencies": 3},
        {"n_restoration_eigenvectors": 20},
        {"ctf": False},
        {"whiten": True},
    ],
    ids=str,
)
def test_every_parameter_of_the_default_changes_the_images(
    simulated: SimulatedStack, clean: np.ndarray, result: DenoiseResult, change: dict[str, object]
) -> None:
    other = denoise(simulated, replace(PARAMS, **change))
    difference = np.linalg.norm(other.images() - result.images()) / np.linalg.norm(result.images())
    assert difference > 1e-3
    if change != {"ctf": False}:
        assert abs(psnr(other, clean) - psnr(result, clean)) < 3


@pytest.mark.parametrize(
    "change", [{"solver": "eigsh"}, {"basis": "fourier_bessel"}, {"seed": 5}], ids=["eigsh", "fourier_bessel", "seed"]
)
def test_solvers_bases_and_seeds_agree(
    simulated: SimulatedStack, clean: np.ndarray, published: DenoiseResult, change: dict[str, object]
) -> None:
    other = denoise(simulated, replace(PAPER, **change))
    assert abs(psnr(other, clean) - psnr(published, clean)) < (0.25 if "basis" in change else 0.05)


def test_graph_map_needs_the_basis_in_which_the_ctf_is_diagonal() -> None:
    with pytest.raises(ParameterError, match="the method 'graph_map' needs the basis 'disk_harmonics'"):
        DenoiseParams(basis="fourier_bessel")


def test_astigmatism_is_undone(simulated: SimulatedStack, clean: np.ndarray) -> None:
    """The same particles in smaller pixels, where 3,000 Å of astigmatism matter."""
    assert simulated.ctf is not None
    ctf = replace(
        simulated.ctf,
        defocus_u_angstrom=simulated.ctf.defocus_u_angstrom + 1500.0,
        defocus_v_angstrom=simulated.ctf.defocus_v_angstrom - 1500.0,
        defocus_angle=np.linspace(0, np.pi, N),
    )
    images = np.fft.irfft2(np.fft.rfft2(clean) * evaluate_ctf_2d(ctf, BOX, 3.0), s=(BOX, BOX))
    images += np.sqrt(simulated.noise_variance) * np.random.default_rng(0).normal(size=images.shape)
    known, unknown = (
        denoise(ParticleStack.from_array(images.astype(np.float32), 3.0, c), PARAMS) for c in (ctf, simulated.ctf)
    )
    assert psnr(known, clean) > psnr(unknown, clean) + 0.3


@pytest.mark.parametrize("phase_plate", [False, True])
def test_many_ctfs_are_put_in_classes(
    simulated: SimulatedStack, clean: np.ndarray, phase_plate: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    ctf = make_ctf(rng.uniform(1e4, 4e4, N), voltage_kv=200.0, cs_mm=2.0, amplitude_contrast=0.1)
    if phase_plate:  # no two particles have the same phase shift
        ctf = replace(ctf, phase_shift=rng.uniform(0, np.pi, N))
    images = np.fft.irfft2(np.fft.rfft2(clean) * evaluate_ctf_2d(ctf, BOX, PIXEL_SIZE), s=(BOX, BOX))
    images += np.sqrt(simulated.noise_variance) * rng.normal(size=images.shape)
    stack = ParticleStack.from_array(images.astype(np.float32), PIXEL_SIZE, ctf)
    found = denoise(stack, PARAMS)
    monkeypatch.setattr("mfvdm_fast.prepare.CTF_CLASSES", N)
    assert abs(psnr(found, clean) - psnr(denoise(stack, PARAMS), clean)) < 0.3  # with every CTF as it is
    if not phase_plate:  # the same range of defocus in twenty groups
        assert abs(psnr(found, clean) - psnr(denoise(simulated, PARAMS), clean)) < 0.5


def test_known_shifts_are_undone(simulated: SimulatedStack, clean: np.ndarray, result: DenoiseResult) -> None:
    shifts = np.random.default_rng(0).integers(-2, 3, (N, 2)).astype(float)
    images = simulated.read(np.arange(N))
    moved = np.stack([np.roll(image, (int(y), int(x)), (0, 1)) for image, (x, y) in zip(images, shifts, strict=True)])
    stack = ParticleStack.from_array(moved, PIXEL_SIZE, simulated.ctf)
    stack.known_shifts_px = shifts
    assert psnr(denoise(stack, PARAMS), clean) > psnr(result, clean) - 0.1


def test_whitening_is_chosen_by_the_noise(simulated: SimulatedStack, clean: np.ndarray, result: DenoiseResult) -> None:
    assert not result.whitened
    rng = np.random.default_rng(0)
    radii = np.hypot(np.fft.fftfreq(BOX)[:, None], np.fft.rfftfreq(BOX)[None, :])
    white = np.fft.rfft2(rng.standard_normal((N, BOX, BOX)))
    coloured = np.fft.irfft2(white / (0.3 + 4 * radii), s=(BOX, BOX)) * np.sqrt(simulated.noise_variance)
    images = (simulated.read_ctf(np.arange(N)) + coloured).astype(np.float32)
    stack = ParticleStack.from_array(images, PIXEL_SIZE, simulated.ctf)
    whitened = denoise(stack, PARAMS)
    assert whitened.whitened
    assert psnr(whitened, clean) > psnr(denoise(stack, replace(PARAMS, whiten=False)), clean)


def test_isolated_scale_tiny_pixel_values_do_not_matter(simulated: SimulatedStack, published: DenoiseResult) -> None:
    images = simulated.read(np.arange(N)) * np.float32(1e-6)
    tiny = denoise(ParticleStack.from_array(images, PIXEL_SIZE, simulated.ctf), PAPER).images()
    np.testing.assert_allclose(1e6 * tiny, published.images(), atol=0.02 * float(np.ptp(published.images())))


def test_too_few_particles_are_refused(simulated: SimulatedStack) -> None:
    stack = ParticleStack.from_array(simulated.read(np.arange(20)), PIXEL_SIZE)
    with pytest.raises(InputError, match=r"the stack has 20 particles, .*; at least 21 are needed: .* at most 19 "):
        denoise(stack)
    with pytest.raises(InputError, match=r"but 20 neighbours are asked for each: .* at most 19 "):
        denoise(stack, DenoiseParams(n_neighbors=20))


@pytest.mark.parametrize("box_size", [16, 17, 22, 39])
def test_small_boxes_even_and_odd(box_size: int) -> None:
    stack = simulate_stack(synthetic_particle(box_size), PIXEL_SIZE, 100, SimulationSettings(snr=0.5), threads=1)
    clean = stack.read_clean(np.arange(100))
    images = denoise(stack, preset(), threads=1).images()
    assert images.shape == clean.shape
    score, raw = (
        evaluate_images([clean], [some], float(np.ptp(clean))).psnr_db for some in (images, stack.read(np.arange(100)))
    )
    assert score > raw + 1


def test_a_tiny_box_is_refused() -> None:
    stack = ParticleStack.from_array(np.random.default_rng(0).normal(size=(60, 8, 8)))
    with pytest.raises(InputError, match="the box is 8 px wide"):
        denoise(stack, DenoiseParams(n_neighbors=5))


def test_a_ctf_needs_a_pixel_size(simulated: SimulatedStack) -> None:
    stack = ParticleStack.from_array(simulated.read(np.arange(60)), None, None)
    with pytest.raises(InputError, match="the pixel size is not known"):
        denoise(stack, DenoiseParams(n_neighbors=5, particle_diameter_angstrom=100))


def test_a_radius_beyond_the_box_is_refused(simulated: SimulatedStack) -> None:
    with pytest.raises(ParameterError, match=r"the particle radius of 20\.0 px does not fit the box of 33 px"):
        denoise(simulated, replace(PARAMS, radius_px=20))


def test_too_little_memory_is_refused_before_any_work(simulated: SimulatedStack) -> None:
    with pytest.raises(ParameterError, match=r"of memory, but max_memory_bytes \(--max-memory\) allows 1 MiB"):
        denoise(simulated, PARAMS, max_memory_bytes=10**6)


def test_pure_noise_is_refused() -> None:
    images = np.random.default_rng(0).normal(size=(300, 32, 32)).astype(np.float32)
    # Without any ring above the noise the support is the whole box, and no component stands out.
    with pytest.raises(InputError, match=r"no principal component of the 300 images stands above the noise"):
        denoise(ParticleStack.from_array(images), DenoiseParams(n_neighbors=10, radius_px=8, bandlimit=0.1))


def test_inverted_contrast_is_warned_about(simulated: SimulatedStack) -> None:
    stack = ParticleStack.from_array(-simulated.read_ctf(np.arange(200)) + 0.01, PIXEL_SIZE)
    noise = np.random.default_rng(0).normal(size=(200, BOX, BOX)) * 0.1 * np.ptp(stack.read(np.arange(200)))
    dark = ParticleStack.from_array(stack.read(np.arange(200)) + noise, PIXEL_SIZE)
    with pytest.warns(MfvdmWarning, match="darker than their background"):
        denoise(dark, DenoiseParams(n_neighbors=8))


def test_the_sample_is_spread_over_the_stack() -> None:
    class Wide:
        n_particles, box_size = 100_000, 129

    rows = sample_rows(Wide())  # type: ignore[arg-type]
    assert rows[0] == 0
    assert rows[-1] > 99_000
    assert len(rows) <= 2016
    assert np.all(np.diff(rows) > 0)


def test_the_wiener_filter_alone_takes_any_number_of_particles_but_one(simulated: SimulatedStack) -> None:
    images, params = simulated.read(np.arange(4)), preset(method="cwf")
    assert np.isfinite(denoise(ParticleStack.from_array(images), params, threads=1).images()).all()
    with pytest.raises(InputError, match="the stack has a single particle, of which nothing can be learnt: use more"):
        denoise(ParticleStack.from_array(images[:1]), params)


def test_a_tiny_radius_is_refused(simulated: SimulatedStack) -> None:
    with pytest.raises(ParameterError, match=r"the particle radius of 0\.0833 px is too small: at least 4 px"):
        denoise(simulated, replace(PARAMS, particle_diameter_angstrom=1.0))


def test_two_particles_can_have_no_neighbours_worth_asking_for() -> None:
    stack = ParticleStack.from_array(np.random.default_rng(0).normal(size=(2, 20, 20)))
    with pytest.raises(InputError, match=r"at least 21 are needed: use more$"):
        denoise(stack)
    with pytest.raises(InputError, match=r"but 5 neighbours are asked for each: use more particles$"):
        denoise(stack, DenoiseParams(n_neighbors=5))


@pytest.mark.parametrize("params", [replace(PARAMS, n_matchings=2, refine=True), PAPER, preset(method="cwf")])
def test_every_stage_reports_its_end(params: DenoiseParams) -> None:
    heard: dict[str, list[tuple[int, int]]] = {}
    stack = simulate_stack(synthetic_particle(24), PIXEL_SIZE, 100, SimulationSettings(snr=0.5), seed=1)
    denoise(stack, params, threads=1, progress=lambda stage, *count: heard.setdefault(stage, []).append(count))
    assert ("templates" in heard) == (params.method == "graph_map")
    for stage, counts in heard.items():
        assert counts[0][0] == 0, stage
        assert counts[-1][0] == counts[-1][1], stage
        starts = [i for i, (done, _) in enumerate(counts) if done == 0]
        for i in starts[1:]:  # a round ends before the next
            assert counts[i - 1][0] == counts[i - 1][1], stage
        assert all(done <= total for done, total in counts)
    rounds = [done for done, _ in heard.get("templates", [])].count(0)
    assert rounds == (params.n_matchings or 0)


def test_a_matching_is_reported_as_one_piece_of_work() -> None:
    """Not once for each part of the particles."""
    heard: list[tuple[int, int]] = []
    stack = simulate_stack(synthetic_particle(24), PIXEL_SIZE, 100, SimulationSettings(snr=0.5), seed=1)
    params = replace(PARAMS, n_matchings=2)
    denoise(stack, params, threads=1, progress=lambda stage, *count: heard.append(count) if stage == "match" else None)
    assert [done for done, _ in heard].count(0) == 2
    assert [done for done, total in heard if done == total] == [4000, 4000]
