"""A lock on a folder, held by one process at a time."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minialex.errors import InputError


@contextmanager
def lock(folder: Path, busy: str) -> Iterator[bool]:
    """Keep other processes out; InputError(`busy`) if one is in.

    The system lets go of the lock when the process ends, however it ends. Yields False where there
    are none: on Windows, and on some file systems.
    """
    if sys.platform == "win32":
        yield False
        return
    import fcntl

    locked, descriptor = True, os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            locked = False
            if error.errno in (errno.EAGAIN, errno.EACCES):  # else there are no locks here
                raise InputError(busy) from None
        yield locked
    finally:
        os.close(descriptor)
