"""Sixteen float32 numbers as one value inside kernels.

The compiler's own vectorizer gives up on short loops over several arrays, silently and by a factor of ten, so the
innermost loops of the all-pairs search are written with these. LLVM maps them to whatever the processor has (one
AVX-512 register, two of AVX2, four of NEON). All of it works inside ``kernel`` functions only:

``load(array, at)`` and ``store(array, at, v)`` (no bounds check), ``splat(scalar)``, ``+ - *``, ``fma(a, b, c)`` for
a * b + c, ``vabs``, ``vmax``, ``vmin``; scalars come from ``largest(v)``, ``total(v)`` and ``reaches(a, b)``
(an int64 with bit l set when a[l] >= b[l], read with ``lowest_bit(bits)`` and ``count_bits(bits)``).

Sixteen numbers are a cache line of most processors; outside kernels, ``empty_aligned(shape)`` makes an array that
begins on one.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model
from numpy.typing import NDArray

LANES = 16
CACHE_LINE = 64  # bytes
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INT32 = ir.IntType(32)


def empty_aligned(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A C-contiguous float32 array of this shape, not filled, that begins on a cache line.

    Large arrays of NumPy begin 16 bytes after one, so that every load of sixteen numbers meets two lines: kernels that
    read most of what they work on in that way take 5 to 15 % longer.

    >>> empty_aligned((3, 5)).ctypes.data % 64
    0
    """
    size = 4 * math.prod(shape)
    memory = np.empty(size + CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    return memory[start : start + size].view(np.float32).reshape(shape)


class Float32x16(types.Type):
    """Numba's type of the vectors."""

    def __init__(self) -> None:
        super().__init__("float32x16")


float32x16 = Float32x16()


@register_model(Float32x16)
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _VECTOR)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, at: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), _VECTOR.as_pointer())


@intrinsic
def load(typingctx: Any, array: Any, at: Any) -> Any:
    """``array.flat[at:at + 16]`` of a C-contiguous float32 array."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_pointer(context, builder, signature.args[0], *args), align=4)

    return float32x16(array, types.intp), codegen


@intrinsic
def store(typingctx: Any, array: Any, at: Any, value: Any) -> Any:
    """``array.flat[at:at + 16] = value`` of a C-contiguous float32 array."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _pointer(context, builder, signature.args[0], *args[:2]), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, float32x16), codegen


@intrinsic
def splat(typingctx: Any, value: Any) -> Any:
    """The same number in all places."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), args[0], ir.Constant(_INT32, 0))
        return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_INT32, LANES), [0] * LANES))

    return float32x16(types.float32), codegen


def _call(name: str, n_args: int) -> tuple[Any, Any]:
    """Signature and codegen of an LLVM intrinsic on whole vectors."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * n_args)
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"{name}.v{LANES}f32"), args)

    return float32x16(*[float32x16] * n_args), codegen


def _choose(comparison: str) -> tuple[Any, Any]:
    """Signature and codegen for the larger or smaller of two, place by place."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(comparison, *args), *args)

    return float32x16(float32x16, float32x16), codegen


def _reduce(step: Callable[[Any, Any, Any], Any]) -> tuple[Any, Any]:
    """Signature and codegen for the sixteen combined in halves: always the same order."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = args[0]
        for half in (8, 4, 2, 1):
            order = [(place + half) % LANES for place in range(LANES)]
            turned = builder.shuffle_vector(value, value, ir.Constant(ir.VectorType(_INT32, LANES), order))
            value = step(builder, value, turned)
        return builder.extract_element(value, ir.Constant(_INT32, 0))

    return types.float32(float32x16), codegen


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c."""
    return _call("llvm.fmuladd", 3)


@intrinsic
def vabs(typingctx: Any, a: Any) -> Any:
    """Absolute values."""
    return _call("llvm.fabs", 1)


@intrinsic
def vmax(typingctx: Any, a: Any, b: Any) -> Any:
    """The larger of each two."""
    return _choose(">")


@intrinsic
def vmin(typingctx: Any, a: Any, b: Any) -> Any:
    """The smaller of each two."""
    return _choose("<")


@intrinsic
def largest(typingctx: Any, a: Any) -> Any:
    """The largest of the sixteen."""
    return _reduce(lambda builder, x, y: builder.select(builder.fcmp_ordered(">", x, y), x, y))


@intrinsic
def total(typingctx: Any, a: Any) -> Any:
    """The sum of the sixteen."""
    return _reduce(lambda builder, x, y: builder.fadd(x, y))


@intrinsic
def reaches(typingctx: Any, a: Any, b: Any) -> Any:
    """Bit l of the answer says whether a[l] >= b[l]."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.bitcast(builder.fcmp_ordered(">=", *args), ir.IntType(LANES))
        return builder.zext(bits, ir.IntType(64))

    return types.int64(float32x16, float32x16), codegen


@intrinsic
def lowest_bit(typingctx: Any, bits: Any) -> Any:
    """Place of the lowest bit that is set; there must be one."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), codegen


@intrinsic
def count_bits(typingctx: Any, bits: Any) -> Any:
    """How many bits are set."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.int64), codegen


def _operator(symbol: Any, method: str) -> None:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return getattr(builder, method)(*args)

    @intrinsic
    def apply(typingctx: Any, a: Any, b: Any) -> Any:
        return float32x16(float32x16, float32x16), codegen

    @overload(symbol, inline="always")
    def choose(a: Any, b: Any) -> Any:
        def both(a: Any, b: Any) -> Any:
            return apply(a, b)

        return both if a == float32x16 and b == float32x16 else None


for _symbol, _method in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):
    _operator(_symbol, _method)
