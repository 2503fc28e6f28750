"""history.csv of a run: one row per epoch.

A row is added to the file; rewriting all of them took 0.4 seconds an epoch after 20,000.
Whoever begins to write, such as a resumed run, replaces the whole file: a killed run may have left
the row of an epoch that is now done again, or part of one.
"""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minialex.utils import atomic

COLUMNS = (
    "epoch",
    "step",
    "seconds",
    "images_per_second",
    "learning_rate",
    "train_loss",
    "l2_loss",
    "val_loss",
    "val_top1_error",
    "val_top5_error",
    "load_share",
    "validation_seconds",
)
OCCASIONAL = (
    "left_out",
    "changed",
    "averaged",
    "exchange_seconds",
)  # columns that only some runs have


class HistoryFile:
    """The history.csv in a run's folder; its rows are those of the run's state."""

    def __init__(self, folder: Path):
        self._path = folder / "history.csv"
        self._columns: tuple[str, ...] = ()  # of the file; none before this process has written it
        self._rows = 0  # in the file

    def begin(self, history: Sequence[dict[str, Any]]) -> None:
        """Make the file hold exactly these rows; without any there is no file."""
        if history:
            self._rewrite(history)
        else:
            self._path.unlink(missing_ok=True)

    def add(self, history: Sequence[dict[str, Any]]) -> None:
        """Add the last row of `history`; unless the file holds the others, write all of them.

        It lacks the row of an epoch whose weights were not finite.
        """
        row = history[-1]
        if len(history) != self._rows + 1 or not row.keys() <= set(self._columns):
            self._rewrite(history)
            return
        try:
            self._append(_text(self._columns, [row]))
            self._rows += 1
        except OSError:  # this leaves the file whole, and its error is a sentence
            self._rewrite(history)

    def _append(self, text: str) -> None:
        with open(self._path, "r+b") as file:  # not "a": a file that is gone needs a header
            file.seek(0, os.SEEK_END)
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())

    def _rewrite(self, history: Sequence[dict[str, Any]]) -> None:
        more = [name for name in OCCASIONAL if any(name in row for row in history)]
        columns = (*COLUMNS, *more)
        header = ",".join(columns)
        atomic.write_text(self._path, f"{header}\n{_text(columns, history)}")
        self._columns, self._rows = columns, len(history)


def _text(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, columns, lineterminator="\n").writerows(rows)
    return text.getvalue()
