"""How far neighbour lists agree with each other: what tells good lists from poor ones when nobody knows the truth."""

from __future__ import annotations

import numpy as np

from ..records import IndexArray, NeighborTable

SAMPLE = 50_000  # triangles that are looked at


def measure_closure(table: NeighborTable, seed: int = 0, rows: IndexArray | None = None) -> float:
    """The share of neighbour pairs that are neighbours of each other (closure of a sample of triangles).

    For j and l in the list of i, l is looked for in the list of j, mirrored where exactly one of them is. Lists of
    particles of the same view close; lists that noise has drawn do not.

    Parameters
    ----------
    table : neighbours of n particles.
    seed : of the sample.
    rows : particles i whose lists are looked at; all when left out.

    Returns
    -------
    Between 0 and 1; 0 for lists of one neighbour, and of no particles.

    Examples
    --------
    >>> ring = (np.arange(6)[:, None] + [[1, 2, 3, 4, 5]]) % 6  # everyone knows everyone
    >>> measure_closure(NeighborTable(ring, np.zeros((6, 5), bool), np.zeros((6, 5)), np.zeros((6, 5))))
    1.0
    """
    n, width = table.indices.shape
    if width < 2 or (rows is not None and not len(rows)):
        return 0.0
    rng = np.random.default_rng(seed)
    i, a = rng.integers(0, n if rows is None else len(rows), SAMPLE), rng.integers(0, width, SAMPLE)
    i = i if rows is None else rows[i]
    b = (a + rng.integers(1, width, SAMPLE)) % width
    j, other = table.indices[i, a], table.indices[i, b]
    mirrored = table.mirrored[i, a] != table.mirrored[i, b]
    found = (table.indices[j] == other[:, None]) & (table.mirrored[j] == mirrored[:, None])
    return float(found.any(axis=1).mean())
