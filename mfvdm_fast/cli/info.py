"""``mfvdm-fast info``: what is in a particle file, from headers and a few images."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..ctf_checks import doubts_about_ctf
from ..errors import InputError, MfvdmError, counted
from ..io.mrc import MODE_DTYPES, read_header
from ..io.stack import ParticleStack, open_stack
from ..params import preset
from ..pipeline import check_stack, find_unevenness
from ..records import CtfParameters, FloatArray
from .denoise import Job
from .summary import count_ctfs

_SAMPLE = 200  # images looked at for the contrast


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``info``."""
    parser.add_argument("input", metavar="INPUT", help="particles: .star, .mrcs or .mrc")
    parser.add_argument("--project-dir", metavar="DIR", type=Path, help="folder where the paths in the STAR file start")


def run(args: argparse.Namespace) -> int:
    """Print; unreadable input is an error, input that ``denoise`` would refuse is not."""
    stack = open_stack(args.input, project_dir=args.project_dir)
    for name, text in describe_stack(stack):
        print(f"{name + ':':<14} {text}")
    return 0


def describe_stack(stack: ParticleStack) -> Iterator[tuple[str, str]]:
    """(name, text) of everything worth knowing before a run."""
    size = stack.pixel_size
    stacks = [read_header(path) for path in stack.paths if path.suffix.lower() != ".star"]
    modes = sorted({header.mode for header in stacks})
    yield "particles", f"{stack.n_particles} in {len(stacks)} {'files' if len(stacks) > 1 else 'file'}"
    yield "box", f"{stack.box_size} px" + (f" ({stack.box_size * size:.0f} Å)" if size else "")
    yield "pixel size", f"{size:g} Å" if size else "not known (give a STAR file, or correct the header)"
    yield "pixel type", ", ".join(f"{np.dtype(MODE_DTYPES[mode]).name} (MRC mode {mode})" for mode in modes)
    groups, counts = np.unique(stack.optics_group, return_counts=True)
    if stack.star is not None:
        listing = [f"{group} ({counted(int(count), 'particle')})" for group, count in zip(groups, counts, strict=True)]
        more = f" and {len(groups) - 8} more" if len(groups) > 8 else ""
        yield "optics groups", f"{len(groups)}: {', '.join(listing[:8])}{more}"
    if stack.ctf is None:
        why = "a bare stack has none; give its STAR file" if stack.star is None else "the STAR file has no CTF columns"
        yield "CTF", f"none ({why}); nothing to correct"
    else:
        yield from _describe_ctf(stack.ctf)
        if stack.phase_flipped:
            yield "phases", "flipped (rlnCtfDataArePhaseFlipped), which is allowed for"
    try:
        yield "contrast", _contrast(stack)
        uneven = find_unevenness(stack)
        if not uneven.is_even:
            yield "background", f"{uneven.describe()} differ from image to image; denoise takes them out of each"
    except InputError as error:
        yield "contrast", str(error)
        yield "denoise", "would be refused, see above"
        return
    yield "denoise", _verdict(stack)


def _describe_ctf(ctf: CtfParameters) -> Iterator[tuple[str, str]]:
    mean = 0.5 * (ctf.defocus_u_angstrom + ctf.defocus_v_angstrom)
    astigmatism = np.abs(ctf.defocus_u_angstrom - ctf.defocus_v_angstrom)
    yield "CTF", f"{count_ctfs(ctf)} different, defocus {_range(mean)} Å, astigmatism up to {astigmatism.max():.0f} Å"
    text = (
        f"{_range(ctf.voltage_kv)} kV, Cs {_range(ctf.cs_mm)} mm, amplitude contrast {_range(ctf.amplitude_contrast)}"
    )
    if ctf.phase_shift.any():
        text += f", phase shift {_range(np.rad2deg(ctf.phase_shift))}°"
    if ctf.bfactor_angstrom2.any():
        text += f", B-factor {_range(ctf.bfactor_angstrom2)} Å²"
    yield "microscope", text
    doubts = doubts_about_ctf(ctf)
    negative = min(ctf.defocus_u_angstrom.min(), ctf.defocus_v_angstrom.min()) < 0
    if negative and not any("underfocus must be positive" in doubt for doubt in doubts):
        doubts.append("there is negative defocus: underfocus must be positive")
    for doubt in doubts:
        yield "note", doubt


def _range(values: FloatArray) -> str:
    low, high = f"{values.min():.6g}", f"{values.max():.6g}"
    return low if low == high else f"{low} to {high}"


def _contrast(stack: ParticleStack) -> str:
    """Whether particles are brighter than their surroundings, from the means of some images."""
    rows = np.unique(np.linspace(0, stack.n_particles - 1, min(_SAMPLE, stack.n_particles)).astype(np.int64))
    images = stack.read(rows)
    line = np.arange(stack.box_size) - stack.box_size // 2
    radius = np.hypot(line[:, None], line[None, :])
    inside = images[:, radius <= 0.25 * stack.box_size].mean(axis=1, dtype=np.float64)
    outside = images[:, radius > 0.5 * stack.box_size].mean(axis=1, dtype=np.float64)
    difference = inside - outside
    error = difference.std() / np.sqrt(len(rows))
    if abs(difference.mean()) <= 3 * error:
        return f"not clear from {counted(len(rows), 'image')}"
    if difference.mean() > 0:
        return "protein is white, as it should be"
    return "protein is probably black: denoise with --invert"


def _verdict(stack: ParticleStack) -> str:
    params = preset()
    try:
        check_stack(stack, params)
        budget = Job(stack, params, Path()).budget()
    except MfvdmError as error:
        return f"would be refused: {error}"
    return "would run; " + "; ".join(budget.lines())
