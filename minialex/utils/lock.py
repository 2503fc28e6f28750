"""A lock on a folder, held by one process at a time."""

import errno
import os
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from minialex.errors import InputError
from minialex.utils.atomic import cannot_write, has_ended, host_name, this_host

LOCK = ".lock"  # is not removed: two processes could lock the old and a new file
OWNER = ".owner"  # host and process, where the file system has no locks
_NOT_WRITABLE = (errno.EACCES, errno.EPERM)


@contextmanager
def lock(folder: Path, busy: str, ended: Collection[tuple[str, int]] = ()) -> Iterator[None]:
    """Keep other processes out of `folder`; InputError(`busy`) if another one holds it.

    `ended` are processes, by host and number, that are known to have ended on other machines too.
    The system releases the lock when the process ends, however it ends. If the file system has no
    locks, a file names the owner instead: an owner that was killed on another machine then counts
    as alive, and the error says which file to remove. Removing it takes a minute, whereas two runs
    in one folder would silently ruin both. Raises OSError with a sentence for a folder that cannot
    be written to.
    """
    folder = Path(folder)
    descriptor = _locked(folder, busy)
    owner = None if descriptor is not None else _own(folder, busy, ended)
    try:
        yield
    finally:
        if owner is not None:
            with suppress(OSError):
                owner.unlink()
        with suppress(OSError):
            if {entry.name for entry in os.scandir(folder)} == {LOCK}:
                (folder / LOCK).unlink()  # so that an empty folder can be removed
        if descriptor is not None:
            os.close(descriptor)


def _locked(folder: Path, busy: str) -> int | None:
    """A descriptor that holds the lock; None if the file system has no locks."""
    if sys.platform == "win32":
        return None
    import fcntl

    while True:
        descriptor = _open(folder)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(descriptor, folder / LOCK):
                return descriptor
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise InputError(busy) from None
            return None  # ENOLCK, EOPNOTSUPP, EBADF, ...: there are no locks here
        os.close(descriptor)  # its holder removed it along with an empty folder: try the new one


def _open(folder: Path) -> int:
    """The lock file, open for writing: NFS cannot lock a folder or a file opened for reading."""
    path = folder / LOCK
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        if error.errno in _NOT_WRITABLE:  # another user's: can be locked, except on NFS
            with suppress(OSError):
                return os.open(path, os.O_RDONLY)
        raise cannot_write(folder, error) from None


def _is_still(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _own(folder: Path, busy: str, ended: Collection[tuple[str, int]]) -> Path:
    """The owner file, created exclusively by this process."""
    path, mine = folder / OWNER, f"{this_host()} {os.getpid()}"
    known = {f"{host_name(host)} {process}" for host, process in ended}
    while True:
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(mine)
            return path
        except FileExistsError:
            found = _content(path)
        except OSError as error:
            raise cannot_write(folder, error) from None
        if found is None:
            continue
        host, _, process = found.strip().rpartition(" ")
        gone = found.strip() in known or has_ended(host, process)
        if not gone or not _removed(path, found):
            raise InputError(
                f"{busy} (there are no file locks here, and {path} names process {process} on "
                f"{host or 'an unknown machine'}: remove the file if that has ended)"
            )


def _content(path: Path) -> str | None:
    with suppress(FileNotFoundError):
        return path.read_text(encoding="utf-8", errors="replace")
    return None


def _removed(path: Path, found: str) -> bool:
    """Remove the owner file of a process that has ended, but not one that has replaced it."""
    aside = path.with_name(f"{OWNER}.{os.getpid()}")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return True  # another process was quicker, and may own the folder by now
    if _content(aside) == found:
        aside.unlink()
        return True
    with suppress(OSError):
        os.rename(aside, path)
    return False
