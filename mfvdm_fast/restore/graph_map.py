"""Restoration by maximum a posteriori in the eigenbasis of the neighbour graph, CTF and noise solved for directly.

Algorithm 2 of arXiv:1904.07772 filters phase-flipped coefficients by h(lambda) and divides by a filtered |CTF|. Here
the clean coefficients are x = Phi z, Phi = D^{-1/2} U with columns of unit mean square, and z is Gaussian with a
variance per band of eigenvectors and radial function that the data decide (empirical Bayes): no filter and no division.
What the graph does not hold is left to the Wiener filter of the residual.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..errors import InputError
from ..records import Coefficients, Eigenbasis, FloatArray, SteerableCoefficients
from ..threads import map_in_order, use_threads
from .amplitudes import BAND, GraphFit, fit_amplitudes
from .scaled_eigenbasis import ScaledEigenbasis, set_up_regression, weigh_sums
from .wiener import Observation, Real, apply_wiener, estimate_covariance, estimate_mean, match, to_complex

SolveBasis = Callable[[int, int | None], Eigenbasis]  # of k, and of how many eigenvectors are worth having if known
Watch = Callable[[int, Coefficients, Coefficients], None]
log = logging.getLogger(__name__)

SMALLEST_SHARE = 1e-4  # of all evidence so far: a frequency with less is the last that the graph is asked about
SMALLEST_BAND = 2e-5  # of all evidence so far: bands of eigenvectors with less are left out of the next frequency


@dataclass(frozen=True)
class GraphMap:
    """Restored coefficients, and how much of the signal the graph accounts for."""

    coefs: SteerableCoefficients
    captured: float  # energy of the fits over the signal energy that the covariance of the particles shows


@dataclass
class _Frequency:
    """One angular frequency on its way."""

    seen: Observation
    mean: FloatArray  # (p,)
    residual: Real  # matched, in the real form: what is not explained yet
    fitted: Real  # of the same shape: what the graph explains
    fit: GraphFit | None = None
    energy: float = 0.0  # of what is fitted, and of the signal that there is
    present: float = 0.0

    @classmethod
    def begin(cls, coefs: Coefficients, seen: Observation, k: int, threads: int = 1) -> _Frequency:
        mean = estimate_mean(coefs, seen) if k == 0 else np.zeros(coefs.shape[1])
        residual = match(coefs, seen, mean, real=k == 0, threads=threads)
        return cls(seen, mean, residual, np.zeros_like(residual))

    @property
    def evidence(self) -> float:
        return max(self.fit.evidence, 0.0) if self.fit else 0.0

    def ask_graph(self, phi: ScaledEigenbasis, meanwhile: Sequence[Callable[[], None]], threads: int) -> None:
        """Take out of the residual what the graph explains; ``meanwhile`` are done beside what takes one thread."""
        seen = self.seen
        if phi.m == 0:
            for call in meanwhile:
                call()
            return
        found = set_up_regression(weigh_sums(phi, self.residual, seen, threads)[0], seen, phi.m, phi.copies)
        fits = list[GraphFit]()
        problem = found.projected, found.information, found.copies, found.covariance
        calls = [lambda: fits.append(fit_amplitudes(*problem)), *meanwhile]
        map_in_order(lambda call: call(), calls, threads)
        self.fit = fit = fits[0]
        self.present = float(np.trace(found.covariance))
        amplitude, precision = fit.amplitude.astype(np.float32), seen.precision.astype(np.float32)
        fitted, residual = (part.reshape(phi.copies, phi.n, -1) for part in (self.fitted, self.residual))

        def subtract(block: tuple[int, int]) -> float:
            rows = slice(*block)
            explained = (phi.rows(*block) @ amplitude).reshape(phi.copies, -1, amplitude.shape[1])
            fitted[:, rows] = explained
            residual[:, rows] -= precision[seen.group[rows]] * explained
            return float(np.einsum("cij,cij->", explained, explained, dtype=np.float64))

        self.energy = sum(map_in_order(subtract, phi.blocks(), threads)) / phi.n

    def finish(self, threads: int) -> Coefficients:
        """What the graph explains, and the Wiener filter of the residual."""
        n = len(self.seen.group)
        covariance = estimate_covariance(self.residual, self.seen, threads)
        if covariance.any():
            self.fitted += apply_wiener(self.residual, covariance, self.seen, threads)
        self.fitted[:n] += self.mean.astype(np.float32)
        return to_complex(self.fitted, n)


def room_for_next(k: int, total: float, *fits: GraphFit | None) -> int | None:
    """How many eigenvectors the frequency after k may have: one band more than there were with signal in them.

    ``total`` is the evidence of all frequencies so far. The signal reaches less deep into the spectrum from one
    frequency to the next, since its leading multiplets are left behind. Nothing is known at k = 0, which has a spectrum
    of its own: None.
    """
    if k == 0:
        return None
    return BAND + max((fit.worth_having(SMALLEST_BAND * total) for fit in fits if fit is not None), default=0)


def restore_graph_map(
    coefs: SteerableCoefficients,
    seen: Observation,
    bases: SolveBasis,
    degrees: FloatArray,
    *,
    k_max: int | None = None,
    watch: Watch | None = None,
    out: Coefficients | None = None,
    threads: int | None = None,
) -> GraphMap:
    """Graph MAP of every angular frequency that the graph says something about, Wiener filter of the rest.

    Frequencies go upwards, until one adds less than 1e-4 of the evidence. Peak memory besides the result: one
    eigenbasis (8 n m bytes), 4 (g + 32 + p) m^2 bytes, and a few float32 copies of two ``coefs[k]``.

    Parameters
    ----------
    coefs : (n, P), as observed: signed, not phase-flipped.
    seen : from :func:`mfvdm_fast.restore.wiener.describe_observation`; at most some hundred classes.
    bases : called once per frequency k = 0, 1, ... that is needed, with how many eigenvectors are worth having as far
        as that is known; residuals up to 0.1 are as good as smaller ones.
    degrees : (n,) node degrees of the graph.
    k_max : last frequency to ask the graph about; all when left out. With a small one, the result's ``captured`` is a
        quick look at the graph.
    watch : called once for every k with k, the observed coefficients and the restored ones (n, p); not in the order
        of k, and from any thread.
    out : (n, P) where the result goes; may be ``coefs.packed``.
    threads : the result does not depend on it.

    Returns
    -------
    GraphMap. ``captured`` above 1 means that the graph fits more energy than there is signal: its edges agree with
    the noise they were found in, and another graph is to be preferred.

    Raises
    ------
    InputError
        When an eigenbasis is of other particles or another frequency.

    Examples
    --------
    >>> from .wiener import describe_observation
    >>> rng = np.random.default_rng(0)
    >>> y = SteerableCoefficients((4 + rng.normal(size=(500, 1)) + 0j).astype(np.complex64), np.array([0, 1]))
    >>> ramp = np.linspace(-1, 1, 500)[:, None].astype(np.complex64)
    >>> basis = Eigenbasis(0, np.ones(1), ramp, np.zeros(1), 1, "converged")
    >>> result = restore_graph_map(y, describe_observation(y, 1.0), lambda k, most: basis, np.ones(500))
    >>> bool(result.coefs.packed.real.std() < 0.2)
    True
    """
    out = np.empty(coefs.packed.shape, np.complex64) if out is None else out
    asked, total, fitted, present = True, 0.0, 0.0, 0.0
    with use_threads(threads) as count:

        def begin(k: int, threads: int = 1) -> _Frequency:
            part = seen.columns(int(coefs.offsets[k]), int(coefs.offsets[k + 1]))
            return _Frequency.begin(coefs[k], part, k, threads)

        def finish(k: int, one: _Frequency | None = None) -> None:
            restored = (one or begin(k)).finish(count)
            if watch is not None:
                watch(k, coefs[k], restored)
            out[:, coefs.offsets[k] : coefs.offsets[k + 1]] = restored

        k, most, left = 0, None, list[Callable[[], None]]()
        while k <= coefs.k_max and asked and (k_max is None or k <= k_max):
            phi = ScaledEigenbasis(_check_basis(bases(k, most), k, coefs.n_particles), degrees, count)
            one = begin(k, count)
            one.ask_graph(phi, left, count)  # and finish the frequency before, which one thread does meanwhile
            left = [partial(finish, k, one)]
            total, fitted, present = total + one.evidence, fitted + one.energy, present + one.present
            asked = asked and (k == 0 or one.evidence > SMALLEST_SHARE * total)
            most = room_for_next(k, total, one.fit)
            log.debug("k=%d: evidence %.0f, energy fitted %.3g of %.3g", k, one.evidence, one.energy, one.present)
            k += 1
        left += [partial(finish, later) for later in range(k, coefs.k_max + 1)]
        map_in_order(lambda call: call(), left, count)
    captured = fitted / present if present > 0 else (np.inf if fitted > 0 else 0.0)
    return GraphMap(SteerableCoefficients(out, coefs.offsets), captured)


def _check_basis(basis: Eigenbasis, k: int, n: int) -> Eigenbasis:
    if basis.k != k or len(basis.vectors) != n:
        raise InputError(
            f"frequency k = {k} of {n} particles got a basis of k = {basis.k} and {len(basis.vectors)} particles: "
            "solve it on the graph of these particles"
        )
    return basis
