"""How the tests of the command line run it: in this process, on a small simulated stack."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mfvdm_fast.cli.main import main
from mfvdm_fast.io.mrc import MrcStackWriter
from mfvdm_fast.io.star import StarFile, read_star, write_star
from mfvdm_fast.io.star_table import StarTable

# One thread: on a busy machine two of them wait for each other, at this size for longer than they work.
FAST = ("--neighbors", "8", "--frequencies", "2", "--eigenvectors", "8", "--threads", "1")
N_PARTICLES, BOX_SIZE = 150, 32


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """Lines on standard error that begin with 'error:'."""
        return [line for line in self.err.splitlines() if line.startswith("error:")]

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("warning:")]


class Cli:
    """Runs ``mfvdm-fast`` and catches what it prints."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str | os.PathLike[str]) -> Outcome:
        self._capsys.readouterr()
        code = main([os.fspath(argument) for argument in arguments])
        return Outcome(code, *self._capsys.readouterr())

    def denoise(self, *arguments: str | os.PathLike[str]) -> Outcome:
        """A quick ``denoise``."""
        fast = FAST[-2:] if "cwf" in arguments else FAST[:2] + FAST[-4:] if "--no-refine" in arguments else FAST
        return self("denoise", *fast, *arguments)  # cwf takes threads alone, and what is not refined no frequencies


def simulate_small(folder: Path) -> Path:
    """Simulate a small stack into ``folder``."""
    size = ("-n", str(N_PARTICLES), "-L", str(BOX_SIZE))
    assert main(["simulate", "-o", str(folder), *size, "--snr", "0.3", "--defocus-groups", "3", "--threads", "1"]) == 0
    return folder


def write_stack(path: Path, images: NDArray[np.floating], pixel_size: float = 4.0) -> Path:
    with MrcStackWriter(path, len(images), images.shape[-1], pixel_size) as writer:
        writer.write(images)
    return path


def write_small_star(source: Path, target: Path, rows: NDArray[np.int64] | None = None, **columns: list[str]) -> Path:
    """The table ``source`` with other rows and columns, its images where they were; an empty list drops a column."""
    star = read_star(source)
    particles = star.blocks["particles"].take(slice(None) if rows is None else rows)
    names = [name.partition("@") for name in particles.texts("rlnImageName")]
    particles = particles.with_column("rlnImageName", [f"{i}@{source.parent / file}" for i, _, file in names])
    for name, values in columns.items():
        particles = particles.with_column(name, values) if values else particles.without([name])
    write_star(target, with_block(star, particles))
    return target


def with_block(star: StarFile, table: StarTable) -> StarFile:
    """A copy with a block replaced."""
    return StarFile(star.path, {**star.blocks, table.name: table})


def all_bytes(folder: Path) -> dict[str, bytes]:
    """Name and content of every file but the timings."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "timings.json"}
