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
from ..records import Coefficients, FloatArray, IndexArray, SteerableCoefficients
from ..threads import map_in_order, use_threads
from .amplitudes import GraphFit, fit_amplitudes
from .graph_map import SolveBasis, class_grams, room_for_next, scaled_eigenbasis
from .wiener import Observation, Real, estimate_covariance, estimate_mean, match, sum_products

PARTS = 4  # 2 lose 0.05 to 0.2 dB, as templates are made of half of the particles; 8 gain no more
ENERGY = 0.99  # of the templates, seen through the CTF and noise, that features keep
SMALLEST_SHARE = 2e-3  # of all evidence so far: a frequency with less is the last one that tells views apart
LEAST_PENALTY = 0.05  # rms in log L of what is worth a feature
BLOCK = 1024


@dataclass(frozen=True)
class TemplateFeatures:
    """Both sides of the log likelihood, for one part of the particles."""

    particles: IndexArray  # (r,), of the part that is matched
    rows: IndexArray  # (r,), of the coefficients that show them
    observed: SteerableCoefficients  # (r, sum p_k)
    templates: SteerableCoefficients  # (n, sum p_k), of all particles, fitted without the part
    baseline: FloatArray  # (r,): log L against an image of noise alone is the score of the bilinear form plus this
    common: FloatArray  # (r,): 1/2 |h x|^2 / s^2 of a mean template
    n_penalties: int  # last features of k = 0, that hold the rest of it

    def power(self, templates: IndexArray) -> FloatArray:
        """|h_i x_j|^2 / s^2 of one template j (r,) for each particle i."""
        last = slice(int(self.observed.offsets[1]) - self.n_penalties, int(self.observed.offsets[1]))
        own, of_template = self.observed.packed[:, last].real, self.templates.packed[templates, last].real
        rest = np.einsum("ij,ij->i", own, of_template, dtype=np.float64)
        return np.asarray(2 * np.maximum(self.common - rest, 0))


@dataclass(frozen=True)
class _Fit:
    """The templates of one frequency."""

    deviations: Coefficients  # (n, p), templates without their mean
    mean: FloatArray  # (p,)
    energy: FloatArray  # (r,), descending, of principal components seen through mean CTF and noise
    components: FloatArray  # (p, r)


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
    fits: tuple[list[_Fit], ...]  # for the particles of each part, by frequency
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
                        side = _features(coefs, seen, fits, particles, rows, count)
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

    Peak memory, of q parts: 8 q n bytes per coefficient up to ``k_max``, one eigenbasis in the real form (8 n m bytes),
    and 8 (q + 3) g m^2 bytes.

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
        fits: tuple[list[_Fit], ...] = tuple([] for _ in range(part.max() + 1))
        most, total = None, 0.0
        for k in range(last + 1):
            own = seen.columns(int(coefs.offsets[k]), int(coefs.offsets[k + 1]))
            phi = scaled_eigenbasis(bases(k, most), degrees, count)
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
    coefs: Coefficients, seen: Observation, k: int, phi: Real, part: IndexArray, threads: int
) -> list[tuple[_Fit, GraphFit | None]]:
    """Amplitudes of one frequency, for each part from the particles of the others."""
    n_parts, n_classes = int(part.max()) + 1, len(seen.transfer)
    of_parts = replace(seen, group=n_classes * part + seen.group, transfer=np.tile(seen.transfer, (n_parts, 1)))
    grams = class_grams(phi, of_parts, threads).reshape(n_parts, n_classes, phi.shape[1], phi.shape[1])
    total = grams.sum(axis=0)

    def fit(number: int) -> tuple[_Fit, GraphFit | None]:
        trust = np.where(part == number, 0.0, 1.0 if seen.trust is None else seen.trust)
        return _fit(coefs, replace(seen, trust=trust), k, phi, total - grams[number], threads)

    return map_in_order(fit, range(n_parts), threads)


def _fit(
    coefs: Coefficients, seen: Observation, k: int, phi: Real, grams: FloatArray, threads: int
) -> tuple[_Fit, GraphFit | None]:
    """Amplitudes of one frequency from the particles that are trusted, whose Gram matrices are ``grams``."""
    mean = estimate_mean(coefs, seen) if k == 0 else np.zeros(coefs.shape[1])
    if phi.shape[1] == 0:  # the graph says nothing about this frequency
        return _Fit(np.zeros(coefs.shape, np.complex64), mean, np.zeros(0), np.zeros((coefs.shape[1], 0))), None
    matched = match(coefs, seen, mean, real=k == 0)
    covariance = estimate_covariance(matched, seen)
    products = sum_products(phi, matched, trust=seen.trust)
    fit = fit_amplitudes(products, grams, seen.precision, len(phi) // len(coefs), covariance)
    scale = _mean_precision(seen)
    inner = scale[:, None] * fit.amplitude.T
    weight = 1.0 if k == 0 else 2.0
    values, vectors = np.linalg.eigh(inner @ (grams.sum(axis=0) / seen.weights.sum()) @ inner.T * weight)
    deviations = _spread(phi, fit.amplitude.astype(np.float32), len(coefs), threads)
    return _Fit(deviations, mean, values[::-1], vectors[:, ::-1]), fit


def _spread(phi: Real, amplitude: Real, n: int, threads: int) -> Coefficients:
    """Phi z of n particles, complex."""
    out = np.empty((n, amplitude.shape[1]), np.complex64)

    def multiply(start: int) -> None:
        rows = slice(start, min(start + BLOCK, n))
        out.real[rows] = phi[rows] @ amplitude
        out.imag[rows] = phi[n + rows.start : n + rows.stop] @ amplitude if len(phi) > n else 0

    map_in_order(multiply, range(0, n, BLOCK), threads)
    return out


def _mean_precision(seen: Observation) -> FloatArray:
    """sqrt(mean h^2 / s^2) over the particles: (p,), in which templates and observed images are measured."""
    mean = seen.counts @ seen.precision / seen.counts.sum()
    return np.sqrt(np.maximum(mean, 1e-12 * max(float(mean.max(initial=0)), np.finfo(np.float64).tiny)))


def _features(
    coefs: SteerableCoefficients,
    seen: Observation,
    fits: list[_Fit],
    particles: IndexArray,
    rows: IndexArray,
    threads: int,
) -> TemplateFeatures:
    """The bilinear form of the log likelihood in the leading principal components of the templates, of some rows."""
    group = seen.group[particles[rows]]
    energies = np.sort(np.concatenate([fit.energy for fit in fits]))[::-1]
    place = np.searchsorted(np.cumsum(energies), ENERGY * energies.sum())
    least = max(float(energies[min(place, len(energies) - 1)]), np.finfo(np.float64).tiny)
    weight = (seen.transfer / seen.noise_power).astype(np.float32)
    baseline = np.zeros(len(rows))

    def project(k: int) -> tuple[Coefficients, Coefficients]:
        fit, columns = fits[k], slice(int(coefs.offsets[k]), int(coefs.offsets[k + 1]))
        scale = _mean_precision(seen.columns(columns.start, columns.stop))
        axes = fit.components[:, fit.energy >= least]
        to_axes = (axes / scale[:, None]).astype(np.float32)
        observed = np.empty((len(rows), axes.shape[1]), np.complex64)
        for start in range(0, len(rows), BLOCK):
            some = slice(start, start + BLOCK)
            matched = coefs[k][rows[some]] * weight[group[some], columns]
            observed[some] = matched @ to_axes
            if k == 0:
                baseline[some] = matched.real @ fit.mean
        return observed, fit.deviations @ (axes * scale[:, None]).astype(np.float32)

    sides = map_in_order(project, range(len(fits)), threads)
    share = seen.counts / seen.counts.sum()
    penalty = _penalties(fits, coefs.offsets, seen, threads)
    common = penalty.mean(axis=0, dtype=np.float64)
    of_class, of_template = factor_penalty(penalty - common, share)
    first, second = sides[0]
    sides[0] = (
        np.concatenate([first.real, -of_class[group]], axis=1).astype(np.complex64),
        np.concatenate([second.real, of_template], axis=1).astype(np.complex64),
    )
    map_in_order(lambda pair: balance(*pair), sides, threads)
    offsets = np.append(0, np.cumsum([observed.shape[1] for observed, _ in sides])).astype(np.int64)
    left, right = (np.concatenate(side, axis=1) for side in zip(*sides, strict=True))
    return TemplateFeatures(
        particles[rows],
        rows,
        SteerableCoefficients(left, offsets),
        SteerableCoefficients(right, offsets),
        baseline - common[group],
        common[group],
        of_class.shape[1],
    )


def _penalties(fits: list[_Fit], offsets: IndexArray, seen: Observation, threads: int) -> Real:
    """1/2 sum_k w_k |h_g x_j|_k^2 / s^2 of each template with each class: (n, g)."""
    halves = np.where(np.arange(len(seen.noise_power)) < offsets[1], 0.5, 1.0)
    precision = (seen.precision.T * halves[:, None]).astype(np.float32)
    penalty = np.zeros((len(fits[0].deviations), precision.shape[1]), np.float32)

    def add(start: int) -> None:
        rows = slice(start, start + BLOCK)
        for k, fit in enumerate(fits):
            template = fit.deviations[rows] + fit.mean.astype(np.float32)
            power = np.square(template.real) + np.square(template.imag)
            penalty[rows] += power @ precision[offsets[k] : offsets[k + 1]]

    map_in_order(add, range(0, len(penalty), BLOCK), threads)
    return penalty


def factor_penalty(penalty: FloatArray, share: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(g, r) and (n, r) whose product is the penalty, but for what is below LEAST_PENALTY."""
    root = np.sqrt(share)
    gram = (penalty.T @ penalty) * np.outer(root, root) / len(penalty)
    values, vectors = np.linalg.eigh(gram)
    kept = values > LEAST_PENALTY**2
    axes = vectors[:, kept]
    inverse = np.divide(1, root, out=np.zeros_like(root), where=root > 0)
    return axes * inverse[:, None], penalty @ (axes * root[:, None])


def balance(first: Coefficients, second: Coefficients) -> None:
    """Bring the columns of both sides of a bilinear form to the same size, for float32 and for bounds; in place.

    By powers of two, so that no product changes.

    >>> observed, templates = np.full((3, 1), 64, np.complex64), np.ones((2, 1), np.complex64)
    >>> balance(observed, templates)
    >>> observed[0].real.tolist(), templates[0].real.tolist()
    ([8.0], [8.0])
    """
    exponent = np.rint(0.5 * np.log2(_rms(first) / _rms(second)))
    first *= np.exp2(-exponent)
    second *= np.exp2(exponent)


def _rms(features: Coefficients) -> FloatArray:
    rms: FloatArray = np.sqrt(np.einsum("ij,ij->j", features, features.conj()).real / len(features))
    return np.maximum(rms, np.finfo(np.float32).tiny)
