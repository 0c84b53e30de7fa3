"""What a run writes: images, tables, the contact sheet, and where the names in the tables count from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..io.denoised_star import write_denoised_star
from ..io.mrc import MrcStackWriter
from ..io.observed_star import write_observed_star
from ..io.output_folder import OutputFolder
from ..io.outputs import write_manifest, write_neighbors
from ..overlap import overlap
from ..progress import StageTimes
from ..records import Images, IndexArray, NeighborTable
from ..report.contact_sheet import low_pass, write_contact_sheet
from ..result import DenoiseResult
from ..threads import resolve_threads
from .arguments import row_chunks

if TYPE_CHECKING:
    from .denoise import Job

_SHEET_COLUMNS = 8


def write_images(job: Job, result: DenoiseResult, out: OutputFolder, progress: StageTimes) -> None:
    """Images, chunk by chunk."""
    n, box_size = job.stack.n_particles, job.stack.box_size
    progress("write", 0, n)
    with MrcStackWriter(out.path("denoised.mrcs"), n, box_size, job.stack.pixel_size) as writer:

        def write(chunk: tuple[IndexArray, Images]) -> int:
            rows, images = chunk
            writer.write(images)
            return int(rows[-1]) + 1

        chunks = ((rows, result.images(rows)) for rows in row_chunks(n, box_size, part=2))  # of which two exist at once
        for done in overlap(chunks, write, resolve_threads(job.threads)):
            progress("write", done, n)


def on_sheet(n: int) -> IndexArray:
    """The particles on the contact sheet."""
    return np.unique(np.linspace(0, n - 1, min(n, _SHEET_COLUMNS)).round().astype(np.int64))


def write_sheet(job: Job, result: DenoiseResult, out: OutputFolder, rows: IndexArray, raw: Images) -> None:
    sheet = {
        "raw": raw,
        "raw, low-pass": low_pass(raw, result.support.radius_px),
        "denoised": result.images(rows),
    }
    if job.truth is not None:
        sheet["truth"] = replace(job.truth, centres_px=result.shifts_px).read_clean(rows)
    junk = None if result.may_be_noise else result.junk
    titles = [f"{row + 1}{' (junk)' if junk is not None and junk[row] else ''}" for row in rows]
    write_contact_sheet(out.path("contact_sheet.png"), sheet, titles)


def write_tables(job: Job, result: DenoiseResult, out: OutputFolder) -> None:
    write_denoised_star(
        out.path("denoised.star"),
        job.stack,
        _name_for_star(job),
        result.ctf_corrected,
        result.shifts_px,
        result.score,
        result.junk,
    )
    shifts = result.shifts_px if result.params.centre and job.stack.star is not None else None
    if shifts is not None or result.score is not None:
        write_observed_star(out.path("observed.star"), job.stack, shifts, result.score, result.junk)
    if result.neighbors is not None:
        _write_table(out.path("neighbors.npz"), result.neighbors)
    if result.initial_neighbors is not None and result.initial_neighbors is not result.neighbors:
        _write_table(out.path("initial_neighbors.npz"), result.initial_neighbors)
    if result.eigenvalues:
        values: dict[str, Any] = {str(k): result.eigenvalues[k] for k in sorted(result.eigenvalues)}
        write_manifest(out.path("eigenvalues.json"), values)


def _write_table(path: Path, table: NeighborTable) -> None:
    write_neighbors(path, table.indices, table.angles, table.mirrored, table.scores)


def _project_folder(job: Job) -> Path | None:
    """Where the names of the images start: the project folder given, else where those of the input start."""
    return job.stack.names_folder if job.project_dir is None else job.project_dir.absolute()


def _name_for_star(job: Job) -> str:
    """What denoised.star calls the stack: from the project folder where it lies in that, else from its own folder."""
    folder, output = _project_folder(job), job.output.resolve()
    if folder is not None and output.is_relative_to(folder.resolve()):
        return str(output.relative_to(folder.resolve()) / "denoised.mrcs")
    return "denoised.mrcs"


def start_lines(job: Job, files: list[str]) -> list[str]:
    """From which folder the names of the images count in the STAR files, which is where RELION finds them."""
    project, own = _project_folder(job), job.output.absolute()
    starts = {"denoised.star": project if project and _name_for_star(job) != "denoised.mrcs" else own}
    if "observed.star" in files and job.stack.names_folder is not None:
        starts["observed.star"] = job.stack.names_folder
    names = {folder: [name for name in starts if starts[name] == folder] for folder in starts.values()}
    return [
        f"image names in {' and '.join(stars)} count from {folder}: start RELION there"
        for folder, stars in names.items()
    ]
