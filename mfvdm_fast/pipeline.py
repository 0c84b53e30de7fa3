"""The main job: the stages of Multi-Frequency Vector Diffusion Maps in order, from particles to denoised particles."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from .budget import Budget, predict
from .centring import reach_px
from .checks import SMALLEST_BOX, check_kind, check_positive
from .ctf_checks import check_defocus, doubts_about_ctf
from .doubts import warn_about_contrast, warn_about_faint, warn_about_origins, warn_about_reach, warn_about_scales
from .errors import InputError, MfvdmWarning, ParameterError
from .params import TOO_FEW, DenoiseParams, left_idle, settle_size
from .prepare import Preparation, estimate_unevenness, given_radius, sample_rows
from .progress import Progress, StageTimes, no_progress
from .records import DiskSupport, ImageStack, Unevenness
from .result import DenoiseResult
from .run import Run
from .threads import resolve_threads, use_threads
from .units import ScaledStack, exponent_of_unit, in_units_of_input

log = logging.getLogger(__name__)

SMALLEST_RADIUS = 4.0  # px


def denoise(
    stack: ImageStack,
    params: DenoiseParams | None = None,
    *,
    threads: int | None = None,
    max_memory_bytes: int | None = None,
    progress: Progress = no_progress,
) -> DenoiseResult:
    """Denoise a particle stack: by MFVDM as published (arXiv:1904.07772, preset "paper"), or better (preset "default").

    The images are read in chunks and never held whole. Peak memory: :func:`mfvdm_fast.budget.predict`.

    Parameters
    ----------
    stack : anything with the attributes of :class:`mfvdm_fast.records.ImageStack`; see ``open_stack`` and
        ``ParticleStack.from_array``.
    params : the preset "default" when left out.
    threads : all cores this process may use when left out; the result does not depend on it.
    max_memory_bytes : when all coefficients do not fit, they are kept in a temporary file instead; same result.
    progress : called as ``progress(stage, done, total)``.

    Raises
    ------
    InputError
        When the stack cannot be denoised (too few particles, constant or masked images, no signal above the noise).
    ParameterError
        When a parameter breaks its rule or is of another kind, or the job does not fit ``max_memory_bytes``.
    SolverError
        When the eigensolver fails.

    Examples
    --------
    >>> import numpy as np
    >>> from mfvdm_fast import ParticleStack, preset, simulate_stack, synthetic_particle
    >>> simulated = simulate_stack(synthetic_particle(33), 5.0, 300)
    >>> images = simulated.read(np.arange(300))
    >>> result = denoise(ParticleStack.from_array(images, 5.0, simulated.ctf), preset("paper", n_neighbors=10))
    >>> result.images().shape
    (300, 33, 33)
    """
    params = _check_arguments(stack, params)
    if not callable(progress):
        raise ParameterError(
            f"progress must be a function, called as progress(stage, done, total), got {type(progress).__name__}: give "
            "one, or leave it out"
        )
    count = resolve_threads(threads)
    if max_memory_bytes is not None:
        check_positive("max_memory_bytes", max_memory_bytes)
    with use_threads(count), _naming(stack):
        check_stack(stack, params)
        params = settle_size(params, stack.n_particles)
        times = StageTimes(progress)
        exponent = exponent_of_unit(stack)
        prepared = Preparation(ScaledStack(stack, exponent) if exponent else stack, params, count, times)
        for doubt in [] if prepared.ctf is None else doubts_about_ctf(prepared.ctf):
            warnings.warn(f"{prepared.where}{doubt}", MfvdmWarning, stacklevel=2)
        seen = prepared.unevenness
        warn_about_scales(seen.gain_ratio, seen.deviation * 2.0**exponent, prepared.where)
        budget = _budget(prepared)
        budget.check(max_memory_bytes)
        prepared.keep = max_memory_bytes is None or budget.memory_bytes <= max_memory_bytes
        result = Run(params, count, times, prepared).run()
        for name, why in left_idle(params, result.params.refine).items():
            log.info("%s = %r has no effect: %s", name, getattr(params, name), why)
        if not (prepared.misplaced or result.may_be_noise):
            _doubt_centres(result, prepared)
        if not result.may_be_noise:
            warn_about_contrast(result.coefs[0].real, result.levels(), result.junk, prepared.where)
        return in_units_of_input(result, exponent) if exponent else result


def estimate_budget(stack: ImageStack, params: DenoiseParams | None = None, *, threads: int | None = None) -> Budget:
    """What :func:`denoise` will need, after a look at a sample of the images; raises what ``denoise`` raises by then.

    >>> from mfvdm_fast import simulate_stack, synthetic_particle
    >>> budget = estimate_budget(simulate_stack(synthetic_particle(33), 5.0, 300))
    >>> 1e8 < budget.memory_bytes < 1e9
    True
    """
    params = _check_arguments(stack, params)
    with use_threads(threads) as count, _naming(stack):
        check_stack(stack, params)
        params = settle_size(params, stack.n_particles)
        exponent = exponent_of_unit(stack)
        scaled = ScaledStack(stack, exponent) if exponent else stack
        return _budget(Preparation(scaled, params, count, StageTimes()))


def _check_arguments(stack: ImageStack, params: DenoiseParams | None) -> DenoiseParams:
    """The parameters to use; InputError or ParameterError for arguments of another kind."""
    _check_kind(stack)
    if params is None:
        return DenoiseParams()
    return check_kind("params", params, DenoiseParams, 'make them with preset, as in preset("default", n_neighbors=30)')


def _check_kind(stack: ImageStack) -> None:
    if not isinstance(stack, ImageStack):
        raise InputError(
            f"stack must be a particle stack, got {type(stack).__name__}: make one with open_stack(path), or of an "
            "array with ParticleStack.from_array(images, pixel_size, ctf)"
        )


def find_unevenness(stack: ImageStack, *, threads: int | None = None) -> Unevenness:
    """What :func:`denoise` will take out of each image: levels, ramps and scales in which images of a sample differ.

    Raises InputError for what is no stack.

    >>> from mfvdm_fast import simulate_stack, synthetic_particle
    >>> find_unevenness(simulate_stack(synthetic_particle(33), 5.0, 300)).is_even
    True
    """
    _check_kind(stack)
    with use_threads(threads) as count:
        return estimate_unevenness(stack.read(sample_rows(stack)), count)


@contextmanager
def _naming(stack: ImageStack) -> Iterator[None]:
    """Errors of the input begin with the name of its file, if they do not name it already."""
    try:
        yield
    except InputError as error:
        names = [path.name for path in getattr(stack, "paths", ())]
        if not names or any(name in str(error) for name in names):
            raise
        raise InputError(f"{names[0]}: {error}") from error


def _doubt_centres(result: DenoiseResult, prepared: Preparation) -> None:
    """Warn where the centres found, if any were looked for, may be wrong; once."""
    if not result.params.centre or result.shifts_px is None:
        return
    known, where = getattr(prepared.stack, "known_shifts_px", None), prepared.where
    if not warn_about_origins(known, result.shifts_px, prepared.origin_columns, where):
        found = result.shifts_px - (0 if known is None else known)
        if not warn_about_reach(found, reach_px(prepared), result.junk, where):
            warn_about_faint(result.faint, where)


def _budget(prepared: Preparation) -> Budget:
    basis, stack = prepared.basis, prepared.stack
    support = DiskSupport(basis.radius_px, basis.bandlimit)
    return predict(stack.n_particles, stack.box_size, prepared.params, has_ctf=stack.ctf is not None, support=support)


def check_stack(stack: ImageStack, params: DenoiseParams) -> None:
    """Raise InputError or ParameterError for what can be known to fail before any long work."""
    n, neighbors = stack.n_particles, settle_size(params, stack.n_particles).n_neighbors or 0
    if n < 2:
        raise InputError("the stack has a single particle, of which nothing can be learnt: use more particles")
    option = f"at most {n - 1} (n_neighbors, --neighbors)"
    if n <= neighbors and params.n_neighbors is None:
        raise InputError(
            f"the stack has {n} particles, of which too few are of one view; at least {TOO_FEW + 1} are needed: "
            "use more" + (f", or give the number of neighbours, {option}" if n > 2 else "")
        )
    if n <= neighbors:
        raise InputError(
            f"the stack has {n} particles, but {neighbors} neighbours are asked for each: "
            "use more particles" + (f", or fewer neighbours, {option}" if n > 2 else "")
        )
    if stack.box_size < SMALLEST_BOX:
        raise InputError(
            f"the box is {stack.box_size} px wide; at least {SMALLEST_BOX} px are needed to see a particle"
        )
    needs_pixel_size = (params.ctf and stack.ctf is not None) or params.particle_diameter_angstrom is not None
    if needs_pixel_size and not stack.pixel_size:
        raise InputError(
            "the pixel size is not known, but the CTF or the particle diameter needs it: "
            "add it to the STAR file (rlnImagePixelSize), or leave out the diameter and correct no CTF (ctf=False, "
            "--no-ctf)"
        )
    if params.ctf and stack.ctf is not None:
        check_defocus(stack.ctf)
    largest = (stack.box_size - 1) // 2
    radius = given_radius(stack, params)
    if radius is not None and radius < SMALLEST_RADIUS:
        raise ParameterError(
            f"the particle radius of {radius:.3g} px is too small: at least {SMALLEST_RADIUS:g} px are needed to tell "
            "images apart; give a larger particle diameter"
        )
    if radius is not None and radius > largest:
        raise ParameterError(
            f"the particle radius of {radius:.1f} px does not fit the box of {stack.box_size} px "
            f"(at most {largest} px): give a smaller particle diameter"
        )
