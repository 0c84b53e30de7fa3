"""``mfvdm-fast warmup``: compile every kernel by one tiny job, so that the first real one need not."""

from __future__ import annotations

import argparse
import time

import numpy as np

from ..io.stack import ParticleStack
from ..kernels._jit import cache_folder
from ..params import preset
from ..pipeline import denoise
from ..progress import console_progress
from ..simulate import SimulationSettings, simulate_stack
from ..synthetic import synthetic_particle
from .arguments import add_threads

_BOX_SIZE, _PIXEL_SIZE, _PARTICLES = 32, 4.0, 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``warmup``."""
    add_threads(parser)


def run(args: argparse.Namespace) -> int:
    """Simulate and denoise, once with each preset, and with each basis."""
    start = time.perf_counter()
    settings = SimulationSettings(snr=0.2, n_defocus_groups=3)
    simulated = simulate_stack(synthetic_particle(_BOX_SIZE), _PIXEL_SIZE, _PARTICLES, settings, threads=args.threads)
    stack = ParticleStack.from_array(simulated.read(np.arange(_PARTICLES)), _PIXEL_SIZE, simulated.ctf)
    for name, basis in (("default", "disk_harmonics"), ("paper", "fourier_bessel")):
        with console_progress() as progress:
            params = preset(name, basis=basis, n_neighbors=10, n_frequencies=2, n_eigenvectors=10)
            denoise(stack, params, threads=args.threads, progress=progress).images()
    folder = cache_folder()
    print(f"all kernels ran after {time.perf_counter() - start:.1f} s")
    if folder is None:
        print("no folder for compiled kernels can be written, so each run compiles anew; set MFVDM_CACHE_DIR")
    else:
        print(f"compiled kernels are kept in {folder}")
    return 0
