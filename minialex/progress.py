"""What a person sees while training runs: lines that stay, and one bar that does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm


class Progress:
    """Lines on standard output, and a bar on standard error if that is a terminal."""

    def __init__(self, enabled: bool = True):
        self.enabled = enabled
        self._bar: tqdm | None = None

    def say(self, text: str) -> None:
        """Print lines without tearing the bar."""
        if self.enabled:
            from tqdm import tqdm

            with tqdm.external_write_mode():
                print(text, flush=True)

    def epoch(self, number: int, epochs: int, images: int, done: int) -> None:
        """Start the bar of one epoch, `done` images in."""
        from tqdm import tqdm

        self.close()
        self._bar = tqdm(
            total=images,
            initial=done,
            desc=f"epoch {number}/{epochs}",
            unit=" images",
            disable=None if self.enabled else True,
            leave=False,
        )

    def step(self, images: int, loss: float) -> None:
        """Move the bar on by one batch."""
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
            self._bar.update(images)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
