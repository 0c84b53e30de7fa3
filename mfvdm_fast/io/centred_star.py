"""The input table with the origins that were found: for programs that go on with the observed images."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ..errors import ParameterError
from .particle_table import ORIGIN_COLUMNS, find_particles
from .stack import ParticleStack
from .star import StarFile, write_star


def write_centred_star(path: str | os.PathLike[str], stack: ParticleStack, shifts_px: ArrayLike) -> None:
    """Write the table of ``stack`` with the origins that centre its images, everything else as it was read.

    ``shifts_px`` (n, 2) are the (x, y) from the pixel L // 2 at which the particles stand. RELION's origins are minus
    that: in Å (``rlnOriginXAngst``, ``rlnOriginYAngst``), in px (``rlnOriginX``, ``rlnOriginY``) for a table without
    optics groups, as RELION 3.0 has them. Names of images stay as they are.

    Raises ParameterError for a stack without a table or pixel size, and for shifts that are not finite numbers of
    shape (n, 2); OutputError when the file cannot be written.
    """
    shifts = np.asarray(shifts_px, np.float64)
    if stack.star is None:
        raise ParameterError("the stack has no table to write origins in; give one read from a STAR file")
    if shifts.shape != (stack.n_particles, 2) or not np.isfinite(shifts).all():
        raise ParameterError(
            f"shifts_px must be finite numbers of shape ({stack.n_particles}, 2), x and y of each particle's centre, "
            f"got shape {shifts.shape}"
        )
    table = find_particles(stack.star)
    if table.optics is not None and not stack.pixel_size:
        raise ParameterError(f"{table.particles.label}: the pixel size is not known, but origins are in Å; give one")
    particles = table.particles.without([*ORIGIN_COLUMNS, *(f"{name}Angst" for name in ORIGIN_COLUMNS)])
    unit, scale = ("", 1.0) if table.optics is None else ("Angst", stack.pixel_size or 1.0)
    for name, origins in zip(ORIGIN_COLUMNS, (0.0 - shifts * scale).T, strict=True):  # no -0
        particles = particles.with_column(f"{name}{unit}", map(repr, origins.tolist()))
    blocks = {**stack.star.blocks, table.particles.name: particles}
    write_star(path, StarFile(str(Path(path)), blocks))
