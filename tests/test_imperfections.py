"""What real stacks have: lists of defocus values, uneven contrast, coloured noise, junk, each as the settings say."""

from __future__ import annotations

import numpy as np
import pytest

from mfvdm_fast.errors import ParameterError
from mfvdm_fast.imperfections import (
    CONTAMINATED,
    EMPTY,
    JUNK_KINDS,
    OFF_CENTRE,
    contamination_transform,
    draw_groups,
    draw_junk,
    make_defocus_list,
    noise_filter,
)
from mfvdm_fast.simulate import SimulatedStack, SimulationSettings, simulate_stack
from mfvdm_fast.synthetic import synthetic_particle

VOLUME = synthetic_particle(24)


def _stack(n: int, **settings: float) -> SimulatedStack:
    return simulate_stack(VOLUME, 4.0, n, SimulationSettings(**settings), seed=3, threads=1)


def _radial(power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies and values of a power spectrum (L, L), unshifted, in the same order."""
    f = np.fft.fftfreq(len(power))
    return np.hypot(f[:, None], f[None, :]).ravel(), power.ravel()


def test_coloured_noise_falls_as_asked_and_keeps_its_variance() -> None:
    n = 300
    stack = _stack(n, snr=0.01, noise_falloff=4.0)
    noise = stack.read(np.arange(n)) - stack.read_ctf(np.arange(n))
    assert noise.var(dtype=np.float64) == pytest.approx(stack.noise_variance, rel=0.02)  # 172,800 pixels
    assert stack.noise_variance == pytest.approx(stack.signal_variance / 0.01)
    frequency, power = _radial((np.abs(np.fft.fft2(noise)) ** 2).mean(axis=0) / 24**2 / stack.noise_variance)
    slope, level = np.polyfit(frequency[frequency < 0.5], np.log(power[frequency < 0.5]), 1)
    assert np.exp(-slope / 2) == pytest.approx(4.0, rel=0.1)
    beyond = power[frequency >= 0.5]
    assert beyond.mean() == pytest.approx(np.exp(level + slope / 2), rel=0.05)  # level from Nyquist on


def test_another_falloff_is_the_same_noise_filtered() -> None:
    white, coloured = _stack(3, snr=0.01), _stack(3, snr=0.01, noise_falloff=4.0)
    rows = np.arange(3)
    np.testing.assert_array_equal(white.read_ctf(rows), coloured.read_ctf(rows))
    noise = white.read(rows) - white.read_ctf(rows)
    expected = np.fft.irfft2(np.fft.rfft2(noise) * noise_filter(24, 4.0), s=(24, 24))
    np.testing.assert_allclose(coloured.read(rows) - coloured.read_ctf(rows), expected, atol=1e-4 * noise.std())
    np.testing.assert_array_equal(coloured.read(rows[::-1]), coloured.read(rows)[::-1])


@pytest.mark.parametrize("box_size", [16, 17])
@pytest.mark.parametrize("falloff", [0.5, 1.0, 4.0])
def test_noise_filter_has_mean_power_one(box_size: int, falloff: float) -> None:
    half = noise_filter(box_size, falloff).astype(np.float64) ** 2
    full = np.concatenate([half, half[:, 1 : (box_size + 1) // 2]], axis=1)
    assert full.shape == (box_size, box_size)
    assert full.mean() == pytest.approx(1.0, rel=1e-6)
    assert half[0, 0] / half[0, box_size // 2] == pytest.approx(falloff ** (2 * (box_size // 2) / box_size), rel=1e-5)


def test_junk_has_the_fraction_and_the_kinds_asked_for() -> None:
    kinds = draw_junk(0.3, 30_000, np.random.default_rng(0))
    assert np.bincount(kinds) / 30_000 == pytest.approx([0.7, 0.1, 0.1, 0.1], abs=0.01)
    np.testing.assert_array_equal(draw_junk(0.3, 10, np.random.default_rng(0)), kinds[:10])
    assert not draw_junk(0.0, 1000, np.random.default_rng(0)).any()
    stack = _stack(300, junk_fraction=0.3)
    np.testing.assert_array_equal(stack.junk, stack.junk_kind > 0)
    assert set(stack.junk_kind) == {0, *range(1, len(JUNK_KINDS) + 1)}


def test_junk_images_are_what_they_are_called() -> None:
    n = 120
    good, stack = _stack(n), _stack(n, junk_fraction=0.5)
    rows = np.arange(n)
    clean, junk = good.read_clean(rows), stack.read_clean(rows)
    kind = stack.junk_kind
    np.testing.assert_array_equal(junk[kind == 0], clean[kind == 0])
    np.testing.assert_array_equal(junk[kind == EMPTY], 0.0)
    # Half a box away: the light is at the edges, all of it still there.
    np.testing.assert_allclose(np.hypot(*stack.shifts_px[kind == OFF_CENTRE].T), 12.0)
    assert not stack.shifts_px[kind != OFF_CENTRE].any()
    away, home = junk[kind == OFF_CENTRE], clean[kind == OFF_CENTRE]
    np.testing.assert_allclose(away.sum(axis=(1, 2)), home.sum(axis=(1, 2)), rtol=1e-3)
    centre = np.s_[:, 9:16, 9:16]
    assert (away[centre].sum(axis=(1, 2)) < 0.6 * home[centre].sum(axis=(1, 2))).mean() > 0.9
    # Something bright that was not there, and nothing else.
    added = junk[kind == CONTAMINATED] - clean[kind == CONTAMINATED]
    assert (added.max(axis=(1, 2)) > 1.5 * VOLUME.sum(axis=0).max()).all()
    assert (added.min(axis=(1, 2)) > -0.2 * added.max(axis=(1, 2))).all()
    np.testing.assert_array_equal(stack.read_clean(rows[::-1]), junk[::-1])


def test_contamination_passes_the_ctf_and_gets_noise() -> None:
    stack = _stack(60, junk_fraction=0.9, snr=np.inf)
    row = np.flatnonzero(stack.junk_kind == CONTAMINATED)[:1]
    clean, seen = stack.read_clean(row)[0], stack.read(row)[0]
    assert stack._group_ctf is not None
    expected = np.fft.irfft2(np.fft.rfft2(clean) * stack._group_ctf[stack.defocus_group[row[0]]], s=(24, 24))
    np.testing.assert_allclose(seen, expected, atol=1e-4 * np.abs(expected).max())
    assert (contamination_transform(24, 1.0, np.random.default_rng(1))[:, -1] == 0).all()  # Nyquist stays empty


def test_junk_does_not_change_the_noise_of_the_others() -> None:
    good, some = _stack(200), _stack(200, junk_fraction=0.3)
    rows = np.flatnonzero(~some.junk)
    signal = good.read_ctf(rows)
    assert some.signal_variance == pytest.approx(signal.var(dtype=np.float64), rel=1e-4)
    noise = [stack.read(rows) - signal for stack in (good, some)]
    np.testing.assert_allclose(
        noise[1], noise[0] * np.sqrt(some.noise_variance / good.noise_variance), atol=1e-3 * noise[0].std()
    )


def test_particles_draw_from_a_list_of_defocus_values() -> None:
    values = make_defocus_list([9e3, 2e4, 3e4], [9.5e3, 2e4, 3e4], [0.5, 0.0, 0.0], weight=[1, 0, 3])
    assert len(values) == 3
    stack = simulate_stack(VOLUME, 4.0, 2000, seed=1, threads=1, defocus=values)
    assert stack.ctf is not None
    share = np.bincount(stack.defocus_group, minlength=3) / 2000
    assert share == pytest.approx([0.25, 0.0, 0.75], abs=0.04)
    np.testing.assert_array_equal(stack.ctf.defocus_u_angstrom, values.defocus_u_angstrom[stack.defocus_group])
    np.testing.assert_array_equal(stack.ctf.defocus_v_angstrom, values.defocus_v_angstrom[stack.defocus_group])
    np.testing.assert_array_equal(stack.ctf.defocus_angle, values.defocus_angle[stack.defocus_group])
    assert set(stack.ctf.voltage_kv) == {200.0}
    shorter = simulate_stack(VOLUME, 4.0, 10, seed=1, threads=1, defocus=values)
    np.testing.assert_array_equal(shorter.defocus_group, stack.defocus_group[:10])
    plain = simulate_stack(VOLUME, 4.0, 10, seed=1, threads=1)
    np.testing.assert_array_equal(plain.rotations, shorter.rotations)
    assert np.abs(plain.read_ctf(np.arange(10)) - shorter.read_ctf(np.arange(10))).max() > 0.01


def test_a_list_without_weights_or_astigmatism() -> None:
    values = make_defocus_list([1e4, 2e4])
    np.testing.assert_array_equal(values.defocus_v_angstrom, [1e4, 2e4])
    np.testing.assert_array_equal(values.defocus_angle, 0.0)
    np.testing.assert_array_equal(values.share, 0.5)
    drawn = draw_groups(np.array([0.1, 0.2, 0.7]), 20_000, np.random.default_rng(0))
    assert np.bincount(drawn) / 20_000 == pytest.approx([0.1, 0.2, 0.7], abs=0.015)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([],), r"defocus_u_angstrom must have one value .* the 0 defocus values \(at least 1\), got shape \(0,\)"),
        (([[1e4]],), r"defocus_u_angstrom must have one value for each of the 1 .* got shape \(1, 1\)"),
        (([1e4, 2e4], [1e4]), r"defocus_v_angstrom must have one value for each of the 2 .* got shape \(1,\)"),
        (([1e4, np.inf],), r"defocus_u_angstrom\[1\] is not finite; leave that row out"),
        (([1e4], None, [np.nan]), r"defocus_angle\[0\] is not finite"),
        (([1e4, 2e4], None, None, [1, -1]), "weight must be 0 or more everywhere and above 0 somewhere"),
        (([1e4, 2e4], None, None, [0, 0]), "weight must be 0 or more everywhere and above 0 somewhere; give numbers"),
    ],
)
def test_lists_that_are_refused(columns: tuple[object, ...], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        make_defocus_list(*columns)


def test_a_list_without_ctf_is_refused() -> None:
    with pytest.raises(ParameterError, match="defocus is a list of defocus values, but ctf=False; leave one of them"):
        simulate_stack(VOLUME, 4.0, 3, SimulationSettings(ctf=False), defocus=make_defocus_list([1e4]))
