"""State to and from disk: safetensors, whole or not at all.

A file is written beside its place, flushed to the disk, and renamed into it, so that a kill at any
moment leaves the old file or the new one. Nothing in a file is ever executed.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from minialex.errors import InputError

_KEY = "minialex"
FORMAT = 1


def save(path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, Any]) -> None:
    """Write arrays and JSON-able metadata as one safetensors file."""
    from safetensors.numpy import save as to_bytes

    header = {_KEY: json.dumps({"format": FORMAT, **metadata})}
    ordered = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    _write(Path(path), to_bytes(ordered, header))


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the metadata of a file that `save` wrote.

    Raises InputError for anything else, FileNotFoundError if there is nothing.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weight file {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(_KEY)
            if text is None:
                raise InputError(f"{path} is a safetensors file, but not of minialex")
            metadata = json.loads(text)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except InputError:
        raise
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged or no weight file ({error})") from None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise InputError(f"{path} has a format this version of minialex does not know")
    return tensors, metadata


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    _write(Path(path), text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def _write(path: Path, content: bytes) -> None:
    name = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(name, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except OSError as error:
        name.unlink(missing_ok=True)
        raise OSError(
            error.errno,
            f"cannot write {path} ({len(content):,} bytes: {error.strerror}); what was there is "
            "intact: free some space or choose another folder",
        ) from None
    except BaseException:
        name.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the rename itself must reach the disk; Windows has no such call
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
