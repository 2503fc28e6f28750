"""cuBLAS's matrix product through its C interface: CuPy's wrapper rejects capturing streams.

Library and handle are CuPy's. The workspace is set explicitly, as captured products require (cuBLAS
manual, "CUDA Graphs Support").
"""

import ctypes
import sys
from functools import cache
from typing import Any

from minialex.backends.cuda.device import library
from minialex.errors import InputError

_SCRATCH = 32 << 20  # bytes, what the manual advises for the largest cards
_POINTER, _INT = ctypes.c_void_p, ctypes.c_int
_ARGUMENTS = {
    "cublasSetStream_v2": [_POINTER, _POINTER],
    "cublasSetWorkspace_v2": [_POINTER, _POINTER, ctypes.c_size_t],
    "cublasGemmEx": [
        *(_POINTER, _INT, _INT, _INT, _INT, _INT, _POINTER, _POINTER, _INT, _INT),
        *(_POINTER, _INT, _INT, _POINTER, _POINTER, _INT, _INT, _INT, _INT),
    ],
}


def _open() -> Any:
    """The shared library that belongs to CuPy's CUDA; raises OSError if it cannot be found."""
    major = library().cuda.runtime.runtimeGetVersion() // 1000
    try:
        library().cuda.device.get_cublas_handle()  # now it is loaded
    except ImportError as error:
        raise InputError(
            f"CuPy cannot load cuBLAS ({str(error).splitlines()[0]}): install it with "
            f"\"pip install 'cupy-cuda{major}x[ctk]'\""
        ) from None
    name = f"cublas64_{major}.dll" if sys.platform == "win32" else f"libcublas.so.{major}"
    return ctypes.CDLL(name)


@cache
def interface() -> Any | None:
    """The library with its arguments declared; None if products cannot be captured."""
    try:
        found = _open()
    except (OSError, AttributeError):
        return None
    for name, arguments in _ARGUMENTS.items():
        getattr(found, name).argtypes = arguments
    return found


_same: dict[int, int] = {}  # captured streams, and the streams their graphs run in


def share_scratch(captured: int, stream: int) -> None:
    """Products captured on one stream will run on another, in order with its own work."""
    _same[captured] = stream


_scratch: dict[tuple[int, int], Any] = {}  # by device and stream, which may run concurrently


def _scratch_of(device: int, stream: int) -> Any:
    key = device, _same.get(stream, stream)
    if key not in _scratch:
        # not from the pool of a graph, which the scratch outlives
        _scratch[key] = library().get_default_memory_pool().malloc(_SCRATCH)
    return _scratch[key]


def forget(device: int, stream: int) -> None:
    """Release the scratch memory of a stream that has ended; CUDA may reuse its number."""
    _scratch.pop((device, stream), None)
    _same.pop(stream, None)


def gemm_ex(device: int, *arguments: Any) -> None:
    """cublasGemmEx on the current stream; `arguments` are its own after the handle."""
    found, cuda = interface(), library().cuda
    handle, stream = cuda.device.get_cublas_handle(), cuda.get_current_stream().ptr
    if found is None:
        cuda.cublas.gemmEx(handle, *arguments)
        return
    scratch = _scratch_of(device, stream)
    for name, given in (
        ("cublasSetStream_v2", (stream,)),
        ("cublasSetWorkspace_v2", (scratch.ptr, _SCRATCH)),  # setting a stream resets it
        ("cublasGemmEx", arguments),
    ):
        status = getattr(found, name)(handle, *given)
        if status:
            raise RuntimeError(f"{name} failed with status {status}")
