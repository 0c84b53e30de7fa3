"""``mfvdm-fast demo``: simulate, denoise and evaluate a small stack, to see that all is well."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from ..errors import ParameterError
from ..io.stack import open_stack
from ..params import preset, settle_size
from ..simulate import SimulationSettings
from ..synthetic import synthetic_particle
from ..threads import resolve_threads
from . import denoise, simulate
from .arguments import add_output, add_threads
from .evaluate import evaluate_folder, table_lines
from .truth import open_truth

_BOX_SIZE, _PIXEL_SIZE, _SNR = 64, 4.0, 0.05


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``demo``."""
    add_output(parser, "demo")
    add_threads(parser)
    parser.add_argument("-n", "--particles", dest="n_particles", metavar="N", type=int, default=2000,
                        help="number of particles, 21 or more (%(default)s)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Everything below one folder: ``simulated`` and ``denoised``."""
    threads, output = resolve_threads(args.threads), Path(args.output)
    params = preset()
    neighbors = settle_size(params, args.n_particles).n_neighbors or 0
    if args.n_particles <= neighbors:
        raise ParameterError(
            f"n_particles must be at least {neighbors + 1}, so that some are of one view, got {args.n_particles}"
        )
    settings = SimulationSettings(snr=_SNR)
    what = {"n_particles": args.n_particles, "seed": 0, "settings": asdict(settings)}
    print(f"1/3 simulate {args.n_particles} particles of {_BOX_SIZE} px, SNR {_SNR:g}", flush=True)
    simulated = output / "simulated"
    made = simulate.Simulation(synthetic_particle(_BOX_SIZE), _PIXEL_SIZE, args.n_particles, settings)
    simulate.run_simulation(made, what, simulated, args.overwrite, threads)
    stack = open_stack(simulated / simulate.STAR)
    print("2/3 denoise", flush=True)
    truth = open_truth(simulated).of_input(stack)
    job = denoise.Job(stack, params, output / "denoised", args.overwrite, threads, truth=truth)
    print("\n".join(denoise.run_job(job, args.warnings)))
    print("3/3 evaluate", flush=True)
    print("\n".join(table_lines(evaluate_folder(job.output, simulated))))
    print(f"look at {job.output / 'contact_sheet.png'}")
    return 0
