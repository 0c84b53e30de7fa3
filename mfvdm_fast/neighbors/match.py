"""The best templates of every observed particle: all of them are compared, plain and mirrored, at any angle."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..errors import InputError, ParameterError
from ..kernels.matching import match_by_rotation
from ..kernels.pairs import Lanes, cluster_order, pack_lanes
from ..kernels.peaks import align_lanes, heights_of_lanes
from ..progress import Report
from ..records import Coefficients, FloatArray, IndexArray, NeighborTable, SteerableCoefficients
from ..threads import use_threads
from .cells import Cells
from .features import best_codes, check_features, check_n_neighbors

# Candidates on the grid of angles: twice as many as are asked for, and some. Those that are aligned exactly, after a
# parabola has told how high their peaks are: a few more than are asked for.
SPARE, SPARE_PART = 8, 8


def match_neighbors(
    observed: SteerableCoefficients,
    templates: SteerableCoefficients,
    particles: ArrayLike | None,
    n_neighbors: int,
    *,
    cells: Cells | None = None,
    threads: int | None = None,
    progress: Report | None = None,
) -> NeighborTable:
    """The templates that explain each observed particle best, whatever the in-plane rotation, plain and mirrored.

    The score of particle i with template j is max over alpha of Re[C_0 + 2 sum_k C_k exp(i k alpha)] with C_k = sum_q
    a_i,kq conj(b_j,kq), without the conjugate when mirrored (a observed, b templates). Unlike in
    :func:`mfvdm_fast.neighbors.search.search_neighbors` the two sides differ. When b holds the templates and a the
    observations as the CTF and the noise weigh them, with minus half the power of the templates in additional columns
    of k = 0, it is a log-likelihood; it may be negative.

    Without ``cells`` all templates are compared, with all components, at ``kernels.matching.grid_size(k_max)`` (at
    least 4 k_max) angles; the best 2 K + 8 of each particle are looked at more closely, and the K of largest exact
    score are kept. On simulated 70S particles at signal-to-noise ratios of .05 and .01 these are 99.6 to 99.9 % of the
    K best. (j plain) and (j mirrored) are different candidates; ties go to the smaller j, then to the plain one. No
    r x n array is held: the extra memory is about three times that of both features, and 120 r K bytes (250 with
    ``cells``).

    Parameters
    ----------
    observed : r particles; frequency 0 is real.
    templates : n particles in the same components, frequency 0 real.
    particles : (r,), the template that each observed particle must not be matched with: its own. All different. None
        when they may be matched with all.
    n_neighbors : K, fewer than n.
    cells : of the templates, from :func:`~.cells.divide_in_cells`: compare only those of the best cells, in less than
        half of the time.
    threads : all cores this process may use when left out; the result does not depend on it.
    progress : called as ``progress(done, total)``.

    Returns
    -------
    NeighborTable with a row for each observed particle, in the order of ``observed``; indices are those of templates.

    Raises
    ------
    InputError
        When features are not finite or do not fit their offsets, or the two sides differ in them.
    ParameterError
        When there are not more than K templates, or ``particles`` does not name a template for each row.

    Examples
    --------
    >>> import numpy as np
    >>> from mfvdm_fast.records import SteerableCoefficients
    >>> b = np.array([[1, np.exp(-0.5j), 1j * np.exp(-1j)], [1, 1, 1j], [1, 1, -0.5j]], np.complex64)
    >>> templates = SteerableCoefficients(b, np.array([0, 1, 2, 3]))
    >>> observed = SteerableCoefficients(b[1:], templates.offsets)
    >>> table = match_neighbors(observed, templates, [1, 2], 1)
    >>> table.indices.ravel(), table.mirrored.ravel(), table.angles.ravel().round(3)
    (array([0, 1]), array([False,  True]), array([-0.5,  0. ]))
    """
    rows, columns, offsets = _check_sides(observed, templates)
    own = (
        np.full(len(rows), -1)
        if particles is None
        else _check_particles(np.asarray(particles), len(rows), len(columns))
    )
    count = check_n_neighbors(n_neighbors, len(columns))
    n_best = min(2 * count + SPARE, 2 * (len(columns) - 1))
    with use_threads(threads):
        if cells is None:
            _, codes = match_by_rotation(rows, columns, offsets, own, n_best, progress)
        else:
            codes = cells.candidates(rows, columns, offsets, own, n_best, progress)
        # Similar templates side by side, and similar rows after each other: templates are then found in the cache.
        column_order = cluster_order(columns) if cells is None else cells.members >> 1
        place = np.argsort(column_order)
        row_order = np.argsort(place[own] if particles is not None else place[codes[:, 0] // 2], kind="stable")
        lanes = pack_lanes([(rows, row_order), (columns, column_order)], offsets)
        codes, angles, scores = _best_of(codes[row_order], count, lanes, observed.k_max, len(rows) + place)
    back = np.argsort(row_order)
    return NeighborTable(codes[back] // 2, codes[back] % 2 == 1, angles[back], scores[back])


def _best_of(
    codes: IndexArray, count: int, lanes: Lanes, k_max: int, place: IndexArray
) -> tuple[IndexArray, FloatArray, FloatArray]:
    """The ``count`` best of the candidates of each row by exact score: codes, angles, scores.

    Row i stands at i in ``lanes``, template j at ``place[j]``.
    """
    heights = heights_of_lanes(lanes, k_max, np.where(codes < 0, -1, place[codes >> 1]), (codes & 1).astype(bool))
    codes, _ = best_codes(codes, heights, count + count // SPARE_PART + SPARE)
    angles, scores = align_lanes(lanes, k_max, place[codes >> 1], (codes & 1).astype(bool))
    codes, order = best_codes(codes, scores, count)
    return codes, np.take_along_axis(angles, order, axis=1), np.take_along_axis(scores, order, axis=1)


def _check_sides(
    observed: SteerableCoefficients, templates: SteerableCoefficients
) -> tuple[Coefficients, Coefficients, IndexArray]:
    """Both features as kernels want them, and their offsets."""
    checked = []
    for name, side in (("observed", observed), ("templates", templates)):
        try:
            checked.append(check_features(side))
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
    (rows, offsets), (columns, other) = checked
    if not np.array_equal(offsets, other):
        raise InputError(
            f"observed has offsets {offsets.tolist()} and templates {other.tolist()}; give both in the same components"
        )
    return rows, columns, offsets


def _check_particles(particles: IndexArray, n_rows: int, n_templates: int) -> IndexArray:
    if particles.shape != (n_rows,) or particles.dtype.kind not in "iu":
        raise ParameterError(
            f"particles must be {n_rows} whole numbers, one for each row of observed, got shape {particles.shape} of "
            f"{particles.dtype}; give the template that belongs to each row"
        )
    outside = np.flatnonzero((particles < 0) | (particles >= n_templates))
    if len(outside):
        raise ParameterError(
            f"particles[{outside[0]}] is {particles[outside[0]]}, but templates are numbered 0 to {n_templates - 1}; "
            "give the template that belongs to each row"
        )
    values, counts = np.unique(particles, return_counts=True)
    if counts.max(initial=1) > 1:
        raise ParameterError(
            f"particles names {values[np.argmax(counts)]} {counts.max()} times; give every observed particle once"
        )
    return particles.astype(np.int64)
