"""Tensor maps (CUtensorMap): arrays of which the hardware copies boxes by itself (tma.cuh).

The driver makes them. CuPy has no function for that, so libcuda is called through its C interface.
"""

import ctypes
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

# bytes; the driver accepts 16, but CUDA's programming guide requires this of swizzled arrays
ALIGNED = 128
_POINTER, _INT = ctypes.c_void_p, ctypes.c_int
_ARGUMENTS = [
    *(_POINTER, _INT, ctypes.c_uint32, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER),
    *(_INT, _INT, _INT, _INT),
]
# of cuda.h
_TYPES = {"float16": 6, "bfloat16": 9}
_SWIZZLES = {64: 2, 128: 3}  # by the bytes of a box's rows
_NO_INTERLEAVE, _L2_OF_128_BYTES, _ZEROS_OUTSIDE = 0, 2, 0
_MAP = np.dtype([("opaque", np.uint64, 16)])


def _open() -> Any:
    """The driver's library, which CuPy has loaded; raises OSError if there is none."""
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")


@cache
def _encode() -> Any | None:
    """cuTensorMapEncodeTiled; None if the driver is older than CUDA 12.0."""
    try:
        found = _open().cuTensorMapEncodeTiled
    except (OSError, AttributeError):
        return None
    found.argtypes = _ARGUMENTS
    return found


def available() -> bool:
    """Whether the driver makes tensor maps."""
    return _encode() is not None


def of(array: Any, shape: Sequence[int], box: Sequence[int]) -> np.ndarray:
    """The tensor map of a contiguous array of 16-bit numbers, to be passed by value.

    `shape` and `box` begin with the innermost axis. A box's rows take 64 or 128 bytes, of which 16
    at a time are swizzled as wgmma.cuh reads them. Raises RuntimeError if the driver refuses.
    """
    encode = _encode()
    assert encode is not None
    memory = np.zeros(3, _MAP)  # of which one is aligned to 64 bytes
    skipped = -memory.ctypes.data % 64
    made = memory.view(np.uint8)[skipped : skipped + _MAP.itemsize].view(_MAP)
    item = array.itemsize
    steps = np.cumprod(np.array([item, *shape[:-1]], np.uint64), dtype=np.uint64)[1:]
    each = np.ones(len(shape), np.uint32)
    lists: list[np.ndarray] = [np.array(shape, np.uint64), steps, np.array(box, np.uint32), each]
    status = encode(
        *(made.ctypes.data, _TYPES[np.dtype(array.dtype).name], len(shape), array.data.ptr),
        *(one.ctypes.data for one in lists),
        *(_NO_INTERLEAVE, _SWIZZLES[box[0] * item], _L2_OF_128_BYTES, _ZEROS_OUTSIDE),
    )
    if status:
        raise RuntimeError(f"cuTensorMapEncodeTiled failed with status {status}")
    return made
