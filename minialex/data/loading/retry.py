"""Retries reads that fail with temporary drive errors, with increasing delays.

A busy network drive, a USB disk that is waking up or too many open files are not the image's fault,
so the image must not be skipped for good.
"""

import errno
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from minialex.errors import InputError

T = TypeVar("T")

PAUSES = (0.1, 0.3, 1.0, 3.0, 10.0)  # seconds, far below the time-out of a read
FEW = 3  # images in a row: with the pauses, the drive has failed for 43 s, so it is not just busy
MANY = 32  # images in a row: the drive is gone

_NAMES = """
    EIO ESTALE EMFILE ENFILE EAGAIN EBUSY EINTR ETIMEDOUT EREMOTEIO ECONNRESET ECONNABORTED ENETDOWN
    ENETUNREACH ENETRESET EHOSTDOWN EHOSTUNREACH ENOTCONN ENOBUFS ENOLCK ENOLINK ECOMM EPROTO
"""
_PASSING = {getattr(errno, name) for name in _NAMES.split() if hasattr(errno, name)}


def may_pass(error: BaseException) -> bool:
    """Whether the error comes from the drive or the system and not from the file."""
    return isinstance(error, OSError) and error.errno in _PASSING


def patiently(
    read: Callable[[], T],
    sleep: Callable[[float], object] | None = None,
    pauses: Iterable[float] | None = None,
) -> T:
    """Call `read`, retrying after each pause while its error may be temporary."""
    for pause in PAUSES if pauses is None else pauses:
        try:
            return read()
        except OSError as error:
            if not may_pass(error):
                raise
        (sleep or time.sleep)(pause)
    return read()


class Patience:
    """Reads images one by one, with pauses while the drive may still recover.

    `failures` counts consecutive images that failed because of the drive. After `FEW` in a row,
    each image is tried only once; after `MANY`, the drive is `gone`.
    """

    def __init__(self) -> None:
        self.failures = 0

    @property
    def gone(self) -> bool:
        return self.failures >= MANY

    def read(self, read: Callable[[], T]) -> T:
        """What `read` returns; raises what it raised."""
        try:
            found = patiently(read, pauses=PAUSES if self.failures < FEW else ())
        except (InputError, OSError) as error:
            self.failures = self.failures + 1 if may_pass(error) else 0
            raise
        self.failures = 0
        return found
