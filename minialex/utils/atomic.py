"""Atomic file writing: after a kill at any moment the old file is there or the new one, complete.

The content goes to a temporary file in the same folder, is flushed to the disk, and is renamed.
"""

import errno
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Any

_STALE = 600.0  # seconds; a temporary file untouched for so long was left by a killed process


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file; raises OSError with a sentence, and leaves the old file as it was."""
    write_blocks(path, [content])


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file; undecodable bytes of file names are written as escapes."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_blocks(path: Path, blocks: Sequence[bytes | memoryview]) -> None:
    """`write_bytes` of the blocks one after the other, without joining them in memory."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        _remove_stale(path)
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


def _remove_stale(path: Path) -> None:
    """Remove the temporary files of killed processes that were writing this file."""
    for part in path.parent.glob(f".{escape(path.name)}.*.part"):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > _STALE:
                part.unlink()


def _sentence(path: Path, size: int, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", None)):
        return (
            f"no room to write {path}: it needs {size:,} bytes ({error.strerror}); the old file is "
            "intact, so free some space and resume"
        )
    return f"cannot write {path} ({error.strerror}): choose a folder you can write to"
