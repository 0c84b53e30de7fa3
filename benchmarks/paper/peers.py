"""ASPIRE and RELION as peers, each as a program of its own on a project folder; neither is imported."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import mrcfile
import numpy as np
from scipy.ndimage import affine_transform

from mfvdm_fast.cli.simulate import star_file
from mfvdm_fast.cli.truth import PARTICLES
from mfvdm_fast.io.mrc import MrcStackWriter
from mfvdm_fast.io.stack import ParticleStack
from mfvdm_fast.io.star import read_star, write_star
from mfvdm_fast.records import Images
from mfvdm_fast.simulate import SimulationSettings

HERE = Path(__file__).parent
RELION_ITERATIONS, RELION_CLASSES = 20, 20


def has_relion() -> bool:
    return shutil.which("relion_refine") is not None


def has_aspire(python: str = sys.executable) -> bool:
    command = [python, "-c", "import importlib.util, sys; sys.exit(importlib.util.find_spec('aspire') is None)"]
    return subprocess.run(command, check=False).returncode == 0


def write_project(stack: ParticleStack, noise_variance: float, folder: Path) -> float:
    """A RELION project with the particles, their noise brought to variance 1; the factor that undoes that."""
    folder.mkdir(parents=True, exist_ok=True)
    sigma = float(np.sqrt(noise_variance))
    with MrcStackWriter(folder / PARTICLES, stack.n_particles, stack.box_size, stack.pixel_size) as writer:
        for _, images in stack.chunks(1000):
            writer.write(images / np.float32(sigma))
    assert stack.ctf is not None
    microscope = {name: float(getattr(stack.ctf, name)[0]) for name in ("voltage_kv", "cs_mm", "amplitude_contrast")}
    write_star(folder / "particles.star", star_file(stack, SimulationSettings(**microscope)))  # type: ignore[arg-type]
    return sigma


def run_aspire(
    stack: ParticleStack, noise_variance: float, work: Path, *, method: str, python: str
) -> tuple[Images, float]:
    """Images denoised by ASPIRE with its own defaults ("cwf" or "classavg"), and CPU-seconds; see aspire_job.py."""
    sigma = write_project(stack, noise_variance, work)
    out = work / "aspire.npz"
    _call([python, str(HERE / "aspire_job.py"), str(work), method, str(out)], work / "aspire.log")
    with np.load(out) as found:
        return found["images"] * np.float32(sigma), float(found["cpu_s"])


def run_relion(stack: ParticleStack, noise_variance: float, work: Path) -> tuple[Images, float]:
    """Every particle replaced by its RELION class average turned back, and CPU-seconds.

    In-plane search in steps of 10 degrees and no shifts (the simulated particles are centred): a cheap run.
    """
    sigma = write_project(stack, noise_variance, work)
    diameter = 0.85 * stack.box_size * (stack.pixel_size or 1.0)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _call(
        ["relion_refine", "--i", "particles.star", "--o", "./run", "--iter", str(RELION_ITERATIONS),
         "--K", str(RELION_CLASSES), "--tau2_fudge", "2", "--particle_diameter", f"{diameter:.0f}", "--ctf",
         "--flatten_solvent", "--zero_mask", "--psi_step", "10", "--offset_range", "0", "--offset_step", "1",
         "--oversampling", "0", "--norm", "--scale", "--dont_combine_weights_via_disc", "--pool", "30", "--j", "1",
         "--random_seed", "1"],
        work / "relion.log",
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    table = read_star(work / f"run_it{RELION_ITERATIONS:03d}_data.star").blocks["particles"]
    with mrcfile.open(work / f"run_it{RELION_ITERATIONS:03d}_classes.mrcs") as file:
        averages = np.array(file.data, np.float32)
    number, psi = np.array(table.texts("rlnClassNumber"), int), np.deg2rad(np.array(table.texts("rlnAnglePsi"), float))
    order = np.array([int(name.partition("@")[0]) for name in table.texts("rlnImageName")]) - 1
    images = np.empty((stack.n_particles, stack.box_size, stack.box_size), np.float32)
    for row, kind, angle in zip(order, number, psi, strict=True):
        images[row] = sigma * _turned_back(averages[kind - 1], angle)
    return images, cpu


def _turned_back(average: Images, psi: float) -> Images:
    """The class average as the particle lies: x_class = R(psi) x_image, R = [[cos, -sin], [sin, cos]] on (x, y)."""
    c, s = np.cos(psi), np.sin(psi)
    matrix = np.array([[c, s], [-s, c]])  # on (row, column)
    centre = np.full(2, len(average) // 2)
    return np.asarray(affine_transform(average, matrix, centre - matrix @ centre, order=3), np.float32)


def _call(command: list[str], log: Path) -> None:
    with open(log, "w") as file:
        found = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, cwd=log.parent, check=False)
    if found.returncode:
        raise RuntimeError(f"{command[0]} failed; its last words are in {log}:\n" + log.read_text()[-500:])
