"""The simulations that the tables are made of: one cell each, on open density maps and on built-in particles."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np

from mfvdm_fast.cli.defocus_file import read_defocus_list
from mfvdm_fast.records import Images
from mfvdm_fast.simulate import SimulatedStack, SimulationSettings, simulate_stack
from mfvdm_fast.synthetic import synthetic_particle

MAP_A = ("volumes/ribosome70S_65px_5A.mrc", 5.0)
MAP_B = ("volumes/ribosome70S_129px_2.82A.mrc", 2.82)
DEFOCUS_LIST = "metadata/empiar10028_defocus.csv"


@dataclass(frozen=True)
class Cell:
    """One simulation: uniform views, 20 defocus groups from 1 to 4 um, 200 kV, Cs 2 mm, unless it says otherwise."""

    title: str
    snr: float
    volume: tuple[str, float] | None = None  # (file in the data folder, Å per pixel); None: a built-in particle
    shape: str = "globular"
    box_size: int = 65  # of the built-in particle
    defocus_list: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)  # of SimulationSettings


def _published(letter: str, volume: tuple[str, float]) -> dict[str, Cell]:
    return {
        f"{letter}_{snr:.2f}".replace("0.", ""): Cell(f"{letter}, SNR {snr:g}", snr, volume)
        for snr in (0.05, 0.02, 0.01)
    }


SHIFT_STD, CONTRAST_STD, FALLOFF, JUNK = 3 / np.sqrt(3), 0.3, 4.0, 0.16

TABLES: dict[str, dict[str, Cell]] = {
    "published": {**_published("A", MAP_A), **_published("B", MAP_B)},
    "robustness": {
        "shift": Cell("shifts of ±3 px (sd 1.73)", 0.05, MAP_A, changes={"shift_std_px": SHIFT_STD}),
        "contrast": Cell("contrast sd 30 %", 0.05, MAP_A, changes={"contrast_std": CONTRAST_STD}),
        "coloured": Cell("noise falling by 4", 0.05, MAP_A, changes={"noise_falloff": FALLOFF}),
        "defocus": Cell("defocus of EMPIAR-10028", 0.05, MAP_A, defocus_list=DEFOCUS_LIST),
        "junk": Cell("16 % junk", 0.05, MAP_A, changes={"junk_fraction": JUNK}),
    },
    "volumes": {
        shape: Cell(f"built-in, {shape}", 0.05, None, shape)
        for shape in ("globular", "elongated", "small", "c4", "d2", "octahedral")
    },
}
CELLS: dict[str, Cell] = {name: cell for table in TABLES.values() for name, cell in table.items()}
SYMMETRIC = ("c4", "d2", "octahedral")  # their views repeat: errors of neighbours mean nothing without the symmetry


def simulate(cell: Cell, data: Path | None, n_particles: int, seed: int, threads: int | None = None) -> SimulatedStack:
    """The particles of a cell; ``data`` is the folder that the maps are in."""
    settings = SimulationSettings(snr=cell.snr, **cell.changes)
    density, pixel_size = _volume(cell, data)
    defocus = None if cell.defocus_list is None else read_defocus_list(_in(data, cell.defocus_list))
    return simulate_stack(density, pixel_size, n_particles, settings, seed=seed, threads=threads, defocus=defocus)


def _volume(cell: Cell, data: Path | None) -> tuple[Images, float]:
    if cell.volume is None:
        return synthetic_particle(cell.box_size, shape=cell.shape), 5.0 * 65 / cell.box_size
    with mrcfile.open(_in(data, cell.volume[0])) as file:
        return np.array(file.data, np.float32), cell.volume[1]


def _in(data: Path | None, name: str) -> Path:
    if data is None or not (data / name).is_file():
        raise SystemExit(f"this cell needs {name} in the folder given with --data")
    return data / name
