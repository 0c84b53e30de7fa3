"""Particle stacks, read lazily in contiguous chunks; a stack of any size takes the memory of one chunk."""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ..checks import check_kind, check_numbers, check_path, check_positive, check_rows, check_switch, check_whole
from ..errors import InputError, MfvdmWarning, ParameterError
from ..records import CtfParameters, FloatArray, Images, IndexArray, OriginColumns
from .ctf_columns import read_ctf, read_phase_flipped
from .image_names import folder_of_names, refuse_duplicates, resolve_image_names
from .image_source import ArraySource, FileSource, ImageSource, file_stamp, update_from_file
from .mrc import read_header
from .particle_table import find_particles, origin_columns, read_box_size, read_pixel_size, read_shifts
from .stack_checks import check_headers, check_origins, refuse_bad_pixels
from .star import StarFile, read_star

_SUFFIXES = ".star, .mrcs, .mrc"
_CRYOSPARC = (
    "; of a cryoSPARC job write a STAR file first, with csparc2star.py of the package pyem (csparc2star.py "
    "particles.cs passthrough_particles.cs particles.star), and give the cryoSPARC project folder with --project-dir"
)


class ParticleStack:
    """Particles with their pixel size, CTF and table; made by :func:`open_stack` or :meth:`from_array`.

    ``n_particles``, ``box_size`` (px), ``pixel_size`` (Å/px or None), ``ctf`` (CtfParameters or None), ``optics_group``
    (n,) int64, ``known_shifts_px`` (n, 2) float64 or None: (x, y) of each particle's centre from the pixel L // 2, as
    the input says; the images come as they are in the files, not centred. ``origin_columns`` (where it says so).
    ``phase_flipped``: whether the signs of the CTF were taken out of them before, so that their CTF is its modulus.
    ``star`` (the StarFile or None), ``paths`` (every file read). Pixels are checked as they are read: NaN, infinity and
    constant images raise InputError naming them.

    >>> import numpy as np
    >>> stack = ParticleStack.from_array(np.random.default_rng(0).normal(size=(5, 8, 8)), pixel_size=2.0)
    >>> [(rows.tolist(), images.shape, images.dtype.name) for rows, images in stack.chunks(3)]
    [([0, 1, 2], (3, 8, 8), 'float32'), ([3, 4], (2, 8, 8), 'float32')]
    """

    def __init__(
        self,
        source: ImageSource,
        *,
        pixel_size: float | None,
        ctf: CtfParameters | None = None,
        phase_flipped: bool = False,
        known_shifts_px: FloatArray | None = None,
        star: StarFile | None = None,
        invert: bool = False,
    ) -> None:
        phase_flipped = check_switch("phase_flipped", phase_flipped)
        if phase_flipped and ctf is None:
            raise ParameterError(
                "phase_flipped has no effect without a CTF, and there is none in the input, or it is not corrected: "
                "leave it out"
            )
        self._source = source
        self._order = source.order
        self._invert = invert
        self._digest: str | None = None
        self.pixel_size = pixel_size
        self.ctf = ctf
        self.phase_flipped = phase_flipped
        self.known_shifts_px = known_shifts_px
        self.star = star
        self._opened = self._stamps()

    @classmethod
    def from_array(
        cls,
        images: ArrayLike,
        pixel_size: float | None = None,
        ctf: CtfParameters | None = None,
        *,
        phase_flipped: bool = False,
    ) -> ParticleStack:
        """A stack over an array (n, L, L) of any real dtype (read-only and memory-mapped arrays too); not copied.

        ``phase_flipped``: the signs of the CTF were taken out of the images. Raises InputError for another shape or
        dtype and for masked pixels, ParameterError for a pixel size that is not a positive number, a CTF that is no
        CtfParameters or of another length, a CTF without a pixel size, and flipped phases without a CTF, or no bool.
        """
        if np.ma.is_masked(images):
            raise InputError(
                f"images is a masked array with {np.ma.count_masked(images)} masked pixels, and masks are not used: "
                "fill them (images.filled), or leave these images out"
            )
        array = check_numbers("images", images, "iuf")
        if array.ndim != 3 or array.shape[1] != array.shape[2] or 0 in array.shape:
            raise InputError(f"images must have shape (n, L, L) with n and L at least 1, got {array.shape}")
        if pixel_size is not None:
            pixel_size = check_positive("pixel_size", pixel_size)
        if ctf is not None:
            check_kind("ctf", ctf, CtfParameters, "make them with make_ctf")
        if ctf is not None and len(ctf) != len(array):
            raise ParameterError(f"ctf has {len(ctf)} entries for {len(array)} images; give one for each image")
        if ctf is not None and pixel_size is None:
            raise ParameterError("a ctf needs pixel_size (Å/px), got None; give it, or leave the ctf out")
        return cls(ArraySource(array), pixel_size=pixel_size, ctf=ctf, phase_flipped=phase_flipped)

    @property
    def n_particles(self) -> int:
        return len(self._order)

    @property
    def box_size(self) -> int:
        """L in pixels."""
        return self._source.box_size

    @property
    def paths(self) -> tuple[Path, ...]:
        return (*([] if self.star is None else [Path(self.star.path)]), *self._source.paths)

    @property
    def optics_group(self) -> IndexArray:
        return np.ones(self.n_particles, np.int64) if self.star is None else find_particles(self.star).optics_group

    @property
    def origin_columns(self) -> OriginColumns:
        if self.star is None:
            return OriginColumns(pixel_size=self.pixel_size)
        return origin_columns(find_particles(self.star), self.pixel_size)

    @property
    def names_folder(self) -> Path | None:
        """Folder from which the image names of the STAR file count; None without one, and for absolute names."""
        return None if self.star is None else folder_of_names(find_particles(self.star).particles, self.paths[1])

    def chunks(self, max_images: int) -> Iterator[tuple[IndexArray, Images]]:
        """(rows, images (b, L, L) float32) in the order of the files; every particle once, b <= max_images."""
        size = check_whole("max_images", max_images, hint="1000 is a good chunk")
        blocks = (self._order[first : first + size] for first in range(0, self.n_particles, size))
        return ((rows, self._load(rows)) for rows in blocks)  # no name is bound to the images: only the caller has them

    def read(self, rows: ArrayLike) -> Images:
        """Images (b, L, L) float32 of the particles ``rows`` (b,), in that order; ParameterError for others."""
        return self._load(check_rows(rows, self.n_particles))

    def digest(self, stop: threading.Event | None = None) -> str:
        """SHA-256, in hex, over the STAR file (if any), and of each image file the header and the images of the stack.

        Files in the order in which the STAR file first names them, images in that in which they lie in the file; of an
        array its shape, dtype and pixels. Empty when ``stop`` was set before the end. Raises InputError when a file
        cannot be read any more, or was changed since the stack was opened.
        """
        if self._digest is None:
            stop = stop or threading.Event()
            digest = hashlib.sha256()
            if self.star is not None:
                update_from_file(digest, Path(self.star.path), stop)
            self._source.update(digest, stop)
            if stop.is_set():
                return ""
            for path, stamp in self._stamps().items():
                if stamp != self._opened[path]:
                    raise InputError(
                        f"{path}: was changed after the run began; unless all of it had been read by then, run again"
                    )
            self._digest = digest.hexdigest()
        return self._digest

    def _stamps(self) -> dict[Path, tuple[int, int, int] | None]:
        """What tells whether a file is still the same."""
        return {path: file_stamp(path) for path in self.paths}

    def _load(self, rows: IndexArray) -> Images:
        images = np.empty((len(rows), self.box_size, self.box_size), np.float32)
        self._source.fill(rows, images)
        refuse_bad_pixels(images, rows, self.n_particles, self._source.name)
        return np.negative(images, out=images) if self._invert else images


def open_stack(
    path: str | os.PathLike[str],
    *,
    project_dir: str | os.PathLike[str] | None = None,
    invert: bool = False,
    ctf: bool = True,
    phase_flipped: bool = False,
) -> ParticleStack:
    """Open a ``.star`` file of particles, or a ``.mrcs``/``.mrc`` stack alone (then without CTF).

    ``project_dir`` is where the paths in a STAR file start (see :func:`~.image_names.resolve_image_names`);
    ``invert=True`` multiplies the images by -1; ``ctf=False`` leaves the CTF columns unread, whatever is in them;
    ``phase_flipped=True`` says that the images are, where ``rlnCtfDataArePhaseFlipped`` does not. Only headers and the
    table are read here. Raises InputError for whatever is wrong with them: missing or truncated files, modes, boxes
    that are not square or not of one size, image numbers beyond a stack's end, duplicates, several pixel sizes, an
    incomplete CTF; ParameterError for ``phase_flipped`` without a CTF, ``project_dir`` without a STAR file, and
    arguments of another kind.
    """
    path = check_path("path", path, "give the name of a file; of an array make a stack with ParticleStack.from_array")
    invert, ctf = check_switch("invert", invert), check_switch("ctf", ctf)
    phase_flipped = check_switch("phase_flipped", phase_flipped)
    suffix = path.suffix.lower()
    if suffix not in (".star", ".mrcs", ".mrc"):
        hint = _CRYOSPARC if suffix == ".cs" else ""
        found = repr(suffix) if suffix else "a name without any"
        raise InputError(f"{path}: particles are read from {_SUFFIXES} files, this is {found}{hint}")
    project = None if project_dir is None else check_path("project_dir", project_dir, "give the name of a folder")
    if project is not None and not project.is_dir():
        raise InputError(f"{project}: project_dir is not a folder; give the folder where RELION is started")
    if project is not None and suffix != ".star":
        raise ParameterError(
            f"project_dir has no effect without a STAR file, in which the names of images start there: {path} is a "
            "stack alone; leave it out, or give the STAR file"
        )
    path = path.absolute()  # so that a change of folder during the run does no harm
    if suffix == ".star":
        return _open_star(path, project, invert=invert, with_ctf=ctf, phase_flipped=phase_flipped)
    header = read_header(path)
    if header.is_volume:
        warnings.warn(
            f"{path}: by its header a three-dimensional map; its {header.n_images} sections are taken as images",
            MfvdmWarning,
            stacklevel=2,
        )
    source = FileSource((header,), np.zeros(header.n_images, np.int64), np.arange(header.n_images))
    return ParticleStack(source, pixel_size=header.pixel_size, phase_flipped=phase_flipped, invert=invert)


def _open_star(
    path: Path, project_dir: Path | None, *, invert: bool, with_ctf: bool, phase_flipped: bool
) -> ParticleStack:
    star = read_star(path)
    table = find_particles(star)
    pixel_size, box_size, ctf = read_pixel_size(table), read_box_size(table), read_ctf(table) if with_ctf else None
    if ctf is not None and pixel_size is None:
        raise InputError(
            f"{table.particles.label}: a CTF needs the pixel size, and there is none; add _rlnImagePixelSize, or "
            "_rlnDetectorPixelSize and _rlnMagnification"
        )
    names = resolve_image_names(table.particles, path, project_dir)
    refuse_duplicates(table.particles, names)
    headers = tuple(read_header(file) for file in names.files)
    check_headers(headers, names, table.particles.label, box_size)
    pixel_size = headers[0].pixel_size if pixel_size is None else pixel_size
    shifts = read_shifts(table, pixel_size)
    check_origins(shifts, headers[0].nx, table.particles.label)
    return ParticleStack(
        FileSource(headers, names.file_of, names.index),
        pixel_size=pixel_size,
        ctf=ctf,
        phase_flipped=phase_flipped or (ctf is not None and read_phase_flipped(table)),
        known_shifts_px=shifts,
        star=star,
        invert=invert,
    )
