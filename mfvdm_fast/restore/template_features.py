"""The log likelihood of observed images with templates, as features of the one and of the other: its bilinear form.

The form is that of :mod:`mfvdm_fast.restore.templates`. Features are components of the templates along the axes in
which these differ most, seen through the mean CTF and the noise, and a few numbers for their power in each class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..records import Coefficients, FloatArray, IndexArray, SteerableCoefficients
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


def features_of(
    coefs: SteerableCoefficients, seen: Observation, fits: list[TemplateFit], particles: IndexArray, rows: IndexArray
) -> TemplateFeatures:
    """The bilinear form of the log likelihood in the leading principal components of the templates, of some rows."""
    group = seen.group[particles[rows]]
    energies = np.sort(np.concatenate([fit.energy for fit in fits]))[::-1]
    place = np.searchsorted(np.cumsum(energies), ENERGY * energies.sum())
    least = max(float(energies[min(place, len(energies) - 1)]), np.finfo(np.float64).tiny)
    weight = (seen.transfer / seen.noise_power).astype(np.float32)
    penalty = np.zeros((len(fits[0].deviations), len(seen.transfer)), np.float32)
    left, right, widths = [], [], []
    baseline = np.zeros(len(rows))
    for k, fit in enumerate(fits):
        columns = slice(int(coefs.offsets[k]), int(coefs.offsets[k + 1]))
        part = seen.columns(columns.start, columns.stop)
        scale = mean_precision(part)
        axes = fit.components[:, fit.energy >= least]
        _add_penalty(penalty, fit, part, k)
        widths.append(axes.shape[1])
        to_axes = (axes / scale[:, None]).astype(np.float32)
        observed = np.empty((len(rows), axes.shape[1]), np.complex64)
        for start in range(0, len(rows), BLOCK):
            some = slice(start, start + BLOCK)
            matched = coefs[k][rows[some]] * weight[group[some], columns]
            observed[some] = matched @ to_axes
            if k == 0:
                baseline[some] = matched.real @ fit.mean
        template = fit.deviations @ (axes * scale[:, None]).astype(np.float32)
        left.append(observed)
        right.append(template)
    share = seen.counts / seen.counts.sum()
    common = penalty.mean(axis=0, dtype=np.float64)
    of_class, of_template = factor_penalty(penalty - common, share)
    left[0] = np.concatenate([left[0].real, -of_class[group]], axis=1).astype(np.complex64)
    right[0] = np.concatenate([right[0].real, of_template], axis=1).astype(np.complex64)
    widths[0] += of_class.shape[1]
    for a, b in zip(left, right, strict=True):
        balance(a, b)
    offsets = np.concatenate([[0], np.cumsum(widths)]).astype(np.int64)
    return TemplateFeatures(
        particles[rows],
        rows,
        SteerableCoefficients(np.concatenate(left, axis=1), offsets),
        SteerableCoefficients(np.concatenate(right, axis=1), offsets),
        baseline - common[group],
        common[group],
        of_class.shape[1],
    )


def _add_penalty(penalty: Real, fit: TemplateFit, seen: Observation, k: int) -> None:
    """Add 1/2 w_k |h_g x_j|^2 / s^2 of one frequency to (n, g)."""
    precision = (seen.precision.T * (0.5 if k == 0 else 1.0)).astype(np.float32)
    for start in range(0, len(penalty), BLOCK):
        rows = slice(start, start + BLOCK)
        template = fit.deviations[rows] + fit.mean.astype(np.float32)
        penalty[rows] += (np.square(template.real) + np.square(template.imag)) @ precision


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
