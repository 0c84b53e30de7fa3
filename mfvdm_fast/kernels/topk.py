"""Running lists of the K best candidates per row: a heap with the worst kept candidate at the root.

A candidate is a float32 score and an int64 code; a larger score is better and ties go to the smaller code, so that
what is kept does not depend on the order in which candidates arrive. An empty place has score -inf and code EMPTY.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from ._jit import kernel

EMPTY = np.iinfo(np.int64).max


class Lists(NamedTuple):
    """One list per row; ``limits`` is what a score must reach to enter."""

    scores: NDArray[np.float32]  # (n_rows, K)
    codes: NDArray[np.int64]  # (n_rows, K)
    limits: NDArray[np.float32]  # (n_rows,): scores[:, 0]


def empty_lists(n_rows: int, n_best: int) -> Lists:
    """Lists in which nothing has been put."""
    return Lists(
        np.full((n_rows, n_best), -np.inf, np.float32),
        np.full((n_rows, n_best), EMPTY, np.int64),
        np.full(n_rows, -np.inf, np.float32),
    )


@kernel
def _sift(scores: NDArray[np.float32], codes: NDArray[np.int64], size: int) -> None:
    """Let the root sink to its place among the first ``size`` entries."""
    score, code = scores[0], codes[0]
    at = 0
    while 2 * at + 1 < size:
        child, other = 2 * at + 1, 2 * at + 2
        if other < size and (
            scores[other] < scores[child] or (scores[other] == scores[child] and codes[other] > codes[child])
        ):
            child = other
        if score < scores[child] or (score == scores[child] and code > codes[child]):
            break
        scores[at], codes[at] = scores[child], codes[child]
        at = child
    scores[at], codes[at] = score, code


@kernel
def push(lists: Lists, row: int, score: float, code: int) -> None:
    """Put one candidate into the list of ``row`` if it beats the worst one kept."""
    if score >= lists.limits[row]:
        scores, codes = lists.scores[row], lists.codes[row]
        if score > scores[0] or code < codes[0]:
            scores[0], codes[0] = score, code
            _sift(scores, codes, scores.size)
            lists.limits[row] = scores[0]


@kernel(parallel=True)
def sort_lists(scores: NDArray[np.float32], codes: NDArray[np.int64]) -> None:
    """Sort every list (row) in place, best candidate first, ties by smaller code."""
    for row in prange(scores.shape[0]):
        s, c = scores[row], codes[row]
        for last in range(s.size - 1, 0, -1):
            s[0], s[last] = s[last], s[0]
            c[0], c[last] = c[last], c[0]
            _sift(s, c, last)


@kernel(parallel=True)
def best_places(scores: NDArray[np.floating], codes: NDArray[np.int64], best: NDArray[np.int64]) -> None:
    """Where in each row the ``best.shape[1]`` best candidates stand, best first, ties by smaller code and place."""
    count = best.shape[1]
    for row in prange(scores.shape[0]):
        kept = np.empty(count, scores.dtype)
        held = 0
        for place in range(scores.shape[1]):
            score, code = scores[row, place], codes[row, place]
            if held == count and (score < kept[-1] or (score == kept[-1] and code >= codes[row, best[row, count - 1]])):
                continue
            held = min(held + 1, count)
            at = held - 1
            while at and (score > kept[at - 1] or (score == kept[at - 1] and code < codes[row, best[row, at - 1]])):
                kept[at], best[row, at] = kept[at - 1], best[row, at - 1]
                at -= 1
            kept[at], best[row, at] = score, place
