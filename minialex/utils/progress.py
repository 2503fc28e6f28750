"""Progress of a run in the terminal: lines of text, and one bar below them."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm


class Progress:
    """Lines on standard output; a bar on standard error if that is a terminal."""

    def __init__(self, enabled: bool = True):
        self.enabled = enabled
        self._bar: tqdm | None = None

    def say(self, text: str) -> None:
        """Print text above the bar; what cannot be printed any more must not end the work."""
        if not self.enabled or sys.stdout is None:
            return
        from tqdm import tqdm

        try:
            with tqdm.external_write_mode():
                print(text, flush=True)
        except (OSError, ValueError) as error:  # its reader is gone, its disk full, or it is closed
            self.enabled = False
            discard_output()
            with suppress(OSError, ValueError, AttributeError):
                print(
                    f"minialex: cannot print any more ({error}); the work continues",
                    file=sys.stderr,
                )

    def bar(self, title: str, images: int, done: int = 0) -> tqdm:
        """A bar over `images` images: a context manager with `update(images)`."""
        from tqdm import tqdm

        return tqdm(
            total=images,
            initial=done,
            desc=title,
            unit=" images",
            disable=None if self.enabled and sys.stderr is not None else True,
            leave=False,
        )

    def epoch(self, number: int, epochs: int, images: int, done: int) -> None:
        """Start the bar of an epoch of which `done` images are done."""
        self.close()
        self._bar = self.bar(f"epoch {number}/{epochs}", images, done)

    def step(self, images: int, loss: float) -> None:
        """Advance the bar by one batch."""
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
            self._bar.update(images)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def discard_output() -> None:
    """Send standard output nowhere from now on: what is buffered would fail again at the exit."""
    with suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
