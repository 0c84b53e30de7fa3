"""Images in units in which single precision is at ease: squares of pixels, and squares of those, stay inside float32.

What programs write has a noise of about 1, or a few counts. Other stacks are worked on in units of a power of two, so
that no bit is lost, and the result is brought back to the units of the input.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from .records import Images, ImageStack, IndexArray, SteerableCoefficients
from .result import DenoiseResult

AT_EASE = 1e3  # times more or less than 1 that the standard deviation of an image may be
SAMPLE = 64  # images that are looked at


class ScaledStack:
    """A stack (anything with the attributes of ``ImageStack``) whose images are divided by 2 ** ``exponent``."""

    def __init__(self, stack: ImageStack, exponent: int) -> None:
        self._stack, self._exponent = stack, exponent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stack, name)

    def read(self, rows: IndexArray) -> Images:
        return np.ldexp(self._stack.read(rows), -self._exponent)

    def chunks(self, max_images: int) -> Iterator[tuple[IndexArray, Images]]:
        for rows, images in self._stack.chunks(max_images):
            yield rows, np.ldexp(images, -self._exponent)


def exponent_of_unit(stack: ImageStack) -> int:
    """e when 2 ** e is about the standard deviation of an image, where that is far from 1; else 0.

    >>> from .io.stack import ParticleStack
    >>> images = np.random.default_rng(0).normal(size=(9, 8, 8))
    >>> [exponent_of_unit(ParticleStack.from_array(scale * images)) for scale in (1.0, 3e-9)]
    [0, -28]
    """
    rows = np.unique(np.linspace(0, stack.n_particles - 1, min(stack.n_particles, SAMPLE)).astype(np.int64))
    deviation = float(np.median(stack.read(rows).std(axis=(1, 2), dtype=np.float64)))
    return 0 if not deviation or 1 / AT_EASE <= deviation <= AT_EASE else round(np.log2(deviation))


def in_units_of_input(result: DenoiseResult, exponent: int) -> DenoiseResult:
    """The result of a stack that was divided by 2 ** ``exponent``, as it is of the stack itself; in place."""
    packed = result.coefs.packed.view(np.float32)
    np.ldexp(packed, exponent, out=packed)
    unit = 2.0**exponent
    return replace(
        result,
        coefs=SteerableCoefficients(result.coefs.packed, result.coefs.offsets),
        noise=replace(result.noise, variance=result.noise.variance * unit**2, mean=result.noise.mean * unit),
        unevenness=replace(result.unevenness, deviation=result.unevenness.deviation * unit),
        pca=replace(
            result.pca,
            mean=result.pca.mean * unit,
            eigenvalues=tuple(values * unit**2 for values in result.pca.eigenvalues),
        ),
    )
