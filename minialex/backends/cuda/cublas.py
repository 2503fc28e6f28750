"""cuBLAS's matrix product through its C interface: CuPy's call refuses a stream under capture.

Library and handle are CuPy's. Its workspace is set explicitly, as captured products need (cuBLAS
manual, "CUDA Graphs Support").
"""

import ctypes
import sys
from functools import cache
from typing import Any

from minialex.backends.cuda.device import library

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
    """The shared library that belongs to CuPy's CUDA; raises OSError if it is not to be found."""
    major = library().cuda.runtime.runtimeGetVersion() // 1000
    library().cuda.device.get_cublas_handle()  # now it is loaded
    name = f"cublas64_{major}.dll" if sys.platform == "win32" else f"libcublas.so.{major}"
    return ctypes.CDLL(name)


@cache
def interface() -> Any | None:
    """The library with its arguments declared, or None: then products cannot be captured."""
    try:
        found = _open()
    except (OSError, AttributeError):
        return None
    for name, arguments in _ARGUMENTS.items():
        getattr(found, name).argtypes = arguments
    return found


_same: dict[int, int] = {}  # streams that are captured, and the ones their graphs run in


def share_scratch(captured: int, stream: int) -> None:
    """Products captured on one stream run on another, after and before its own."""
    _same[captured] = stream


_scratch: dict[tuple[int, int], Any] = {}  # by device and stream, which may run side by side


def _scratch_of(device: int, stream: int) -> Any:
    key = device, _same.get(stream, stream)
    if key not in _scratch:
        _scratch[key] = library().cuda.alloc(_SCRATCH)
    return _scratch[key]


def forget(device: int, stream: int) -> None:
    """A stream has ended: give its scratch memory back; CUDA may use its number again."""
    _scratch.pop((device, stream), None)
    _same.pop(stream, None)


def gemm_ex(device: int, *arguments: Any) -> None:
    """cublasGemmEx on the current stream; `arguments` as its own after the handle."""
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
