"""Templates in cells of similar ones, so that a particle need not be compared with all of them.

Templates vary smoothly with the view. Each particle is compared with one template of every cell, its pivot, and with
all templates of those cells only whose pivots explain it best: two small searches instead of a large one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..kernels.cells import list_members
from ..kernels.matching import match_by_rotation
from ..kernels.pairs import cluster_order, pack_lanes
from ..kernels.peaks import align_lanes
from ..progress import Report
from ..records import Coefficients, FloatArray, IndexArray, SteerableCoefficients
from ..threads import use_threads
from .features import best_codes

PER_CELL = 10  # templates, on average
LOOKED_AT = 6  # pivots, the nearest at the angles of the grid, which are too few to tell which of them is nearest
# Templates that each particle is compared with, for each of the best on the grid of angles that are asked for. With 432
# of 10,000 simulated 70S particles, 99.9 % of the best 50 are found at SNR .05, 98 % in coloured noise, and 93 % at
# .01, where the likelihood is so flat that those found instead of the missed ones are less likely by .06 in log L.
CANDIDATES = 4


@dataclass(frozen=True)
class Cells:
    """Which templates are alike."""

    pivots: IndexArray  # (c,) templates
    starts: IndexArray  # (c + 1,)
    # (n,): cell c holds members[starts[c] : starts[c + 1]]; 2 j is template j, 2 j + 1 the mirror image of template j
    members: IndexArray

    def candidates(
        self,
        observed: Coefficients,
        templates: Coefficients,
        offsets: IndexArray,
        own: IndexArray,
        n_best: int,
        progress: Report | None = None,
    ) -> IndexArray:
        """Codes (r, CANDIDATES n_best) of the templates in the best cells of each observed particle, or all codes.

        2 j is template j, 2 j + 1 the same mirrored; -1 where a row has no more, but at least ``n_best`` are there:
        where the best cells are as small as that, all templates are compared. ``own`` (r,) is the template that a
        particle is not compared with, or -1. Features (r, p) and (n, p) complex64 with ``offsets`` as in
        :func:`mfvdm_fast.kernels.matching.match_by_rotation`.
        """
        size = min(CANDIDATES * n_best, 2 * len(self.members) - 2)
        # Twice as many cells as hold so many on average: the best ones may be small.
        n_cells = min(-(-2 * size // PER_CELL), 2 * len(self.pivots))
        nobody = np.full(len(own), -1)
        _, leads = match_by_rotation(observed, templates[self.pivots], offsets, nobody, n_cells, progress)
        codes = np.empty((len(own), size), np.int64)
        list_members(leads, self.starts, self.members, own, codes)
        few = np.flatnonzero(codes[:, n_best - 1] < 0)
        if len(few):
            codes[few, :n_best] = match_by_rotation(observed[few], templates, offsets, own[few], n_best)[1]
        return codes


def divide_in_cells(templates: SteerableCoefficients, power: FloatArray, threads: int | None = None) -> Cells:
    """Cells of about PER_CELL templates: each belongs to the pivot nearest to it, turned and mirrored as fits best.

    Templates are near to each other when observed particles score alike with both: the distance is sum_c
    ``power``_c |b_c - b'_c|^2 with the mean squares ``power`` (p,) of the observed features. Memory: four times the
    features.

    >>> b = np.exp(1j * np.linspace(0, 6, 40))[:, None] * [1, 2]
    >>> cells = divide_in_cells(SteerableCoefficients(b.astype(np.complex64), np.array([0, 0, 1, 2])), np.ones(2))
    >>> len(cells.pivots), sorted(cells.members // 2) == list(range(40))
    (4, True)
    """
    features, offsets = np.ascontiguousarray(templates.packed, np.complex64), templates.offsets.astype(np.int64)
    n, zero = len(features), int(offsets[1])
    with use_threads(threads):
        pivots = cluster_order(features)[PER_CELL // 2 :: PER_CELL]  # in this order cells side by side are alike
        # -|b - b'|^2 / 2, but for |b|^2, is a score of the form that is searched, with the power of b' beside k = 0.
        weighed = features * power.astype(np.float32)
        twice = np.where(np.arange(features.shape[1]) < zero, 1.0, 2.0)
        squares = np.einsum("ij,ij,j->i", weighed, features.conj(), twice).real
        rows = np.insert(weighed, zero, -0.5, axis=1)
        columns = np.insert(features[pivots], zero, squares[pivots], axis=1)
        wider = np.append(0, offsets[1:] + 1)
        _, codes = match_by_rotation(rows, columns, wider, np.full(n, -1), min(LOOKED_AT, 2 * len(pivots)))
        lanes, k_max = pack_lanes([(rows, None), (columns, None)], wider), len(offsets) - 2
        _, scores = align_lanes(lanes, k_max, n + codes // 2, codes % 2 == 1)
        code = best_codes(codes, scores, 1)[0][:, 0]
    order = np.argsort(code // 2, kind="stable")
    starts = np.append(0, np.cumsum(np.bincount(code // 2, minlength=len(pivots))))
    return Cells(pivots, starts, 2 * order + (code[order] & 1))
