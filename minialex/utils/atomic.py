"""Atomic file writing: a process killed at any time leaves the old or the new file, complete.

The content goes to a temporary file in the same folder, is flushed to the disk, and is renamed.
"""

import errno
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any, TextIO

_STALE = 600.0  # seconds; a temporary file untouched for so long was left by a killed process
_PART = re.compile(r"\..+\.(?P<host>[^.]*?)(-t\d+)?-(?P<pid>\d+)\.part")
# The errors of fsync and open for a folder on shares that cannot do it: VirtualBox, CIFS, WSL
_NO_FOLDER_SYNC = {
    *(errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS),
    *(errno.EACCES, errno.EPERM, errno.EBADF, errno.EISDIR),
}
_NO_ROOM = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", None))


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
    try:
        remove_stale(path.parent, path.name)
        with _replacement(path, "wb") as file:
            for block in blocks:
                file.write(block)
    except OSError as error:
        raise OSError(error.errno, _sentence(path, sum(map(len, blocks)), error)) from None
    _sync_folder(path.parent)


def require_writable(path: Path) -> None:
    """Raise an OSError with a sentence if `path` cannot be written, before the work for it."""
    part = _part(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        part.touch()
        part.unlink()
    except OSError as error:
        raise OSError(error.errno, _sentence(path, None, error)) from None


@contextmanager
def text_file(path: Path) -> Iterator[TextIO]:
    """A UTF-8 text file to write incrementally; it appears once the context exits cleanly.

    Undecodable bytes of file names are written as escapes.
    """
    path = Path(path)
    options = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    try:
        with _replacement(path, "w", **options) as file:
            yield file
    except OSError as error:
        if error.errno in _NO_ROOM or error.filename == str(_part(path)):
            raise OSError(error.errno, _sentence(path, None, error)) from None
        raise
    _sync_folder(path.parent)


@contextmanager
def _replacement(path: Path, mode: str, **options: Any) -> Iterator[Any]:
    """A file that replaces `path` if the context exits cleanly, and is removed otherwise."""
    part = _part(path)
    try:
        with open(part, mode, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def _part(path: Path) -> Path:
    """The temporary file, a thread's own: two may write the same file."""
    here = f"{this_host()}-t{threading.get_native_id()}-{os.getpid()}"
    return path.with_name(f".{path.name}.{here}.part")


def _sync_folder(folder: Path) -> None:
    """Flush a folder's entries (such as a rename) to the disk, if the file system can."""
    if os.name != "posix":  # Windows has no such call
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def remove_stale(folder: Path, name: str = "*") -> None:
    """Remove the temporary files of processes that ended while writing the file `name`.

    Files from this machine go if their process is gone, others once they are old.
    """
    pattern = "*" if name == "*" else escape(name)
    for part in folder.glob(f".{pattern}.*.part"):
        with suppress(OSError):
            if _abandoned(part) or time.time() - part.stat().st_mtime > _STALE:
                part.unlink()


def _abandoned(part: Path) -> bool:
    """Whether the process of this machine that wrote it has ended."""
    match = _PART.fullmatch(part.name)
    return match is not None and has_ended(match["host"], match["pid"])


def has_ended(host: str, process: str) -> bool:
    """Whether a process is known to have ended: it ran on this machine, and is gone."""
    if host != this_host() or not process.isdecimal() or os.name != "posix":
        return False
    try:
        os.kill(int(process), 0)  # signal 0 only checks that it exists
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def this_host() -> str:
    """This machine's name, in characters that are allowed in file names."""
    return host_name(socket.gethostname())


def host_name(name: str) -> str:
    """A machine's name as `this_host` gives it there."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def _sentence(path: Path, size: int | None, error: OSError) -> str:
    if error.errno in _NO_ROOM:
        intact = "the old file is intact, so " if path.exists() else ""
        needs = "" if size is None else f": it needs {size:,} bytes"
        return (
            f"no room to write {path}{needs} ({error.strerror}); {intact}free "
            f"some space and {'resume' if intact else 'try again'}"
        )
    if error.errno == errno.EISDIR:
        return f"{path} is a folder: give a file in it"
    return f"cannot write {path} ({error.strerror}): choose a folder you can write to"


def cannot_write(folder: Path, error: OSError) -> OSError:
    """The error to raise, with a sentence, if a small file cannot be created in `folder`."""
    if error.errno in _NO_ROOM:
        return OSError(error.errno, f"no room in {folder} ({error.strerror}): free some space")
    return OSError(
        error.errno,
        f"cannot write in {folder} ({error.strerror}): choose a folder you can write to",
    )
