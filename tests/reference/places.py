"""Where a particle stands beside its templates: one pair and one place of a fine grid at a time."""

from __future__ import annotations

import numpy as np

Term = tuple[np.ndarray, tuple[np.ndarray, ...], np.ndarray]


def log_likelihood(term: Term, k: np.ndarray, move: np.ndarray) -> float:
    """What a move (x, y) of the template adds to log L, to second order.

    ``term``: h y / s^2 (P,) turned back by the angle of the match (and mirrored), the gradients (P,) of the template,
    and h^2 / s^2 (P,). ``k`` (P,) are the angular frequencies.
    """
    matched, slopes, precision = term
    change = -move[0] * slopes[0] - move[1] * slopes[1]
    weight = np.where(k == 0, 1.0, 2.0)
    return float((weight * ((matched * change.conj()).real - 0.5 * precision * np.abs(change) ** 2)).sum())


def mean_place(scores: np.ndarray, terms: list[Term], k: np.ndarray, turns: np.ndarray, std: float) -> np.ndarray:
    """Posterior mean (x, y) over the pairs of one particle, by sums over a grid of places."""
    line = np.linspace(-5 * std, 5 * std, 81)
    total, mean = 0.0, np.zeros(2)
    top = max(scores)
    for score, term, turn in zip(scores, terms, turns, strict=True):
        for x in line:
            for y in line:
                move = np.array([x, y])
                log_prior = -(x**2 + y**2) / (2 * std**2)
                weight = np.exp(score - top + log_prior + log_likelihood(term, k, move))
                total += weight
                mean += weight * (turn @ move)
    return mean / total
