"""The input table with what was found of each image: for programs that go on with the observed images."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ..errors import ParameterError
from .denoised_star import finish_optics, new_optics
from .particle_table import ORIGIN_COLUMNS, ParticleTable, find_particles, with_scores
from .stack import ParticleStack
from .star import StarFile, write_star
from .star_table import StarTable


def write_observed_star(
    path: str | os.PathLike[str],
    stack: ParticleStack,
    shifts_px: ArrayLike | None = None,
    score: ArrayLike | None = None,
    junk: ArrayLike | None = None,
) -> None:
    """Write the table of ``stack`` with origins, scores and junk, everything else as it was read.

    ``shifts_px`` (n, 2) are the (x, y) from the pixel L // 2 at which the particles stand. RELION's origins are minus
    that: in Å (``rlnOriginXAngst``, ``rlnOriginYAngst``), in px (``rlnOriginX``, ``rlnOriginY``) for a table without
    optics groups, as RELION 3.0 has them. ``score`` and ``junk`` (n,) are written as
    :func:`~.particle_table.with_scores` does. Names of images stay as they are; a stack file without a table gets one
    that names its images by their full path.

    Raises ParameterError for a stack that is no file, a table without pixel size, and shifts that are not finite
    numbers of shape (n, 2); OutputError when the file cannot be written.
    """
    if not stack.paths:
        raise ParameterError("the images of the stack are in no file, and no table can name them; open one from a file")
    blocks = _new_blocks(stack) if stack.star is None else dict(stack.star.blocks)
    table = find_particles(StarFile(str(stack.paths[0]), blocks))
    particles = table.particles if shifts_px is None else _with_origins(table, shifts_px, stack.pixel_size)
    blocks[table.particles.name] = with_scores(particles, score, junk)
    write_star(path, StarFile(str(Path(path)), blocks))


def _new_blocks(stack: ParticleStack) -> dict[str, StarTable]:
    names = [f"{row:06d}@{stack.paths[0]}" for row in range(1, stack.n_particles + 1)]
    particles = StarTable("particles").with_column("rlnImageName", names)
    optics, group = new_optics(particles)
    optics = finish_optics(optics, stack.box_size, stack.pixel_size or 1.0, suffix="")
    return {"optics": optics, "particles": particles.with_column("rlnOpticsGroup", group)}


def _with_origins(table: ParticleTable, shifts_px: ArrayLike, pixel_size: float | None) -> StarTable:
    shifts = np.asarray(shifts_px, np.float64)
    if shifts.shape != (len(table), 2) or not np.isfinite(shifts).all():
        raise ParameterError(
            f"shifts_px must be finite numbers of shape ({len(table)}, 2), x and y of each particle's centre, "
            f"got shape {shifts.shape}"
        )
    if table.optics is not None and not pixel_size:
        raise ParameterError(f"{table.particles.label}: the pixel size is not known, but origins are in Å; give one")
    particles = table.particles.without([*ORIGIN_COLUMNS, *(f"{name}Angst" for name in ORIGIN_COLUMNS)])
    unit, scale = ("", 1.0) if table.optics is None else ("Angst", pixel_size or 1.0)
    for name, origins in zip(ORIGIN_COLUMNS, (0.0 - shifts * scale).T, strict=True):  # no -0
        particles = particles.with_column(f"{name}{unit}", map(repr, origins.tolist()))
    return particles
