"""CTF parameters from the columns of a STAR file: in degrees, Å and kV there, in the record's units here."""

from __future__ import annotations

import warnings

import numpy as np

from ..errors import InputError, MfvdmWarning
from ..records import CtfParameters, FloatArray
from .particle_table import ParticleTable

# Columns that belong to one image; a file with none of them carries no CTF.
IMAGE_COLUMNS = (
    "rlnDefocusU",
    "rlnDefocusV",
    "rlnDefocusAngle",
    "rlnPhaseShift",
    "rlnCtfBfactor",
    "rlnCtfScalefactor",
)
# Columns of the microscope; they stand in every data_optics, with or without a CTF.
MICROSCOPE_COLUMNS = ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast")
# What these columns say when there is nothing to correct.
_ABERRATIONS = {
    "rlnBeamTiltX": 0.0,
    "rlnBeamTiltY": 0.0,
    "rlnOddZernike": 0.0,
    "rlnEvenZernike": 0.0,
    "rlnMagMat00": 1.0,
    "rlnMagMat01": 0.0,
    "rlnMagMat10": 0.0,
    "rlnMagMat11": 1.0,
}


def read_ctf(table: ParticleTable) -> CtfParameters | None:
    """CTF parameters of all particles, or None when the file has no CTF column at all.

    A column of the particles overrides that of the optics group. ``rlnDefocusV`` is ``rlnDefocusU`` when absent,
    ``rlnPhaseShift`` and ``rlnCtfBfactor`` 0, ``rlnCtfScalefactor`` 1. Raises InputError naming the missing columns
    when the CTF is incomplete, for values out of range, and for images that are premultiplied by their CTF. Beam tilt,
    Zernike and magnification columns are not used; where they are not trivial a MfvdmWarning says so.

    >>> from mfvdm_fast.io.particle_table import find_particles
    >>> from mfvdm_fast.io.star import StarFile, StarTable
    >>> images = StarTable("images").with_column("rlnImageName", ["1@a.mrcs"])
    >>> for name, value in zip(MICROSCOPE_COLUMNS + IMAGE_COLUMNS[:3], ["300", "2.7", "0.1", "1e4", "1.2e4", "90"]):
    ...     images = images.with_column(name, [value])
    >>> ctf = read_ctf(find_particles(StarFile("a.star", {"images": images})))
    >>> ctf.defocus_v_angstrom, ctf.defocus_angle
    (array([12000.]), array([1.57079633]))
    """
    # Without an optics table nothing but a CTF calls for the microscope's columns.
    telling = IMAGE_COLUMNS if table.optics is not None else IMAGE_COLUMNS + MICROSCOPE_COLUMNS
    if not any(name in table for name in telling):
        return None
    required = [*MICROSCOPE_COLUMNS, "rlnDefocusU"] + (["rlnDefocusAngle"] if "rlnDefocusV" in table else [])
    missing = [f"_{name}" for name in required if name not in table]
    if missing:
        raise InputError(
            f"{table.particles.label}: the CTF is incomplete, missing: {', '.join(missing)}; add these columns, or "
            "run without CTF correction (ctf=False, --no-ctf)"
        )
    _refuse_premultiplied(table)
    _warn_aberrations(table)
    defocus_u = _column(table, "rlnDefocusU", 0.0)
    return CtfParameters(
        voltage_kv=_ranged(table, "rlnVoltage", 1.0, 10_000.0, "kV"),
        cs_mm=_ranged(table, "rlnSphericalAberration", 0.0, 10.0, "mm"),
        amplitude_contrast=_ranged(table, "rlnAmplitudeContrast", 0.0, 0.9999, "as a fraction"),
        defocus_u_angstrom=defocus_u,
        defocus_v_angstrom=_column(table, "rlnDefocusV", defocus_u),
        defocus_angle=np.deg2rad(_column(table, "rlnDefocusAngle", 0.0)),
        phase_shift=np.deg2rad(_column(table, "rlnPhaseShift", 0.0)),
        bfactor_angstrom2=_column(table, "rlnCtfBfactor", 0.0),
        scale=_column(table, "rlnCtfScalefactor", 1.0),
    )


def read_phase_flipped(table: ParticleTable) -> bool:
    """Whether the images are phase flipped (``rlnCtfDataArePhaseFlipped``); InputError when only some are."""
    flags = table.floats("rlnCtfDataArePhaseFlipped")
    if flags is None or not flags.any():
        return False
    if not flags.all():
        groups = ", ".join(map(str, np.unique(table.optics_group[flags != 0])))
        raise InputError(
            f"{table.particles.label}: the images of optics group {groups} are phase flipped and others are not "
            "(_rlnCtfDataArePhaseFlipped); denoise them apart, or extract them again without flipping"
        )
    return True


def _column(table: ParticleTable, name: str, default: float | FloatArray) -> FloatArray:
    values = table.floats(name)
    return np.broadcast_to(default, len(table)).astype(np.float64) if values is None else values


def _ranged(table: ParticleTable, name: str, low: float, high: float, unit: str) -> FloatArray:
    values = _column(table, name, np.nan)
    bad = np.flatnonzero(~((values >= low) & (values <= high)))
    if len(bad):
        raise InputError(
            f"{table.particles.label}: row {bad[0] + 1}: _{name} is {values[bad[0]]:g}, it must lie between {low:g} "
            f"and {high:g} ({unit}); correct the file"
        )
    return values


def _refuse_premultiplied(table: ParticleTable) -> None:
    flags = table.floats("rlnCtfDataAreCtfPremultiplied")
    if flags is not None and flags.any():
        groups = ", ".join(map(str, np.unique(table.optics_group[flags != 0])))
        raise InputError(
            f"{table.particles.label}: the images of optics group {groups} are premultiplied by their CTF "
            "(_rlnCtfDataAreCtfPremultiplied); extract them again without premultiplication"
        )


def _warn_aberrations(table: ParticleTable) -> None:
    optics = table.used_optics()
    if optics is None:
        return
    found = [
        name for name, trivial in _ABERRATIONS.items() if name in optics and not _all_equal(optics.texts(name), trivial)
    ]
    if found:
        warnings.warn(
            f"{optics.label}: {', '.join('_' + name for name in found)} are not used: beam tilt, higher aberrations "
            "and anisotropic magnification stay uncorrected",
            MfvdmWarning,
            stacklevel=4,
        )


def _all_equal(cells: list[str], value: float) -> bool:
    """Whether every number of every cell, plain or ``[a,b,c]``, is ``value``."""
    try:
        return all(float(part) == value for cell in cells for part in cell.strip("[]").split(",") if part)
    except ValueError:
        return False
