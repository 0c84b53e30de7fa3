"""How time, memory and quality of the whole job grow with the number of particles; not part of ``make bench``.

python benchmarks/growth.py -n 20000 40000 80000 --preset paper --threads 2

Simulates a stack of each size (65 px), denoises it through the command line in a process of its own, and fits the
exponent b of everything as c n^b, by least squares in the logarithms.
Disk: about 45 kB per particle of one size at a time, in the temporary folder.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from bench_pipeline import run_job, simulate

from mfvdm_fast.metrics import evaluate_images, summarize_images
from mfvdm_fast.params import PRESETS

SCORED = 500  # images


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """b of values ~ c sizes^b.

    >>> round(exponent([1, 2, 4], [3.0, 12.0, 48.0]), 6)
    2.0
    """
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(values, 1e-3)), 1)[0])


def measure(n: int, box_size: int, options: Sequence[str], folder: Path) -> dict[str, Any]:
    """PSNR of the first images, CPU-seconds, wall-clock seconds, peak memory, and seconds of every stage."""
    particles = simulate(n, box_size, folder)
    usage = run_job(particles, folder / "out", *options)
    paths = (folder / "out" / "denoised.mrcs", particles.with_name("clean.mrcs"))
    with mrcfile.mmap(paths[0]) as found, mrcfile.mmap(paths[1]) as clean:
        restored, truth = (np.array(file.data[:SCORED]) for file in (found, clean))
    quality = evaluate_images([truth], [restored], summarize_images([truth]).data_range)
    facts = {"PSNR dB": quality.psnr_db, "SSIM": quality.ssim}
    return facts | {"cpu s": usage["cpu"], "wall s": usage["wall"], "peak MB": usage["peak"] / 1e6, **usage["stages"]}


def table(sizes: Sequence[int], found: Sequence[dict[str, Any]]) -> str:
    """Markdown: one row per quantity, one column per size, and the exponent."""
    lines = ["| n | " + " | ".join(f"{n:,}" for n in sizes) + " | exponent |", "|---" * (len(sizes) + 2) + "|"]
    for name in dict.fromkeys(name for one in found for name in one):  # the data decide which stages there are
        values = [float(one.get(name, 0.0)) for one in found]
        cells = [f"{value:.3g}" if value < 1000 else f"{value:.0f}" for value in values]
        power = f"{exponent(sizes, values):.2f}" if len(sizes) > 1 else ""
        lines.append(f"| {name} | " + " | ".join([*cells, power]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    add = parser.add_argument
    add("-n", dest="sizes", type=int, nargs="+", default=[20_000, 40_000, 80_000], help="numbers of particles")
    add("-L", dest="box_size", type=int, default=65, help="box, px (%(default)s)")
    add("--preset", choices=tuple(PRESETS), default=next(iter(PRESETS)))
    add("--threads", type=int, default=2)
    args = parser.parse_args()
    options = ("--preset", args.preset, "--threads", str(args.threads))
    found = []
    for n in args.sizes:
        with tempfile.TemporaryDirectory() as folder:
            found.append(measure(n, args.box_size, options, Path(folder)))
        print(f"{n}: {found[-1]}", flush=True)
    print(table(args.sizes, found))


if __name__ == "__main__":
    main()
