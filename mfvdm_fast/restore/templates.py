"""Templates: restorations of all particles, to be matched with the observed images of others.

Two noisy images say little about each other; a noisy image and a restoration say much more. For particle i with CTF
h_i and a template x_j the log likelihood, up to what does not depend on j, is

    log L(i | j, alpha) = sum_k w_k Re[e^{i k alpha} <h_i y_i, x_j>_k / s^2] - 1/2 sum_k w_k |h_i x_j|_k^2 / s^2,

w_0 = 1, w_k = 2. It is bilinear: of the form of the search, C_0 + 2 sum_k Re C_k e^{i k alpha}, with features of the
observed image on one side and of the template on the other; the last term joins k = 0 with a few numbers per class.
A template that holds the noise of particle i would look like it. So particles are split in PARTS, and each part is
matched with templates whose amplitudes were fitted on the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ParameterError
from ..kernels.eigen_rows import join_parts
from ..records import Coefficients, FloatArray, IndexArray, SteerableCoefficients
from ..threads import map_in_order, use_threads
from .amplitudes import GraphFit, fit_amplitudes
from .graph_map import SolveBasis, room_for_next
from .scaled_eigenbasis import ScaledEigenbasis, set_up_regression, weigh_sums
from .template_features import TemplateFeatures, TemplateFit, describe_templates, mean_precision
from .wiener import Observation, estimate_mean, match

PARTS = 4  # 2 lose 0.05 to 0.2 dB, as templates are made of half of the particles; 8 gain no more
SMALLEST_SHARE = 2e-3  # of all evidence so far: a frequency with less is the last one that tells views apart


def split_in_parts(n_particles: int, seed: int = 0) -> IndexArray:
    """(n,) the part, of PARTS, that each particle belongs to, at random; all are of one size, or nearly.

    >>> np.bincount(split_in_parts(10)).tolist()
    [3, 2, 3, 2]
    """
    n_parts = min(PARTS, n_particles)
    return np.random.default_rng(seed).permutation(np.arange(n_particles) * n_parts // max(1, n_particles))


@dataclass(frozen=True)
class Templates:
    """Restorations of all particles, once for each part of them: fitted on the others."""

    part: IndexArray  # (n,)
    fits: tuple[list[TemplateFit], ...]  # for the particles of each part, by frequency
    offsets: IndexArray  # (k_max + 2,), of coefficients

    def coefficients(self, rows: IndexArray) -> Coefficients:
        """Templates of the particles ``rows`` (b,), none of which had a part in its own: (b, P) complex64."""
        out = np.zeros((len(rows), int(self.offsets[-1])), np.complex64)
        for k in range(self.k_max + 1):
            out[:, self.offsets[k] : self.offsets[k + 1]] = self.frequency(k, rows)
        return out

    @property
    def k_max(self) -> int:
        return len(self.fits[0]) - 1

    def of(self, rows: IndexArray) -> Templates:
        """Those of the particles ``rows`` alone, for :meth:`features`: to match any particle with."""
        some = ([replace(fit, deviations=fit.deviations[rows]) for fit in fits] for fits in self.fits)
        return replace(self, fits=tuple(some))

    def without(self, part: int) -> Coefficients:
        """Templates of all particles in which one part of them had no part: (n, P) complex64."""
        out = np.zeros((len(self.part), int(self.offsets[-1])), np.complex64)
        for k, fit in enumerate(self.fits[part]):
            out[:, self.offsets[k] : self.offsets[k + 1]] = fit.deviations + fit.mean
        return out

    def frequency(self, k: int, rows: IndexArray | slice = slice(None)) -> Coefficients:
        """The same at one angular frequency, of all particles without ``rows``: (b, p) complex64."""
        part = self.part[rows]
        out = np.empty((len(part), self.fits[0][k].deviations.shape[1]), np.complex64)
        for number, fits in enumerate(self.fits):
            own = part == number
            out[own] = fits[k].deviations[rows][own] + fits[k].mean.astype(np.float32)
        return out

    def features(
        self,
        coefs: SteerableCoefficients,
        seen: Observation,
        particles: IndexArray | None = None,
        threads: int | None = None,
    ) -> Iterator[TemplateFeatures]:
        """Features of one part of the particles, and of the templates it is matched with, then of the next.

        ``particles`` (r,) says which particle each row of ``coefs`` shows, if not all n in their order; several rows
        may show the same. Nothing for a part that no row shows, nor when the graph had no eigenvectors. They do not
        depend on ``threads``. Memory: 12 n bytes per feature of each part.
        """
        if any(len(fit.energy) for fit in self.fits[0]):
            particles = np.arange(len(self.part)) if particles is None else particles
            for number, fits in enumerate(self.fits):
                rows = np.flatnonzero(self.part[particles] == number)
                if len(rows):
                    with use_threads(threads) as count:
                        side = describe_templates(coefs, seen, fits, particles, rows, count)
                    yield side


def fit_templates(
    coefs: SteerableCoefficients,
    seen: Observation,
    bases: SolveBasis,
    degrees: FloatArray,
    part: IndexArray,
    *,
    k_max: int,
    threads: int | None = None,
) -> Templates:
    """Restorations of all particles in the eigenbasis of a graph, their amplitudes fitted without one part at a time.

    Peak memory, of q parts: 8 q n bytes per coefficient up to ``k_max``, one eigenbasis (8 n m bytes), and
    4 q (g + 32 + p) m^2 bytes.

    Parameters
    ----------
    coefs : (n, P), as observed: signed, not phase-flipped.
    seen : from :func:`mfvdm_fast.restore.wiener.describe_observation`.
    bases : as in :func:`~mfvdm_fast.restore.graph_map.restore_graph_map`, for k = 0, 1, ... up to k_max, or up to a
        frequency with less than 1/500 of the evidence.
    degrees : (n,) node degrees of the graph.
    part : (n,) number of the part, from 0, that each particle belongs to: :func:`split_in_parts`.
    k_max : last angular frequency that is matched.
    threads : the result does not depend on it.

    Raises
    ------
    ParameterError
        When ``part`` is not (n,) whole numbers from 0, or leaves a part empty or all others.

    Examples
    --------
    >>> from mfvdm_fast.records import Eigenbasis
    >>> from .wiener import describe_observation
    >>> rng = np.random.default_rng(0)
    >>> signal = np.linspace(-3, 3, 200)[:, None]
    >>> y = SteerableCoefficients((signal + rng.normal(size=(200, 1))).astype(np.complex64), np.array([0, 1]))
    >>> basis = Eigenbasis(0, np.ones(1), (signal / 10).astype(np.complex64), np.zeros(1), 1, "converged")
    >>> seen = describe_observation(y, 1.0)
    >>> templates = fit_templates(y, seen, lambda k, most: basis, np.ones(200), split_in_parts(200), k_max=0)
    >>> first, *others = templates.features(y, seen)
    >>> first.observed.packed.shape[0], first.templates.packed.shape[0], len(others)
    (50, 200, 3)
    """
    part = _check_parts(np.asarray(part), coefs.n_particles)
    last = min(k_max, coefs.k_max)
    with use_threads(threads) as count:
        fits: tuple[list[TemplateFit], ...] = tuple([] for _ in range(part.max() + 1))
        most, total = None, 0.0
        for k in range(last + 1):
            own = seen.columns(int(coefs.offsets[k]), int(coefs.offsets[k + 1]))
            phi = ScaledEigenbasis(bases(k, most), degrees, count)
            fitted = _fit_parts(coefs[k], own, k, phi, part, count)
            for frequencies, (one, _) in zip(fits, fitted, strict=True):
                frequencies.append(one)
            found = [fit for _, fit in fitted]
            evidence = max((fit.evidence for fit in found if fit is not None), default=0.0)
            total += max(evidence, 0.0)
            most = room_for_next(k, total, *found)
            if k > 0 and evidence < SMALLEST_SHARE * total:
                break
    return Templates(part, fits, coefs.offsets)


def _check_parts(part: NDArray[Any], n: int) -> IndexArray:
    whole = part.shape == (n,) and np.issubdtype(part.dtype, np.integer) and part.min(initial=0) == 0
    if not (whole and part.max(initial=0) > 0 and np.bincount(part).all()):
        raise ParameterError(
            f"part must number the parts of {n} particles from 0, two or more and none of them empty, got {part.dtype} "
            f"of shape {part.shape}; see split_in_parts"
        )
    return np.asarray(part, np.int64)


def _fit_parts(
    coefs: Coefficients, seen: Observation, k: int, phi: ScaledEigenbasis, part: IndexArray, threads: int
) -> list[tuple[TemplateFit, GraphFit | None]]:
    """Amplitudes of one frequency, for each part from the particles of the others."""
    trust = np.ones(phi.n) if seen.trust is None else seen.trust
    others = [replace(seen, trust=np.where(part == number, 0.0, trust)) for number in range(part.max() + 1)]
    if phi.m == 0:  # the graph says nothing about this frequency
        return [(_mean_alone(coefs, one, k), None) for one in others]
    mean = estimate_mean(coefs, seen) if k == 0 else np.zeros(coefs.shape[1])
    matched = match(coefs, seen, mean, real=k == 0, threads=threads)
    sums = weigh_sums(phi, matched, seen, threads, part)

    def fit(number: int) -> tuple[GraphFit, TemplateFit]:
        found = set_up_regression(sums[number], others[number], phi.m, phi.copies)
        fitted = fit_amplitudes(found.projected, found.information, found.copies, found.covariance)
        # Templates are told apart in the axes in which they differ most, seen through mean CTF and noise.
        inner = mean_precision(seen)[:, None] * fitted.amplitude.T
        gram = found.gram / others[number].weights.sum()
        values, axes = np.linalg.eigh(inner @ gram @ inner.T * (1.0 if k == 0 else 2.0))
        return fitted, TemplateFit(deviations[number], mean + found.shift, values[::-1], axes[:, ::-1])

    deviations = np.empty((len(others), phi.n, coefs.shape[1]), np.complex64)
    fits = map_in_order(fit, range(len(others)), threads)
    amplitudes = np.concatenate([one.amplitude for one, _ in fits], axis=1).astype(np.float32)

    def multiply(block: tuple[int, int]) -> None:
        product = (phi.rows(*block) @ amplitudes).reshape(phi.copies, -1, amplitudes.shape[1])
        join_parts(product, block[0], deviations)

    map_in_order(multiply, phi.blocks(), threads)
    return [(template, fitted) for fitted, template in fits]


def _mean_alone(coefs: Coefficients, seen: Observation, k: int) -> TemplateFit:
    mean = estimate_mean(coefs, seen) if k == 0 else np.zeros(coefs.shape[1])
    return TemplateFit(np.zeros(coefs.shape, np.complex64), mean, np.zeros(0), np.zeros((coefs.shape[1], 0)))
