"""Members of cells in the order in which each row would look at them."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from ._jit import kernel

Indices = NDArray[np.int64]


@kernel(parallel=True)
def list_members(leads: Indices, starts: Indices, members: Indices, own: Indices, out: Indices) -> None:
    """Codes of the members of the cells that ``leads`` name, one cell after the other, until a row of ``out`` is full.

    Parameters
    ----------
    leads : (r, q) -- 2 c + m for cell c, mirrored (m = 1) or not; those of a row are all different.
    starts : (n_cells + 1,), members : (n,) -- cell c holds ``members[starts[c]:starts[c + 1]]``, of which 2 j + m is
        template j, mirrored against the others of the cell or not.
    own : (r,) -- the template that a row leaves out, or -1.
    out : (r, size) -- codes 2 j + m, as ``kernels.matching`` has them; -1 where there are no more.
    """
    for i in prange(out.shape[0]):
        count = 0
        for lead in leads[i]:
            for e in range(starts[lead // 2], starts[lead // 2 + 1]):
                if count < out.shape[1] and members[e] // 2 != own[i]:
                    out[i, count] = members[e] ^ (lead & 1)
                    count += 1
        out[i, count:] = -1
