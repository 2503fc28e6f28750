"""Matrix products of parts of arrays in compiled code, by single-threaded SciPy BLAS.

Numba's `np.dot` needs contiguous arrays and returns a new one; this takes rows with any stride, can
accumulate into its result, and calls the same BLAS function.
"""

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.extending import overload
from numba.np.numpy_support import as_dtype

from minialex.utils.jit import compiled

_KINDS = {types.float32: ord("s"), types.float64: ord("d")}
_PLAIN, _TURNED = ord("n"), ord("t")


def _external(dtype):
    """xGEMM in Numba's runtime: `kind`, then Fortran's arguments, sizes by value."""
    pointer, size = types.CPointer(dtype), types.intp
    matrix = (pointer, size)
    arguments = (*(types.char,) * 3, *(size,) * 3, pointer, *matrix, *matrix, pointer, *matrix)
    return types.ExternalFunction("numba_xxgemm", types.intc(*arguments))


def _gemm(a, turn_a, b, turn_b, c, add, rows, columns, depth):
    raise NotImplementedError  # only compiled code calls it


@overload(_gemm)
def _compiled(a, turn_a, b, turn_b, c, add, rows, columns, depth):
    if a.dtype not in _KINDS or not a.dtype == b.dtype == c.dtype:
        raise TypingError("products take float32 or float64, all of the same type")
    external, kind = _external(a.dtype), _KINDS[a.dtype]
    zero_one = np.array([0, 1], as_dtype(a.dtype))  # a constant of the compiled code

    def call(a, turn_a, b, turn_b, c, add, rows, columns, depth):
        beta = zero_one[1:] if add else zero_one[:1]
        # Fortran's matrices are ours transposed: C = A B is Cᵀ = Bᵀ Aᵀ
        external(
            kind,
            _TURNED if turn_b else _PLAIN,
            _TURNED if turn_a else _PLAIN,
            columns,
            rows,
            depth,
            zero_one[1:].ctypes,
            b.ctypes,
            b.strides[0] // b.itemsize,
            a.ctypes,
            a.strides[0] // a.itemsize,
            beta.ctypes,
            c.ctypes,
            c.strides[0] // c.itemsize,
        )

    return call


@compiled
def multiply(a, b, c, add=False):
    """c (M, N) = a (M, L) b (L, N), or c += that; rows are contiguous."""
    _gemm(a, False, b, False, c, add, c.shape[0], c.shape[1], a.shape[1])


@compiled
def multiply_transposed(a, b, c, add=False):
    """c (M, N) = aᵀ b, from a (L, M) and b (L, N), or c += that."""
    _gemm(a, True, b, False, c, add, c.shape[0], c.shape[1], a.shape[0])


@compiled
def multiply_by_transposed(a, b, c, add=False):
    """c (M, N) = a bᵀ, from a (M, L) and b (N, L), or c += that."""
    _gemm(a, False, b, True, c, add, c.shape[0], c.shape[1], a.shape[1])
