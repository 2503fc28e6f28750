"""Re-raises a Ctrl-C that Python would swallow inside a destructor."""

import _thread
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SOON = 0.02  # seconds: by then the destructor has ended


@contextmanager
def never_ignored() -> Iterator[None]:
    """A context in which a KeyboardInterrupt from inside a destructor is raised again after it.

    An exception cannot leave a destructor: Python prints "Exception ignored in ..." and goes on.
    """
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            again = threading.Timer(_SOON, _thread.interrupt_main)
            again.daemon = True
            again.start()
        else:
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        if sys.unraisablehook is hook:
            sys.unraisablehook = before
