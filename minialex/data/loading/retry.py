"""Errors of a drive that may pass: the read is tried again, after pauses that grow.

A network drive that is busy, a USB disk that wakes up or too many open files say nothing about the
image, which must not be left out for good.
"""

import errno
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PAUSES = (0.1, 0.3, 1.0, 3.0, 10.0)  # seconds, far below the time-out of a read

_NAMES = """
    EIO ESTALE EMFILE ENFILE EAGAIN EBUSY EINTR ETIMEDOUT EREMOTEIO ECONNRESET ECONNABORTED ENETDOWN
    ENETUNREACH ENETRESET EHOSTDOWN EHOSTUNREACH ENOTCONN ENOBUFS ENOLCK ENOLINK ECOMM EPROTO
"""
_PASSING = {getattr(errno, name) for name in _NAMES.split() if hasattr(errno, name)}


def may_pass(error: BaseException) -> bool:
    """Whether it is the drive that fails, or the system, and not the file."""
    return isinstance(error, OSError) and error.errno in _PASSING


def patiently(read: Callable[[], T], sleep: Callable[[float], object] | None = None) -> T:
    """What `read` returns, tried again after each pause while its error may pass."""
    for pause in PAUSES:
        try:
            return read()
        except OSError as error:
            if not may_pass(error):
                raise
        (sleep or time.sleep)(pause)
    return read()
