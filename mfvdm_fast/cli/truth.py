"""The truth of a simulation, as ``mfvdm-fast simulate`` writes it, and which of its rows a particle table holds."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import InputError, counted
from ..io.particle_table import find_particles
from ..io.stack import ParticleStack, open_stack
from ..metrics import centre_images
from ..records import BoolArray, FloatArray, Images, IndexArray

TRUTH, CLEAN, PARTICLES = "truth.npz", "clean.mrcs", "particles.mrcs"
MARK = "mfvdmSimulation"  # the column of the optics table that says which simulation the particles are of


@dataclass(frozen=True)
class Truth:
    """Truth of N simulated particles; ``rows`` (n,) are the particles at hand among them."""

    folder: Path
    rotations: FloatArray  # (N, 3, 3), x_volume = R x_image
    clean: ParticleStack
    noisy: ParticleStack
    rows: IndexArray
    junk: BoolArray  # (N,)
    mark: str | None = None  # of the simulation
    shifts_px: FloatArray | None = None  # (N, 2): where the particles stand
    centres_px: FloatArray | None = None  # (n, 2): where the particles stood that were centred before denoising

    def read_clean(self, at: IndexArray) -> Images:
        """Clean images of the particles ``at`` among the rows at hand, centred where the denoised ones are."""
        images = self.clean.read(self.rows[at])
        return images if self.centres_px is None else centre_images(images, self.centres_px[at])

    @property
    def centre_errors_px(self) -> FloatArray | None:
        """(n, 2): where the particles stand, from where they were taken to stand; None when nobody knows where."""
        if self.shifts_px is None:
            return None
        return self.shifts_px[self.rows] - (0.0 if self.centres_px is None else self.centres_px)

    @property
    def particles(self) -> IndexArray:
        """Which of the rows at hand hold a particle and no junk."""
        return np.flatnonzero(~self.junk[self.rows])

    def of_input(self, stack: ParticleStack) -> Truth:
        """The truth of the particles of an input stack; InputError when they cannot be those of this simulation."""
        return replace(self._choose(stack, ["rlnImageName"]), centres_px=stack.known_shifts_px)

    def of_denoised(self, stack: ParticleStack) -> Truth:
        """The truth of the particles of a denoised stack, whose table says which they were."""
        chosen = self._choose(stack, ["mfvdmSourceImageName", "rlnImageOriginalName"])
        table = None if stack.star is None else find_particles(stack.star)
        x, y = (None if table is None else table.floats(f"mfvdmSourceOrigin{axis}Angst") for axis in "XY")
        if x is None or y is None or not stack.pixel_size:
            return chosen
        return replace(chosen, centres_px=-np.stack([x, y], axis=1) / stack.pixel_size)

    def _choose(self, stack: ParticleStack, columns: Sequence[str]) -> Truth:
        if stack.box_size != self.clean.box_size:
            self._refuse(f"images of {self.clean.box_size} px", f"images of {stack.box_size} px")
        found = None if stack.star is None else find_particles(stack.star)
        table = None if found is None else found.particles
        column = None if table is None else next((name for name in columns if name in table), None)
        if table is None or column is None:  # a stack without a table is taken in its order
            if stack.n_particles != len(self.rotations):
                self._refuse(counted(len(self.rotations), "particle"), f"{stack.n_particles}")
            return self
        names = [name.partition("@") for name in table.texts(column)]
        other = next((file for _, _, file in names if Path(file).name != PARTICLES), None)
        if other is not None:
            self._refuse(f"its particles in {PARTICLES}", f"their images in {other}")
        rows = np.array([int(number) - 1 for number, _, _ in names], np.int64)
        if rows.max() >= len(self.rotations):
            self._refuse(counted(len(self.rotations), "particle"), f"number {rows.max() + 1}")
        optics = None if found is None else found.used_optics()
        marks = [] if optics is None or MARK not in optics else optics.texts(MARK)
        other_mark = next((mark for mark in marks if mark != self.mark), None)
        if self.mark is not None and other_mark is not None:
            self._refuse(f"the mark {self.mark}", f"{other_mark} (_{MARK}), so they are of another simulation")
        return replace(self, rows=rows)

    def _refuse(self, truth: str, particles: str) -> None:
        raise InputError(
            f"{self.folder}: this simulation has {truth}, the particles given have {particles}; "
            "give the output folder of the 'simulate' that made these particles"
        )


def open_truth(path: str | os.PathLike[str]) -> Truth:
    """Open the output folder of ``simulate`` (or the ``truth.npz`` in it). Raises InputError when it is not one."""
    folder = Path(path)
    if folder.name == TRUTH:
        folder = folder.parent
    if not (folder / TRUTH).is_file():
        raise InputError(f"{folder}: has no {TRUTH}; give an output folder of 'mfvdm-fast simulate'")
    try:
        with np.load(folder / TRUTH, allow_pickle=False) as content:
            rotations = np.asarray(content["rotations"], np.float64)
            junk = np.asarray(content["junk"]) if "junk" in content else np.zeros(len(rotations), bool)
            mark = str(content["simulation"]) if "simulation" in content else None
            shifts = np.asarray(content["shifts_px"], np.float64) if "shifts_px" in content else None
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{folder / TRUTH}: cannot be read ({error}); simulate again") from error
    clean, noisy = open_stack(folder / CLEAN), open_stack(folder / PARTICLES)
    if not len(rotations) == clean.n_particles == noisy.n_particles:
        raise InputError(
            f"{folder}: {TRUTH}, {CLEAN} and {PARTICLES} hold {len(rotations)}, {clean.n_particles} and "
            f"{noisy.n_particles} particles, which must be equal; simulate again"
        )
    return Truth(folder, rotations, clean, noisy, np.arange(len(rotations)), junk, mark, shifts)
