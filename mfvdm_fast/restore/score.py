"""How well the particles of a stack explain each image: a log likelihood against what else it may be.

An image of a particle is y = a h x + noise, x the template of its view and a its contrast. There are two other
explanations: nothing but noise, and a particle with something else on it (ice, carbon, another particle). The score is

    -log(p(y | nothing) / p(y | particle) + p(y | particle and something) / p(y | particle)),

a log Bayes factor: below -log(100) one of the others is a hundred times as likely, which makes an image junk; where
much of the stack is junk, less will do (:mod:`mfvdm_fast.restore.junk`). What is on a particle is Gaussian
and alike all over the disc; how smooth and how strong is not known: a mixture over a few of both. A good image lies
below -t with a chance of e^-t at most, when x is right and the noise known: E[p(y | other) / p(y | particle)] = 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..errors import InputError
from ..records import Coefficients, FloatArray, IndexArray
from ..threads import map_in_order
from .wiener import BLOCK, Observation

TYPICAL = 0.84  # quantile that contaminated images are hardly below
SMOOTHNESS = (1 / 8, 1 / 4, 1 / 2, 1)  # standard deviations of what is on a particle in Fourier space, in bandlimits
STRENGTH = (1, 10, 100, 1000)  # its variance at frequency 0 over that of the noise, per coefficient


def other_signals(noise_power: FloatArray, frequencies: ArrayLike) -> FloatArray:
    """(A, P) variances of the coefficients of what may be on a particle; the last is without bound.

    ``frequencies`` (P,) are radial frequencies of the coefficients over the bandlimit.

    >>> other_signals(np.ones(2), [0.0, 1.0]).shape
    (17, 2)
    """
    falling = np.exp(-0.5 * (np.asarray(frequencies, np.float64) / np.array(SMOOTHNESS)[:, None]) ** 2)
    found = (np.array(STRENGTH)[:, None, None] * float(np.mean(noise_power)) * falling).reshape(-1, len(noise_power))
    return np.concatenate([found, np.full((1, len(noise_power)), np.inf)])


def explained(
    coefs: Coefficients, fitted: Coefficients, seen: Observation, variances: FloatArray, k: int, threads: int = 1
) -> FloatArray:
    """Halves of the energy that each of A signals takes from y, from y with h x, and from h x: (n, 3, A) float64.

    That is 1/2 w sum_q Re(a_q conj(b_q)) / s_q^2 * l_q / (1 + l_q) with l = h^2 variance / s^2, w = 1 for k = 0 and
    2 for others, for (a, b) = (y, y), (y, h x) and (h x, h x). Quadratic in y - a h x, whatever the contrast a.

    Parameters
    ----------
    coefs, fitted : (n, p), y as observed and x restored, of one angular frequency.
    seen : of these p coefficients.
    variances : (A, p) from :func:`other_signals`; infinity takes all of the energy.

    Examples
    --------
    >>> seen = Observation(np.array([[2.0]]), np.zeros(1, np.int64), np.array([4.0]))
    >>> explained(np.full((1, 1), 4 + 0j), np.ones((1, 1)) + 0j, seen, np.array([[1.0], [np.inf]]), 0)[0].tolist()
    [[1.0, 2.0], [0.5, 1.0], [0.25, 0.5]]
    """
    out = np.empty((len(coefs), 3, len(variances)))
    half = 0.5 if k == 0 else 1.0

    def weigh(member: tuple[IndexArray, FloatArray, FloatArray]) -> None:
        rows, h, precision = member
        # l / (1 + l) = precision / (1 / variance + precision)
        share = precision / np.maximum(1 / variances + precision, np.finfo(np.float64).tiny)
        share[np.isinf(variances)] = 1
        weight = half * (share / seen.noise_power).T
        for start in range(0, len(rows), BLOCK):
            some = rows[start : start + BLOCK]
            y, x = coefs[some].astype(np.complex128), h * fitted[some]
            for place, (a, b) in enumerate(((y, y), (y, x), (x, x))):
                out[some, place] = (a.real * b.real + a.imag * b.imag) @ weight

    map_in_order(weigh, zip(seen.members(), seen.transfer, seen.precision, strict=True), threads)
    return out


def log_odds_of_more(energies: FloatArray, seen: Observation, variances: FloatArray, first: int) -> FloatArray:
    """log p(y | particle and something) / p(y | particle), (n,), at the contrast that fits best.

    Parameters
    ----------
    energies : (n, 3, A), the sum over all frequencies of :func:`explained`, the last variance infinite.
    seen : of all P coefficients.
    variances : (A, P).
    first : number of coefficients of k = 0, which are real.

    Examples
    --------
    >>> seen, variances = Observation(np.ones((1, 1)), np.zeros(1, np.int64), np.ones(1)), np.array([[1.0], [np.inf]])
    >>> energies = explained(np.full((1, 1), 4 + 0j), np.zeros((1, 1), complex), seen, variances, 0)
    >>> log_odds_of_more(energies, seen, variances, 1).round(3).tolist()  # 16 / 4 - log(2) / 2
    [3.653]
    """
    contrast = fit_contrast(energies)[:, None]
    residual = energies[:, 0] - 2 * contrast * energies[:, 1] + contrast**2 * energies[:, 2]
    weights = np.where(np.arange(len(seen.noise_power)) < first, 0.5, 1.0)
    penalty = np.log1p(seen.precision[:, None] * variances[:-1]) @ weights
    return _log_mean_exp(residual[:, :-1] - penalty[seen.group])


def fit_contrast(energies: FloatArray) -> FloatArray:
    """(n,) a of y = a h x + noise by least squares, not below 0; 1 where x is 0."""
    with_fit, of_fit = energies[:, 1, -1], energies[:, 2, -1]
    return np.divide(np.maximum(with_fit, 0), of_fit, out=np.ones(len(of_fit)), where=of_fit > 0)


def contrast_variance(energies: FloatArray) -> float:
    """Variance of the contrast in the stack: that of the fitted ones (by MAD) less what the noise adds."""
    power = 2 * energies[:, 2, -1]
    contrast = fit_contrast(energies)
    spread = 1.4826 * np.median(np.abs(contrast - np.median(contrast)))
    noise = np.median(1 / np.maximum(power, np.finfo(np.float64).tiny))
    return max(0.0, float(spread**2 - noise))


def average_over_views(log_likelihood: FloatArray, n_views: int) -> FloatArray:
    """log p(y | particle) / p(y | nothing), (n,), of images of full contrast, averaged over all views.

    ``log_likelihood`` (n, K) is that of each image with its K best templates at the best angle, against noise alone;
    ``n_views`` the number of templates, mirrors and angles that were compared. What is not among the K best is 0.

    >>> average_over_views(np.array([[20.0, 19.0]]), 2 * 5000 * 80).round(2).tolist()  # 20 + log(1 + 1 / e) - log(8e5)
    [6.72]
    """
    return np.asarray(_log_mean_exp(log_likelihood) + np.log(log_likelihood.shape[1] / n_views))


def allow_for_contrast(log_likelihood: FloatArray, power: FloatArray, variance: float) -> FloatArray:
    """What to add to a log likelihood (n,) of full contrast for one of normal distribution around 1.

    ``power`` (n,) is |h x|^2 / s^2 of the template: the log likelihood at the contrast a is a c - a^2 power / 2.

    >>> allow_for_contrast(np.array([0.0]), np.array([100.0]), 0.0).tolist()
    [0.0]
    >>> allow_for_contrast(np.array([0.0]), np.array([100.0]), 0.09).round(2).tolist()  # half the contrast fits best
    [10.1]
    """
    if not variance > 0:
        return np.zeros(len(power))
    with_template, precision = log_likelihood + power / 2, 1 / variance
    gain = 0.5 * ((with_template + precision) ** 2 / (power + precision) - precision)
    return np.asarray(gain - 0.5 * np.log1p(power * variance) - log_likelihood)


@dataclass(frozen=True)
class Presence:
    """What matching says about a particle being in each image."""

    log_likelihood: FloatArray  # (n,), with the best template, against noise alone
    average: FloatArray  # (n,), from :func:`average_over_views`
    power: FloatArray  # (n,): |h x|^2 / s^2 of the best template


def score_particles(
    presence: Presence, energies: FloatArray, seen: Observation, variances: FloatArray, first: int
) -> FloatArray:
    """The score (n,) of the module's first lines; images below :func:`~.junk.junk_below` are junk.

    Restorations are not exact: the better the signal stands out of the noise, the more of it they leave for something
    more to explain. So the log odds of an image with more signal than the median, as one of high contrast has, are
    divided by how many times more it has. And what all particles have in common is no sign of junk: the median is taken
    off, and the rest is measured in its spread upwards to the quantile TYPICAL, where either is large.

    Parameters
    ----------
    presence : of n particles.
    energies : (n, 3, A), the sum over all frequencies of :func:`explained`.
    seen, variances : of all P coefficients.
    first : number of coefficients of k = 0.

    Raises
    ------
    InputError
        When the arrays are of different particles.

    Examples
    --------
    >>> seen, variances = Observation(np.ones((1, 1)), np.zeros(3, np.int64), np.ones(1)), np.array([[1.0], [np.inf]])
    >>> y, x = np.array([[10], [0], [30]], np.complex64), np.array([[10], [0], [10]], np.complex64)
    >>> presence = Presence(np.full(3, 50.0), np.array([40.0, -9.0, 40.0]), np.full(3, 100.0))
    >>> score_particles(presence, explained(y, x, seen, variances, 0), seen, variances, 1).round(1).tolist()
    [0.3, -9.0, 0.0]
    """
    if len(presence.average) != len(energies):
        raise InputError(
            f"{len(presence.average)} particles were matched and {len(energies)} restored: give both of the same stack"
        )
    allowance = allow_for_contrast(presence.log_likelihood, presence.power, contrast_variance(energies))
    signal = fit_contrast(energies) ** 2 * energies[:, 2, -1]
    typical = float(np.median(signal)) or np.inf  # noise alone has none
    more = log_odds_of_more(energies, seen, variances, first) / np.maximum(1, signal / typical)
    middle, upper = np.quantile(more, (0.5, TYPICAL))
    return -np.logaddexp(-(presence.average + allowance), (more - max(0.0, middle)) / max(1.0, upper - middle))


def _log_mean_exp(values: FloatArray) -> FloatArray:
    top = values.max(axis=1)
    return np.asarray(top + np.log(np.exp(values - top[:, None]).mean(axis=1)))
