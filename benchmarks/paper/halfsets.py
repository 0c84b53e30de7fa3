"""Real particles have no truth: how well two independent halves agree.

python benchmarks/paper/halfsets.py --data DIR --out DIR [--stacks real twin] [--seeds 0 1 2] [--methods paper default]

Lists: each method lists 50 neighbours of every particle. The list is split at random; each half becomes the
CTF-corrected average of its aligned originals, the particle itself left out. "Random lists" are aligned lists of
anything: the floor, which is not 0, because views of this particle are much alike and both halves lean towards the
particle that they are aligned to.
Restored: the stack is split at random and each half restored by itself; every particle of one half is compared with its
nearest in the other half, by one table of pairs and angles for all methods.
Both are mean Fourier ring correlations over the particles, the mean over all particles taken out of both sides: without
that, an image of anything would agree with another.
Halves agree on what is wrong in both as well. So the same is measured on the same images with random phases
("scrambled"), where nothing is to agree on, and on a simulated "twin", where the truth is known ("truth": ring
correlation of restored particles with clean images, "truth of lists": of the averages of whole lists). And each half
restored is compared with the originals of the other ("independent", see independent.py), which no method has touched.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from halfset_stacks import N_TWIN, Particles, make_twin, read_real, scramble
from independent import independent_correlation
from methods import METHODS, N_NEIGHBORS, Expanded, Job, Outcome, average_neighbors, expand, missing, steer

from mfvdm_fast.io.stack import ParticleStack
from mfvdm_fast.neighbors.align import align_pairs
from mfvdm_fast.records import Coefficients, FloatArray, NeighborTable

STAR = "apoferritin/apoferritin_64_sub1000.star"
EDGES_ANGSTROM = (40.0, 20.0)  # between the bands that the table gives; the last ends at the bandlimit
PAIRS = "mfvdm_star"  # whose table pairs the two halves
FILES = {"real": "halves", "scrambled": "scrambled", "twin": "twin"}  # how the names of files begin
KINDS = ("lists", "restored", "independent", "truth", "truth of lists")


def main(arguments: list[str] | None = None) -> None:
    args = _arguments().parse_args(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.stacks:
        particles = make_twin(args.twin_n, threads=args.threads) if name == "twin" else read_real(args.data / args.star)
        particles = scramble(particles) if name == "scrambled" else particles
        measure(name, particles, args)


def measure(name: str, particles: Particles, args: argparse.Namespace) -> None:
    """One JSON file for each method and seed."""
    with tempfile.TemporaryDirectory() as work:
        job = Job(particles.stack, 1.0, args.threads, Path(work), "")
        given, pairs = expand(job), METHODS[PAIRS][1](job).tables["final"]
        for method in args.methods:
            if method != "random" and (reason := missing(method, "")):
                print(f"{method}: left out, {reason}")
                continue
            outcome = None if method == "random" else METHODS[method][1](job)
            table = _random(given, args.threads) if outcome is None else outcome.tables.get("final")
            for seed in args.seeds:
                found: dict[str, Any] = {"stack": name, "method": method, "seed": seed, "n": job.stack.n_particles}
                if table is not None:
                    found["lists"] = compare_lists(given, table, job, seed)
                if outcome is not None:
                    found |= compare_restored(given, pairs, job, method, seed)
                if particles.clean is not None:
                    found |= compare_truth(given, table, outcome, particles)
                (args.out / f"{FILES[name]}-s{seed}-{method}.json").write_text(json.dumps(found))
                bands = [f"{kind} {np.round(found[kind]['bands'], 3)}" for kind in KINDS if kind in found]
                print(f"{name}, {method}, seed {seed}: {', '.join(bands)}", flush=True)


def compare_truth(
    given: Expanded, table: NeighborTable | None, outcome: Outcome | None, particles: Particles
) -> dict[str, Any]:
    """FRC with clean images, of restored particles and of the averages of lists."""
    found, pixel_size = {}, particles.stack.pixel_size or 1.0
    clean = given.basis.expand(np.asarray(particles.clean), None)
    if table is not None:
        averages = average_neighbors(given, table, with_itself=False)
        found["truth of lists"] = _agreement(given, averages, clean, pixel_size)
    if outcome is not None:
        restored = outcome.read(np.arange(len(clean)))
        found["truth"] = _agreement(given, given.basis.expand(restored, None), clean, pixel_size)
    return found


def compare_lists(given: Expanded, table: NeighborTable, job: Job, seed: int) -> dict[str, Any]:
    """FRC of the averages of two random halves of every list."""
    order = np.argsort(np.random.default_rng(seed).random(table.indices.shape), axis=1)
    half = order.shape[1] // 2
    averages = []
    for columns in (order[:, :half], order[:, half : 2 * half]):
        part = NeighborTable(
            *(np.take_along_axis(a, columns, 1) for a in (table.indices, table.mirrored, table.angles, table.scores))
        )
        averages.append(average_neighbors(given, part, with_itself=False))
    return _agreement(given, *averages, job.stack.pixel_size or 1.0)


def compare_restored(given: Expanded, pairs: NeighborTable, job: Job, method: str, seed: int) -> dict[str, Any]:
    """Halves of the stack, each restored by itself: FRC of nearest particles, and with originals of the other half."""
    n = job.stack.n_particles
    side = np.random.default_rng(seed).permutation(n) < n // 2
    packed = np.empty_like(given.raw.packed)
    for half in (side, ~side):
        rows = np.flatnonzero(half)
        ctf = None if job.stack.ctf is None else job.stack.ctf[rows]
        part = ParticleStack.from_array(job.stack.read(rows), job.stack.pixel_size, ctf)
        outcome = METHODS[method][1](Job(part, 1.0, job.threads, job.work, ""))
        packed[rows] = given.basis.expand(outcome.read(np.arange(rows.size)), job.threads)
        packed[rows] -= packed[rows].mean(axis=0)
    across = side[:, None] != side[pairs.indices]
    rows = np.flatnonzero(side & across.any(axis=1))
    first = np.argmax(across[rows], axis=1)
    near = pairs.indices[rows, first]
    turned = steer(packed[near], given.raw.offsets, pairs.mirrored[rows, first], pairs.angles[rows, first])
    frequency, correlation = independent_correlation(given, packed, side, job.threads)
    pixel_size = job.stack.pixel_size or 1.0
    return {
        "restored": _agreement(given, packed[rows], turned, pixel_size),
        "independent": _in_bands(given, frequency, correlation, pixel_size),
    }


def _agreement(given: Expanded, one: Coefficients, other: Coefficients, pixel_size: float) -> dict[str, Any]:
    frequency, frc = ring_correlation(given, one - one.mean(axis=0), other - other.mean(axis=0))
    return _in_bands(given, frequency, frc, pixel_size)


def _in_bands(given: Expanded, frequency: FloatArray, frc: FloatArray, pixel_size: float) -> dict[str, Any]:
    frequency = frequency / pixel_size
    edges = [0.0, *(1 / edge for edge in EDGES_ANGSTROM), np.inf]
    bands = [float(np.mean(frc[(frequency >= low) & (frequency < high)])) for low, high in pairwise(edges)]
    limit = pixel_size / given.basis.bandlimit
    return {"frequency": frequency.tolist(), "frc": frc.tolist(), "bands": bands, "limit_angstrom": limit}


def ring_correlation(given: Expanded, one: Coefficients, other: Coefficients) -> tuple[FloatArray, FloatArray]:
    """Frequencies (cycles/px) and ring correlation of pairs (b, P), mean over the pairs.

    Of the coefficients in rings of radial frequency, which are those of the Fourier transform but for the edge of the
    disc: beyond the bandlimit the transform of an image cut off there shows that edge and nothing else.
    """
    ring = np.rint(given.basis.radial_nodes * given.basis.box_size).astype(int)
    weight = np.where(np.arange(given.basis.n_coefs) < given.basis.offsets[1], 1.0, 2.0)

    def rings(values: np.ndarray) -> np.ndarray:
        return np.array([np.bincount(ring, weight * row) for row in values])

    cross = rings((one * other.conj()).real)
    power = rings(np.abs(one) ** 2) * rings(np.abs(other) ** 2)
    filled = np.flatnonzero(np.bincount(ring))
    frc = (cross[:, filled] / np.sqrt(np.maximum(power[:, filled], 1e-30))).mean(axis=0)
    return filled / given.basis.box_size, frc


def _random(given: Expanded, threads: int | None) -> NeighborTable:
    n, rng = given.raw.n_particles, np.random.default_rng(0)
    indices = (np.arange(n)[:, None] + rng.integers(1, n, (n, N_NEIGHBORS))) % n
    mirrored = rng.random(indices.shape) < 0.5
    angles, scores = align_pairs(given.flipped, indices, mirrored, threads=threads)
    return NeighborTable(indices, mirrored, angles, scores)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with apoferritin/")
    parser.add_argument("--star", default=STAR, help="particles below it (%(default)s)")
    parser.add_argument("--stacks", nargs="+", choices=list(FILES), default=list(FILES), help="(%(default)s)")
    parser.add_argument("--twin-n", type=int, default=N_TWIN, help="particles of the twin (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the JSON files")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of the splits")
    parser.add_argument("--methods", nargs="+", choices=["random", *METHODS], metavar="METHOD",
                        default=["random", "cwf", "classavg", "mfvdm_star", "vdm", "paper", "default", "default_50"],
                        help="any of run.py, and 'random' (%(default)s)")  # fmt: skip
    parser.add_argument("--threads", type=int)
    return parser


if __name__ == "__main__":
    main()
