"""Makes README tables and figures of the JSON files of run.py and halfsets.py.

python benchmarks/paper/tables.py --out DIR [--to benchmarks/paper]: writes results.md and PNG files.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from cells import CELLS, TABLES
from methods import METHODS

Runs = dict[tuple[str, int, str], list[dict[str, Any]]]  # (cell, n, method): one entry per seed
ORDER = ["constant", *METHODS]
TITLES = {"constant": "constant image", **{name: title for name, (title, _) in METHODS.items()}}
HALF_TITLES = {"random": "random lists", **TITLES}
HALF_KINDS = ("lists", "restored", "independent", "truth", "truth of lists")
HALF_STACKS = {
    "halves": "Real particles (apoferritin): agreement of halves",
    "scrambled": "The same images with random phases: what halves agree on where nothing is",
    "twin": "A simulated twin: agreement of halves, and with the truth",
}
FIGURE = (("vdm", "C2"), ("paper", "C0"), ("default", "C3"))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder that run.py wrote to")
    parser.add_argument("--to", type=Path, help="where results.md and the figures go (--out)")
    args = parser.parse_args(arguments)
    target = args.to or args.out
    runs = read_runs(args.out)
    parts = []
    for name, title in (
        ("published", "Table I: images and neighbours"),
        ("robustness", "Robustness, map A, SNR .05"),
        ("volumes", "Other particles, SNR .05"),
    ):
        cells = [cell for cell in TABLES[name] if any(key[0] == cell for key in runs)]
        if cells:
            parts += [f"## {title}", "", *quality_table(runs, cells), ""]
    if any(key[0] in TABLES["published"] for key in runs):
        parts += ["## Table II: time", "", *time_table(runs), ""]
        parts += figure_6(runs, target)
    stacks = {name: halves for name in HALF_STACKS if (halves := read_halves(args.out, name))}
    for name, halves in stacks.items():
        parts += [f"## {HALF_STACKS[name]}", "", *half_table(halves), ""]
    if stacks:
        parts += half_figure(stacks, target)
    text = "\n".join(parts)
    (target / "results.md").write_text(text)
    print(text)


def read_runs(folder: Path) -> Runs:
    """All results of run.py, by cell, number of particles and method."""
    runs: Runs = defaultdict(list)
    for path in sorted(folder.glob("*-n*-s*-*.json")):
        found = json.loads(path.read_text())
        if "cell" in found:
            runs[found["cell"], found["n"], found["method"]].append(found)
    return runs


def read_halves(folder: Path, name: str = "halves") -> dict[str, list[dict[str, Any]]]:
    """All results of halfsets.py on one stack, by method."""
    halves: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(folder.glob(f"{name}-s*-*.json")):
        found = json.loads(path.read_text())
        halves[found["method"]].append(found)
    return halves


def spread(values: Iterable[float], digits: int) -> str:
    """Mean and, from two values on, half the range from least to greatest."""
    found = [value for value in values if value is not None]
    if not found:
        return ""
    text = f"{np.mean(found):.{digits}f}"
    return text if len(found) < 2 else f"{text} ± {(max(found) - min(found)) / 2:.{digits}f}"


def quality_table(runs: Runs, cells: list[str]) -> list[str]:
    """One row for each cell, n and method: mean ± half the range over the seeds."""
    lines = [
        "| simulation | n | method | within 10° first | last | angle within 5° "
        "| relMSE | PSNR dB | SSIM | CPU-s | seeds |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for cell in cells:
        for n in sorted({key[1] for key in runs if key[0] == cell}, reverse=True):
            for method in [m for m in ORDER if (cell, n, m) in runs]:
                found = runs[cell, n, method]
                columns = [
                    _near(found, "initial", "within_10_deg"),
                    _near(found, "final", "within_10_deg"),
                    _near(found, "final", "in_plane_below_5_deg"),
                    spread((r["relative_mse"] for r in found), 3),
                    spread((r["psnr_db"] for r in found), 2),
                    spread((r["ssim"] for r in found), 3),
                    spread((r.get("cpu_s") for r in found), 0),
                    str(len(found)),
                ]
                lines.append(f"| {CELLS[cell].title} | {n} | {TITLES[method]} | " + " | ".join(columns) + " |")
    return [*lines, "", *_shift_lines(runs, cells), *_junk_lines(runs, cells)]


def _near(found: list[dict[str, Any]], table: str, name: str) -> str:
    return spread((r["neighbors"][table][name] for r in found if r.get("neighbors", {}).get(table)), 3)


def _shift_lines(runs: Runs, cells: list[str]) -> list[str]:
    """What is left of shifts: the table compares particles where each method left them."""
    return [
        f"- {CELLS[cell].title}, {TITLES[method]}, n = {n}: {spread((r['shift_left_px'] for r in found), 2)} px of the "
        "shifts are left (rms); PSNR against clean images at the true centre "
        f"{spread((r.get('psnr_at_centre_db') for r in found), 2)} dB"
        for (cell, n, method), found in runs.items()
        if cell in cells and "shift_left_px" in found[0] and CELLS[cell].changes.get("shift_std_px")
    ]


def _junk_lines(runs: Runs, cells: list[str]) -> list[str]:
    """Share of junk among the neighbours of good particles, and how well junk is told, where there is junk."""
    lines = []
    for (cell, n, method), found in runs.items():
        if cell in cells and CELLS[cell].changes.get("junk_fraction") and found[0].get("neighbors"):
            share = _near(found, "final", "junk_neighbors")
            text = f"{CELLS[cell].title}, {TITLES[method]}, n = {n}: {share} of the neighbours are junk"
            area = spread((r.get("junk_auc") for r in found), 3)
            lines.append(f"- {text}" + (f"; junk score, area under ROC {area}" if area else ""))
    return lines


def time_table(runs: Runs) -> list[str]:
    """CPU-seconds, and wall-clock seconds of the stages, of the published cells."""
    lines = ["| simulation | n | method | threads | CPU-s | stages, wall s |", "|---|---|---|---|---|---|"]
    for (cell, n, method), found in sorted(runs.items(), key=lambda item: (item[0][0], ORDER.index(item[0][2]))):
        if cell in TABLES["published"] and method != "constant":
            names = list(found[0]["seconds"])
            stages = ", ".join(f"{name} {spread((r['seconds'].get(name) for r in found), 1)}" for name in names)
            cpu = spread((r["cpu_s"] for r in found), 0)
            threads = found[0]["threads"]
            lines.append(f"| {CELLS[cell].title} | {n} | {TITLES[method]} | {threads} | {cpu} | {stages} |")
    return lines


def figure_6(runs: Runs, target: Path) -> list[str]:
    """Histograms of the errors of views and angles, one row of panels for each published cell."""
    cells = [cell for cell in TABLES["published"] if any(key[0] == cell and key[2] == "paper" for key in runs)]
    if not cells:
        return []

    def draw(panels: Any) -> None:
        for axes, cell in zip(panels, cells, strict=True):
            n = max(key[1] for key in runs if key[0] == cell and key[2] == "paper")
            lists = [("mfvdm_star", "initial", "C7", "first search")]
            lists += [(method, "final", colour, TITLES[method]) for method, colour in FIGURE]
            for method, table, colour, title in lists:
                found = runs.get((cell, n, method), [])
                for axis, name in zip(axes, ("view_histogram", "in_plane_histogram"), strict=True):
                    counts = sum(np.array(r["neighbors"][table][name], float) for r in found)
                    if np.any(counts):
                        axis.step(np.arange(180), counts / np.sum(counts), colour, where="post", label=title)
            axes[0].set(title=f"{CELLS[cell].title}, n = {n}", xlabel="view error (°)", ylabel="share", xlim=(0, 60))
            axes[1].set(title="neighbours within 10°", xlabel="in-plane error (°)", xlim=(0, 30))
            axes[0].legend()

    _plot(target / "figure6.png", len(cells), 2, draw)
    return ["## Fig. 6: errors of the neighbours", "", "![errors of views and angles](figure6.png)", ""]


def half_table(halves: dict[str, list[dict[str, Any]]]) -> list[str]:
    every = [r for found in halves.values() for r in found]
    kinds = [kind for kind in HALF_KINDS if any(kind in r for r in every)]
    limit = next(r[kind]["limit_angstrom"] for r in every for kind in kinds if kind in r)
    lines = [
        f"Mean correlation of rings to 1/40, 1/20 and 1/{limit:.0f} Å; what the columns are: "
        "[halfsets.py](halfsets.py). ± is half the range over the seeds.",
        "",
        f"| method | {' | '.join(kinds)} | seeds |",
        "|---" * (len(kinds) + 2) + "|",
    ]
    for method in [name for name in HALF_TITLES if name in halves]:
        found = halves[method]
        cells = [
            " ".join(spread((r[kind]["bands"][band] for r in found if kind in r), 3) for band in range(3)).strip()
            for kind in kinds
        ]
        lines.append("| " + " | ".join([HALF_TITLES[method], *cells, str(len(found))]) + " |")
    return lines


def half_figure(stacks: dict[str, dict[str, list[dict[str, Any]]]], target: Path) -> list[str]:
    """One row for each stack, one panel for each kind."""
    kinds = [kind for kind in HALF_KINDS if any(kind in r for h in stacks.values() for f in h.values() for r in f)]

    def draw(panels: Any) -> None:
        for row, (name, halves) in zip(panels, stacks.items(), strict=True):
            for axis, kind in zip(row, kinds, strict=True):
                for colour, method in enumerate(HALF_TITLES):
                    found = [r[kind] for r in halves.get(method, []) if kind in r]
                    if found:
                        mean = np.mean([r["frc"] for r in found], axis=0)
                        axis.plot(found[0]["frequency"], mean, f"C{colour % 10}", label=HALF_TITLES[method])
                axis.set(xlabel="1/Å", ylabel="correlation", title=f"{name}: {kind}")
                axis.set_visible(bool(axis.lines))
            # All methods of the row: not every one is in its first panel.
            lines = {line.get_label(): line for axis in row for line in axis.lines}
            in_order = [lines[title] for title in HALF_TITLES.values() if title in lines]
            row[0].legend(handles=in_order, fontsize="x-small")

    _plot(target / "halves.png", len(stacks), len(kinds), draw)
    return ["![correlation of two halves](halves.png)", ""]


def _plot(path: Path, n_rows: int, n_columns: int, draw: Callable[[Any], None]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(
        n_rows, n_columns, figsize=(4.5 * n_columns, 2.8 * n_rows), squeeze=False, layout="constrained"
    )
    draw(panels)
    figure.savefig(path, dpi=72, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
