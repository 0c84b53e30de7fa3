"""Where the centre of each particle stands, from its image and its restoration.

An image is y = h x(. - s) + noise, x the centred particle without CTF. Up to a constant the log likelihood of a shift
is the noise-weighted cross-correlation log L(s) = Re sum conj(h X) Y exp(2 pi i xi s) / (L^2 P), the sum over all
frequencies xi, P the noise power. A Gaussian prior on the shifts keeps noise from moving particles far. What the
restoration holds of the particle's own noise adds an even function to log L: no gradient at 0, but a pull towards 0
that makes every answer err on the side of not moving. Two per cent of the image itself hid shifts of 1.5 px in a
simulation: give restorations in which the image had no part, or a small one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ..checks import check_images, check_positive
from ..errors import ParameterError
from ..records import CtfParameters, FloatArray, Images, NoiseModel
from ..threads import resolve_threads
from .ctf import evaluate_ctf_2d
from .noise import relative_power

STEP = 0.125  # of the finest wavelength, between the places at which the likelihood is looked at
NEWTON_STEPS = 4
_BLOCK_BYTES = 16 << 20
_BLOCK = 256  # images whose likelihoods are searched at a time


@dataclass(frozen=True)
class ShiftLikelihood:
    """log L(s) = Re sum_yx terms[y, x] exp(2 pi i (s_y y + s_x x)) of b images, s in px.

    ``terms`` is (b, f_y, f_x) complex64; ``y`` and ``x`` are its frequencies in cycles/px.
    """

    terms: NDArray[np.complex64]
    y: FloatArray
    x: FloatArray

    def __len__(self) -> int:
        return len(self.terms)

    def on_grid(self, places: FloatArray) -> NDArray[np.float32]:
        """log L at all (s_y, s_x) of ``places`` x ``places``: (b, p, p) float32."""
        y = np.exp(2j * np.pi * np.outer(places, self.y)).astype(np.complex64)
        x = np.exp(2j * np.pi * np.outer(self.x, places)).astype(np.complex64)
        values: NDArray[np.float32] = ((y @ self.terms) @ x).real
        return values

    def take(self, rows: slice) -> ShiftLikelihood:
        """The same for some of the images."""
        return ShiftLikelihood(self.terms[rows], self.y, self.x)


def compare_shifts(
    images: Images,
    restored: Images,
    noise: NoiseModel,
    ctf: CtfParameters | None = None,
    pixel_size: float | None = None,
    bandlimit: float = 0.5,
    threads: int | None = None,
) -> ShiftLikelihood:
    """Likelihood of every shift of ``images`` (b, L, L), as observed, given ``restored`` (b, L, L), centred, no CTF.

    Frequencies above ``bandlimit`` (cycles/px) and at Nyquist are left out. ``ctf`` has a row per image; ``pixel_size``
    is in Å. Memory besides the result: four images' worth of bytes per image of a 16 MB block.

    Raises InputError for images that are not (b, L, L), ParameterError when the two stacks or the CTF do not match or
    the CTF lacks the pixel size.

    >>> image = np.zeros((1, 9, 9), np.float32)
    >>> image[0, 4, 4] = 1
    >>> likelihood = compare_shifts(np.roll(image, 2, axis=2), image, NoiseModel(1.0, 0.0))
    >>> grid = likelihood.on_grid(np.arange(-2.0, 3.0))[0]
    >>> [int(i) - 2 for i in np.unravel_index(grid.argmax(), grid.shape)]
    [0, 2]
    """
    images, restored = check_images("images", images), check_images("restored", restored)
    if images.shape != restored.shape:
        raise ParameterError(
            f"images and restored must have one shape, got {images.shape} and {restored.shape}; give the restoration "
            "of each image"
        )
    if ctf is not None and len(ctf) != len(images):
        raise ParameterError(f"ctf has {len(ctf)} rows for {len(images)} images; give one row per image")
    box_size = images.shape[-1]
    last = min(int(bandlimit * box_size), (box_size - 1) // 2)
    rows, columns = np.r_[0 : last + 1, -last:0], slice(last + 1)
    y, x = rows / box_size, np.arange(last + 1) / box_size
    radius = np.hypot(y[:, None], x)
    # The columns x > 0 stand for two frequencies each.
    weight = np.where(x > 0, 2.0, 1.0) * (radius <= bandlimit) / (box_size**2 * noise.variance)
    weight = (weight / relative_power(noise, radius)).astype(np.float32)
    terms = np.empty((len(images), len(y), len(x)), np.complex64)
    block = max(1, _BLOCK_BYTES // (4 * box_size**2))
    workers = resolve_threads(threads)
    for start in range(0, len(images), block):
        part = slice(start, start + block)
        seen = scipy.fft.rfft2(images[part], workers=workers)[:, rows, columns]
        model = scipy.fft.rfft2(restored[part], workers=workers)[:, rows, columns]
        if ctf is not None:
            model *= evaluate_ctf_2d(ctf[part], box_size, pixel_size)[:, rows, columns]
        np.conjugate(model, out=model)
        terms[part] = seen * model * weight
    return ShiftLikelihood(terms, y, x)


def estimate_shifts(likelihood: ShiftLikelihood, std_px: float) -> FloatArray:
    """Most probable (x, y) in px of each particle's centre from the pixel L // 2: (b, 2) float64.

    Prior: Gaussian, ``std_px`` in each coordinate, up to 3 ``std_px`` from the centre. The best place of a grid, then
    Newton's method on the Fourier sum.

    Raises ParameterError when ``std_px`` is not a finite number above 0.

    >>> image = np.zeros((1, 9, 9), np.float32)
    >>> image[0, 4, 4] = 9
    >>> likelihood = compare_shifts(np.roll(image, 2, axis=2), image, NoiseModel(1.0, 0.0))
    >>> np.abs(estimate_shifts(likelihood, 3.0)).round(1).tolist()
    [[2.0, 0.0]]
    """
    farthest = 3 * check_positive("std_px", std_px)
    step = STEP / max(float(likelihood.x[-1]), 1e-9)
    half = int(np.ceil(farthest / step))
    places = step * np.arange(-half, half + 1.0)
    shifts = np.zeros((len(likelihood), 2))
    square = places[:, None] ** 2 + places**2
    prior = np.where(square <= farthest**2, -square / (2 * std_px**2), -np.inf)
    for start in range(0, len(likelihood), _BLOCK):
        part = likelihood.take(slice(start, start + _BLOCK))
        best = (part.on_grid(places) + prior).reshape(len(part), -1).argmax(axis=1)
        start_at = np.stack([places[best % len(places)], places[best // len(places)]], axis=1)
        shifts[start : start + _BLOCK] = _newton(part, start_at, std_px, step)
    return shifts


def _newton(likelihood: ShiftLikelihood, start: FloatArray, std_px: float, step_px: float) -> FloatArray:
    """Maximum of log L - |s|^2 / 2 std^2 near ``start`` (b, 2); a place that does not settle stays where it was."""
    wave_x, wave_y = 2 * np.pi * likelihood.x, 2 * np.pi * likelihood.y
    precision = 1 / std_px**2
    shifts = start.copy()
    for _ in range(NEWTON_STEPS):
        along_x = np.exp(1j * shifts[:, :1] * wave_x)
        along_y = np.exp(1j * shifts[:, 1:] * wave_y)
        # sums over x of terms * wave_x^0, 1, 2
        powers = np.stack([along_x, along_x * wave_x, along_x * wave_x**2], axis=2)
        rows = likelihood.terms @ powers.astype(np.complex64)
        one, two = np.einsum("byp,by->pb", rows[:, :, 1:], along_y)
        zero_y, one_y = np.einsum("byp,by->pb", rows[:, :, :2], along_y * wave_y)
        zero_yy = np.einsum("by,by->b", rows[:, :, 0], along_y * wave_y**2)
        gradient = np.stack([-one.imag, -zero_y.imag], axis=1) - precision * shifts
        xx, yy, xy = two.real + precision, zero_yy.real + precision, one_y.real
        determinant = xx * yy - xy * xy
        good = (determinant > 0) & (xx > 0)  # a maximum is near
        inverse = np.divide(1, determinant, out=np.zeros_like(determinant), where=good)
        step = np.stack([yy * gradient[:, 0] - xy * gradient[:, 1], xx * gradient[:, 1] - xy * gradient[:, 0]], axis=1)
        shifts += step * inverse[:, None]
    lost = (np.abs(shifts - start) > 2 * step_px).any(axis=1)
    shifts[lost] = start[lost]
    return shifts
