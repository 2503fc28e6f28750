"""State to and from disk: safetensors, whole or not at all.

A file is written beside its place, flushed to the disk, and renamed into it, so that a kill at any
moment leaves the old file or the new one. Nothing in a file is ever executed.

The safetensors library reads, but does not write: it would first copy all arrays in memory, twice
(1 GB for the paper's weights and velocities), where writing needs no copy at all.
"""

import errno
import json
import os
import time
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np

from minialex.errors import InputError

FORMAT = 1

_KEY = "minialex"
_STALE = 600.0  # seconds; a part file untouched for so long was left by a killed process
_DTYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "int32": "I32",
    "int64": "I64",
    "uint32": "U32",
    "uint64": "U64",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
}


def save(path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, Any]) -> None:
    """Write arrays and JSON-able metadata as one safetensors file.

    Raises OSError, in a sentence, if that fails: then the file that was there is as it was.
    """
    header: dict[str, Any] = {
        "__metadata__": {_KEY: json.dumps({"format": FORMAT, **metadata})},
    }
    # wide numbers first, as the library does: each array then starts at a multiple of its itemsize
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    numbers, end = [], 0
    for name in names:
        array = np.asarray(tensors[name], tensors[name].dtype.newbyteorder("<"), order="C")
        start, end = end, end + array.nbytes
        kind = _DTYPES[array.dtype.name]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [start, end]}
        numbers.append(array.reshape(-1).view(np.uint8).data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    _write(Path(path), [len(text).to_bytes(8, "little"), text, *numbers])


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the metadata of a file that `save` wrote.

    Raises InputError for anything else, FileNotFoundError if there is nothing.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a weight file")
    if not path.exists():
        raise FileNotFoundError(f"no weight file {path}")
    path.open("rb").close()  # a file that may not be read is not damaged
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(_KEY)
            if text is None:
                raise InputError(f"{path} is a safetensors file, but not one of minialex")
            metadata = json.loads(text)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except InputError:
        raise
    except (SafetensorError, ValueError, LookupError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is damaged or no weight file ({reason})") from None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise InputError(f"{path} has a format this version of minialex does not know: update it")
    return tensors, metadata


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write any file, whole or not at all; raises OSError in a sentence."""
    _write(Path(path), [content])


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all; bytes of file names that are no text are spelt."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def _write(path: Path, blocks: list[bytes | memoryview]) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        _sweep(path)
        with open(part, "wb") as file:
            for block in blocks:
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            size = sum(map(len, blocks))
            raise OSError(error.errno, _sentence(path, size, error)) from None
        raise
    if os.name == "posix":  # the rename itself must reach the disk; Windows has no such call
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _sweep(path: Path) -> None:
    """Remove what killed processes left of earlier attempts at this file."""
    for part in path.parent.glob(f".{escape(path.name)}.*.part"):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > _STALE:
                part.unlink()


def _sentence(path: Path, size: int, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", None)):
        return (
            f"no room to write {path}: it takes {size:,} bytes ({error.strerror}); what was there "
            "is intact, so free some space and go on"
        )
    return f"cannot write {path} ({error.strerror}): choose a folder that can be written to"
