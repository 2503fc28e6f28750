"""Turns Ctrl-C and SIGTERM into a request to save and stop."""

import signal
import threading
from typing import Any


class Interrupt:
    """A context in which the first SIGINT or SIGTERM only sets `requested` to the signal's name.

    The second one raises KeyboardInterrupt. Does nothing outside the main thread, where Python
    cannot handle signals.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.requested: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._on) for number in self.SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            # None: a handler that was not installed from Python and cannot be restored
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _on(self, number: int, frame: object) -> None:
        if self.requested is not None:
            raise KeyboardInterrupt
        self.requested = signal.Signals(number).name
