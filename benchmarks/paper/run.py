"""Runs the cells of the paper's tables: one JSON file for each cell, seed and method, so that a run can go on.

python benchmarks/paper/run.py --data DIR --out DIR --cells A_05 B_05 --seeds 0 1 2 --methods cwf paper default

DIR of --data holds volumes/ and metadata/. What is there already is not run again; tables.py makes the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from cells import CELLS, SYMMETRIC, TABLES, simulate
from methods import METHODS, PEERS, Job, Outcome, missing

from mfvdm_fast import ParticleStack
from mfvdm_fast.cli.evaluate import area_under_roc
from mfvdm_fast.metrics import (
    ImageScores,
    centre_images,
    evaluate_constant,
    evaluate_images,
    evaluate_neighbors,
    summarize_images,
)
from mfvdm_fast.records import Images, IndexArray, NeighborTable
from mfvdm_fast.simulate import SimulatedStack
from mfvdm_fast.threads import resolve_threads

CHUNK = 500  # images scored at a time
CLOSE_DEG = 10.0  # views nearer than this count as neighbours found; angles are judged among those


def main(arguments: list[str] | None = None) -> None:
    args = _arguments().parse_args(arguments)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    for name in args.methods:
        if reason := missing(name, args.aspire_python):
            print(f"{name}: left out, {reason}", flush=True)
    methods = [name for name in args.methods if not missing(name, args.aspire_python)]
    for cell in args.cells:
        for seed in args.seeds:
            run_cell(cell, seed, methods, args, out)


def run_cell(name: str, seed: int, methods: list[str], args: argparse.Namespace, out: Path) -> None:
    """All missing files of one simulation."""
    wanted = {}
    for method in ["constant", *methods]:
        n = min(args.n, args.peer_n) if method in PEERS else args.n
        path = out / f"{name}-n{n}-s{seed}-{method}.json"
        if not path.exists():
            wanted.setdefault(n, []).append((method, path))
    for n, group in wanted.items():
        truth = simulate(CELLS[name], args.data, n, seed, args.threads)
        stack = ParticleStack.from_array(truth.read(np.arange(n)), truth.pixel_size, truth.ctf)
        good = np.flatnonzero(~truth.junk)
        rows, summary = good[: args.score], summarize_images(_clean(truth, good))
        facts = {"cell": name, "seed": seed, "n": n, "scored": len(rows), "threads": resolve_threads(args.threads)}
        for method, path in group:
            if method == "constant":
                found = asdict(evaluate_constant(_clean(truth, rows), summary))
            else:
                with tempfile.TemporaryDirectory() as work:
                    job = Job(stack, truth.noise_variance, args.threads, Path(work), args.aspire_python)
                    found = score(METHODS[method][1](job), truth, rows, summary.data_range, name not in SYMMETRIC)
            _write(path, facts | {"method": method, "date": time.strftime("%Y-%m-%d")} | found)
            print(f"{path.name}: PSNR {found['psnr_db']:.2f} dB, {found.get('cpu_s', 0):.0f} CPU-s", flush=True)


def score(outcome: Outcome, truth: SimulatedStack, rows: IndexArray, data_range: float, views: bool) -> dict[str, Any]:
    """Everything that the tables need of one run; images over the range of the clean stack, without any fit."""

    def compare(shifts_px: np.ndarray | None) -> ImageScores:
        restored = (outcome.read(block) for block in _blocks(rows))
        return evaluate_images(_clean(truth, rows, shifts_px), restored, data_range)

    found: dict[str, Any] = asdict(compare(outcome.shifts_px))
    if truth.shifts_px[rows].any():
        found["psnr_at_centre_db"] = compare(truth.shifts_px).psnr_db
        left = truth.shifts_px - (0 if outcome.shifts_px is None else outcome.shifts_px)
        found["shift_left_px"] = float(np.sqrt(np.square(left[~truth.junk]).mean()))
    found |= {"cpu_s": outcome.cpu_s, "seconds": outcome.seconds}
    if views:
        found["neighbors"] = {name: _neighbor_scores(table, truth) for name, table in outcome.tables.items()}
    if outcome.junk_score is not None and truth.junk.any():
        found["junk_auc"] = area_under_roc(-outcome.junk_score, truth.junk)
    return found


def _neighbor_scores(table: NeighborTable, truth: SimulatedStack) -> dict[str, Any]:
    """Errors of the lists of all good particles; a junk neighbour is one that is wrong. Histograms in 1 degree bins."""
    errors = evaluate_neighbors(table, truth.rotations)
    good = ~truth.junk
    view, angle = errors.view_deg[good], errors.in_plane_deg[good]
    junk = truth.junk[table.indices[good]]
    close = (view < CLOSE_DEG) & ~junk
    bins = np.arange(181)
    return {
        "within_10_deg": float(close.mean()),
        "in_plane_below_5_deg": float((angle[close] < 5).mean()) if close.any() else 0.0,
        "junk_neighbors": float(junk.mean()),
        "view_histogram": np.histogram(view[~junk], bins)[0].tolist(),
        "in_plane_histogram": np.histogram(angle[close], bins)[0].tolist(),
    }


def _clean(truth: SimulatedStack, rows: IndexArray, shifts_px: np.ndarray | None = None) -> Iterator[Images]:
    """Clean images, moved as the restored ones were."""
    for block in _blocks(rows):
        images = truth.read_clean(block)
        yield images if shifts_px is None else centre_images(images, shifts_px[block])


def _blocks(rows: IndexArray) -> Iterator[IndexArray]:
    return (rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK))


def _write(path: Path, found: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(found))
    os.replace(part, path)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with volumes/ and metadata/")
    parser.add_argument("--out", type=Path, required=True, help="folder of the JSON files")
    parser.add_argument("--cells", nargs="+", choices=list(CELLS), default=list(TABLES["published"]), metavar="CELL",
                        help=f"{' '.join(CELLS)} (default: the published table)")  # fmt: skip
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), metavar="METHOD",
                        default=[name for name in METHODS if name not in (*PEERS, "default_50")],
                        help=f"{' '.join(METHODS)} (default: all but the peers)")  # fmt: skip
    parser.add_argument("-n", type=int, default=10_000, help="particles (%(default)s)")
    parser.add_argument("--peer-n", type=int, default=2_000, help="at most this many for the peers (%(default)s)")
    parser.add_argument("--score", type=int, default=2_000, help="images scored, the first good ones (%(default)s)")
    parser.add_argument("--threads", type=int, help="(all cores)")
    parser.add_argument("--aspire-python", default=sys.executable, help="a Python that has aspire (this one)")
    return parser


if __name__ == "__main__":
    main()
