"""How much faster each stage of the whole job gets with more threads; not part of ``make bench``.

python benchmarks/threads.py --threads 1 2 4 8 16

Simulates a stack of the built-in particle in memory, denoises it with each number of threads, and checks that all
results are the same bits. A machine with idle cores is needed: threads that share a core, or wait for other work, tell
nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np

from mfvdm_fast import ParticleStack, denoise, preset
from mfvdm_fast.result import DenoiseResult
from mfvdm_fast.simulate import SimulationSettings, simulate_stack
from mfvdm_fast.synthetic import synthetic_particle

PIXEL = 5.0  # Å
WARM_UP = 1000  # particles: kernels are compiled, or read from the cache, before anything is timed


def simulate(n: int, box_size: int, snr: float) -> ParticleStack:
    """Observed images, in memory."""
    stack = simulate_stack(synthetic_particle(box_size), PIXEL, n, SimulationSettings(snr=snr), seed=1)
    return ParticleStack.from_array(stack.read(np.arange(n)), PIXEL, stack.ctf)


def measure(stack: ParticleStack, threads: int, name: str, repeats: int) -> tuple[dict[str, float], DenoiseResult]:
    """Wall-clock seconds of every stage and of the whole, the least of ``repeats`` runs each; the last result."""
    best: dict[str, float] = {}
    for _ in range(repeats):
        start = time.perf_counter()
        result = denoise(stack, preset(name), threads=threads)
        found = {**result.seconds, "whole job": time.perf_counter() - start}
        best = {stage: min(value, best.get(stage, value)) for stage, value in found.items()}
    return best, result


def table(threads: Sequence[int], found: Sequence[dict[str, float]]) -> str:
    """Markdown: a row per stage; seconds with the first number of threads, then how many times faster the others are.

    >>> print(table([1, 2], [{"search": 2.0}, {"search": 1.0}]))
    | stage | 1: s | 2 |
    |---|---|---|
    | search | 2.00 | 2.00 |
    """
    lines = [
        f"| stage | {threads[0]}: s | " + " | ".join(map(str, threads[1:])) + " |",
        "|---" * (len(threads) + 1) + "|",
    ]
    for stage, first in found[0].items():
        ratios = [f"{first / max(one[stage], 1e-9):.2f}" for one in found[1:]]
        lines.append(f"| {stage} | " + " | ".join([f"{first:.2f}", *ratios]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    add = parser.add_argument
    add("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads (%(default)s)")
    add("-n", type=int, default=10_000, help="particles (%(default)s)")
    add("-L", dest="box_size", type=int, default=65, help="box, px (%(default)s)")
    add("--snr", type=float, default=0.05)
    add("--preset", default="default")
    add("--repeats", type=int, default=1)
    args = parser.parse_args()
    measure(simulate(WARM_UP, args.box_size, args.snr), max(args.threads), args.preset, 1)
    stack, found, bits = simulate(args.n, args.box_size, args.snr), [], None
    for count in args.threads:
        seconds, result = measure(stack, count, args.preset, args.repeats)
        packed = result.coefs.packed
        if bits is not None and not np.array_equal(bits, packed):
            raise SystemExit(f"the result with {count} threads differs from that with {args.threads[0]}")
        found.append(seconds)
        bits = packed
        print(f"{count} threads: {seconds}", flush=True)
    print(table(args.threads, found))


if __name__ == "__main__":
    main()
