"""Turns Ctrl-C and the signals of schedulers into a request to save and stop."""

import contextlib
import os
import signal
import sys
import threading
from typing import Any

from minialex.utils.ctrl_c import never_ignored


class Interrupted(Exception):
    """Raised by `Interrupt.check` once a signal has come."""


class Interrupt:
    """A context in which the first signal only sets `requested` to its name, and says so at once.

    The signals are SIGINT, SIGTERM and, where they exist, SIGUSR1 (which batch schedulers send
    before a time limit) and SIGHUP (from a closing terminal, unless `nohup` ignores it). A second
    signal raises KeyboardInterrupt; the first one does not, even if `requested` was set before, by
    other means. Does nothing outside the main thread, where Python cannot
    handle signals.
    """

    SIGNALS = tuple(
        getattr(signal, name)
        for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
        if hasattr(signal, name)
    )

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.requested: str | None = None
        self._came = False
        self._before: dict[signal.Signals, Any] = {}
        self._never_ignored = never_ignored()

    def __enter__(self) -> "Interrupt":
        self._never_ignored.__enter__()
        if threading.current_thread() is threading.main_thread():
            for number in self.SIGNALS:
                if number.name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN:
                    continue
                self._before[number] = signal.signal(number, self._on)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            # None: a handler that was not installed from Python and cannot be restored
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._never_ignored.__exit__(None, None, None)

    def check(self) -> None:
        """Raise Interrupted if a signal has come: for points where work may be dropped."""
        if self.requested is not None:
            raise Interrupted(self.requested)

    def _on(self, number: int, frame: object) -> None:
        if self._came:
            raise KeyboardInterrupt
        self._came = True
        if self.requested is not None:  # by a signal that came to another process first
            return
        self.requested = signal.Signals(number).name
        if not self.quiet:
            _say(
                f"\n{self.requested}: saving, then stopping; a second signal stops without saving\n"
            )


def _say(text: str) -> None:
    """Write to standard error's descriptor: the signal may have interrupted a print."""
    terminal, stream = sys.__stderr__, sys.stderr
    with contextlib.suppress(OSError, ValueError, AttributeError, RuntimeError):  # none, or gone
        if terminal is not None and stream is terminal:
            os.write(terminal.fileno(), text.encode())
        else:  # in a notebook, where the descriptor is that of a terminal that nobody sees
            stream.write(text)
            stream.flush()
