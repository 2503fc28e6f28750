"""Arrays in .npy files whose shape is known beforehand: written whole, mapped without parsing.

The header is always the same 128 bytes for the same shape and type, so it is compared, not parsed.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from minialex.errors import InputError

_START = b"\x93NUMPY\x01\x00"
_LENGTH = 128


def header(kind: str, shape: tuple[int, ...]) -> bytes:
    """The first 128 bytes of a .npy file, version 1.0."""
    dimensions = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': ({dimensions}), }}"
    length = _LENGTH - len(_START) - 2
    return _START + length.to_bytes(2, "little") + f"{text:<{length - 1}}\n".encode("ascii")


def write_array(path: Path, array: np.ndarray, kind: str) -> dict[str, Any]:
    """Write `array` as `kind`, whole or not at all; returns its entry for a manifest."""
    from minialex.utils.atomic import write_bytes

    content = header(kind, array.shape) + np.ascontiguousarray(array, kind).tobytes()
    write_bytes(path, content)
    digest = hashlib.sha256(content).hexdigest()
    return {"file": path.name, "bytes": len(content), "sha256": digest}


def map_array(path: Path, kind: str, shape: tuple[int, ...], with_header: bool) -> np.ndarray:
    """The array in a file of exactly this type and shape, mapped read-only.

    Raises InputError where the file holds anything else. `with_header` False is for bare bytes.
    """
    expected = header(kind, shape) if with_header else b""
    count = 1
    for length in shape:
        count *= length
    size = len(expected) + count * np.dtype(kind).itemsize
    with path.open("rb") as file:
        if file.read(len(expected)) != expected or path.stat().st_size != size:
            raise InputError(
                f"{str(path)!r} is not an array of {kind} with shape {shape}, as its manifest "
                "says: copy the whole folder again, or prepare it anew"
            )
        # a plain array on the mapping: memmap's own indexing takes several times as long
        return np.memmap(file, kind, "r", len(expected), shape).view(np.ndarray)
