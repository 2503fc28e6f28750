"""Progress of a run in the terminal: lines of text, and one bar below them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm


class Progress:
    """Lines on standard output; a bar on standard error if that is a terminal."""

    def __init__(self, enabled: bool = True):
        self.enabled = enabled
        self._bar: tqdm | None = None

    def say(self, text: str) -> None:
        """Print text above the bar."""
        if self.enabled:
            from tqdm import tqdm

            with tqdm.external_write_mode():
                print(text, flush=True)

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
