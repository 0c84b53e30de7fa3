"""Every parameter of the pipeline and its default; the only place a default lives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from .checks import check_choice, check_positive, check_switch, check_whole
from .errors import ParameterError

MOST_MATCHINGS = 10  # more change nothing for the better
_GRAPH, _MAP = ("graph_map", "spectral"), ("graph_map",)
# The methods that use a parameter, where not all do. The seed is free: a method without chance is the same for any.
USED_BY: dict[str, tuple[str, ...]] = {
    "n_neighbors": _GRAPH,
    "n_frequencies": _GRAPH,
    "n_eigenvectors": _GRAPH,
    "diffusion_time": _GRAPH,
    "refine": _GRAPH,
    "solver": _GRAPH,
    "centre": _MAP,
    "n_matchings": _MAP,
    "n_template_eigenvectors": _MAP,
    "n_template_frequencies": _MAP,
    "n_restoration_eigenvectors": _MAP,
    "spectral_filter": ("spectral",),
}
# What the refinement alone uses, by method.
REFINEMENT: dict[str, tuple[str, ...]] = {
    "graph_map": ("n_frequencies", "diffusion_time", "n_eigenvectors"),
    "spectral": ("n_frequencies", "diffusion_time"),
}
# What matching and the search for the centres alone use.
MATCHING = ("n_template_eigenvectors", "n_template_frequencies")


@dataclass(frozen=True)
class DenoiseParams:
    """Parameters of :func:`mfvdm_fast.denoise`. The defaults are the preset "default".

    Raises ParameterError for values out of range or of another kind, and for a parameter that the method does not use
    (``USED_BY``) when it is not left at its default.

    Attributes
    ----------
    n_neighbors : neighbours per particle (s = 50 in the paper); None: 50, fewer in stacks of less than 5,000 particles,
        down to 12, where 50 are no longer of one view.
    n_frequencies : angular frequencies of the refinement (k~; 10 in the paper, of which the last four would bring the
        default preset 0.01 to 0.03 dB at SNR .01); 1 is Vector Diffusion Maps.
    n_eigenvectors : eigenvectors per frequency of the refinement (m = 50), and of Algorithm 2.
    diffusion_time : t in Eq. 5. The authors' release has 2; 1 finds purer neighbours.
    refine : Algorithm 1. False skips it (MFVDM* in the paper), None where the first lists agree somewhat.
    centre : find where the particles stand and bring them to the centre; None: where they are seen to stand off it,
        if there are matchings.
    n_matchings : how often every particle is matched with the restorations of the others, which gives a better graph;
        None: once where the first lists agree well with each other and less than a tenth is junk, else twice, and three
        times where the lists of the matched agree little.
    method : how the particles are restored: "graph_map" (empirical Bayes in the eigenbasis of the graph, CTF and noise
        solved for directly), "spectral" (Algorithm 2 and Eqs. 12-13 of the paper) or "cwf" (covariance Wiener filter,
        no neighbours at all).
    n_template_eigenvectors, n_template_frequencies : of the restorations that particles are matched with.
    n_restoration_eigenvectors : eigenvectors per frequency of the method "graph_map", at most: those that wrong edges
        make are left out.
    spectral_filter : h in Algorithm 2: "2λ-λ²" (Eq. 11) or "λ".
    basis : "disk_harmonics" or "fourier_bessel" (the paper's; slower, the same results within its accuracy).
    solver : "chebyshev", or "eigsh", SciPy's reference.
    ctf : correct the CTF when the input carries one.
    whiten : divide by the noise spectrum; None does so when the noise is seen not to be white.
    radius_px, bandlimit : support of the particle, in pixels and cycles per pixel; None estimates them.
    particle_diameter_angstrom : sets ``radius_px``.
    seed : of the eigensolver's start vectors, and of the halves in which particles are matched.

    Examples
    --------
    >>> DenoiseParams(n_neighbors=30).n_neighbors
    30
    """

    n_neighbors: int | None = None
    n_frequencies: int = 6
    n_eigenvectors: int = 50
    diffusion_time: int = 1
    refine: bool | None = None
    centre: bool | None = None
    n_matchings: int | None = None
    method: str = "graph_map"
    n_template_eigenvectors: int = 240
    n_template_frequencies: int = 20
    n_restoration_eigenvectors: int = 300
    spectral_filter: str = "2λ-λ²"
    basis: str = "disk_harmonics"
    solver: str = "chebyshev"
    ctf: bool = True
    whiten: bool | None = None
    radius_px: float | None = None
    bandlimit: float | None = None
    particle_diameter_angstrom: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (
            "n_frequencies",
            "n_eigenvectors",
            "diffusion_time",
            "n_restoration_eigenvectors",
            "n_template_eigenvectors",
            "n_template_frequencies",
        ):
            check_whole(name, getattr(self, name), 1)
        for name, least in (("n_neighbors", 1), ("n_matchings", 0)):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), least)
        if self.n_matchings is not None and self.n_matchings > MOST_MATCHINGS:
            raise ParameterError(f"n_matchings must be at most {MOST_MATCHINGS}, got {self.n_matchings}")
        check_whole("seed", self.seed, 0)
        for name in ("ctf", "refine", "centre", "whiten"):
            switch = check_switch(name, getattr(self, name), optional=name != "ctf")
            object.__setattr__(self, name, switch)  # those of NumPy are no Python bools
        check_choice("method", self.method, ("graph_map", "spectral", "cwf"))
        check_choice("spectral_filter", self.spectral_filter, ("2λ-λ²", "λ"))
        check_choice("basis", self.basis, ("disk_harmonics", "fourier_bessel"))
        check_choice("solver", self.solver, ("chebyshev", "eigsh"))
        for name in ("radius_px", "bandlimit", "particle_diameter_angstrom"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        if self.bandlimit is not None and self.bandlimit > 0.5:
            raise ParameterError(f"bandlimit must be at most 0.5 cycles per pixel (Nyquist), got {self.bandlimit!r}")
        if self.method != "spectral" and self.basis != "disk_harmonics":
            raise ParameterError(
                f"the method {self.method!r} needs the basis 'disk_harmonics', in which the CTF is diagonal, got "
                f"{self.basis!r}: leave the basis out, or take the method 'spectral'"
            )
        if self.radius_px is not None and self.particle_diameter_angstrom is not None:
            raise ParameterError("give radius_px or particle_diameter_angstrom, not both")
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        _refuse_unused(self.method, given)


def uses(method: str, name: str) -> bool:
    """Whether a method uses the parameter of that name.

    >>> uses("graph_map", "n_neighbors"), uses("cwf", "n_neighbors")
    (True, False)
    """
    return method in USED_BY.get(name, (method,))


def _refuse_unused(method: str, given: Mapping[str, Any]) -> None:
    """Raise ParameterError for a parameter that would have no effect."""
    name = next((name for name in given if not uses(method, name)), None)
    if name is not None:
        others = " or ".join(map(repr, USED_BY[name]))
        raise ParameterError(
            f"{name} has no effect with the method {method!r}, got {given[name]!r}: leave it out, or take the method "
            f"{others}"
        )


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {"method": "spectral", "refine": True, "n_neighbors": 50, "n_frequencies": 10},
}


# On 70S particles fewer neighbours gain 0.5 to 0.9 dB at n = 1,000 and 2,000 (SNR .05 and .02) over one in 40; fewer
# than these lose at SNR .01.
MOST_NEIGHBORS, LEAST_NEIGHBORS, PARTICLES_PER_NEIGHBOR = 50, 12, 100
CENTRED_FROM = 100  # particles; in fewer nobody looks where they stand unless asked to
TOO_FEW = 20  # particles, or fewer: refused where the number of neighbours is not given


def settle_size(params: DenoiseParams, n_particles: int) -> DenoiseParams:
    """``params`` with the number of neighbours decided, where the method uses neighbours.

    >>> settle_size(DenoiseParams(), 10_000).n_neighbors, settle_size(DenoiseParams(), 1_000).n_neighbors
    (50, 12)
    """
    if params.n_neighbors is not None or not uses(params.method, "n_neighbors"):
        return params
    least = LEAST_NEIGHBORS if n_particles > TOO_FEW else TOO_FEW
    return replace(params, n_neighbors=min(MOST_NEIGHBORS, max(least, n_particles // PARTICLES_PER_NEIGHBOR)))


REFINE_BELOW, MATCH_TWICE_BELOW = 0.15, 0.3  # closure of the first neighbour lists
# Beyond so many particles lists of 50 close less, since noise cannot tell the nearest of so many; they are no worse.
DENSE = 20_000


def settle(params: DenoiseParams, closure: float, n_particles: int) -> DenoiseParams:
    """``params`` with all decided that the method uses and that depends on how far the first neighbour lists agree.

    ``closure`` is that of :func:`mfvdm_fast.neighbors.agreement.measure_closure`: it falls with the signal-to-noise
    ratio, which nobody knows. Measured at SNR .05 with 80,000 particles, .26: a second matching gains 0.1 dB there, in
    half as much time again.

    >>> [settle(DenoiseParams(), closure, 10_000).n_matchings for closure in (0.5, 0.2)]
    [1, 2]
    """
    twice_below = MATCH_TWICE_BELOW * min(1.0, (DENSE / n_particles) ** 0.5)
    chosen: dict[str, Any] = {
        "refine": closure < REFINE_BELOW,
        "n_matchings": 2 if closure < twice_below else 1,
    }
    left = [name for name in chosen if getattr(params, name) is None and uses(params.method, name)]
    return replace(params, **{name: chosen[name] for name in left})


# Where particles are matched twice, they are matched a third time unless the lists of the matched agree: that gains
# .25 dB at SNR .01 (10,000 particles; closure .27), .14 at .02 (2,000; .48). A fourth time would bring .17 dB more at
# SNR .01, in a fifth of the time of the whole job. Particles whose first lists agree lose .1 dB by a second time.
MATCH_AGAIN_BELOW, MOST_CHOSEN = 0.5, 3


def settle_matchings(done: int, closure: float) -> int:
    """How often particles are to be matched, after they were ``done`` times and their lists close so well.

    >>> [settle_matchings(done, closure) for done, closure in ((1, 0.4), (2, 0.4), (2, 0.6), (3, 0.4))]
    [1, 3, 2, 3]
    """
    return done + (1 < done < MOST_CHOSEN and closure < MATCH_AGAIN_BELOW)


def left_idle(asked: DenoiseParams, refined: bool | None) -> dict[str, str]:
    """The parameters other than the default that were ``asked`` for in vain, and why.

    Those of a refinement that the data did not ask for, and those of a matching that is not done.

    >>> [list(left_idle(DenoiseParams(n_frequencies=2), refined)) for refined in (False, True)]
    [['n_frequencies'], []]
    >>> left_idle(DenoiseParams(n_matchings=0, centre=False), False)
    {'centre': 'nothing is matched (--matchings 0), so nobody looks where the particles stand'}
    """
    idle: dict[str, str] = {}
    if asked.refine is None and refined is False:
        why = "the first neighbours agree so well that they are not refined (--refine does all the same)"
        idle |= dict.fromkeys(REFINEMENT.get(asked.method, ()), why)
    if asked.n_matchings == 0 and not asked.centre:
        idle["centre"] = "nothing is matched (--matchings 0), so nobody looks where the particles stand"
        idle |= dict.fromkeys(MATCHING, "nothing is matched (--matchings 0)")
    return {name: why for name, why in idle.items() if getattr(asked, name) != getattr(DenoiseParams, name)}


def preset(name: str = "default", **changes: Any) -> DenoiseParams:
    """The parameters of a preset, with changes.

    What the preset sets and another ``method`` does not use is left out. Raises ParameterError when there is no such
    preset or parameter, and for a change other than None that the method, or ``refine=False``, has no use for, whatever
    its value.

    >>> preset("paper", refine=False).refine
    False
    """
    check_choice("preset", name, tuple(PRESETS))
    method = changes.get("method", PRESETS[name].get("method", DenoiseParams.method))
    kept = {key: value for key, value in PRESETS[name].items() if uses(method, key)}
    try:
        params = DenoiseParams(**(kept | changes))
    except TypeError as error:
        raise ParameterError(f"no such parameter: {error}") from error
    given = {key: value for key, value in changes.items() if value is not None}
    _refuse_unused(method, given)
    idle = next((key for key in REFINEMENT.get(method, ()) if key in given), None)
    if params.refine is False and idle is not None:
        raise ParameterError(
            f"{idle} has no effect without the refinement (Algorithm 1), got {given[idle]!r}: leave it out, or refine"
        )
    return params
