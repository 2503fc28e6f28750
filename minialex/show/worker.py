"""One thread that computes what the page's requests ask for, one after the other."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from queue import SimpleQueue
from typing import Any


class Stopped(Exception):
    """The server ends: what was asked for is no longer computed."""


class Worker:
    """A daemon thread, so that Ctrl-C need not wait for what it is computing.

    One thread, because each computation uses all cores already.
    """

    def __init__(self) -> None:
        self._tasks: SimpleQueue[tuple[Future, Callable[..., Any], tuple]] = SimpleQueue()
        self._waiting: set[Future] = set()
        self._stopped = False
        threading.Thread(target=self._work, name="minialex-show", daemon=True).start()

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function returns, or raises; raises Stopped once `stop` was called."""
        if self._stopped:
            raise Stopped
        future: Future = Future()
        self._waiting.add(future)
        self._tasks.put((future, function, arguments))
        try:
            return await asyncio.wrap_future(future)
        finally:
            self._waiting.discard(future)

    def stop(self) -> None:
        """End all waiting at once."""
        self._stopped = True
        for future in tuple(self._waiting):
            with suppress(InvalidStateError):  # it has just been answered
                future.set_exception(Stopped())

    def _work(self) -> None:
        while True:
            future, function, arguments = self._tasks.get()
            if future.done():  # nobody waits for it any more
                continue
            try:
                result, error = function(*arguments), None
            except Exception as raised:
                result, error = None, raised
            with suppress(InvalidStateError):  # stopped meanwhile
                if error is None:
                    future.set_result(result)
                else:
                    future.set_exception(error)
