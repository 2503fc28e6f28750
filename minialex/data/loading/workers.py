"""Threads that read images ahead, with a timeout that names the image that hangs.

Threads, not processes: the decoders release the GIL, nothing is copied between address spaces, and
no process can outlive a run. They are daemon threads, so that a read that never returns cannot keep
the program from exiting.
"""

import queue
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from minialex.errors import InputError

TIMEOUT = 600.0  # seconds for one image: a disk may have to wake up, a network to come back
NOTICE = 30.0  # seconds after which an image that is still being read is named
_POLL = 0.2  # seconds between checks of how long the running reads have taken
_CLOSE_WAIT = 5.0  # seconds that closing waits for reads that are still running


class Workers:
    """`count` threads for jobs `task(index)`; `describe(index)` names what a job reads.

    If a job takes more than `timeout` seconds (default: 600) or runs out of memory, waiting for any
    result raises an InputError that names it; a slow job is named on stderr well before that.
    `on_wait` is called while waiting for a result, and may raise. A context manager. Several pools
    may share `running`, so that each notices when another's job hangs.
    """

    def __init__(
        self,
        count: int,
        describe: Callable[[int], str],
        timeout: float | None = None,
        running: dict[int, tuple[int, float]] | None = None,
        on_wait: Callable[[], object] | None = None,
    ):
        self.describe = describe
        self.timeout = TIMEOUT if timeout is None else timeout
        self._on_wait = on_wait or (lambda: None)
        self._noticed: set[tuple[int, float]] = set()
        self._jobs: queue.SimpleQueue = queue.SimpleQueue()
        self._running = {} if running is None else running  # thread -> (index, start time)
        self._closed = False
        self._checked: float | None = None
        self._threads = [
            threading.Thread(target=self._work, name=f"minialex-loader-{i}", daemon=True)
            for i in range(count)
        ]
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError:
            self._threads = [thread for thread in self._threads if thread.ident is not None]
            self.close()
            raise InputError(
                f"the system does not allow {count} threads to read images: use fewer workers"
            ) from None

    def submit(self, task: Callable[[int], Any], index: int) -> Future:
        """Queue `task(index)`; `result` waits for what it returns."""
        future: Future = Future()
        self._jobs.put((future, task, index))
        return future

    def result(self, future: Future) -> Any:
        """What the job returned; raises what it raised, with a note of what it was reading."""
        while True:
            try:
                return future.result(timeout=_POLL)
            except TimeoutError:
                if future.done():  # just now, or the job itself raised it
                    return future.result()
            self._on_wait()
            self._check_timeout()

    def close(self) -> None:
        """Drop queued jobs and wait for running ones, but not for those that hang."""
        self._closed = True
        while True:
            try:
                self._jobs.get_nowait()[0].cancel()
            except queue.Empty:
                break
        for _ in self._threads:
            self._jobs.put(None)
        deadline = time.monotonic() + min(_CLOSE_WAIT, self.timeout)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    def finish(self) -> None:
        """Let the threads end by themselves once all queued jobs are done."""
        for _ in self._threads:
            self._jobs.put(None)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _work(self) -> None:
        me = threading.get_ident()
        while (job := self._jobs.get()) is not None:
            future, task, index = job
            if not future.set_running_or_notify_cancel():
                continue
            self._running[me] = index, time.monotonic()
            try:
                future.set_result(task(index))
            except MemoryError:
                future.set_exception(
                    InputError(
                        f"{self.describe(index)}: there is not enough memory to read it: use fewer "
                        "workers or smaller batches, or remove the file"
                    )
                )
            except BaseException as error:
                error.add_note(f"while reading {self.describe(index)}")
                future.set_exception(error)
            finally:
                self._running.pop(me, None)
                del job, future, task  # or the thread would keep the result alive

    def _check_timeout(self) -> None:
        now = time.monotonic()
        if self._checked is not None and now - self._checked > 2 + 2 * _POLL:
            # the program was suspended: restart the clock of every read
            for thread, (index, _) in list(self._running.items()):
                self._running[thread] = index, now
        self._checked = now
        for job in list(self._running.values()):
            index, since = job
            reading = f"{self.describe(index)} is still being read after {now - since:.0f} s"
            if now - since > self.timeout:
                raise InputError(
                    f"{reading}: the disk or the file is damaged, so remove the file, copy the "
                    "data elsewhere, or allow more time (--read-timeout in training)"
                )
            if now - since > NOTICE and job not in self._noticed:
                self._noticed.add(job)
                _warn(f"{reading}: waiting up to {self.timeout:.0f} s for it")
        if not any(thread.is_alive() for thread in self._threads):
            raise RuntimeError("all threads that read images have ended")


def _warn(sentence: str) -> None:
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(f"minialex: {sentence}", file=sys.stderr)
