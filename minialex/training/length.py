"""The length of a run: epochs, minutes, or early stopping."""

from dataclasses import dataclass
from math import ceil, inf, isfinite

from minialex.training.state import State


@dataclass(frozen=True)
class Length:
    """`epochs` of `images` each, or as many as `minutes` allow.

    With `stop_early`, the run also ends after that many epochs without a lower validation loss.
    """

    images: int
    epochs: int
    minutes: float | None = None
    stop_early: int | None = None

    @property
    def known_epochs(self) -> int | None:
        """The number of epochs; None if the length is given in minutes."""
        return self.epochs if self.minutes is None else None

    def ended(self, state: State) -> bool:
        """Whether the run is over."""
        return self.complete(state) or (state.position == 0 and self.stalled(state))

    def complete(self, state: State) -> bool:
        """Whether all epochs are done, or all the time is used."""
        if self.minutes is None:
            return state.epoch >= self.epochs
        return state.epoch > 0 and state.position == 0 and self.out_of_time(state)

    def stalled(self, state: State) -> bool:
        """Whether `stop_early` epochs have brought no lower validation loss."""
        losses = [row["val_loss"] for row in state.history]
        if self.stop_early is None or not losses or losses[-1] is None:
            return False
        finite = [loss if loss is not None and isfinite(loss) else inf for loss in losses]
        return len(finite) - 1 - finite.index(min(finite)) >= self.stop_early

    def out_of_time(self, state: State) -> bool:
        """Whether only the time for the last validation is left."""
        return self.minutes is not None and state.seconds >= self._budget(state)

    def share(self, state: State) -> float:
        """The fraction of the run that is done: 0 to 1."""
        if self.minutes is not None:
            return min(1.0, state.seconds / self._budget(state))
        return (state.epoch + state.position / self.images) / self.epochs

    def epochs_left(self, state: State) -> int:
        """Epochs left after the current one; estimated from its duration if limited by minutes."""
        if self.minutes is None:
            return self.epochs - state.epoch - 1
        validation = state.history[-1]["validation_seconds"] if state.history else 0.0
        one = max(1e-9, state.epoch_seconds + validation)
        return max(0, ceil((self._budget(state) - state.seconds) / one))

    def _budget(self, state: State) -> float:
        """Seconds of training and validation before the last validation."""
        validation = state.history[-1]["validation_seconds"] if state.history else 0.0
        return max(1e-9, 60 * (self.minutes or 0.0) - validation)
