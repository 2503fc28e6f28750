"""Progress of a run in the terminal: lines of text, and one bar below them."""

from __future__ import annotations

import os
import re
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm


LINE_EVERY = 120.0  # seconds between lines where there is no terminal for a bar
EARLY = 10  # steps after which the total time can be estimated


class Progress:
    """Lines on standard output; a bar on standard error if that is a terminal.

    `verbose` adds what helps when something is wrong.
    """

    def __init__(self, enabled: bool = True, verbose: bool = False):
        self.enabled, self.verbose = enabled, verbose
        self._bar: tqdm | None = None
        self._said: set[str] = set()
        self._kinds_said: set[str] = set()
        self._last_line = time.monotonic()
        self._began: tuple[float, float] | None = None  # start time, and the share done then
        self._steps = 0

    def of_next_run(self) -> Progress:
        """A copy with its own clocks, which knows what this one has printed."""
        other = Progress(self.enabled, self.verbose)
        other._said = self._said
        return other

    def say(self, text: str) -> None:
        """Print text above the bar; failing to print must not end the work."""
        if not self.enabled or sys.stdout is None:
            return
        from tqdm import tqdm

        self._last_line = time.monotonic()
        try:
            with tqdm.external_write_mode():
                print(text, flush=True)
        except (OSError, ValueError) as error:  # no reader, a full disk, or a closed stream
            self.enabled = False
            discard_output()
            with suppress(OSError, ValueError, AttributeError):
                print(
                    f"minialex: cannot print any more ({error}); the work continues",
                    file=sys.stderr,
                )

    def say_new(self, text: str) -> None:
        """Print text that has not been printed before."""
        if text not in self._said:
            self._said.add(text)
            self.say(text)

    def once(self, text: str) -> None:
        """Print text that has not been printed before, ignoring its numbers."""
        key = re.sub(r"[0-9]+", "", text)
        if key not in self._kinds_said:
            self._kinds_said.add(key)
            self.say(text)

    def say_rarely(self, text: str) -> None:
        """Print text if nothing was printed for a while."""
        if time.monotonic() - self._last_line > LINE_EVERY:
            self.say(text)

    def bar(self, title: str, images: int | None, done: int = 0) -> tqdm | Lines:
        """A bar over `images` images (None: unknown): a context manager with `update(images)`.

        Where there is no terminal, a line every few minutes.
        """
        bar = self._tqdm(title, images, done)
        return Lines(self, title, images, done) if bar.disable else bar

    def _tqdm(self, title: str, images: int | None, done: int) -> tqdm:
        from tqdm import tqdm

        return tqdm(
            total=images,
            initial=done,
            desc=title,
            unit=" images",
            disable=None if self.enabled and sys.stderr is not None else True,
            leave=False,
        )

    def epoch(self, number: int, epochs: int | None, images: int, done: int) -> None:
        """Start the bar of an epoch of which `done` images are done."""
        self.close()
        of = "" if epochs is None else f"/{epochs}"
        self._bar = self._tqdm(f"epoch {number}{of}", images, done)

    def step(self, images: int, loss: float, share: float) -> None:
        """Advance the bar by one batch; `share` of the whole run is done."""
        left = self._time_left(share)
        text = f"loss {loss_text(loss)}" + (f", {left} left in all" if left else "")
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(images)
        if self._bar is None or self._bar.disable:
            self.say_rarely(f"{share:.1%} done, {text}")

    def _time_left(self, share: float) -> str | None:
        """Time left for the whole run; None if it is too early to say."""
        now = time.monotonic()
        self._steps += 1
        if self._began is None or self._steps <= 3:  # the first steps compile
            self._began = now, share
            return None
        start, before = self._began
        if share <= before or (self._steps < EARLY and now - start < 10):
            return None
        seconds = (now - start) * (1 - share) / (share - before)
        if self._steps == EARLY:
            self.say(f"about {duration(seconds)} in all")
        return duration(seconds)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Lines:
    """In place of a bar where there is no terminal: a line every few minutes."""

    def __init__(self, show: Progress, title: str, images: int | None, done: int):
        self._show, self._title, self._images, self._done = show, title, images, done

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def update(self, images: int) -> None:
        """Count `images` more."""
        self._done += images
        share = self._done / self._images if self._images else None
        done = f"{self._done:,} images" if share is None else f"{share:.0%} done"
        self._show.say_rarely(f"{self._title}: {done}")


def loss_text(loss: float) -> str:
    """A loss in a few characters, also one that explodes."""
    return f"{loss:.3f}" if abs(loss) < 1e5 else f"{loss:.2g}"


def duration(seconds: float) -> str:
    """A time in words: 40 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def discard_output() -> None:
    """Discard standard output from now on: what is buffered would fail again at exit."""
    with suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
