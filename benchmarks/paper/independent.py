"""How well restored particles agree with originals that had no part in them: no self-agreement can raise it.

Every original of the one half of a stack is given the restored particle of the other half that fits it best, by every
other pair of rings of radial frequency. In the rings between, where its noise is independent of that choice, it is then
compared with that restored particle seen through its CTF.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from methods import Expanded, steer

from mfvdm_fast.neighbors.match import match_neighbors
from mfvdm_fast.records import BoolArray, Coefficients, FloatArray, IndexArray, SteerableCoefficients
from mfvdm_fast.restore.wiener import estimate_mean

RINGS = 2  # next to each other, for the choice or for the comparison


def independent_correlation(
    given: Expanded, restored: Coefficients, side: BoolArray, threads: int | None = None
) -> tuple[FloatArray, FloatArray]:
    """Frequencies (cycles/px), and the correlation of originals with what they are given, by ring.

    ``restored`` (n, P), of mean 0, each half (``side``, (n,)) restored by itself. The mean of all originals, which any
    restoration has, is taken out. Originals are nearly all noise: 1 is out of reach, methods are compared.
    """
    basis, seen = given.basis, given.seen
    first = int(basis.offsets[1])
    h = seen.transfer.astype(np.float32)
    originals = given.raw.packed.copy()
    mean = estimate_mean(given.raw[0], seen.columns(0, first)).astype(np.float32)
    originals[:, :first] -= h[seen.group, :first] * mean
    ring = np.rint(basis.radial_nodes * basis.box_size).astype(int)
    weight = np.where(np.arange(basis.n_coefs) < first, 1.0, 2.0)
    sums = np.zeros((3, ring.max() + 1))
    for parity in (0, 1):
        chosen_by = (ring // RINGS) % 2 == parity
        for half in (side, ~side):
            rows = np.flatnonzero(~half)
            transfer = h[seen.group[rows]]
            templates = restored[half]
            norm = (weight * seen.precision.mean(axis=0) * np.abs(templates) ** 2)[:, chosen_by].sum(axis=1)
            scaled = templates / np.sqrt(np.maximum(norm, 1e-30))[:, None]
            observed = originals[rows] * transfer / seen.noise_power
            found = match_neighbors(
                _columns(observed, basis.offsets, chosen_by),
                _columns(scaled, basis.offsets, chosen_by),
                None,
                1,
                threads=threads,
            )
            fitting = steer(templates[found.indices[:, 0]], basis.offsets, found.mirrored[:, 0], found.angles[:, 0])
            fitting = np.where(chosen_by, 0, fitting * transfer)
            left = np.where(chosen_by, 0, originals[rows])
            parts = ((fitting * left.conj()).real, np.abs(fitting) ** 2, np.abs(left) ** 2)
            sums += [np.bincount(ring, (weight * part).sum(axis=0)) for part in parts]
    filled = np.flatnonzero(np.bincount(ring))
    cross, one, other = sums[:, filled]
    return filled / basis.box_size, cross / np.sqrt(np.maximum(one * other, 1e-30))


def _columns(packed: Coefficients, offsets: IndexArray, kept: BoolArray) -> SteerableCoefficients:
    """Some of the coefficients, with their offsets."""
    counts = [int(kept[start:stop].sum()) for start, stop in pairwise(offsets)]
    return SteerableCoefficients(
        np.ascontiguousarray(packed[:, kept], dtype=np.complex64), np.concatenate([[0], np.cumsum(counts)])
    )
