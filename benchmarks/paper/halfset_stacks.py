"""The stacks of halfsets.py: real particles, the same with nothing to agree on, and a twin whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.fft

from mfvdm_fast import open_stack, simulate_stack, synthetic_particle
from mfvdm_fast.imaging.ctf import evaluate_ctf_2d
from mfvdm_fast.imaging.noise import radii_px
from mfvdm_fast.io.stack import ParticleStack
from mfvdm_fast.records import CtfParameters, Images
from mfvdm_fast.simulate import SimulationSettings

N_TWIN, TWIN_BOX, TWIN_PIXEL_SIZE = 1000, 65, 3.0
# Those of the real particles, and a noise at which views are told apart about as well.
TWIN = SimulationSettings(
    snr=0.05,
    defocus_min_angstrom=15_650,
    defocus_max_angstrom=36_050,
    voltage_kv=300,
    cs_mm=2.7,
    amplitude_contrast=0.07,
)
PLACES, OCCUPIED, DISTANCE_PX = 6, 0.6, 46.0  # of particles around a particle: they nearly touch


@dataclass(frozen=True)
class Particles:
    """A stack in memory, and clean images where they are known."""

    stack: ParticleStack
    clean: Images | None = None


def read_real(path: Path) -> Particles:
    """The particles of a STAR file."""
    stack = open_stack(path, project_dir=path.parent)
    return Particles(ParticleStack.from_array(stack.read(np.arange(stack.n_particles)), stack.pixel_size, stack.ctf))


def scramble(given: Particles, seed: int = 0) -> Particles:
    """Every image with its own amplitudes around the mean particle, their phases drawn at random.

    What halves of these agree on, the method has put there (Chen et al. 2013, Ultramicroscopy 135: 24-35).
    """
    stack = given.stack
    images, box = stack.read(np.arange(stack.n_particles)), stack.box_size
    h = _transfer(stack.ctf, stack.n_particles, box, stack.pixel_size or 1.0)
    spectra = scipy.fft.rfft2(images)
    power = (h**2).sum(axis=0)
    rings = np.rint(radii_px(box)).astype(int).ravel()
    mean = scipy.fft.irfft2((h * spectra).sum(axis=0) / np.maximum(power, 1e-6 * power.max()), s=(box, box))
    profile = np.bincount(rings, mean.ravel()) / np.maximum(np.bincount(rings), 1)
    fixed = h * scipy.fft.rfft2(profile[rings].reshape(box, box).astype(np.float32))
    phases = scipy.fft.rfft2(np.random.default_rng(seed).standard_normal(images.shape, np.float32))
    rest = np.abs(spectra - fixed) * phases / np.maximum(np.abs(phases), 1e-12)
    mixed = scipy.fft.irfft2(fixed + rest, s=(box, box)).astype(np.float32)
    return Particles(ParticleStack.from_array(mixed, stack.pixel_size, stack.ctf))


def make_twin(n: int = N_TWIN, seed: int = 1, threads: int | None = None) -> Particles:
    """A built-in octahedral particle seen as the real one was: as many images, its CTFs, other particles around it."""
    volume = synthetic_particle(TWIN_BOX, shape="octahedral")
    simulated = simulate_stack(volume, TWIN_PIXEL_SIZE, n, TWIN, seed=seed, threads=threads)
    rows = np.arange(n)
    clean = simulated.read_clean(rows)
    images = simulated.read(rows) + _crowd(clean, simulated.ctf, seed)
    return Particles(ParticleStack.from_array(images, TWIN_PIXEL_SIZE, simulated.ctf), clean)


def _crowd(clean: Images, ctf: CtfParameters | None, seed: int) -> Images:
    """What is seen of other particles: at corners of a hexagon turned at random, seen through the same CTF."""
    n, box = len(clean), clean.shape[-1]
    size, rng, out = 3 * box, np.random.default_rng([seed, n]), np.empty_like(clean)
    for i in range(n):
        scene = np.zeros((size, size), np.float32)
        start, others = rng.uniform(0, 2 * np.pi), rng.integers(0, n, PLACES)
        for place in np.flatnonzero(rng.random(PLACES) < OCCUPIED):
            angle = start + 2 * np.pi * place / PLACES + 0.12 * rng.normal()
            distance = DISTANCE_PX * (1 + 0.15 * abs(rng.normal()))
            y, x = np.clip(np.rint(box + distance * np.array([np.sin(angle), np.cos(angle)])), 0, 2 * box).astype(int)
            scene[y : y + box, x : x + box] += clean[others[place]]
        own = None if ctf is None else ctf[i : i + 1]
        seen = scipy.fft.irfft2(scipy.fft.rfft2(scene) * _transfer(own, 1, size, TWIN_PIXEL_SIZE)[0], s=(size, size))
        out[i] = seen[box : 2 * box, box : 2 * box]
    return out


def _transfer(ctf: CtfParameters | None, n: int, box: int, pixel_size: float) -> Images:
    return np.ones((n, box, box // 2 + 1), np.float32) if ctf is None else evaluate_ctf_2d(ctf, box, pixel_size)
