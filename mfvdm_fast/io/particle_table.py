"""The particles of a STAR file with the optics group of each: one table (RELION 3.0) or two (3.1 and later)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..errors import InputError, counted
from ..records import FloatArray, IndexArray, OriginColumns
from .star import StarFile
from .star_table import StarTable

# Groups may write the same size with different digits.
_SAME_SIZE = 1e-4
ORIGIN_COLUMNS = ("rlnOriginX", "rlnOriginY")  # in px; in Å with Angst behind the name
# RELION selects by columns that it knows, so the score is written in one.
SCORE_COLUMN, SOURCE_SCORE_COLUMN, JUNK_COLUMN = (
    "rlnLogLikeliContribution",
    "mfvdmSourceLogLikeliContribution",
    "mfvdmJunk",
)


@dataclass(frozen=True)
class ParticleTable:
    """Particles (n rows), the optics table if there is one, and for each particle its group and row of that table."""

    particles: StarTable
    optics: StarTable | None
    optics_group: IndexArray  # (n,) as in the file; all 1 without an optics table
    optics_row: IndexArray  # (n,) row of ``optics``; all 0 without one

    def __len__(self) -> int:
        return len(self.particles)

    def __contains__(self, column: str) -> bool:
        return column in self.particles or (self.optics is not None and column in self.optics)

    def floats(self, column: str) -> FloatArray | None:
        """A value for each particle (n,): from its own row, else from its optics group; None without such a column."""
        if column in self.particles:
            return self.particles.floats(column)
        if self.optics is not None and column in self.optics:
            return self.optics.floats(column)[self.optics_row]
        return None

    def used_optics(self) -> StarTable | None:
        """The rows of the optics table that have particles."""
        return None if self.optics is None else self.optics.take(np.unique(self.optics_row))


def find_particles(star: StarFile) -> ParticleTable:
    """The particle table of a STAR file; what makes it 3.1 is a ``data_optics`` table, not the version line.

    Raises InputError when no table or several name images, when there are no particles, and when a particle's optics
    group is missing or stands twice in the optics table.

    >>> images = StarTable("images").with_column("rlnImageName", ["1@a.mrcs", "2@a.mrcs"])
    >>> find_particles(StarFile("a.star", {"images": images})).optics_group
    array([1, 1])
    """
    particles = _choose(star)
    if len(particles) == 0:
        raise InputError(f"{particles.label} has no rows: there are no particles; was the selection empty?")
    optics = star.blocks.get("optics")
    if optics is None:
        return ParticleTable(particles, None, np.ones(len(particles), np.int64), np.zeros(len(particles), np.int64))
    known = optics.integers("rlnOpticsGroup")
    order = np.argsort(known, kind="stable")
    groups = known[order]
    if len(np.unique(groups)) < len(groups):
        twice = groups[:-1][np.diff(groups) == 0][0]
        raise InputError(f"{optics.label}: optics group {twice} stands more than once; keep one row for each group")
    wanted = particles.integers("rlnOpticsGroup")
    place = np.searchsorted(groups, wanted)
    missing = (
        np.flatnonzero((place == len(groups)) | (groups[np.minimum(place, len(groups) - 1)] != wanted))
        if len(groups)
        else np.arange(len(wanted))
    )
    if len(missing):
        raise InputError(
            f"{particles.label}: row {missing[0] + 1} has optics group {wanted[missing[0]]}, which data_optics does "
            f"not have (it has {', '.join(map(str, groups)) or 'none'}); add its row to data_optics"
        )
    return ParticleTable(particles, optics, wanted, order[place])


def _choose(star: StarFile) -> StarTable:
    named = [table for name, table in star.blocks.items() if "rlnImageName" in table and name != "optics"]
    if len(named) > 1 and "particles" in star.blocks:
        named = [table for table in named if table.name == "particles"]
    if len(named) == 1:
        return named[0]
    have = ", ".join(f"data_{name}" for name in star.blocks)
    count = "several tables have" if named else "no table has"
    raise InputError(f"{star.path}: {count} a column _rlnImageName (tables: {have}); give a STAR file of particles")


def read_pixel_size(table: ParticleTable) -> float | None:
    """Å per pixel of the particle images, or None when the file does not say.

    ``rlnImagePixelSize``; with optics groups else ``rlnMicrographPixelSize`` else ``rlnMicrographOriginalPixelSize``;
    else 10000 * ``rlnDetectorPixelSize`` (µm) / ``rlnMagnification``. Raises InputError when it is not positive, or
    when the particles do not all have the same, naming the groups.
    """
    names = ["rlnImagePixelSize"]
    if table.optics is not None:
        names += ["rlnMicrographPixelSize", "rlnMicrographOriginalPixelSize"]
    for name in names:
        sizes = table.floats(name)
        if sizes is not None:
            return _one_size(table, sizes, f"_{name}", "pixel size", "Å")
    detector, magnification = table.floats("rlnDetectorPixelSize"), table.floats("rlnMagnification")
    if detector is None or magnification is None:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):  # refused below
        sizes = 10000.0 * detector / magnification
    return _one_size(table, sizes, "10000 * _rlnDetectorPixelSize / _rlnMagnification", "pixel size", "Å")


def read_box_size(table: ParticleTable) -> int | None:
    """Box size in pixels that the optics groups in use say, or None; InputError for several sizes or 3-D images."""
    dimension = table.floats("rlnImageDimensionality")
    if dimension is not None and (dimension != 2).any():
        row = int(np.flatnonzero(dimension != 2)[0])
        raise InputError(
            f"{table.particles.label}: row {row + 1} is an image of {dimension[row]:g} dimensions "
            "(_rlnImageDimensionality); only two-dimensional particles can be read"
        )
    sizes = table.floats("rlnImageSize")
    return None if sizes is None else int(_one_size(table, sizes, "_rlnImageSize", "box size", "px"))


def origin_columns(table: ParticleTable, pixel_size: float | None) -> OriginColumns:
    """The columns that :func:`read_shifts` reads; without any, those that a table of this kind would have."""
    unit = _unit_of_origins(table)
    unit = ("Angst" if table.optics is not None and pixel_size else "") if unit is None else unit
    x, y = (f"{name}{unit}" for name in ORIGIN_COLUMNS)
    return OriginColumns(x, y, bool(unit), pixel_size)


def _unit_of_origins(table: ParticleTable) -> str | None:
    """What stands behind the names of the columns of origins; None without such columns."""
    return next((unit for unit in ("Angst", "") if any(f"{name}{unit}" in table for name in ORIGIN_COLUMNS)), None)


def read_shifts(table: ParticleTable, pixel_size: float | None) -> FloatArray | None:
    """Position (x, y) of each particle's centre from the pixel L // 2, in px: (n, 2); None when no origin is given.

    RELION adds its origins to positions to centre the particle, so the centre stands at minus the origin:
    ``rlnOriginXAngst``, ``rlnOriginYAngst`` in Å (3.1 and later), else ``rlnOriginX``, ``rlnOriginY`` in px. Origins
    that are all 0 are none. Raises InputError when one axis is missing, and for origins in Å without a pixel size.

    >>> images = StarTable("images").with_column("rlnImageName", ["1@a.mrcs"])
    >>> images = images.with_column("rlnOriginX", ["1.5"]).with_column("rlnOriginY", ["-2"])
    >>> read_shifts(find_particles(StarFile("a.star", {"images": images})), None).tolist()
    [[-1.5, 2.0]]
    """
    unit = _unit_of_origins(table)
    if unit is None:
        return None
    columns = {f"_{name}{unit}": table.floats(f"{name}{unit}") for name in ORIGIN_COLUMNS}
    found = [name for name, values in columns.items() if values is not None]
    missing = [name for name, values in columns.items() if values is None]
    if missing:
        raise InputError(
            f"{table.particles.label}: there is a column {found[0]} but no {missing[0]}, and an origin has both; add "
            "the missing column, or remove the other"
        )
    origins = np.stack([values for values in columns.values() if values is not None], axis=1)
    if not origins.any():
        return None
    scale = pixel_size if unit else 1.0
    if scale is None:
        raise InputError(
            f"{table.particles.label}: {found[0]} is in Å, and the pixel size is not known; add _rlnImagePixelSize"
        )
    return 0.0 - origins / scale  # no -0


def with_scores(particles: StarTable, score: ArrayLike | None, junk: ArrayLike | None) -> StarTable:
    """A copy with ``score`` (n,) in ``rlnLogLikeliContribution`` and ``junk`` (n,), 1 or 0, in ``mfvdmJunk``.

    What stands in the column of the score already goes to ``mfvdmSourceLogLikeliContribution``.

    >>> table = with_scores(StarTable("a").with_column("rlnLogLikeliContribution", ["7"]), [0.5], [False])
    >>> {name: table.texts(name) for name in table.columns}
    {'rlnLogLikeliContribution': ['0.5'], 'mfvdmSourceLogLikeliContribution': ['7'], 'mfvdmJunk': ['0']}
    """
    if score is not None:
        if SCORE_COLUMN in particles:
            particles = particles.with_column(SOURCE_SCORE_COLUMN, particles.cells(SCORE_COLUMN))
        particles = particles.with_column(SCORE_COLUMN, map(repr, np.asarray(score, np.float64).tolist()))
    if junk is not None:
        particles = particles.with_column(JUNK_COLUMN, ["1" if flag else "0" for flag in np.asarray(junk, bool)])
    return particles


def _one_size(table: ParticleTable, sizes: FloatArray, rule: str, what: str, unit: str) -> float:
    bad = np.flatnonzero(~(np.isfinite(sizes) & (sizes > 0)))
    if len(bad):
        raise InputError(
            f"{table.particles.label}: row {bad[0] + 1}: {what} {sizes[bad[0]]:g} {unit} ({rule}) must be positive"
        )
    if sizes.max() - sizes.min() <= _SAME_SIZE * sizes.min():
        return float(sizes[0])
    found = []
    for value in np.unique(sizes):
        groups = np.unique(table.optics_group[sizes == value])
        where = f" in optics group {', '.join(map(str, groups))}" if table.optics is not None else ""
        found.append(f"{value:g} {unit}{where} ({counted(int((sizes == value).sum()), 'particle')})")
    raise InputError(
        f"{table.particles.label}: particles must all have one {what} ({rule}), found {'; '.join(found[:8])}: "
        "split the file by optics group, or extract the particles again at one scale"
    )
