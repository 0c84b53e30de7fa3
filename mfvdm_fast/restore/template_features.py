"""The log likelihood of observed images with templates, as features of the one and of the other: its bilinear form.

The form is that of :mod:`mfvdm_fast.restore.templates`. Features are components of the templates along the axes in
which these differ most, seen through the mean CTF and the noise, and a few numbers for their power in each class.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from ..records import Coefficients, FloatArray, IndexArray, SteerableCoefficients
from ..threads import map_in_order
from .wiener import Observation, Real

ENERGY = 0.99  # of the templates, seen through the CTF and noise, that features keep
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
class TemplateFit:
    """The templates of one frequency."""

    deviations: Coefficients  # (n, p), templates without their mean
    mean: FloatArray  # (p,)
    energy: FloatArray  # (r,), descending, of principal components seen through mean CTF and noise
    components: FloatArray  # (p, r)


def mean_precision(seen: Observation) -> FloatArray:
    """sqrt(mean h^2 / s^2) over the particles: (p,), in which templates and observed images are measured."""
    mean = seen.counts @ seen.precision / seen.counts.sum()
    return np.sqrt(np.maximum(mean, 1e-12 * max(float(mean.max(initial=0)), np.finfo(np.float64).tiny)))


def describe_templates(
    coefs: SteerableCoefficients,
    seen: Observation,
    fits: list[TemplateFit],
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
        scale = mean_precision(seen.columns(columns.start, columns.stop))
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
    left, right = map_in_order(partial(np.concatenate, axis=1), zip(*sides, strict=True), threads)
    return TemplateFeatures(
        particles[rows],
        rows,
        SteerableCoefficients(left, offsets),
        SteerableCoefficients(right, offsets),
        baseline - common[group],
        common[group],
        of_class.shape[1],
    )


def _penalties(fits: list[TemplateFit], offsets: IndexArray, seen: Observation, threads: int) -> Real:
    """1/2 sum_k w_k |h_g x_j|_k^2 / s^2 of each template with each class: (n, g)."""
    halves = np.where(np.arange(len(seen.noise_power)) < offsets[1], 0.5, 1.0)
    precision = (seen.precision.T * halves[:, None]).astype(np.float32)
    penalty = np.empty((len(fits[0].deviations), precision.shape[1]), np.float32)

    def fill(start: int) -> None:
        rows = slice(start, start + BLOCK)
        power = np.empty((len(penalty[rows]), offsets[len(fits)]), np.float32)
        for k, fit in enumerate(fits):
            own = power[:, offsets[k] : offsets[k + 1]]
            np.square(fit.deviations.real[rows] + fit.mean.astype(np.float32), out=own)
            own += np.square(fit.deviations.imag[rows])
        np.matmul(power, precision[: offsets[len(fits)]], out=penalty[rows])

    map_in_order(fill, range(0, len(penalty), BLOCK), threads)
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
