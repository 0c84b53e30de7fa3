"""``mfvdm-fast evaluate``: how good neighbours and denoised images are, given the truth of a simulation."""

from __future__ import annotations

import argparse
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, counted
from ..io.particle_table import JUNK_COLUMN, SCORE_COLUMN, find_particles
from ..io.stack import ParticleStack, open_stack
from ..metrics import ImageScores, evaluate_constant, evaluate_images, evaluate_neighbors, summarize_images
from ..records import BoolArray, FloatArray, Images, NeighborTable
from .arguments import row_chunks
from .truth import Truth, open_truth

_TABLES = {"initial": "initial_neighbors.npz", "final": "neighbors.npz"}
_CLOSE_VIEW_DEG, _CLOSE_ANGLE_DEG = 10.0, 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``evaluate``."""
    parser.add_argument("denoised", metavar="DIR", type=Path, help="output folder of 'denoise'")
    parser.add_argument("--truth", metavar="DIR", type=Path, required=True, help="output folder of 'simulate'")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """Score and print."""
    scores = evaluate_folder(args.denoised, args.truth)
    print(json.dumps(scores, indent=2) if args.json else "\n".join(table_lines(scores)))
    return 0


def evaluate_folder(folder: Path, truth_folder: Path) -> dict[str, Any]:
    """Scores of the neighbour tables and of the images in an output folder of ``denoise``; read in chunks.

    Raises InputError when a file is missing or the two folders do not belong together.
    """
    if not (folder / "denoised.star").is_file():
        raise InputError(f"{folder}: has no denoised.star; give an output folder of 'mfvdm-fast denoise'")
    denoised = open_stack(folder / "denoised.star", project_dir=folder)
    truth = open_truth(truth_folder).of_denoised(denoised)
    if not len(truth.particles):
        raise InputError(f"{folder}: all {denoised.n_particles} particles are junk; there is nothing to score")
    files = {name: folder / file for name, file in _TABLES.items()}
    # The Wiener filter alone finds no neighbours; a first table without a final one is a loss.
    tables = {
        name: path for name, path in files.items() if path.exists() or (name == "final" and files["initial"].exists())
    }
    return {
        "n_particles": len(truth.particles),
        "n_junk": denoised.n_particles - len(truth.particles),
        "centres": _centre_scores(truth),
        "junk": _junk_scores(denoised, truth),
        "neighbors": {name: _neighbor_scores(path, truth) for name, path in tables.items()},
        "images": _image_scores(truth, denoised.read),
    }


def _neighbor_scores(path: Path, truth: Truth) -> dict[str, float | int]:
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = [content[name] for name in ("indices", "mirrored", "angles", "affinity")]
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read as a neighbour table ({error}); denoise again") from error
    if len(arrays[0]) != len(truth.rows):
        raise InputError(
            f"{path}: holds neighbours of {counted(len(arrays[0]), 'particle')}, denoised.star has {len(truth.rows)}; "
            "they must be of one run: denoise again"
        )
    errors = evaluate_neighbors(NeighborTable(*arrays), truth.rotations[truth.rows])
    view, in_plane = errors.view_deg[truth.particles], errors.in_plane_deg[truth.particles]
    close = in_plane[view <= _CLOSE_VIEW_DEG]
    return {
        "n_neighbors": int(arrays[0].shape[1]),
        "within_10_deg": float((view <= _CLOSE_VIEW_DEG).mean()),
        "mean_view_error_deg": float(view.mean()),
        "in_plane_below_5_deg": float((close < _CLOSE_ANGLE_DEG).mean()) if close.size else 0.0,
    }


def _centre_scores(truth: Truth) -> dict[str, float] | None:
    """Shifts of the particles and what is left of them, or was made, in px, rms of each coordinate; None without."""
    left = truth.centre_errors_px
    if truth.shifts_px is None or left is None:
        return None
    pairs = {"shift_px": truth.shifts_px[truth.rows], "left_px": left}
    found = {name: float(np.sqrt(np.square(shifts[truth.particles]).mean())) for name, shifts in pairs.items()}
    return found if any(found.values()) else None  # at most junk stands off the middle


def _junk_scores(denoised: ParticleStack, truth: Truth) -> dict[str, float] | None:
    """How well the score tells junk from particles; None where there is no junk or no score."""
    table = None if denoised.star is None else find_particles(denoised.star).particles
    junk = truth.junk[truth.rows]
    if table is None or not junk.any() or any(name not in table for name in (SCORE_COLUMN, JUNK_COLUMN)):
        return None
    score, flagged = table.floats(SCORE_COLUMN), table.floats(JUNK_COLUMN) > 0
    hits = int((flagged & junk).sum())
    return {
        "area_under_roc": area_under_roc(score, junk),
        "flagged": int(flagged.sum()),
        "precision": hits / max(1, int(flagged.sum())),
        "recall": hits / int(junk.sum()),
    }


def area_under_roc(score: FloatArray, junk: BoolArray) -> float:
    """Chance that a good particle has a larger score than junk; ties count half.

    >>> area_under_roc(np.array([3.0, 1.0, 2.0]), np.array([False, True, True]))
    1.0
    """
    good = np.sort(score[~junk])
    below = np.searchsorted(good, score[junk], side="left") + np.searchsorted(good, score[junk], side="right")
    return 1 - float(below.mean()) / (2 * len(good))


def _image_scores(truth: Truth, read_denoised: Callable[[Any], Images]) -> dict[str, dict[str, float]]:
    # SSIM holds about 20 arrays of the size of a chunk, in float64.
    chunks = [truth.particles[rows] for rows in row_chunks(len(truth.particles), truth.clean.box_size, part=16)]

    def clean() -> Iterator[Images]:
        return (truth.read_clean(rows) for rows in chunks)

    summary = summarize_images(clean())
    noisy = (truth.noisy.read(truth.rows[rows]) for rows in chunks)
    found = {
        "constant": evaluate_constant(clean(), summary),
        "noisy": evaluate_images(clean(), noisy, summary.data_range),
        "denoised": evaluate_images(clean(), (read_denoised(rows) for rows in chunks), summary.data_range),
    }
    return {name: _scores(scores) for name, scores in found.items()}


def _scores(scores: ImageScores) -> dict[str, float]:
    return {"relative_mse": scores.relative_mse, "psnr_db": scores.psnr_db, "ssim": scores.ssim}


def table_lines(scores: dict[str, Any]) -> list[str]:
    """The scores as a table for the reader."""
    head = f"{'neighbours':<12} {'number':>7} {'within 10°':>11} {'mean error':>11} {'in-plane < 5°':>14}"
    lines = [head] if scores["neighbors"] else []
    for name, row in scores["neighbors"].items():
        lines.append(
            f"  {name:<10} {row['n_neighbors']:>7} {row['within_10_deg']:>11.1%} {row['mean_view_error_deg']:>10.1f}° "
            f"{row['in_plane_below_5_deg']:>14.1%}"
        )
    lines.append(f"{'images':<12} {'relMSE':>9} {'PSNR (dB)':>11} {'SSIM':>11}")
    for name, row in scores["images"].items():  # particles in units of their own leave a relMSE of any size
        lines.append(f"  {name:<10} {row['relative_mse']:>#9.4g} {row['psnr_db']:>11.2f} {row['ssim']:>11.3f}")
    if scores["centres"] is not None:
        shift, left = scores["centres"]["shift_px"], scores["centres"]["left_px"]
        rms = "px off the middle (rms, each of x and y)"
        lines.append(
            f"centres: {shift:.2f} {rms}, of which {left:.2f} px are left"
            if shift
            else f"centres: all stood in the middle, and were moved {left:.2f} {rms}: leave out --centre"
        )
    found = scores["junk"]
    if found is not None:
        lines.append(
            f"junk: area under ROC {found['area_under_roc']:.3f}; {found['flagged']} flagged, precision "
            f"{found['precision']:.1%}, recall {found['recall']:.1%}"
        )
    junk = f" ({scores['n_junk']} of junk left out)" if scores["n_junk"] else ""
    lines.append(
        f"{counted(scores['n_particles'], 'particle')}{junk}, "
        "against clean images without CTF, no fit; in-plane: share of the pairs "
        "within 10°; constant: the mean grey value in every pixel"
    )
    return lines
