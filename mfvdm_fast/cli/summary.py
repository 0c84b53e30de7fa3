"""What a run found, in numbers for the manifest and in lines for the reader."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..errors import counted
from ..io.particle_table import SCORE_COLUMN
from ..io.stack import ParticleStack
from ..params import CENTRED_FROM, REFINEMENT, DenoiseParams, left_idle
from ..records import CtfParameters, Unevenness
from ..result import DenoiseResult

if TYPE_CHECKING:
    from .denoise import Job

# Measured (16 to 64 px, 100 to 1,000 particles, SNR .01 to .3): beyond this the mean view error is 75 to 90 degrees,
# where 90 are random; 64 px at SNR .01 have .9 and 64 degrees.
NEARLY_ALL = 0.94  # of the particles, faint
_HIDDEN = (
    "; hardly a particle stands out from the noise, so that many of them may be of other views: use more particles, or "
    "less binned ones"
)
CHOSEN = ("n_neighbors", "refine", "centre", "n_matchings")  # by the data, where not given


def count_ctfs(ctf: CtfParameters | None) -> int:
    """Number of different CTFs among the particles; 0 without CTF."""
    if ctf is None:
        return 0
    return len(np.unique(np.stack([getattr(ctf, field.name) for field in fields(ctf)], axis=1), axis=0))


def estimate_snr(result: DenoiseResult) -> float:
    """Signal power in the principal components over the noise power, per pixel of the box."""
    # A weight is SNR / (1 + SNR) of its component; components of k > 0 stand for -k too.
    ratios = [float((weights / (1 - weights)).sum()) for weights in result.pca.weights]
    variance = result.noise.variance * (result.basis.box_size / result.box_size) ** 2  # on the grid of the basis
    mean = float(np.square(result.pca.mean).sum()) / variance
    return (mean + ratios[0] + 2 * sum(ratios[1:])) / result.box_size**2


def estimates(stack: ParticleStack, result: DenoiseResult) -> dict[str, Any]:
    """What was estimated on the way."""
    return {
        "noise_sigma": float(np.sqrt(result.noise.variance)),
        "background": result.noise.mean,
        "whitened": result.whitened,
        "taken_out_of_each_image": None if result.unevenness.is_even else asdict(result.unevenness),
        "snr": estimate_snr(result),
        "radius_px": result.support.radius_px,
        "bandlimit_cycles_per_px": result.support.bandlimit,
        "n_components": list(result.pca.n_components),
        "ctf_corrected": result.ctf_corrected,
        "n_ctfs": count_ctfs(stack.ctf),
        "shift_px": None if result.shifts_px is None else float(np.sqrt(np.square(result.shifts_px).mean())),
        "n_junk": None if result.junk is None else int(result.junk.sum()),
        "junk_below": result.junk_below,
        "may_be_noise": result.may_be_noise,
        "mostly_faint": result.mostly_faint,
        "faint": result.faint,
        "chosen": {name: getattr(result.params, name) for name in CHOSEN},
    }


def manifest(job: Job, numbers: dict[str, Any], digest: str | None, shown_warnings: list[str]) -> dict[str, Any]:
    """Input, parameters and estimates; nothing that differs between two runs on the same input."""
    stack = job.stack
    return {
        "program": "mfvdm_fast",
        "version": __version__,
        "input": {
            "file": stack.paths[0].name if stack.paths else None,
            "sha256": digest,
            "n_particles": stack.n_particles,
            "box_size": stack.box_size,
            "pixel_size": stack.pixel_size,
            "inverted": job.inverted,
            "phase_flipped": stack.phase_flipped,
        },
        "parameters": asdict(job.params),
        "estimated": numbers,
        "warnings": list(shown_warnings),
    }


def describe(job: Job, numbers: dict[str, Any], seconds: dict[str, float]) -> list[str]:
    """The summary that a run prints at its end."""
    size, counts = job.stack.pixel_size, np.array(numbers["n_components"])
    radius, bandlimit = numbers["radius_px"], numbers["bandlimit_cycles_per_px"]
    ctf = "CTF not corrected"
    if numbers["ctf_corrected"]:
        ctf = f"CTF corrected, {numbers['n_ctfs']} different {'ones' if numbers['n_ctfs'] > 1 else 'one'}"
    elif job.stack.ctf is None:
        ctf = "no CTF in the input, none corrected"
    # The estimate ends at the edge of the box: neighbours in the picture, or a particle as large as the box.
    fills = job.params.particle_diameter_angstrom is None and radius >= (job.stack.box_size - 1) // 2
    lines = {
        "particles": f"{job.stack.n_particles} of {job.stack.box_size} px{f' at {size:g} Å/px' if size else ''}; {ctf}",
        "noise": f"σ {numbers['noise_sigma']:.4g}, SNR about {numbers['snr']:.2g} per pixel; "
        + ("not white, was whitened" if numbers["whitened"] else "not whitened"),
        "support": f"radius {radius:.1f} px{f' ({radius * size:.0f} Å)' if size else ''}, bandlimit {bandlimit:.3f} "
        f"cycles/px{f' ({size / bandlimit:.1f} Å)' if size else ''}"
        + ("; it fills the box: if the particle is smaller, give --particle-diameter" if fills else ""),
        "components": f"{counts.sum()} above the noise, in {np.count_nonzero(counts)} angular frequencies",
        "neighbours": _neighbours(job.params, numbers["chosen"])
        + (_HIDDEN if numbers["faint"] > NEARLY_ALL and not numbers["may_be_noise"] else ""),
        "centres": _centres(numbers, job.params, job.stack.n_particles),
        "junk": _junk(numbers, job.stack.n_particles),
        "time": f"{sum(seconds.values()):.1f} s",
    }
    if numbers["taken_out_of_each_image"] is not None:
        text = Unevenness(**numbers["taken_out_of_each_image"]).describe()
        lines["background"] = f"{text} differed from image to image and were taken out of each"
    return [f"{name + ':':<12} {text}" for name, text in lines.items()]


def _centres(numbers: dict[str, Any], asked: DenoiseParams, n_particles: int) -> str:
    """Where the particles stood."""
    shift, found = numbers["shift_px"], numbers["chosen"]["centre"]
    if shift is None:
        if "centre" in left_idle(asked, numbers["chosen"]["refine"]):
            return "taken to be in the middle of the boxes, with --matchings 0 anyway: --no-centre had no effect"
        seen = found is False and asked.centre is None
        if seen and n_particles < CENTRED_FROM:
            return f"not looked for in fewer than {CENTRED_FROM} particles (--centre does)"
        hardly = ", but in so much noise that would hardly be seen" if seen and numbers["mostly_faint"] else ""
        return f"{'not seen to be off' if seen else 'taken to be in'} the middle of the boxes{hardly}"
    source = "found from the images" if found else "given by the input"
    return f"moved by {shift:.2f} px (rms, each of x and y), {source} (mfvdmSourceOriginX/YAngst)"


def _junk(numbers: dict[str, Any], n_particles: int) -> str:
    """How many images are flagged, and where."""
    count: int | None = numbers["n_junk"]
    if numbers["may_be_noise"]:
        return "not told from particles, as there may be none at all (see the warnings)"
    if count is None:
        return "not looked for: that takes matching (--preset default)"
    are = "is likely no good particle" if count == 1 else "are likely no good particles"
    rule = f"mfvdmJunk: {SCORE_COLUMN} below {numbers['junk_below']:.3g}"
    return f"{counted(count, 'image')} ({count / n_particles:.1%}) {are} ({rule})"


def _neighbours(params: DenoiseParams, chosen: dict[str, Any]) -> str:
    """How the neighbours were found."""
    if params.method == "cwf":
        return "none, restored by the covariance Wiener filter alone"
    in_vain = [name for name in left_idle(params, chosen["refine"]) if name in REFINEMENT[params.method]]
    idle = " and ".join(f"--{name.removeprefix('n_')}" for name in in_vain)
    refined = (
        f"refined with {counted(params.n_frequencies, 'frequency', 'frequencies')}"
        if chosen["refine"]
        else "not refined" + (f" as they agree well, so {idle} had no effect (--refine refines them)" if idle else "")
    )
    matched = chosen["n_matchings"] if params.method == "graph_map" else 0
    times = {0: "", 1: ", matched once", 2: ", matched twice"}.get(matched, f", matched {matched} times")
    return f"{chosen['n_neighbors']} of each particle, {refined}{times}"
