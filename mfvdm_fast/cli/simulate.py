"""``mfvdm-fast simulate``: a particle stack with known truth, written in chunks."""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import SMALLEST_BOX
from ..errors import InputError, ParameterError, counted
from ..imperfections import DefocusList
from ..io.mrc import MrcStackWriter, read_header, read_run
from ..io.output_folder import OutputFolder
from ..io.outputs import write_manifest
from ..io.star import StarFile, write_star
from ..io.star_table import StarTable
from ..progress import console_progress
from ..records import Images
from ..simulate import SimulatedStack, SimulationSettings, simulate_stack
from ..synthetic import SHAPES, check_volume, resize_volume, synthetic_particle
from ..threads import resolve_threads
from .arguments import add_output, add_threads, row_chunks
from .defocus_file import read_defocus_list
from .truth import CLEAN, MARK, PARTICLES, TRUTH

STAR, SETTINGS = "particles.star", "simulation.json"
FILES = {
    PARTICLES: "the particles, with CTF and noise (n, L, L), float32",
    STAR: "their table, RELION 3.1",
    CLEAN: "the same particles without CTF and noise",
    TRUTH: "rotations, viewing directions, defocus groups, shifts, junk, noise variance, ...",
    SETTINGS: "how this was made",
}
_BUILT_IN_BOX, _BUILT_IN_PIXEL = 64, 4.0  # px, Å/px: a particle of 205 Å


@dataclass(frozen=True)
class Simulation:
    """What :func:`run_simulation` simulates."""

    volume: Images  # (L, L, L)
    pixel_size: float  # Å/px
    n_particles: int
    settings: SimulationSettings
    seed: int = 0
    defocus: DefocusList | None = None
    write_origins: bool = False

    def mark(self) -> str:
        """16 hexadecimal digits by which the truth knows its particles: others for whatever gives other images."""
        digest = hashlib.sha256(np.ascontiguousarray(self.volume).tobytes())
        digest.update(repr((self.pixel_size, self.n_particles, asdict(self.settings), self.seed)).encode())
        for values in () if self.defocus is None else vars(self.defocus).values():
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()[:16]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``simulate``; defaults are those of SimulationSettings."""
    default = SimulationSettings()
    add = parser.add_argument
    add_output(parser)
    add_threads(parser)
    add("--volume", metavar="MAP", help="density map (.mrc); a built-in particle when left out")
    add("--shape", choices=SHAPES, help=f"of the built-in particle ({SHAPES[0]})")
    add("-n", "--particles", dest="n_particles", metavar="N", type=int, required=True,
        help="number of particles, 1 or more")  # fmt: skip
    add("-L", "--box-size", metavar="PX", type=int,
        help=f"box, {SMALLEST_BOX} or more (default: that of the map, {_BUILT_IN_BOX} without one)")  # fmt: skip
    add("--pixel-size", metavar="Å", type=float,
        help=f"of the map, if its header is wrong; of the images without a map ({_BUILT_IN_PIXEL:g})")  # fmt: skip
    add("--snr", metavar="S", type=float, default=default.snr,
        help="signal-to-noise ratio of a pixel, above 0; inf: no noise (%(default)s)")  # fmt: skip
    add("--no-ctf", dest="ctf", action="store_false", help="images without CTF")
    focus = (default.defocus_min_angstrom, default.defocus_max_angstrom)
    add("--defocus", metavar=("MIN", "MAX"), type=float, nargs=2, help=f"range in Å, underfocus positive {focus}")
    add("--defocus-groups", dest="n_defocus_groups", metavar="G", type=int,
        help=f"number of different CTFs, 1 or more ({default.n_defocus_groups})")  # fmt: skip
    add("--defocus-list", metavar="CSV",
        help="draw from these values instead: columns defocus_u_angstrom[, defocus_v_angstrom, defocus_angle_deg, "
        "n_particles]")  # fmt: skip
    add("--voltage", dest="voltage_kv", metavar="KV", type=float, default=default.voltage_kv,
        help="above 0, at most 10000 (%(default)s)")  # fmt: skip
    add("--cs", dest="cs_mm", metavar="MM", type=float, default=default.cs_mm, help="0 or more (%(default)s)")
    add("--amplitude-contrast", metavar="Q", type=float, default=default.amplitude_contrast,
        help="0 to 1 (%(default)s)")  # fmt: skip
    add("--shift", dest="shift_std_px", metavar="PX", type=float, default=default.shift_std_px,
        help="standard deviation of the particles' places, in x and in y, 0 or more (%(default)s)")  # fmt: skip
    add("--write-origins", action="store_true", help="write the true shifts as rlnOriginX/YAngst, for programs to undo")
    add("--contrast", dest="contrast_std", metavar="C", type=float, default=default.contrast_std,
        help="relative standard deviation of the particles' contrast, 0 or more (%(default)s)")  # fmt: skip
    add("--noise-falloff", metavar="R", type=float, default=default.noise_falloff,
        help="noise power at frequency 0 over that at half a cycle per pixel, above 0 "
        "(%(default)s: white)")  # fmt: skip
    add("--junk", dest="junk_fraction", metavar="F", type=float, default=default.junk_fraction,
        help="share of empty, off-centre and contaminated images, 0 or more and below 1 (%(default)s)")  # fmt: skip
    add("--seed", metavar="N", type=int, default=0,
        help="0 or more; another number gives another stack (%(default)s)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Simulate and write."""
    settings = _settings(args)
    threads = resolve_threads(args.threads)
    defocus = None if args.defocus_list is None else read_defocus_list(args.defocus_list)
    if args.volume is not None and args.shape is not None:
        raise ParameterError(
            f"shape is of the built-in particle, got {args.shape!r} beside a map; leave one of them out"
        )
    shape = args.shape or SHAPES[0]
    volume, pixel_size = _volume(args.volume, args.box_size, args.pixel_size, shape)
    what = {
        "volume": f"built-in, {shape}" if args.volume is None else Path(args.volume).name,
        "n_particles": args.n_particles,
        "box_size": len(volume),
        "pixel_size": pixel_size,
        "seed": args.seed,
        # JSON has no infinity, which is how no noise is asked for.
        "settings": asdict(settings) | ({"snr": "inf"} if np.isinf(settings.snr) else {}),
    }
    if defocus is not None:
        what["defocus_list"] = Path(args.defocus_list).name
    job = Simulation(volume, pixel_size, args.n_particles, settings, args.seed, defocus, args.write_origins)
    print("\n".join(run_simulation(job, what, args.output, args.overwrite, threads)))
    return 0


def _settings(args: argparse.Namespace) -> SimulationSettings:
    default = SimulationSettings()
    if args.defocus_list is not None and not (args.defocus is None and args.n_defocus_groups is None):
        raise ParameterError("defocus_list takes the place of a range and number of groups; leave those out")
    if args.defocus_list is not None and not args.ctf:
        raise ParameterError("defocus_list means nothing in images without CTF; leave out one of the two")
    least, most = args.defocus or (default.defocus_min_angstrom, default.defocus_max_angstrom)
    if not np.isfinite([least, most]).all():
        raise ParameterError(f"defocus must be two finite numbers in Å, MIN MAX, got {least:g} {most:g}")
    if least > most:
        raise ParameterError(f"defocus must be MIN MAX with MIN at most MAX, got {least:g} {most:g}")
    groups = default.n_defocus_groups if args.n_defocus_groups is None else args.n_defocus_groups
    return SimulationSettings(
        snr=args.snr,
        ctf=args.ctf,
        n_defocus_groups=groups,
        defocus_min_angstrom=least,
        defocus_max_angstrom=most,
        voltage_kv=args.voltage_kv,
        cs_mm=args.cs_mm,
        amplitude_contrast=args.amplitude_contrast,
        shift_std_px=args.shift_std_px,
        contrast_std=args.contrast_std,
        noise_falloff=args.noise_falloff,
        junk_fraction=args.junk_fraction,
    )


def run_simulation(job: Simulation, what: dict[str, Any], output: Path, overwrite: bool, threads: int) -> list[str]:
    """Write the files of a simulation; the lines of the summary. ``what`` is kept beside them."""
    n, box_size, pixel_size, settings = job.n_particles, len(job.volume), job.pixel_size, job.settings
    needed = 2 * 4 * max(n, 0) * box_size**2 + 400 * max(n, 0)
    with OutputFolder(output, overwrite=overwrite, names=tuple(FILES), bytes_needed=needed) as out:
        stack = simulate_stack(job.volume, pixel_size, n, settings, seed=job.seed, threads=threads, defocus=job.defocus)
        with console_progress() as progress:
            progress("simulate", 0, n)
            with (
                MrcStackWriter(out.path(PARTICLES), n, box_size, pixel_size) as noisy,
                MrcStackWriter(out.path(CLEAN), n, box_size, pixel_size) as clean,
            ):
                for rows in row_chunks(n, box_size):
                    noisy.write(stack.read(rows))
                    clean.write(stack.read_clean(rows))
                    progress("simulate", int(rows[-1]) + 1, n)
        mark = job.mark()
        write_star(out.path(STAR), star_file(stack, settings, mark=mark, write_origins=job.write_origins))
        np.savez(out.path(TRUTH), **_truth(stack, settings), simulation=mark)
        write_manifest(out.path(SETTINGS), what)
    groups = settings.n_defocus_groups if job.defocus is None else len(job.defocus)
    ctf = counted(groups, "defocus group") if settings.ctf else "no CTF"
    junk = f", {np.count_nonzero(stack.junk)} of them junk" if settings.junk_fraction else ""
    return [
        f"{counted(n, 'particle')}{junk} of {box_size} px at {pixel_size:g} Å/px, SNR {settings.snr:g}, {ctf}, "
        f"seed {job.seed}",
        f"written to {output}:",
        *(f"  {name:<16} {text}" for name, text in FILES.items()),
    ]


def star_file(
    stack: SimulatedStack, settings: SimulationSettings, *, mark: str | None = None, write_origins: bool = False
) -> StarFile:
    """The table of a simulated stack, as RELION 3.1 writes it; without CTF columns when there is no CTF.

    The ``mark`` of the simulation goes to the optics group, where it stays when the particles are denoised.
    ``write_origins`` adds the true shifts as RELION's origins, which bring the particle to the centre of the box; those
    of junk are 0.
    """
    optics = StarTable("optics")
    for name, value in {
        "rlnOpticsGroup": "1",
        "rlnOpticsGroupName": "opticsGroup1",
        "rlnVoltage": repr(settings.voltage_kv),
        "rlnSphericalAberration": repr(settings.cs_mm),
        "rlnAmplitudeContrast": repr(settings.amplitude_contrast),
        "rlnImagePixelSize": repr(stack.pixel_size),
        "rlnImageSize": str(stack.box_size),
        "rlnImageDimensionality": "2",
        **({} if mark is None else {MARK: mark}),
    }.items():
        optics = optics.with_column(name, [value])
    n = stack.n_particles
    particles = StarTable("particles").with_column("rlnImageName", [f"{i:06d}@{PARTICLES}" for i in range(1, n + 1)])
    particles = particles.with_column("rlnOpticsGroup", ["1"] * n)
    if stack.ctf is not None:
        for name, values in {
            "rlnDefocusU": stack.ctf.defocus_u_angstrom,
            "rlnDefocusV": stack.ctf.defocus_v_angstrom,
            "rlnDefocusAngle": np.rad2deg(stack.ctf.defocus_angle),
        }.items():
            particles = particles.with_column(name, map(repr, values.tolist()))
    if write_origins:
        origins = -stack.pixel_size * np.where(stack.junk[:, None], 0, stack.shifts_px)
        for name, values in zip(("rlnOriginXAngst", "rlnOriginYAngst"), origins.T, strict=True):
            particles = particles.with_column(name, map(repr, values.tolist()))
    return StarFile(STAR, {"optics": optics, "particles": particles})


def _truth(stack: SimulatedStack, settings: SimulationSettings) -> dict[str, Any]:
    return {
        "rotations": stack.rotations,
        "viewing_directions": stack.viewing_directions,
        "defocus_group": stack.defocus_group,
        "shifts_px": stack.shifts_px,
        "contrast": stack.contrast,
        "junk": stack.junk,
        "junk_kind": stack.junk_kind,
        "noise_variance": stack.noise_variance,
        "signal_variance": stack.signal_variance,
        "snr": settings.snr,
        "pixel_size": stack.pixel_size,
        "seed": stack.seed,
    }


def _volume(path: str | None, box_size: int | None, pixel_size: float | None, shape: str) -> tuple[Images, float]:
    """The density (L, L, L) in the box asked for, and the pixel size in that box."""
    if pixel_size is not None and not pixel_size > 0:
        raise ParameterError(f"pixel_size must be above 0 Å, got {pixel_size:g}")
    if box_size is not None:
        _check_box(box_size, "")
    if path is None:
        box_size = _BUILT_IN_BOX if box_size is None else box_size
        return synthetic_particle(box_size, shape=shape), _BUILT_IN_PIXEL if pixel_size is None else pixel_size
    header = read_header(path)
    pixel_size = header.pixel_size if pixel_size is None else pixel_size
    if pixel_size is None:
        raise InputError(f"{path}: the header gives no voxel size; give it with --pixel-size")
    density = np.empty((header.n_images, header.ny, header.nx), np.float32)
    with open(path, "rb") as file:
        read_run(file, header, 0, density)
    try:
        density = check_volume(density)
    except ParameterError as error:
        raise InputError(f"{path}: {error}") from error
    if box_size is not None:
        return resize_volume(density, pixel_size, box_size)
    _check_box(len(density), f", the box of {path}")
    return density, pixel_size


def _check_box(box_size: int, origin: str) -> None:
    """Nothing is simulated that ``denoise`` would refuse."""
    if box_size < SMALLEST_BOX:
        raise ParameterError(
            f"box_size must be at least {SMALLEST_BOX} px, which are needed to see a particle, got {box_size}{origin}; "
            f"{_BUILT_IN_BOX} is a good size"
        )
