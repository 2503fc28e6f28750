"""Reports steps and epochs to steps.csv, TensorBoard and the user's callbacks."""

import csv
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minialex.errors import InputError, unknown
from minialex.utils import atomic
from minialex.utils.progress import Progress

LOGS = ("tensorboard",)
COLUMNS = ("step", "loss", "learning_rate", "images_per_second")
_AT_ONCE = 1000  # rows buffered before they are written


@dataclass(frozen=True)
class StepInfo:
    """A finished step, as passed to `on_step`."""

    step: int  # updates made so far, this one included
    epoch: int  # that it belongs to, from 1
    loss: float  # of its batch, before the update
    learning_rate: float
    images_per_second: float


@dataclass(frozen=True)
class EpochInfo:
    """A finished epoch, as passed to `on_epoch`; its state has already been saved.

    Without validation images, `val_loss` and `val_accuracy` are None.
    """

    epoch: int  # from 1
    step: int  # updates made so far
    train_loss: float
    val_loss: float | None
    val_accuracy: float | None  # 0 … 1
    learning_rate: float
    seconds: float  # of training and validation so far
    run_dir: Path


OnStep = Callable[[StepInfo], object]
OnEpoch = Callable[[EpochInfo], object]


class CallbackFailed(Exception):
    """A user's callback raised `error`."""

    def __init__(self, error: Exception):
        super().__init__(str(error))
        self.error = error


def require_log(name: str | None) -> None:
    """Raise InputError for an unknown log, or one whose package is not installed."""
    if name is None:
        return
    if name not in LOGS:
        raise unknown("log", name, LOGS)
    try:
        import tensorboardX  # noqa: F401
    except ImportError:
        raise InputError(
            "`log='tensorboard'` needs tensorboardX: pip install 'minialex[tensorboard]'"
        ) from None


def has_row(step: int, every: int | None) -> bool:
    """Whether a step gets a row: every `every`th step; 0 for none.

    The default is all of the first 99,999, then one in ten, from a million one in a hundred, ...
    """
    if every is None:
        every = 10 ** max(0, len(str(step)) - 5)
    return every > 0 and step % every == 0


class Watch:
    """Logs a run's steps and calls the user's callbacks.

    Without a folder, or while `silent`, nothing is written or called. Rows of steps after `step`,
    which a resumed run repeats, are removed; and those of whoever wrote before, when this one is no
    longer silent.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        step: int = 0,
        every: int | None = None,
        log: str | None = None,
        on_step: OnStep | None = None,
        on_epoch: OnEpoch | None = None,
        show: Progress | None = None,
        silent: Callable[[], bool] = lambda: False,
    ):
        self._folder, self._every, self._silent = folder, every, silent
        self._on_step, self._on_epoch, self._show = on_step, on_epoch, show
        self.tells_epochs = on_epoch is not None
        self._rows: list[tuple[str, ...]] = []
        self._untold: list[StepInfo] = []
        self._since = time.monotonic()
        self._path = None if folder is None or every == 0 else folder / "steps.csv"
        self._log, self._board = log, None
        self._step = self._written = step  # made so far, and at the last flush
        self._ready = False
        if not silent():
            self._take_over()

    def _take_over(self) -> None:
        """Begin to write after the last flush."""
        self._ready = True
        if self._log is not None and self._folder is not None:
            self._board = _board(self._folder, self._written)
        if self._path is not None and self._path.exists():
            _cut(self._path, self._written)

    def begin(self) -> None:
        """Start timing steps."""
        self._since = time.monotonic()

    def made(self, step: int, epoch: int, loss: float, learning_rate: float, images: int) -> None:
        """Buffer a step until it is written and reported."""
        self._step, now = step, time.monotonic()
        rate, self._since = images / max(now - self._since, 1e-9), now
        info = StepInfo(step, epoch, loss, learning_rate, rate)
        if self._on_step is not None and not self._silent():
            self._untold.append(info)
        if not has_row(step, self._every):
            return
        if self._board is not None:
            self._board.add_scalar("loss/training", loss, step)
            self._board.add_scalar("learning_rate", learning_rate, step)
            self._board.add_scalar("images_per_second", rate, step)
        if self._path is not None:
            self._rows.append((f"{step}", f"{loss:.7g}", f"{learning_rate:.7g}", f"{rate:.5g}"))
            if len(self._rows) >= _AT_ONCE:
                self.flush()

    def tell(self) -> None:
        """Call `on_step` for the buffered steps; raises CallbackFailed if it raises."""
        while self._untold:
            _call(self._on_step, self._untold.pop(0))

    def epoch(self, row: dict[str, Any]) -> None:
        """Log an epoch by its row of the history, and call `on_epoch`."""
        error = row["val_top1_error"]
        info = EpochInfo(
            row["epoch"],
            row["step"],
            row["train_loss"],
            row["val_loss"],
            None if error is None else 1 - error,
            row["learning_rate"],
            row["seconds"],
            self._folder or Path(),
        )
        if self._board is not None and info.val_accuracy is not None:
            self._board.add_scalar("loss/validation", info.val_loss, info.step)
            self._board.add_scalar("accuracy/validation", info.val_accuracy, info.step)
        if not self._silent():
            _call(self._on_epoch, info)

    def flush(self) -> None:
        """Write buffered rows; if that fails, stop writing steps.csv and continue the run."""
        if self._silent():
            self._rows.clear()
            self._written = self._step
            return
        try:
            if not self._ready:
                self._take_over()
            if self._board is not None:
                self._board.flush()
            if self._path is not None and self._rows:
                new = not self._path.exists()
                with open(self._path, "a", encoding="utf-8", newline="") as file:
                    writer = csv.writer(file, lineterminator="\n")
                    writer.writerows([COLUMNS, *self._rows] if new else self._rows)
        except OSError as error:
            if self._show is not None:
                self._show.say(f"stopped writing {self._path}: {error.strerror}")
            self._path = None
        self._rows.clear()
        self._written = self._step

    def close(self) -> None:
        """Write the rest."""
        self.flush()
        if self._board is not None:
            self._board.close()
            self._board = None


def _call(function: Callable[[Any], object] | None, info: StepInfo | EpochInfo) -> None:
    if function is None:
        return
    try:
        function(info)
    except Exception as error:
        raise CallbackFailed(error) from error


def _cut(path: Path, step: int) -> None:
    """Remove the rows of later steps, and an incomplete last row."""
    with open(path, encoding="utf-8", newline="") as old, atomic.text_file(path) as new:
        for line in old:
            first = line.partition(",")[0]
            later = first.isdecimal() and int(first) > step
            if line.endswith("\n") and not later:
                new.write(line)


def _board(folder: Path, step: int) -> Any:
    """TensorBoard's writer; events of later steps than `step`, which are made again, are hidden."""
    from tensorboardX import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)
