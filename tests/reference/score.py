"""Log likelihoods of an image under each explanation, straight from the Gaussian densities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import norm

Array = NDArray[Any]


def log_density(residual: Array, variance: Array, first: int) -> float:
    """log p of coefficients with E|r|^2 = variance; the ``first`` are real, the others complex."""
    scale = np.sqrt(np.concatenate([variance[:first], variance[first:] / 2, variance[first:] / 2]))
    values = np.concatenate([residual[:first].real, residual[first:].real, residual[first:].imag])
    return float(np.sum(norm.logpdf(values, scale=scale)))


def log_odds_of_more(y: Array, x: Array, h: Array, power: Array, variances: Array, first: int) -> float:
    """log of the mean over signals of p(y | particle and signal), less log p(y | particle), for one image."""
    weight = np.where(np.arange(len(y)) < first, 1.0, 2.0) / power
    model = h * x
    energy = (weight * np.abs(model) ** 2).sum()
    contrast = max(0.0, float((weight * (y * model.conj()).real).sum() / energy)) if energy > 0 else 1.0
    residual = y - contrast * model
    alone = log_density(residual, power, first)
    odds = [log_density(residual, power + h**2 * variance, first) - alone for variance in variances]
    return float(logsumexp(odds) - np.log(len(odds)))


def share_of_junk(score: Array) -> float:
    """The p of a fine grid at which sum log((1 - p) p(y | particle) + p p(y | other)) is largest."""
    shares = np.linspace(0, 1, 4001)[:-1]
    return float(shares[np.argmax(np.log1p(shares[:, None] * (np.exp(-score) - 1)).sum(axis=1))])


def mean_over_contrast(log_likelihood: float, power: float, variance: float) -> float:
    """log of the mean of exp(a c - a^2 power / 2) over a ~ N(1, variance), by quadrature."""
    a = np.linspace(1 - 12 * np.sqrt(variance), 1 + 12 * np.sqrt(variance), 200_001)
    exponent = a * (log_likelihood + power / 2) - a**2 * power / 2 + norm.logpdf(a, 1, np.sqrt(variance))
    top = exponent.max()
    return float(top + np.log(np.exp(exponent - top).sum() * (a[1] - a[0])))
