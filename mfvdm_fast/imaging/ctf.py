"""Contrast transfer functions in RELION's convention: evaluation, grouping and phase flipping.

CTF = -sin(gamma) exp(-B u^2 / 4) scale, with
gamma = -pi lambda D(x, y) + (pi/2) Cs lambda^3 u^4 - phase_shift - asin(Q0), D = U c^2 + V s^2 along the astigmatism
axes (c and s the components of the frequency along and across ``defocus_angle``). Defocus is positive for underfocus,
the CTF is +Q0 at zero frequency, and frequencies are in 1/Å with x along columns and y along rows.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, NDArray

from ..errors import ParameterError
from ..records import CtfParameters, FloatArray, Images, IndexArray
from ..threads import map_in_order, resolve_threads
from .ctf_parameters import check_ctf, check_pixel_size
from .ctf_parameters import make_ctf as make_ctf  # offered here too
from .fourier_shift import check_shifts, shift_transforms

_SHAPE_SAMPLES = 64  # frequencies at which the shapes of CTFs are compared
_SHAPE_BLOCK = 4096
_BLOCK_BYTES = 32 << 20  # float64 work space of one block of particles
_PIECE = 8  # images or CTFs in one piece of work
_BOTH_SIGNS = np.uint64(1 << 63 | 1 << 31)  # of the real and the imaginary part of a complex64 number
LARGEST_ASTIGMATISM = 0.3  # radians of CTF phase at the bandlimit that a radial CTF may be wrong by


def electron_wavelength(voltage_kv: ArrayLike) -> FloatArray:
    """Relativistic electron wavelength in Å for accelerating voltages in kV.

    >>> round(float(electron_wavelength(300.0)), 5)
    0.01969
    """
    volts = np.asarray(voltage_kv, dtype=np.float64) * 1e3
    return 12.2643247 / np.sqrt(volts * (1.0 + 0.978466e-6 * volts))


def evaluate_ctf(ctf: CtfParameters, x: ArrayLike, y: ArrayLike) -> FloatArray:
    """CTF of each particle at the frequencies (x, y) in 1/Å; x and y broadcast to shape s, the result is (n, *s).

    >>> ctf = make_ctf(10000.0, amplitude_contrast=0.1)
    >>> round(float(evaluate_ctf(ctf, 0.0, 0.0)[0]), 12)
    0.1
    """
    x, y = np.broadcast_arrays(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64))
    u2 = x * x + y * y
    columns = {f.name: getattr(ctf, f.name).reshape(-1, *(1,) * x.ndim) for f in fields(ctf)}
    u, v, angle = (columns[name] for name in ("defocus_u_angstrom", "defocus_v_angstrom", "defocus_angle"))
    # U c^2 + V s^2 written as mean defocus and astigmatism: one product less per pixel than the rotated form.
    half = 0.5 * (u - v)
    defocus_u2 = 0.5 * (u + v) * u2
    if np.any(half):
        defocus_u2 = defocus_u2 + half * (np.cos(2 * angle) * (x * x - y * y) + np.sin(2 * angle) * (2 * x * y))
    return _transfer(columns, defocus_u2, u2)


def _transfer(columns: dict[str, FloatArray], defocus_u2: FloatArray, u2: FloatArray) -> FloatArray:
    """-sin(gamma) exp(-B u^2 / 4) scale, from defocus times squared frequency."""
    wavelength = electron_wavelength(columns["voltage_kv"])
    gamma = (0.5 * np.pi * 1e7) * columns["cs_mm"] * wavelength**3 * u2**2 - np.pi * wavelength * defocus_u2
    gamma -= columns["phase_shift"] + np.arcsin(columns["amplitude_contrast"])
    value = np.sin(gamma)
    value *= -columns["scale"]
    if np.any(columns["bfactor_angstrom2"]):
        value *= np.exp(-0.25 * columns["bfactor_angstrom2"] * u2)
    return value


def evaluate_ctf_2d(ctf: CtfParameters, box_size: int, pixel_size: float | None) -> Images:
    """CTF on the ``rfft2`` grid of an image of ``box_size`` pixels: (n, L, L // 2 + 1) float32, zero frequency first.

    The last axis is x (columns). ``pixel_size`` is in Å. Raises ParameterError for impossible parameters.

    >>> evaluate_ctf_2d(make_ctf(10000.0), 8, 3.0).shape
    (1, 8, 5)
    """
    check_ctf(ctf)
    step = check_pixel_size(pixel_size)
    if box_size < 2:
        raise ParameterError(f"box_size must be at least 2 px, got {box_size}; give the side of the images")
    x = np.fft.rfftfreq(box_size, step)[None, :]
    y = np.fft.fftfreq(box_size, step)[:, None]
    out = np.empty((len(ctf), y.size, x.size), dtype=np.float32)
    block = max(1, _BLOCK_BYTES // (8 * y.size * x.size))
    for start in range(0, len(ctf), block):
        out[start : start + block] = evaluate_ctf(ctf[start : start + block], x, y)
    return out


def evaluate_ctf_radial(ctf: CtfParameters, frequencies: ArrayLike) -> FloatArray:
    """CTF of each particle at radial ``frequencies`` (f,) in cycles per Å: (n, f) float64.

    Astigmatism is left out: the defocus is the mean (U + V) / 2 at every angle, which is what a steerable basis can
    apply as a diagonal.

    >>> evaluate_ctf_radial(make_ctf([1e4, 2e4]), [0.0, 0.01]).shape
    (2, 2)
    """
    check_ctf(ctf)
    u = np.asarray(frequencies, dtype=np.float64).reshape(-1)
    columns = {f.name: getattr(ctf, f.name)[:, None] for f in fields(ctf)}
    mean_defocus = 0.5 * (columns["defocus_u_angstrom"] + columns["defocus_v_angstrom"])
    return _transfer(columns, mean_defocus * u**2, u**2)


def group_by_ctf(ctf: CtfParameters) -> tuple[CtfParameters, IndexArray]:
    """Particles of equal parameters: (CTF of each group, group of each particle (n,) int64), by first occurrence.

    >>> groups, member = group_by_ctf(make_ctf([2e4, 1e4, 2e4]))
    >>> groups.defocus_u_angstrom.tolist(), member.tolist()
    ([20000.0, 10000.0], [0, 1, 0])
    """
    table = np.stack([getattr(ctf, f.name) for f in fields(ctf)], axis=1)
    _, first, inverse = np.unique(table, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(order.size, dtype=np.int64)
    rank[order] = np.arange(order.size)
    return ctf[first[order]], rank[inverse.reshape(-1)]


def classify_ctf(ctf: CtfParameters, frequencies: ArrayLike, n_classes: int = 100) -> tuple[FloatArray, IndexArray]:
    """Classes of like radial CTFs, whatever makes them differ: defocus, phase shift, B-factor, microscope.

    Equal CTFs share a class. While there are more than ``n_classes``, the CTFs are halved again and again: the class of
    largest scatter, at the mean along its principal axis.

    Returns
    -------
    transfer : (g, f) float64, the mean radial CTF of each class at ``frequencies`` (f,) in 1/Å.
    member : (n,) int64, class of each particle.

    >>> transfer, member = classify_ctf(make_ctf([1e4, 3e4, 1.001e4]), [0.01, 0.03], n_classes=2)
    >>> transfer.shape, bool(member[0] == member[2] != member[1])
    ((2, 2), True)
    """
    u = np.asarray(frequencies, dtype=np.float64).reshape(-1)
    groups, member = group_by_ctf(ctf)
    if len(groups) <= n_classes:
        return evaluate_ctf_radial(groups, u), member
    weight = np.bincount(member).astype(np.float64)
    label = _halve(evaluate_ctf_radial(groups, np.linspace(0, u.max(), _SHAPE_SAMPLES)), weight, n_classes)
    total = np.zeros((int(label.max()) + 1, len(u)))
    for start in range(0, len(groups), _SHAPE_BLOCK):
        rows = slice(start, start + _SHAPE_BLOCK)
        np.add.at(total, label[rows], evaluate_ctf_radial(groups[rows], u) * weight[rows, None])
    return total / np.bincount(label, weight)[:, None], label[member]


def _halve(shapes: FloatArray, weight: FloatArray, n_classes: int) -> IndexArray:
    """Class of each row of ``shapes``; fewer than ``n_classes`` when the rest are equal."""
    label = np.zeros(len(shapes), np.int64)
    scatter = {0: np.inf}
    while len(scatter) < n_classes and max(scatter.values()) > 0:
        worst = max(scatter, key=lambda c: scatter[c])
        rows = np.flatnonzero(label == worst)
        centred = shapes[rows] - np.average(shapes[rows], axis=0, weights=weight[rows])
        values, axes = np.linalg.eigh((centred * weight[rows, None]).T @ centred)
        far = rows[centred @ axes[:, -1] > 0]
        if not values[-1] > 0 or not 0 < len(far) < len(rows):
            scatter[worst] = 0.0
            continue
        label[far] = len(scatter)
        for c in (worst, len(scatter)):
            own = label == c
            scatter[c] = float(
                (weight[own] @ (shapes[own] - np.average(shapes[own], axis=0, weights=weight[own])) ** 2).sum()
            )
    return label


def phase_flip_images(
    images: Images,
    ctf: CtfParameters,
    pixel_size: float | None,
    threads: int | None = None,
    shifts_px: ArrayLike | None = None,
) -> Images:
    """Images (b, L, L) float32 with the sign of their CTF taken out, astigmatism included; ``ctf`` has a row per image.

    With ``shifts_px`` they are centred in the same pass, as :func:`~.fourier_shift.shift_images` does alone. Without,
    flipping twice is the identity. The Nyquist row and column of an even box are left alone. Raises ParameterError
    when images and CTF rows differ in number. Peak memory: twice the images, besides 32 MB.

    >>> images = np.ones((1, 8, 8), np.float32)
    >>> bool(np.allclose(phase_flip_images(images, make_ctf(10000.0), 3.0), images))
    True
    """
    images = np.asarray(images, dtype=np.float32)
    if images.ndim != 3 or images.shape[1] != images.shape[2]:
        raise ParameterError(f"images must have shape (b, L, L), got {images.shape}; give a stack of square images")
    if len(ctf) != len(images):
        raise ParameterError(f"ctf has {len(ctf)} rows for {len(images)} images; give one row per image")
    box_size = images.shape[-1]
    shifts = None if shifts_px is None else check_shifts(shifts_px, len(images))
    out = np.empty(images.shape, dtype=np.float32)
    block, count = max(1, _BLOCK_BYTES // (8 * box_size**2)), resolve_threads(threads)
    for start in range(0, len(images), block):
        rows = slice(start, start + block)
        bits, member = _sign_bits(ctf[rows], box_size, pixel_size, count)
        _flip(images[rows], bits, member, None if shifts is None else shifts[rows], out[rows], count)
    return out


def _sign_bits(
    ctf: CtfParameters, box_size: int, pixel_size: float | None, threads: int
) -> tuple[NDArray[np.uint64], IndexArray]:
    """What changes the sign of a complex64 number where the CTF is negative, (g, L, L // 2 + 1); g of each image."""
    groups, member = group_by_ctf(ctf)
    bits = np.zeros((len(groups), box_size, box_size // 2 + 1), np.uint64)

    def fill(first: int) -> None:
        rows = slice(first, first + _PIECE)
        bits[rows][evaluate_ctf_2d(groups[rows], box_size, pixel_size) < 0] = _BOTH_SIGNS

    map_in_order(fill, range(0, len(groups), _PIECE), threads)
    if box_size % 2 == 0:
        bits[:, box_size // 2, :] = bits[:, :, box_size // 2] = 0
    return bits, member


def _flip(
    images: Images, bits: NDArray[np.uint64], member: IndexArray, shifts: FloatArray | None, out: Images, threads: int
) -> None:
    """Change signs, and centre, pieces of ``images`` that fit the cache."""

    def flip(first: int) -> None:
        rows = slice(first, first + _PIECE)
        transform = scipy.fft.rfft2(images[rows])
        for image, group in zip(transform.view(np.uint64), member[rows], strict=True):
            image ^= bits[group]
        if shifts is not None:
            shift_transforms(transform, shifts[rows])
        out[rows] = scipy.fft.irfft2(transform, s=images.shape[1:])

    map_in_order(flip, range(0, len(images), _PIECE), threads)


def is_astigmatic(ctf: CtfParameters, bandlimit: float) -> bool:
    """Whether astigmatism moves the phase of some CTF by more than 0.3 radians up to ``bandlimit`` (1/Å).

    >>> [is_astigmatic(make_ctf(1.2e4, defocus_v_angstrom=v), 0.1) for v in (11900.0, 1e4)]
    [False, True]
    """
    difference = np.abs(ctf.defocus_u_angstrom - ctf.defocus_v_angstrom)
    phase = 0.5 * np.pi * electron_wavelength(ctf.voltage_kv) * difference * bandlimit**2
    return bool(np.any(phase > LARGEST_ASTIGMATISM))
