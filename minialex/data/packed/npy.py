"""Arrays in .npy files whose type and shape are known: written atomically, memory-mapped."""

import hashlib
import io
import math
from pathlib import Path
from typing import Any

import numpy as np

from minialex.errors import InputError
from minialex.utils.atomic import write_bytes


def header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """The start of a .npy file, version 1.0; its length does not depend on the first dimension."""
    content = io.BytesIO()
    described = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(content, described)
    return content.getvalue()


def write_array(path: Path, array: np.ndarray, dtype: str) -> dict[str, Any]:
    """Write `array` as `dtype`, atomically; returns its entry for a manifest."""
    content = header(dtype, array.shape) + np.ascontiguousarray(array, dtype).tobytes()
    write_bytes(path, content)
    digest = hashlib.sha256(content).hexdigest()
    return {"file": path.name, "bytes": len(content), "sha256": digest}


def map_array(path: Path, dtype: str, shape: tuple[int, ...], with_header: bool) -> np.ndarray:
    """The array in a file of exactly this type and shape, memory-mapped for reading.

    Raises InputError where the file holds anything else. `with_header` False is for raw bytes.
    """
    with path.open("rb") as file:
        found = _read_header(file) if with_header else (shape, False, np.dtype(dtype))
        size = file.tell() + math.prod(shape) * np.dtype(dtype).itemsize
        if found != (shape, False, np.dtype(dtype)) or path.stat().st_size != size:
            raise InputError(
                f"{str(path)!r} is not an array of {dtype} with shape {shape}, as its manifest "
                "says: copy the whole folder again, or prepare it anew"
            )
        # a plain array on the mapping: memmap's own indexing takes several times as long
        return np.memmap(file, dtype, "r", file.tell(), shape).view(np.ndarray)


def _read_header(file: io.BufferedReader) -> tuple | None:
    """(shape, Fortran order, type), or None where the file has no valid header."""
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            return None
        return np.lib.format.read_array_header_1_0(file)
    except Exception:  # a damaged header is parsed as Python and can raise nearly anything
        return None
