"""How much faster two threads are than one, kernel by kernel; not part of ``make bench``.

python benchmarks/turns.py [--seconds 10] [--only search match]

One and two threads take turns, so that a machine whose speed changes slows both, and medians over all turns are
printed: seconds with one thread, with two, their ratio, the threads at work meanwhile (CPU-seconds over seconds), and
how many times more CPU-seconds two threads take for the same work (memory and cache that both cores share).
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from functools import cached_property

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from inputs import BOX, FREQUENCIES, M_RESTORE, PIXEL, Chain, K, M, solve_bases

from mfvdm_fast.basis.disk_harmonics import DiskHarmonics
from mfvdm_fast.basis.fourier_bessel import FourierBessel
from mfvdm_fast.basis.steerable_pca import estimate_steerable_pca
from mfvdm_fast.ext.hermitian import fill_values
from mfvdm_fast.graph.arrangement import arrange_graph
from mfvdm_fast.graph.frequency_graph import build_frequency_graph
from mfvdm_fast.imaging.ctf import phase_flip_images
from mfvdm_fast.imaging.support import estimate_bandlimit, estimate_radius
from mfvdm_fast.kernels._simd import empty_aligned
from mfvdm_fast.kernels.polar import PolarPlan
from mfvdm_fast.kernels.spmm import PANEL, filter_panel
from mfvdm_fast.neighbors.align import align_pairs
from mfvdm_fast.neighbors.cells import divide_in_cells
from mfvdm_fast.neighbors.match import match_neighbors
from mfvdm_fast.neighbors.search import search_affinity, search_neighbors
from mfvdm_fast.records import Eigenbasis, NeighborTable
from mfvdm_fast.restore.graph_map import restore_graph_map
from mfvdm_fast.restore.template_features import TemplateFeatures
from mfvdm_fast.restore.templates import fit_templates, split_in_parts
from mfvdm_fast.stages import RESTORATION
from mfvdm_fast.threads import map_in_order, use_kernel_threads

Work = Callable[[int], object]  # of the number of threads
K_TEMPLATE, N_IMAGES, LARGE_BOX = 20, 512, 129


class Kernels(Chain):
    """What is timed, on the inputs of a real job."""

    @cached_property
    def large(self) -> np.ndarray:
        return np.random.default_rng(0).standard_normal((N_IMAGES, LARGE_BOX, LARGE_BOX), np.float32)

    @cached_property
    def solved(self) -> dict[int, Eigenbasis]:
        frequencies = range(self.raw.k_max + 1)
        return dict(enumerate(solve_bases(self.graph, frequencies, M_RESTORE, RESTORATION)))

    @cached_property
    def sides(self) -> list[TemplateFeatures]:
        return self.templates(2)

    def templates(self, threads: int) -> list[TemplateFeatures]:
        found = fit_templates(self.raw, self.observation, lambda k, most: self.solved[k], self.graph.degrees,
                              split_in_parts(self.n), k_max=K_TEMPLATE, threads=threads)  # fmt: skip
        return list(found.features(self.raw, self.observation, threads=threads))

    def match(self, threads: int) -> list[NeighborTable]:
        power = np.mean(np.abs(self.sides[0].observed.packed) ** 2, axis=0)
        cells = divide_in_cells(self.sides[0].templates, power, threads)
        return [match_neighbors(side.observed, side.templates, side.particles, K, cells=cells, threads=threads)
                for side in self.sides]  # fmt: skip

    def graph_map(self, threads: int) -> object:
        bases, degrees = (lambda k, most: self.solved[k]), self.graph.degrees
        return restore_graph_map(self.raw, self.observation, bases, degrees, threads=threads)

    def panels(self) -> Work:
        """Polynomials of the graph, a panel of vectors for each thread."""
        arranged, (centre, half, degree) = arrange_graph(self.graph), (np.float32(0.2), np.float32(0.6), 10)
        graph, values = arranged.graph, fill_values(arranged.graph, 3)
        panels = empty_aligned((2, 3, self.n, PANEL))

        def one(panel: np.ndarray) -> None:
            panel[0] = 1
            with use_kernel_threads(1):
                filter_panel(graph.indptr, arranged.splits, arranged.columns, values, 2, panel, centre, half, degree)

        return lambda threads: map_in_order(one, panels, threads)

    def works(self) -> Iterator[tuple[str, Work]]:
        """Names, and the work; inputs are made by the turn that is not timed."""
        plan = PolarPlan(LARGE_BOX, np.linspace(0, 0.5, 64), 256)
        yield "polar", lambda t: plan.transform(self.large, t)
        basis, small = DiskHarmonics(LARGE_BOX, LARGE_BOX // 2, 0.5), FourierBessel(BOX, BOX // 2, 0.5)
        corner, packed = np.ascontiguousarray(self.large[:, :BOX, :BOX]), basis.expand(self.large)
        yield "expand", lambda t: basis.expand(self.large, t)
        yield "expand_fb", lambda t: small.expand(corner, t)
        yield "synthesis", lambda t: basis.evaluate(packed, t)
        ctf, some = self.simulated.ctf[np.arange(N_IMAGES)], self.images[:4096]
        yield "phase_flip", lambda t: phase_flip_images(self.large, ctf, PIXEL, t)
        yield "support", lambda t: (estimate_radius(some, self.noise, t), estimate_bandlimit(some, self.noise, t))
        yield "pca", lambda t: estimate_steerable_pca(self.flipped, self.noise.variance, threads=t)
        yield "search", lambda t: search_neighbors(self.features, K, threads=t)
        yield "align", lambda t: align_pairs(self.features, self.table.indices, self.table.mirrored, threads=t)
        yield "assembly", lambda t: fill_values(build_frequency_graph(self.table, threads=t), 3, threads=t)
        yield "panels", self.panels()
        ks = range(1, FREQUENCIES + 1)
        yield "eigenbases_50", lambda t: solve_bases(self.graph, ks, M, threads=t)
        yield "affinity", lambda t: search_affinity(self.normalized, K, threads=t)
        yield "eigenbases_200", lambda t: solve_bases(self.graph, ks, M_RESTORE, RESTORATION, threads=t)
        yield "templates", self.templates
        yield "match", self.match
        yield "graph_map", self.graph_map


def take_turns(work: Work, seconds: float) -> np.ndarray:
    """(turns, 2, 2): wall-clock and CPU-seconds with one and two threads, five turns at least."""
    turns, end = list[list[tuple[float, float]]](), time.perf_counter() + seconds
    for threads in (1, 2):
        work(threads)
    while len(turns) < 5 or time.perf_counter() < end:
        turn = {}
        for threads in (1, 2) if len(turns) % 2 else (2, 1):
            wall, cpu = time.perf_counter(), time.process_time()
            work(threads)
            turn[threads] = time.perf_counter() - wall, time.process_time() - cpu
        turns.append([turn[1], turn[2]])
    return np.array(turns)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="for each kernel, at least (%(default)s)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of the kernels (all)")
    args = parser.parse_args()
    print("| kernel | turns | 1 thread: s | 2: s | ratio | at work | CPU-seconds, 2 / 1 |\n" + "|---" * 7 + "|")
    for name, work in Kernels().works():
        if args.only and name not in args.only:
            continue
        turns = take_turns(work, args.seconds)
        one, two = turns[:, 0], turns[:, 1]
        figures = [one[:, 0], two[:, 0], one[:, 0] / two[:, 0], two[:, 1] / two[:, 0], two[:, 1] / one[:, 1]]
        medians = [f"{np.median(values):.{digits}f}" for values, digits in zip(figures, (3, 3, 2, 2, 2), strict=True)]
        print(f"| {name} | {len(turns)} | " + " | ".join(medians) + " |", flush=True)


if __name__ == "__main__":
    main()
