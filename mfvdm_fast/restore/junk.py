"""What the scores of a stack say: which images are junk, and how far each is trusted to have a say in others."""

from __future__ import annotations

import warnings

import numpy as np

from ..errors import MfvdmWarning
from ..records import BoolArray, Coefficients, FloatArray
from .wiener import Observation

JUNK_BELOW = -float(np.log(100))
DOUBT = float(np.log(3))  # in doubt an image is no junk: that must be three times as likely
LARGEST_ODDS = 50.0  # log, of junk: more is as certain
BISECTIONS = 50
FEWEST = 0.1  # of all images, that are likelier a particle than nothing where there are particles
CLEAR = 10.0  # log odds of these, where particles stand out so well that what does not is no particle
SURE = 20.0  # log odds of a particle, that one image in ten of coloured noise does not reach
STEPS = 100  # of expectation maximisation
FEWEST_LACKING = 10  # images without the mean, of which a distribution can be told
LACKING = 0.3  # of the contrast that the mean has in the others, at most
BETWEEN = 0.1  # of the images that lack the mean, as many as may be on the wrong side; of one image, the chance of it


def share_of_junk(score: FloatArray) -> float:
    """The share p of junk in a stack that makes its scores (n,) likeliest: sum log(1 - p + p exp(-score)) is largest.

    0 where good images alone explain them: of these, E[exp(-score)] = 1 at most.

    >>> share_of_junk(np.array([2.0, 1.0, 3.0])), round(share_of_junk(np.array([2.0, 1.0, -9.0])), 3)
    (0.0, 0.44)
    """
    excess = np.expm1(np.minimum(-np.asarray(score, np.float64), LARGEST_ODDS))
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS if excess.mean() > 0 else 0):
        middle = 0.5 * (low + high)
        rising = np.mean(excess / (1 + middle * excess)) > 0
        low, high = (middle, high) if rising else (low, middle)
    return low


def trust_in(score: FloatArray) -> FloatArray | None:
    """The chance (n,) of each image to be no junk, by its score and the share of junk in the stack; None without any.

    Scores are taken larger by DOUBT: those of stacks without junk have longer tails than they should have, as
    templates are not exact and the noise is not known.

    >>> trust_in(np.array([2.0, 1.0, 3.0])) is None
    True
    >>> trust_in(np.array([2.0, 1.0, -9.0])).round(2).tolist()
    [0.97, 0.93, 0.0]
    """
    lenient = np.asarray(score, np.float64) + DOUBT
    share = share_of_junk(lenient)
    if share == 0:
        return None
    odds = np.exp(np.minimum(-lenient, LARGEST_ODDS))
    return np.asarray((1 - share) / (1 - share + share * odds))


def junk_below(score: FloatArray, average: FloatArray) -> float:
    """The score below which an image is junk: JUNK_BELOW, or more where junk makes up much of the stack.

    That is where junk is likelier than not (:func:`trust_in` below 1/2), for shares of 3 to 50 %. Evidence that is rare
    in a clean stack is then not asked of a third of all images: of 30 % of junk in 500 to 2,000 simulated particles 58
    to 81 % are told, where -log(100) told 22 to 42 %. Not where hardly a particle can be told from nothing:
    ``average`` (n,), of :func:`average_over_views`, must reach CLEAR in FEWEST of the images.

    >>> few, many, clear = np.full(9, 8.0), np.repeat([8.0, -3.0], [6, 3]), np.full(9, 20.0)
    >>> [round(below, 2) for below in (junk_below(few, clear), junk_below(many, clear), junk_below(many, clear - 15))]
    [-4.61, -2.39, -4.61]
    """
    if not stands_out(average, CLEAR):
        return JUNK_BELOW
    share = share_of_junk(np.asarray(score, np.float64) + DOUBT)
    odds = share / max(1 - share, np.finfo(np.float64).tiny)
    return float(np.clip(np.log(max(odds, np.finfo(np.float64).tiny)) - DOUBT, JUNK_BELOW, -DOUBT))


def contrast_of_mean(coefs: Coefficients, mean: FloatArray, seen: Observation) -> tuple[FloatArray, float]:
    """The factor (n,) of the stack's mean that fits each image best, about 1 in a particle; the noise in it.

    The latter is the median of the standard deviations.

    Parameters
    ----------
    coefs : (n, p) as observed, of k = 0.
    mean : (p,), without CTF: :func:`mfvdm_fast.restore.wiener.estimate_mean`.
    seen : of these p coefficients.

    Examples
    --------
    >>> seen = Observation(np.array([[2.0]]), np.zeros(2, np.int64), np.ones(1))
    >>> contrast, noise = contrast_of_mean(np.array([[6], [0]], np.complex64), np.array([3.0]), seen)
    >>> contrast.tolist(), round(noise, 3)
    ([1.0, 0.0], 0.167)
    """
    power = np.maximum(seen.precision @ mean**2, np.finfo(np.float64).tiny)
    weight = seen.transfer * mean / seen.noise_power / power[:, None]
    contrast = np.empty(len(coefs))
    for rows, of_class in zip(seen.members(), weight, strict=True):
        contrast[rows] = coefs.real[rows] @ of_class
    return contrast, float(np.median(power[seen.group] ** -0.5))


def lacks_mean(contrast: FloatArray, noise: float, average: FloatArray) -> BoolArray:
    """Which images (n,) have next to nothing of the stack's mean, where there is a gap between them and the others.

    Picked between particles, cut by the box, an image may look like others of its kind and so have a good score; of the
    mean it has little. Where particles are alike enough for that, two normal distributions describe the contrasts: of
    the lower one are the images that lack the mean. None do where the two overlap (by more than BETWEEN of the lower
    one), where the mean of the lower one is above LACKING of the upper (views differ), or where half of its images are
    surely particles (``average`` above SURE: a view of its own). A rare view that has nothing in common with the
    others is not told from junk: of rods that stand on their ends in nine of ten images, those that lie.

    Measured, the overlap and the lower mean over the upper: real apoferritin (EMPIAR-10146, 1,000 images) .06 and .26;
    simulated stacks with 16 to 60 % of junk (300 to 2,000 particles of 48 and 64 px, octahedral, c4 and small, SNR .05
    and .1) 0 to .08 and -.07 to .04, which tells .93 to 1 of the images off centre (.12 to 1 by their scores) with .1 %
    of the good ones; or .17 to .7, where views differ (70S, globular, d2, elongated) or noise hides the gap (SNR .02).
    Clean ones (six particles, SNR .01 to .2): .75 and more, or a mean of .3 and more. A tail without a gap: .13 to .18.

    Parameters
    ----------
    contrast, noise : (n,), from :func:`contrast_of_mean`.
    average : (n,), log odds of a particle from :func:`~.score.average_over_views`.

    Examples
    --------
    >>> contrast = np.concatenate([np.linspace(-0.2, 0.2, 20), np.linspace(0.7, 1.3, 80)])
    >>> [int(lacks_mean(contrast[some:], 0.1, np.zeros(100 - some)).sum()) for some in (0, 20)]
    [20, 0]
    """
    none, middle = np.zeros(len(contrast), bool), float(np.median(contrast))
    if not middle > 0:
        return none
    usual = contrast < 2 * middle  # ice may have any contrast
    lower, means = _split(contrast[usual], middle, noise)
    lacking = none.copy()
    lacking[usual] = lower > 1 - BETWEEN
    lacking = (lacking & (contrast < means[1])) | (contrast < means[0])
    apart = np.minimum(lower, 1 - lower).sum() < BETWEEN * lower.sum() and means[0] < LACKING * means[1]
    return lacking if apart and np.median(average[lacking]) < SURE else none


def _split(values: FloatArray, upper: float, noise: float) -> tuple[FloatArray, FloatArray]:
    """How likely each of ``values`` (n,) is of the lower of two normal distributions, and the means of both.

    By expectation maximisation from 0 and ``upper``; neither is narrower than ``noise``, and none is of the lower one
    when few are.
    """
    means, deviations, shares = np.array([0, upper]), np.full(2, 0.3 * upper), np.array([0.2, 0.8])
    lower = np.zeros(len(values))
    for _ in range(STEPS):
        log_density = np.log(shares / deviations) - 0.5 * ((values[:, None] - means) / deviations) ** 2
        lower = 1 / (1 + np.exp(np.clip(log_density[:, 1] - log_density[:, 0], -LARGEST_ODDS, LARGEST_ODDS)))
        weights = np.stack([lower, 1 - lower], axis=1)
        counts = weights.sum(axis=0)
        if counts.min() < FEWEST_LACKING:
            return np.zeros(len(values)), np.array([-np.inf, upper])
        shares, means = counts / len(values), values @ weights / counts
        variances = np.sum(weights * (values[:, None] - means) ** 2, axis=0) / counts
        deviations = np.maximum(np.sqrt(variances), noise)
    return lower, means


def stands_out(average: FloatArray, least: float = 0.0) -> bool:
    """Whether FEWEST of the images or more have log odds ``average`` (n,) of a particle, not nothing, above ``least``.

    Measured, the quantile that must lie above it: -6.5 to -3.3 in stacks of 500 to 4,000 images of noise; of a 70S
    particle, 5.9 at SNR .005 (n = 2,000), 13.6 to 16.9 at SNR .01 (500 to 2,000), 37 at SNR .02 (500), 119 where 70 %
    of 2,000 images are junk (SNR .05).

    >>> stands_out(np.array([-5.0, 20.0, 30.0])), stands_out(np.array([-5.0, -6.0, -5.0]))
    (True, False)
    """
    return bool(np.quantile(average, 1 - FEWEST) > least)


def warn_if_noise(average: FloatArray, where: str = "") -> bool:
    """Warn (MfvdmWarning) and return True when fewer than FEWEST of the images are likelier a particle than nothing.

    ``average`` (n,) is from :func:`average_over_views`; ``where`` begins the message.

    >>> warn_if_noise(np.array([-5.0, 20.0, 30.0]))
    False
    """
    if stands_out(average):
        return False
    warnings.warn(
        f"{where}{np.mean(average > 0):.0%} of the images are likelier to show a particle than nothing but noise, so "
        "what is restored may be noise: check that the images hold particles and are not scaled or masked one by one, "
        "give --particle-diameter, or use more particles",
        MfvdmWarning,
        stacklevel=2,
    )
    return True
