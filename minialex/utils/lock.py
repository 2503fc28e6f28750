"""A lock on a folder, held by one process at a time."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minialex.errors import InputError


@contextmanager
def lock(folder: Path, busy: str) -> Iterator[None]:
    """Keep other processes out, if the file system has locks; InputError(`busy`) if one is in."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):  # else there are no locks here
                raise InputError(busy) from None
        yield
    finally:
        os.close(descriptor)
