"""What the scores of a stack say: which images are junk, and how far each is trusted to have a say in others."""

from __future__ import annotations

import warnings

import numpy as np

from ..errors import MfvdmWarning
from ..records import FloatArray

JUNK_BELOW = -float(np.log(100))
DOUBT = float(np.log(3))  # in doubt an image is no junk: that must be three times as likely
LARGEST_ODDS = 50.0  # log, of junk: more is as certain
BISECTIONS = 50
FEWEST = 0.1  # of all images, that are likelier a particle than nothing where there are particles
CLEAR = 10.0  # log odds of these, where particles stand out so well that what does not is no particle


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
