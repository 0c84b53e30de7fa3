"""How well each variant of the published method does on a simulation from a map, as a Markdown table.

python benchmarks/accuracy.py MAP.mrc -n 10000 --snr 0.05 0.02 0.01 [--variants paper vdm mfvdm*]

The simulation: uniform views, 20 defocus groups from 1 to 4 um, 200 kV, Cs 2 mm, amplitude contrast 0.1. Neighbours are
counted right within 10 degrees of the true view, angles within 5 degrees for those; PSNR over the range of the clean
stack and SSIM against clean images without CTF, with no fit to the truth.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import mrcfile
import numpy as np

from mfvdm_fast import SimulationSettings, denoise, preset, simulate_stack
from mfvdm_fast.metrics import ImageScores, evaluate_constant, evaluate_images, evaluate_neighbors, summarize_images
from mfvdm_fast.records import NeighborTable
from mfvdm_fast.result import DenoiseResult
from mfvdm_fast.simulate import SimulatedStack

VARIANTS = {"paper": {}, "vdm": {"n_frequencies": 1}, "mfvdm*": {"refine": False}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("map", type=Path)
    parser.add_argument("-n", type=int, default=10_000)
    parser.add_argument("--snr", type=float, nargs="+", default=[0.05, 0.02, 0.01])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with mrcfile.open(args.map) as file:
        volume, pixel_size = np.array(file.data, np.float32), float(file.voxel_size.x)
    print("| SNR | method | within 10° first | refined | angle within 5° | relMSE | PSNR dB | SSIM | CPU-s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for snr in args.snr:
        stack = simulate_stack(volume, pixel_size, args.n, SimulationSettings(snr=snr), seed=args.seed)
        summary = summarize_images(images for _, images in stack.clean_chunks())
        constant = evaluate_constant((images for _, images in stack.clean_chunks()), summary)
        print(f"| {snr:g} | constant image | | | | {scores(constant)} | |", flush=True)
        for name in args.variants:
            start = time.process_time()
            result = denoise(stack, preset("paper", **VARIANTS[name]))
            seconds = time.process_time() - start
            print(f"| {snr:g} | {name} | {row(stack, result, summary.data_range)} | {seconds:.0f} |", flush=True)


def row(stack: SimulatedStack, result: DenoiseResult, data_range: float) -> str:
    blocks = [np.arange(start, min(start + 500, stack.n_particles)) for start in range(0, stack.n_particles, 500)]
    found = evaluate_images(map(stack.read_clean, blocks), map(result.images, blocks), data_range)
    first, refined = result.initial_neighbors, result.neighbors
    angle = angles_right(refined, stack)
    errors = [evaluate_neighbors(table, stack.rotations) for table in (first, refined)]
    within = " | ".join(f"{error.fraction_within(10):.3f}" for error in errors)
    return f"{within} | {angle:.3f} | {scores(found)}"


def angles_right(table: NeighborTable, stack: SimulatedStack) -> float:
    errors = evaluate_neighbors(table, stack.rotations)
    return float((errors.in_plane_deg[errors.view_deg < 10] < 5).mean())


def scores(found: ImageScores) -> str:
    return f"{found.relative_mse:.3f} | {found.psnr_db:.2f} | {found.ssim:.3f}"


if __name__ == "__main__":
    main()
