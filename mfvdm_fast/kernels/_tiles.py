"""Tiles (pairs of groups of particles) for threads that take them as they come; no group is in two hands at once.

    claims = free_claims(tiles, n_groups)
    for _ in prange(threads):
        t = next_tile(tiles, claims, -1)
        while t >= 0:
            ...
            t = next_tile(tiles, claims, t)

does every tile, each by one thread, which may write to the rows of both groups. Works inside ``kernel(parallel=True)``
functions only.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from ._jit import kernel


class Claims(NamedTuple):
    """Which tiles are taken, and which groups are in use."""

    lock: NDArray[np.int64]  # (1,): 1 while a thread looks at the others
    first: NDArray[np.int64]  # (1,): all tiles before this one are taken
    taken: NDArray[np.bool_]  # (n_tiles,)
    busy: NDArray[np.bool_]  # (n_groups,)


def free_claims(tiles: NDArray[np.int64], n_groups: int) -> Claims:
    """Nothing is taken yet."""
    one = np.zeros(1, np.int64)
    return Claims(one, one.copy(), np.zeros(len(tiles), np.bool_), np.zeros(n_groups, np.bool_))


def _atomic(operation: str, ordering: str) -> Any:
    """Code for an atomic operation on element 0 of an int64 array."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        value = ir.Constant(ir.IntType(64), 1 if operation == "lock" else 0)
        return builder.atomic_rmw("xchg", data, value, ordering)

    return codegen


@intrinsic
def _lock(typingctx: Any, place: Any) -> Any:
    """Put 1 there; what was there before. What other threads wrote before they unlocked is seen from here on."""
    return types.int64(place), _atomic("lock", "acquire")


@intrinsic
def _unlock(typingctx: Any, place: Any) -> Any:
    """Put 0 there."""
    return types.int64(place), _atomic("unlock", "release")


@kernel
def next_tile(tiles: NDArray[np.int64], claims: Claims, done: int) -> int:
    """A tile for a thread that has done tile ``done`` (-1: none); -1 when none is left, or none whose groups are free.

    In the latter case those who hold the groups do the rest: it happens near the end alone, where there are many more
    groups than threads.
    """
    while _lock(claims.lock) == 1:
        pass
    if done >= 0:
        claims.busy[tiles[done, 0]] = claims.busy[tiles[done, 1]] = False
    t = claims.first[0]
    while t < len(tiles) and claims.taken[t]:
        t += 1
    claims.first[0] = t
    while t < len(tiles) and (claims.taken[t] or claims.busy[tiles[t, 0]] or claims.busy[tiles[t, 1]]):
        t += 1
    found = -1
    if t < len(tiles):
        claims.taken[t] = claims.busy[tiles[t, 0]] = claims.busy[tiles[t, 1]] = True
        found = t
    _unlock(claims.lock)
    return found
