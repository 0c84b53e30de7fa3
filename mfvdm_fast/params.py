"""Every parameter of the pipeline and its default; the only place a default lives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from .checks import check_choice, check_positive, check_whole
from .errors import ParameterError


@dataclass(frozen=True)
class DenoiseParams:
    """Parameters of :func:`mfvdm_fast.denoise`. The defaults are the preset "paper" (arXiv:1904.07772).

    Attributes
    ----------
    n_neighbors : neighbours per particle, in the search and in the refinement (s = 50 in the paper).
    n_frequencies : angular frequencies of the refinement (k~ = 10); 1 is Vector Diffusion Maps.
    n_eigenvectors : eigenvectors per frequency (m = 50).
    diffusion_time : t in Eq. 5. The authors' release has 2; 1 finds purer neighbours.
    refine : False skips Algorithm 1 (MFVDM* in the paper).
    spectral_filter : h in Algorithm 2: "2λ-λ²" (Eq. 11) or "λ".
    basis : "disk_harmonics" or "fourier_bessel" (the paper's; slower, the same results within its accuracy).
    solver : "chebyshev", or "eigsh", SciPy's reference.
    ctf : correct the CTF when the input carries one.
    whiten : divide by the noise spectrum; None does so when the noise is seen not to be white.
    radius_px, bandlimit : support of the particle, in pixels and cycles per pixel; None estimates them.
    particle_diameter_angstrom : sets ``radius_px``.
    seed : of the eigensolver's start vectors.

    Examples
    --------
    >>> DenoiseParams(n_neighbors=30).n_neighbors
    30
    """

    n_neighbors: int = 50
    n_frequencies: int = 10
    n_eigenvectors: int = 50
    diffusion_time: int = 1
    refine: bool = True
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
        for name in ("n_neighbors", "n_frequencies", "n_eigenvectors", "diffusion_time"):
            check_whole(name, getattr(self, name), 1)
        check_whole("seed", self.seed, 0)
        check_choice("spectral_filter", self.spectral_filter, ("2λ-λ²", "λ"))
        check_choice("basis", self.basis, ("disk_harmonics", "fourier_bessel"))
        check_choice("solver", self.solver, ("chebyshev", "eigsh"))
        for name in ("radius_px", "bandlimit", "particle_diameter_angstrom"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        if self.bandlimit is not None and self.bandlimit > 0.5:
            raise ParameterError(f"bandlimit must be at most 0.5 cycles per pixel (Nyquist), got {self.bandlimit!r}")
        if self.radius_px is not None and self.particle_diameter_angstrom is not None:
            raise ParameterError("give radius_px or particle_diameter_angstrom, not both")


PRESETS: dict[str, dict[str, Any]] = {"paper": {}}


def preset(name: str = "paper", **changes: Any) -> DenoiseParams:
    """The parameters of a preset, with changes.

    Raises ParameterError when there is no such preset or parameter.

    >>> preset("paper", refine=False).refine
    False
    """
    check_choice("preset", name, tuple(PRESETS))
    try:
        return replace(DenoiseParams(**PRESETS[name]), **changes)
    except TypeError as error:
        raise ParameterError(f"no such parameter: {error}") from error
