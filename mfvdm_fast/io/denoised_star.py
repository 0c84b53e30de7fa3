"""The STAR file that goes with a denoised stack, in RELION's 3.1 form."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ..errors import MfvdmWarning, ParameterError
from .ctf_columns import IMAGE_COLUMNS, MICROSCOPE_COLUMNS
from .particle_table import ORIGIN_COLUMNS, ParticleTable, find_particles, with_scores
from .stack import ParticleStack
from .star import StarFile, write_star
from .star_table import VERSION_LINE, StarTable

SUFFIX = "_denoised"
# RELION opens no table without these; written, with a comment, when the input says nothing of them.
_UNKNOWN_MICROSCOPE = {"rlnVoltage": "300.0", "rlnSphericalAberration": "2.7", "rlnAmplitudeContrast": "0.1"}
_UNKNOWN_COMMENT = "# not known from the input, written since RELION asks for them: "


def write_denoised_star(
    path: str | os.PathLike[str],
    stack: ParticleStack,
    images: str = "denoised.mrcs",
    ctf_corrected: bool = True,
    shifts_px: ArrayLike | None = None,
    score: ArrayLike | None = None,
    junk: ArrayLike | None = None,
) -> None:
    """Write the table of a denoised stack ``images`` whose image i is particle i of ``stack``.

    Every input column and block is kept, with these changes. ``rlnImageName`` names the denoised image; the old name
    goes to ``rlnImageOriginalName``, or to ``mfvdmSourceImageName`` when that is taken. Each optics group gets the name
    of its input group with ``_denoised`` behind it. With ``ctf_corrected`` the CTF columns of the images are left out,
    so that no program corrects them again. With ``shifts_px`` (n, 2), the (x, y) from the pixel L // 2 at which the
    centre of each particle stood in the input and from which it was moved to the centre of the denoised image,
    ``rlnOriginXAngst`` and ``rlnOriginYAngst`` are 0, and ``mfvdmSourceOriginXAngst``, ``mfvdmSourceOriginYAngst`` are
    the origins, in RELION's sense and sign, that centre the image of the input. ``score`` and ``junk`` (n,) are written
    as :func:`~.particle_table.with_scores` does. A RELION 3.0 table is brought into the 3.1
    form: optics groups from voltage, spherical aberration and amplitude contrast, origins in Å. Without an input table
    a minimal one is written. An unknown pixel size is written as 1 Å with a MfvdmWarning. Raises OutputError when the
    file cannot be written, ParameterError for shifts that do not fit the stack.

    >>> import tempfile, numpy as np
    >>> from mfvdm_fast.io.star import read_star
    >>> folder = tempfile.TemporaryDirectory()
    >>> stack = ParticleStack.from_array(np.random.default_rng(0).normal(size=(2, 8, 8)), pixel_size=2.0)
    >>> write_denoised_star(folder.name + "/denoised.star", stack)
    >>> read_star(folder.name + "/denoised.star").blocks["particles"].texts("rlnImageName")
    ['000001@denoised.mrcs', '000002@denoised.mrcs']
    >>> folder.cleanup()
    """
    pixel_size = stack.pixel_size
    if pixel_size is None:
        warnings.warn(
            f"{Path(path).name}: the pixel size is not known and is written as 1 Å; correct _rlnImagePixelSize first",
            MfvdmWarning,
            stacklevel=2,
        )
    names = [f"{row:06d}@{images}" for row in range(1, stack.n_particles + 1)]
    if stack.star is None:
        others: dict[str, StarTable] = {}
        particles = StarTable("particles").with_column("rlnImageName", names)
        optics, group = new_optics(particles)
        particles = particles.with_column("rlnOpticsGroup", group)
    else:
        table = find_particles(stack.star)
        written_anew = {table.particles.name, "particles", "optics"}
        others = {name: block for name, block in stack.star.blocks.items() if name not in written_anew}
        particles = _keep_source_names(table.particles).with_column("rlnImageName", names)
        if table.optics is None:
            optics, particles = _upgrade(particles, pixel_size)
        else:
            optics = _with_microscope(table, table.optics)
    if shifts_px is not None:
        particles = _with_origins(particles, shifts_px, pixel_size or 1.0)
    particles = with_scores(particles, score, junk)
    optics = finish_optics(optics, stack.box_size, pixel_size or 1.0)
    if ctf_corrected:
        gone = [*IMAGE_COLUMNS, "rlnCtfDataAreCtfPremultiplied", "rlnCtfDataArePhaseFlipped"]
        particles, optics = particles.without(gone), optics.without(gone)
    blocks = {"optics": _versioned(optics), "particles": _versioned(replace(particles, name="particles")), **others}
    write_star(path, StarFile(str(Path(path)), blocks))


def _with_origins(particles: StarTable, shifts_px: ArrayLike, pixel_size: float) -> StarTable:
    """Origins of images that were centred: none is left, and what centres the input stands beside it."""
    shifts = np.asarray(shifts_px, np.float64)
    if shifts.shape != (len(particles), 2) or not np.isfinite(shifts).all():
        raise ParameterError(
            f"shifts_px must be finite numbers of shape ({len(particles)}, 2), x and y of each particle's centre, got "
            f"shape {shifts.shape}"
        )
    particles = particles.without(ORIGIN_COLUMNS)
    origins = 0.0 - shifts * pixel_size  # no -0
    for axis, name in enumerate(ORIGIN_COLUMNS):
        particles = particles.with_column(f"{name}Angst", ["0.0"] * len(particles))
        source = name.replace("rln", "mfvdmSource")
        particles = particles.with_column(f"{source}Angst", map(repr, origins[:, axis].tolist()))
    return particles


def _keep_source_names(particles: StarTable) -> StarTable:
    taken = "rlnImageOriginalName" in particles
    return particles.with_column(
        "mfvdmSourceImageName" if taken else "rlnImageOriginalName", particles.cells("rlnImageName")
    )


def new_optics(particles: StarTable) -> tuple[StarTable, list[str]]:
    """An optics table with a row for each combination of the microscope's columns, and the group of each particle."""
    present = [name for name in MICROSCOPE_COLUMNS if name in particles]
    keys = list(zip(*(particles.texts(name) for name in present), strict=True)) if present else [()] * len(particles)
    numbers: dict[tuple[str, ...], int] = {}
    group = [str(numbers.setdefault(key, len(numbers) + 1)) for key in keys]
    rows = range(1, len(numbers) + 1)
    optics = StarTable("optics").with_column("rlnOpticsGroup", map(str, rows))
    optics = optics.with_column("rlnOpticsGroupName", [f"opticsGroup{row}" for row in rows])
    for place, name in enumerate(present):
        optics = optics.with_column(name, [key[place] for key in numbers])
    return _fill_unknown(optics), group


def _fill_unknown(optics: StarTable) -> StarTable:
    unknown = [name for name in MICROSCOPE_COLUMNS if name not in optics]
    for name in unknown:
        optics = optics.with_column(name, [_UNKNOWN_MICROSCOPE[name]] * len(optics))
    if not unknown:
        return optics
    return replace(optics, comments=(*optics.comments, _UNKNOWN_COMMENT + ", ".join(unknown)))


def _upgrade(particles: StarTable, pixel_size: float | None) -> tuple[StarTable, StarTable]:
    """The 3.1 form of a 3.0 table: its optics, and its particles with groups and origins in Å."""
    optics, group = new_optics(particles)
    particles = particles.without(MICROSCOPE_COLUMNS).with_column("rlnOpticsGroup", group)
    for name in ORIGIN_COLUMNS:
        if pixel_size is not None and name in particles and f"{name}Angst" not in particles:
            angstrom = particles.floats(name) * pixel_size
            particles = particles.with_column(f"{name}Angst", map(repr, angstrom.tolist())).without([name])
    return optics, particles


def _with_microscope(table: ParticleTable, optics: StarTable) -> StarTable:
    """The optics table with the microscope's columns that stand with the particles only."""
    rows, first = np.unique(table.optics_row, return_index=True)
    for name in MICROSCOPE_COLUMNS:
        if name not in optics and name in table.particles:
            values = np.full(len(optics), _UNKNOWN_MICROSCOPE[name], object)
            values[rows] = np.array(table.particles.texts(name), object)[first]
            optics = optics.with_column(name, values.tolist())
    return _fill_unknown(optics)


def finish_optics(optics: StarTable, box_size: int, pixel_size: float, suffix: str = SUFFIX) -> StarTable:
    """What RELION needs of every optics table, and a name for each group with ``suffix`` behind it."""
    if "rlnOpticsGroupName" in optics:
        names = optics.texts("rlnOpticsGroupName")
    else:
        names = [f"opticsGroup{group}" for group in optics.texts("rlnOpticsGroup")]
    optics = optics.with_column("rlnOpticsGroupName", [name + suffix for name in names])
    needed = {
        "rlnImagePixelSize": repr(float(pixel_size)),
        "rlnImageSize": str(box_size),
        "rlnImageDimensionality": "2",
    }
    for name, value in needed.items():
        if name not in optics:
            optics = optics.with_column(name, [value] * len(optics))
    return optics


def _versioned(table: StarTable) -> StarTable:
    if any(line.startswith("# version") for line in table.comments):
        return table
    return replace(table, comments=(*table.comments, VERSION_LINE))
