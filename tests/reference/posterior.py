"""The mean over the matches of one particle at a time, straight from its definition."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def weights_of(scores: Array) -> Array:
    """(K,) of one particle: the likelihoods, to the power of 1/2, over their sum."""
    likelihoods = np.array([np.exp((score - max(scores)) / 2) for score in scores])
    return np.asarray(likelihoods / likelihoods.sum())


def mean_of_matches(x: Array, k: Array, table: Any) -> Array:
    """(n, P) of ``x`` (n, P), ``k`` (P,)."""
    found = np.zeros(x.shape, np.complex128)
    for i in range(len(x)):
        for place, weight in enumerate(weights_of(table.scores[i])):
            other = x[table.indices[i, place]]
            other = other.conj() if table.mirrored[i, place] else other
            found[i] += weight * np.exp(-1j * k * table.angles[i, place]) * other
    return found


def shrunk(values: Array, noise: Array) -> Array:
    """Posterior means of values of unknown variance, less their median."""
    deviation = values - np.median(values)
    variance = (1.4826 * np.median(abs(deviation))) ** 2 - np.median(noise)
    return np.asarray(deviation / (1 + noise / variance)) if variance > 0 else np.zeros(len(values))


def posterior_means(x: Array, y: Array | None, h: Array, power: Array, k: Array, table: Any, here: Array) -> Array:
    """(n, P) of restored ``x`` and observed ``y`` (n, P), ``h`` (n, P), ``power`` (P,) of the noise.

    Without ``y`` contrasts are even and matches of the same view.
    """
    mean = mean_of_matches(x, k, table)
    count = np.array([1 / (weights_of(scores) ** 2).sum() for scores in table.scores])
    part = count / table.scores.shape[1]
    wide = np.where(part < 0.5, 0, np.where(part > 0.75, 1, 4 * part - 2))
    share = 3 * here / (3 * here + count)
    own, contrast = x, np.ones(len(x))
    if y is not None:

        def inner(a: Array, b: Array) -> Array:
            return np.asarray(((a * b.conj()).real * np.where(k == 0, 1, 2) / power).sum(axis=1))

        noise = 1 / inner(h * mean, h * mean)
        fitted, in_own = inner(y, h * mean) * noise, inner(h * x, h * mean) * noise
        middle = np.median(fitted)
        contrast = min(middle, 1) + shrunk(fitted, noise) / max(middle, 1)
        contrast = 1 - here + here * np.where(contrast < 0, 0, contrast)
        own = x + (here * shrunk(fitted / max(middle, 1) - in_own, noise))[:, None] * mean
        apart = h * (own - contrast[:, None] * mean)
        alone = here * (1 - 40 / inner(apart, apart))
        share = np.where(alone > share, alone, share)
    spread = (1 - wide)[:, None] * mean + wide[:, None] * mean_of_matches(mean, k, table)
    return np.asarray(share[:, None] * own + ((1 - share) * contrast)[:, None] * spread)
