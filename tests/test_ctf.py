"""The CTF against RELION's published value and program, its twin, and what physics demands."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mfvdm_fast.errors import InputError, ParameterError
from mfvdm_fast.imaging.ctf import (
    check_ctf,
    check_pixel_size,
    classify_ctf,
    electron_wavelength,
    evaluate_ctf,
    evaluate_ctf_2d,
    evaluate_ctf_radial,
    group_by_ctf,
    make_ctf,
    phase_flip_images,
)
from mfvdm_fast.records import CtfParameters

from .reference.ctf import reference_ctf_2d, reference_phase_flip


def _astigmatic(rng: np.random.Generator, n: int = 5) -> CtfParameters:
    """Particles that differ in every parameter."""
    u = rng.uniform(8e3, 3e4, n)
    return make_ctf(
        u,
        voltage_kv=rng.choice([120.0, 200.0, 300.0], n),
        cs_mm=rng.uniform(0, 3, n),
        amplitude_contrast=rng.uniform(0, 0.3, n),
        defocus_v_angstrom=u - rng.uniform(-3e3, 3e3, n),
        defocus_angle=rng.uniform(-np.pi, np.pi, n),
        phase_shift=rng.uniform(0, np.pi, n),
        bfactor_angstrom2=rng.uniform(0, 100, n),
        scale=rng.uniform(0.5, 1.5, n),
    )


def test_golden_value_of_relions_own_unit_test() -> None:
    ctf = make_ctf(
        10000.0,
        defocus_v_angstrom=12000.0,
        defocus_angle=np.pi / 2,
        voltage_kv=300.0,
        cs_mm=2.7,
        amplitude_contrast=0.1,
    )
    assert evaluate_ctf(ctf, 10.0, 10.0)[0] == pytest.approx(0.59154, abs=5e-6)
    assert evaluate_ctf(ctf, 10.0, 5.0)[0] != pytest.approx(0.59154, abs=1e-3)


def test_wavelengths_of_the_usual_microscopes() -> None:
    np.testing.assert_allclose(electron_wavelength([120.0, 200.0, 300.0]), [0.033492, 0.025079, 0.019687], atol=2e-6)


@pytest.mark.parametrize("box_size", [16, 17])
def test_twin(rng: np.random.Generator, box_size: int) -> None:
    ctf = _astigmatic(rng)
    fast = evaluate_ctf_2d(ctf, box_size, 2.5)
    assert fast.dtype == np.float32
    assert fast.shape == (5, box_size, box_size // 2 + 1)
    np.testing.assert_allclose(fast, reference_ctf_2d(ctf, box_size, 2.5), atol=2e-6)


def test_blocks_of_particles_do_not_matter(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    ctf = _astigmatic(rng)
    images = rng.standard_normal((5, 16, 16)).astype(np.float32)
    whole = evaluate_ctf_2d(ctf, 16, 3.0), phase_flip_images(images, ctf, 3.0)
    monkeypatch.setattr("mfvdm_fast.imaging.ctf._BLOCK_BYTES", 2 * 8 * 16 * 16)
    np.testing.assert_array_equal(evaluate_ctf_2d(ctf, 16, 3.0), whole[0])
    np.testing.assert_array_equal(phase_flip_images(images, ctf, 3.0), whole[1])


def test_zero_frequency_is_plus_amplitude_contrast() -> None:
    ctf = make_ctf([5e3, 2e4], amplitude_contrast=[0.07, 0.3])
    np.testing.assert_allclose(evaluate_ctf_2d(ctf, 8, 3.0)[:, 0, 0], [0.07, 0.3], rtol=1e-6)
    np.testing.assert_allclose(evaluate_ctf_radial(ctf, [0.0])[:, 0], [0.07, 0.3], rtol=1e-12)


def test_first_sign_change_comes_where_the_weak_phase_rule_says() -> None:
    # Without Cs and amplitude contrast the first zero is at sqrt(1 / (lambda defocus)).
    ctf = make_ctf(15000.0, cs_mm=0.0, amplitude_contrast=0.0)
    zero = 1 / np.sqrt(float(electron_wavelength(300.0)) * 15000.0)
    before, after = evaluate_ctf_radial(ctf, [0.99 * zero, 1.01 * zero])[0]
    assert before > 0 > after


def test_astigmatism_turns_with_its_angle() -> None:
    ctf = make_ctf(10000.0, defocus_v_angstrom=14000.0, defocus_angle=0.4)
    along = evaluate_ctf(ctf, 0.05 * np.cos(0.4), 0.05 * np.sin(0.4))
    across = evaluate_ctf(ctf, -0.05 * np.sin(0.4), 0.05 * np.cos(0.4))
    np.testing.assert_allclose(along, evaluate_ctf_radial(make_ctf(10000.0), [0.05])[:, 0], atol=1e-12)
    np.testing.assert_allclose(across, evaluate_ctf_radial(make_ctf(14000.0), [0.05])[:, 0], atol=1e-12)


def test_radial_takes_the_mean_defocus(rng: np.random.Generator) -> None:
    ctf = _astigmatic(rng)
    mean = 0.5 * (ctf.defocus_u_angstrom + ctf.defocus_v_angstrom)
    stigmatic = replace(ctf, defocus_u_angstrom=mean, defocus_v_angstrom=mean)
    frequencies = np.linspace(0, 0.2, 9)
    expected = evaluate_ctf(stigmatic, frequencies, 0.0)
    np.testing.assert_allclose(evaluate_ctf_radial(ctf, frequencies), expected, atol=1e-12)
    assert np.abs(evaluate_ctf(ctf, frequencies, 0.0) - expected).max() > 0.1


def test_groups_are_exact_and_in_order_of_first_occurrence(rng: np.random.Generator) -> None:
    base = _astigmatic(rng, 4)
    rows = np.array([2, 0, 2, 1, 0, 3, 2])
    ctf = base[rows]
    groups, member = group_by_ctf(ctf)
    assert member.tolist() == [0, 1, 0, 2, 1, 3, 0]
    assert member.dtype == np.int64
    for f in fields(ctf):
        np.testing.assert_array_equal(getattr(groups[member], f.name), getattr(ctf, f.name))
    nudged = replace(ctf, phase_shift=ctf.phase_shift + np.where(np.arange(7) == 6, 1e-9, 0.0))
    assert len(group_by_ctf(nudged)[0]) == 5


def test_few_ctfs_are_classes_of_their_own_and_exact() -> None:
    ctf = make_ctf([1e4, 2e4, 1e4])
    transfer, member = classify_ctf(ctf, [0.01, 0.05])
    assert member.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(transfer, evaluate_ctf_radial(ctf[np.array([0, 1])], [0.01, 0.05]))


@pytest.mark.parametrize("what", ["defocus", "phase", "bfactor"])
def test_many_ctfs_become_classes_whatever_makes_them_differ(rng: np.random.Generator, what: str) -> None:
    n, u = 2000, np.linspace(0, 0.08, 40)
    one = make_ctf(np.full(n, 2e4))
    changed = {
        "defocus": {name: rng.uniform(1e4, 3e4, n) for name in ("defocus_u_angstrom",)},
        "phase": {"phase_shift": rng.uniform(0, np.pi, n)},
        "bfactor": {"bfactor_angstrom2": rng.uniform(0, 500, n)},
    }[what]
    if what == "defocus":
        changed["defocus_v_angstrom"] = changed["defocus_u_angstrom"]
    ctf = replace(one, **changed)
    transfer, member = classify_ctf(ctf, u, 100)
    assert transfer.shape == (100, 40)
    assert np.bincount(member, minlength=100).min() > 0
    exact = evaluate_ctf_radial(ctf, u)
    for c in range(100):
        np.testing.assert_allclose(transfer[c], exact[member == c].mean(axis=0), atol=1e-12)
    left = np.square(exact - transfer[member]).mean() / np.square(exact - exact.mean(axis=0)).mean()
    assert left < 0.01


@pytest.mark.parametrize("box_size", [16, 17])
def test_phase_flip_twin(rng: np.random.Generator, box_size: int) -> None:
    ctf = _astigmatic(rng, 4)[np.array([0, 1, 1, 2, 3, 0])]
    images = rng.standard_normal((6, box_size, box_size)).astype(np.float32)
    flipped = phase_flip_images(images, ctf, 2.0)
    assert flipped.dtype == np.float32
    np.testing.assert_allclose(flipped, reference_phase_flip(images, ctf, 2.0), atol=1e-5)
    np.testing.assert_allclose(phase_flip_images(flipped, ctf, 2.0), images, atol=1e-5)
    assert np.abs(flipped - images).max() > 0.5


def test_phase_flip_for_any_threads_and_input(rng: np.random.Generator) -> None:
    ctf = _astigmatic(rng, 6)
    images = rng.standard_normal((6, 17, 17)).astype(np.float32)
    expected = phase_flip_images(images, ctf, 2.0, threads=1)
    np.testing.assert_array_equal(phase_flip_images(images, ctf, 2.0, threads=2), expected)
    np.testing.assert_array_equal(phase_flip_images(images.astype(np.float64), ctf, 2.0), expected)
    images.flags.writeable = False
    np.testing.assert_array_equal(phase_flip_images(np.asfortranarray(images), ctf, 2.0), expected)


def test_phase_flip_makes_every_frequency_positive() -> None:
    ctf = make_ctf(20000.0)
    transfer = evaluate_ctf_2d(ctf, 17, 3.0)
    image = np.fft.irfft2(transfer, s=(17, 17)).astype(np.float32)
    assert np.fft.rfft2(image).real.min() < -0.5
    assert np.fft.rfft2(phase_flip_images(image, ctf, 3.0)).real.min() > -1e-5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"voltage_kv": 0.0}, "voltage_kv must be above 0 kV, got 0 for particle 1; 300 kV is 300"),
        ({"voltage_kv": 3e5}, "voltage_kv must be at most 10000 kV, got 300000 for particle 1; give it in kV"),
        ({"cs_mm": -0.1}, "cs_mm must be 0 or more, got -0.1 for particle 1; give the spherical aberration in mm"),
        ({"cs_mm": 2.7e7}, "cs_mm must be at most 10 mm, got 2.7e\\+07 for particle 1; give it in mm, usually 2.7"),
        ({"amplitude_contrast": 1.5}, "amplitude_contrast must be between 0 and 1, got 1.5 for particle 1"),
        ({"amplitude_contrast": -0.1}, "amplitude_contrast must be between 0 and 1, got -0.1"),
        ({"defocus_v_angstrom": np.nan}, "defocus_v_angstrom must be a finite number, got nan for particle 1; correct"),
    ],
)
def test_impossible_parameters(change: dict[str, float], message: str) -> None:
    ctf = make_ctf([1e4, 2e4, 3e4])
    name, value = next(iter(change.items()))
    getattr(ctf, name)[1] = value
    for call in (check_ctf, lambda c: evaluate_ctf_2d(c, 8, 3.0), lambda c: evaluate_ctf_radial(c, [0.1])):
        with pytest.raises(ParameterError, match=message):
            call(ctf)


def test_other_refusals() -> None:
    ctf = make_ctf([1e4, 2e4])
    with pytest.raises(ParameterError, match="pixel_size is missing, and the CTF needs it; give the size"):
        evaluate_ctf_2d(ctf, 8, None)
    with pytest.raises(
        ParameterError, match=r"pixel_size must be a finite number above 0, got 0\.0; give the size of one pixel in Å"
    ):
        check_pixel_size(0.0)
    with pytest.raises(ParameterError, match="box_size must be at least 2 px, got 1"):
        evaluate_ctf_2d(ctf, 1, 3.0)
    with pytest.raises(ParameterError, match=r"cs_mm has shape \(1,\), expected \(2,\): one value per particle"):
        check_ctf(replace(ctf, cs_mm=np.ones(1)))
    with pytest.raises(ParameterError, match="'defocus' is no CTF parameter; the parameters are voltage_kv"):
        make_ctf(1e4, defocus=2e4)
    with pytest.raises(InputError, match=r"the defocus .* is 1\.5 to 1\.5, and must be in Å"):
        make_ctf(1.5)
    with pytest.raises(ParameterError, match=r"images must have shape \(b, L, L\), got \(8, 9\)"):
        phase_flip_images(np.zeros((8, 9), np.float32), ctf, 3.0)
    with pytest.raises(ParameterError, match="ctf has 2 rows for 3 images; give one row per image"):
        phase_flip_images(np.zeros((3, 8, 8), np.float32), ctf, 3.0)


@pytest.mark.parametrize("wrong", ["a", "10000", None, [1e4, [2e4]], 1e4 + 1j, True, [[1e4, 2e4]], ["1e4"], []])
@pytest.mark.parametrize("name", ["defocus_u_angstrom", "cs_mm", "phase_shift"])
def test_parameters_are_numbers(name: str, wrong: Any) -> None:
    text = rf"CTF parameter {name} must be a number, or an array \(n,\) with one for each particle, got .*; convert it"
    with pytest.raises(ParameterError, match=text):
        make_ctf(**{"defocus_u_angstrom": 1e4, name: wrong})


def test_parameters_are_of_one_length() -> None:
    text = r"one for each of n particles, got the shapes voltage_kv \(3,\), defocus_u_angstrom \(2,\), defocus_v"
    with pytest.raises(ParameterError, match=text):
        make_ctf([1e4, 2e4], voltage_kv=[200, 300, 300])
    for whole in (10_000, np.int32(10_000), [10_000], np.float16(10_000)):
        assert make_ctf(whole).defocus_v_angstrom.tolist() == [1e4]


@pytest.mark.skipif(shutil.which("relion_project") is None, reason="RELION is not installed")
def test_agrees_with_relion(tmp_path: Path) -> None:
    mrcfile = pytest.importorskip("mrcfile")
    box_size, pixel_size = 64, 1.5
    delta = np.zeros((box_size,) * 3, np.float32)
    delta[32, 32, 32] = 1.0
    with mrcfile.new(tmp_path / "delta.mrc") as out:
        out.set_data(delta)
        out.voxel_size = pixel_size
    ctf = make_ctf(
        12000.0,
        defocus_v_angstrom=9500.0,
        defocus_angle=np.radians(33.0),
        voltage_kv=200.0,
        amplitude_contrast=0.12,
        phase_shift=np.radians(40.0),
        bfactor_angstrom2=30.0,
    )
    (tmp_path / "view.star").write_text(
        "# version 30001\n\ndata_optics\n\nloop_\n_rlnOpticsGroup\n_rlnOpticsGroupName\n_rlnVoltage\n"
        "_rlnSphericalAberration\n_rlnAmplitudeContrast\n_rlnImagePixelSize\n_rlnImageSize\n_rlnImageDimensionality\n"
        f"1 opticsGroup1 200 2.7 0.12 {pixel_size} {box_size} 2\n\n# version 30001\n\ndata_particles\n\nloop_\n"
        "_rlnImageName\n_rlnOpticsGroup\n_rlnAngleRot\n_rlnAngleTilt\n_rlnAnglePsi\n_rlnOriginXAngst\n_rlnOriginYAngst\n"
        "_rlnDefocusU\n_rlnDefocusV\n_rlnDefocusAngle\n_rlnPhaseShift\n_rlnCtfBfactor\n"
        "000001@none.mrcs 1 0 0 0 0 0 12000 9500 33 40 30\n\n"
    )
    command = ["relion_project", "--i", "delta.mrc", "--ang", "view.star", "--ctf", "--o", "out"]
    subprocess.run([*command, "--angpix", str(pixel_size)], cwd=tmp_path, check=True, capture_output=True)
    image = mrcfile.read(tmp_path / "out.mrcs").reshape(box_size, box_size)
    theirs = np.fft.fft2(np.fft.ifftshift(image)).real
    f = np.fft.fftfreq(box_size, pixel_size)
    ours = evaluate_ctf(ctf, f[None, :], f[:, None])[0]
    inside = np.hypot(f[None, :], f[:, None]) < 0.48 / pixel_size
    theirs, ours = theirs[inside], ours[inside]
    assert np.corrcoef(theirs, ours)[0, 1] > 0.99999
    assert np.abs(theirs - ours).max() < 1e-5
