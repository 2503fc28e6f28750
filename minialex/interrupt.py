"""Ctrl-C and SIGTERM as a request to save and stop."""

import signal
import threading


class Interrupt:
    """In its `with` block the first SIGINT or SIGTERM only sets `requested` to the signal's name.

    The second raises KeyboardInterrupt at once. Outside the main thread, where Python handles no
    signals, it does nothing.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        self.requested: str | None = None
        self._before = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._on) for number in self.SIGNALS}
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on(self, number, frame) -> None:
        if self.requested is not None:
            raise KeyboardInterrupt
        self.requested = signal.Signals(number).name
