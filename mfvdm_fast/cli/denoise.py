"""``mfvdm-fast denoise``: a particle stack in, a folder of denoised particles and neighbours out."""

from __future__ import annotations

import argparse
import os
import threading
import warnings
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..budget import Budget, predict
from ..errors import InputError, MfvdmWarning, OutputError
from ..io.output_folder import OUTPUT_FILES, OutputFolder
from ..io.outputs import warn_odd_box, write_manifest, write_timings
from ..io.stack import ParticleStack, open_stack
from ..overlap import beside
from ..params import MOST_MATCHINGS, PRESETS, DenoiseParams, preset
from ..pipeline import check_stack, denoise, estimate_budget
from ..progress import console_progress
from ..threads import resolve_threads
from .arguments import add_output, add_threads, parse_memory
from .results import on_sheet, start_lines, write_images, write_sheet, write_tables
from .summary import describe, estimates, manifest
from .truth import Truth, open_truth

FILES = {
    **OUTPUT_FILES,
    "observed.star": "the table of the input images with their scores, and the origins where they were looked for",
    "initial_neighbors.npz": "the same of the first search (affinity is the correlation of two images)",
    "eigenvalues.json": "eigenvalues of the neighbour graph, by angular frequency",
    "contact_sheet.png": "some particles before and after",
}
# Options that set a parameter of the same name.
_PARAMETERS = (
    "method",
    "centre",
    "n_matchings",
    "n_restoration_eigenvectors",
    "n_neighbors",
    "n_frequencies",
    "n_eigenvectors",
    "refine",
    "basis",
    "solver",
    "ctf",
    "whiten",
    "particle_diameter_angstrom",
    "seed",
)


@dataclass(frozen=True)
class Job:
    """One run: what comes in, what is asked for, where it goes."""

    stack: ParticleStack
    params: DenoiseParams
    output: Path
    overwrite: bool = False
    threads: int | None = None
    max_memory_bytes: int | None = None
    inverted: bool = False
    project_dir: Path | None = None
    truth: Truth | None = None

    def budget(self) -> Budget:
        """Needs of the run, after a look at the images."""
        return estimate_budget(self.stack, self.params, threads=self.threads)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``denoise``."""
    default = DenoiseParams()
    parser.add_argument("input", metavar="INPUT", help="particles: .star, .mrcs or .mrc")
    add_output(parser)
    add_threads(parser)
    parser.add_argument("--max-memory", metavar="SIZE",
        help="stay below this much memory, such as 1500M or 2G; M and G are MiB and GiB")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="show memory, time and disk needed, write nothing")
    parser.add_argument("--project-dir", metavar="DIR", type=Path, help="folder where the paths in the STAR file start")
    parser.add_argument("--invert", action="store_true", help="the protein is black: multiply the images by -1")
    parser.add_argument("--phase-flipped", action="store_true",
        help="the signs of the CTF were taken out of the images (as rlnCtfDataArePhaseFlipped says)")  # fmt: skip
    parser.add_argument("--truth", metavar="DIR", type=Path, help="output of 'simulate', for the contact sheet")
    method = parser.add_argument_group("method")
    add = method.add_argument
    add("--preset", metavar="NAME",
        help="set of parameters that the options below change: default, or paper (MFVDM as published)")  # fmt: skip
    add("--method", metavar="NAME",
        help="graph_map, spectral (the paper's filter) or cwf (covariance Wiener filter, without neighbours); "
        f"default: {default.method}")  # fmt: skip
    add("--centre", action=argparse.BooleanOptionalAction, default=None,
        help="find where particles stand and bring them to the centre (default: where they are seen to stand off it); "
        "forced on particles that are centred already it moves them by some .2 px and costs .2 to .5 dB (stacks below "
        "1,000: .4 px and more; small boxes: up to 1.3 dB)")  # fmt: skip
    add("--matchings", dest="n_matchings", metavar="N", type=int,
        help=f"times that particles are matched with restorations, 0 to {MOST_MATCHINGS} "
        "(default: 1 to 3, as the data ask)")  # fmt: skip
    add("--restoration-eigenvectors", dest="n_restoration_eigenvectors", metavar="M", type=int,
        help=f"eigenvectors per frequency of graph_map, 1 or more "
        f"(default: {default.n_restoration_eigenvectors})")  # fmt: skip
    add("--neighbors", dest="n_neighbors", metavar="N", type=int,
        help="neighbours of each particle, 1 or more, fewer than there are particles (default: 50, fewer in stacks of "
        "less than 5,000, of which at least 21 are needed)")  # fmt: skip
    add("--refine", action=argparse.BooleanOptionalAction, default=None,
        help="refine the neighbours by Algorithm 1 of the paper (default: as the data ask)")  # fmt: skip
    add("--frequencies", dest="n_frequencies", metavar="K", type=int,
        help=f"angular frequencies of the refinement, 1 or more (default: {default.n_frequencies}; "
        f"{PRESETS['paper']['n_frequencies']} in the preset paper)")  # fmt: skip
    add("--eigenvectors", dest="n_eigenvectors", metavar="M", type=int,
        help=f"eigenvectors per frequency of the refinement, 1 or more "
        f"(default: {default.n_eigenvectors})")  # fmt: skip
    add("--particle-diameter", dest="particle_diameter_angstrom", metavar="Å", type=float,
        help="diameter of the particle, from 8 pixels to the box (default: estimated)")  # fmt: skip
    add("--no-ctf", dest="ctf", action="store_false", default=None, help="leave the CTF uncorrected")
    add("--whiten", action=argparse.BooleanOptionalAction, default=None,
        help="divide by the noise spectrum (default: when the noise is not white)")  # fmt: skip
    add("--basis", metavar="NAME", help=f"disk_harmonics or fourier_bessel (default: {default.basis})")
    add("--solver", metavar="NAME", help=f"chebyshev or eigsh (default: {default.solver})")
    add("--seed", metavar="N", type=int,
        help="0 or more; of the solver's start vectors and of the halves that are matched "
        f"(default: {default.seed})")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Check everything that is cheap to check, then do the work."""
    changes = {name: getattr(args, name) for name in _PARAMETERS if getattr(args, name) is not None}
    params = preset(args.preset, **changes) if args.preset is not None else preset(**changes)
    threads = resolve_threads(args.threads)
    max_memory = None if args.max_memory is None else parse_memory(args.max_memory)
    how = {"invert": args.invert, "ctf": params.ctf, "phase_flipped": args.phase_flipped}
    stack = open_stack(args.input, project_dir=args.project_dir, **how)
    refuse_overwriting_input(stack, args.output)
    check_input(args.input, stack, params)
    truth = None if args.truth is None else open_truth(args.truth).of_input(stack)
    job = Job(stack, params, args.output, args.overwrite, threads, max_memory, args.invert, args.project_dir, truth)
    if args.dry_run:
        budget = job.budget()
        budget.check(max_memory)
        print("\n".join(budget.lines()))
        return 0
    print("\n".join(run_job(job, args.warnings)))
    return 0


def refuse_overwriting_input(stack: ParticleStack, output: str | Path) -> None:
    """Raise OutputError when an output would take the place of a file that is read, whatever --overwrite says."""
    for name in FILES:
        target = Path(output, name)
        if os.path.exists(target) and any(target.samefile(source) for source in stack.paths):
            raise OutputError(f"{target}: this is an input of the run and would be overwritten; give another -o folder")


def check_input(name: str | Path, stack: ParticleStack, params: DenoiseParams) -> None:
    """What can be known to fail before any long work, with the name of the input in the message."""
    try:
        check_stack(stack, params)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def run_job(job: Job, shown_warnings: list[str]) -> list[str]:
    """Denoise and write everything; the lines of the summary. ``shown_warnings`` goes into the manifest."""
    needed = predict(job.stack.n_particles, job.stack.box_size, job.params).output_bytes
    with OutputFolder(job.output, overwrite=job.overwrite, names=tuple(FILES), bytes_needed=needed) as out:
        shown = on_sheet(job.stack.n_particles)
        raw = job.stack.read(shown)  # once expanded, the images are not needed any more
        with console_progress() as progress:
            result = denoise(
                job.stack, job.params, threads=job.threads, max_memory_bytes=job.max_memory_bytes, progress=progress
            )
            # The digest, for the manifest, reads all of the input again: beside the writing, where there is a thread.
            with beside(partial(_try_digest, job.stack)) if resolve_threads(job.threads) > 1 else nullcontext():
                write_images(job, result, out, progress)
                write_sheet(job, result, out, shown, raw)
        warn_odd_box(job.stack.box_size)
        numbers = estimates(job.stack, result)
        write_tables(job, result, out)
        write_manifest(out.path("manifest.json"), manifest(job, numbers, _digest(job.stack), shown_warnings))
        write_timings(out.path("timings.json"), progress.seconds)
        files = [name for name in FILES if out.path(name).exists()]
    lines = describe(job, numbers, progress.seconds)
    lines += [f"written to {job.output}:", *(f"  {name:<22} {FILES[name]}" for name in files)]
    lines += start_lines(job, files)
    if shown_warnings:
        lines += ["warnings:", *(f"  {text}" for text in shown_warnings)]
    return lines


def _try_digest(stack: ParticleStack, stop: threading.Event) -> None:
    """Have the digest ready, where that can be."""
    with suppress(InputError):
        stack.digest(stop)


def _digest(stack: ParticleStack) -> str | None:
    """That of the input; None, with a warning, where it is not there any more: what was made of it is not lost."""
    try:
        return stack.digest()
    except InputError as error:
        text = f"{error} The results are complete, but the manifest has no checksum of the input"
        warnings.warn(text, MfvdmWarning, stacklevel=2)
        return None
