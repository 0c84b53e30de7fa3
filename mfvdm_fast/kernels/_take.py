"""The next piece of work, for threads that take pieces as they come: none waits for another that was held up.

``prange`` hands each thread its share of a loop beforehand. Where pieces differ, or other programs use the machine,

    counter = np.zeros(1, np.int64)
    for _ in prange(threads):
        i = take(counter)
        while i < n:
            ...
            i = take(counter)

does all i < n, each by one thread. Works inside ``kernel(parallel=True)`` functions only.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def take(typingctx: Any, counter: Any) -> Any:
    """``counter[0]`` of an int64 array, raised by one for whoever comes next."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", data, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(counter), codegen
