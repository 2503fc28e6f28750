"""Losses and errors by epoch: of one run, or of several with their range over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minialex.errors import InputError, unknown
from minialex.plots.figure import DASHES, SERIES, TRAIN, VAL, pyplot, write

_COLUMNS = {
    "train_loss": "training loss",
    "val_loss": "validation loss",
    "val_top1_error": "top-1 validation error, %",
    "val_top5_error": "top-5 validation error, %",
}


def curves(history: list[dict[str, Any]], path: str | Path, title: str = "") -> Path:
    """Loss and errors by epoch, from `Result.history` or the rows of history.csv.

    Without validation images, the losses alone.
    """
    if not history:
        raise InputError("the history has no finished epoch: train for at least one")
    plt = pyplot()
    errors = any(_value(row, "val_top1_error") is not None for row in history)
    size = {"figsize": (9 if errors else 4.5, 3.2), "layout": "constrained", "squeeze": False}
    figure, [shown] = plt.subplots(1, 1 + errors, **size)

    def line(axes: Any, name: str, label: str, colour: str, dash: str = "-") -> None:
        points = [(row["epoch"], _value(row, name)) for row in history]
        there = [(int(epoch), y) for epoch, y in points if y is not None]
        if there:
            axes.plot(*zip(*there, strict=True), dash, color=colour, label=label)

    line(shown[0], "train_loss", "training", TRAIN)
    line(shown[0], "val_loss", "validation", VAL)
    shown[0].set(xlabel="epoch", ylabel="cross-entropy", ylim=(_bottom(shown[0]), None))
    if errors:
        line(shown[1], "val_top1_error", "top-1", VAL)
        line(shown[1], "val_top5_error", "top-5", VAL, "--")
        shown[1].set(xlabel="epoch", ylabel="validation error, %", ylim=(0, 100))
    for axes in shown:
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    return write(plt, figure, path)


def learning_curves(
    runs: dict[str, list[list[dict[str, Any]]]],
    path: str | Path,
    column: str = "val_top1_error",
    title: str = "",
) -> Path:
    """A line for each variant, the mean over its runs, and a band from minimum to maximum.

    `runs` maps a variant's name to the histories of its runs, one for each seed; `column` is one of
    history.csv. If runs end at different epochs, the line continues with those that are left; if
    some were not validated, with the others.
    """
    if column not in _COLUMNS:
        raise unknown("column", column, _COLUMNS)
    if not runs or not all(history for repeated in runs.values() for history in repeated or [[]]):
        raise InputError("each variant needs at least one history with a finished epoch")
    for name, repeated in runs.items():
        if all(_value(row, column) is None for history in repeated for row in history):
            raise InputError(
                f"{name} has no {_COLUMNS[column].partition(',')[0]}: it was trained without "
                "validation images"
            )
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
    for i, (name, repeated) in enumerate(runs.items()):
        by_epoch: dict[int, list[float]] = {}
        for history in repeated:
            for row in history:
                if (value := _value(row, column)) is not None:
                    by_epoch.setdefault(int(row["epoch"]), []).append(value)
        epochs = sorted(by_epoch)
        colour = SERIES[i % len(SERIES)]
        dash = DASHES[i // len(SERIES) % len(DASHES)]
        label = name if len(repeated) == 1 else f"{name} ({len(repeated)} runs)"
        means = [np.mean(by_epoch[epoch]) for epoch in epochs]
        marker = "o" if len(epochs) == 1 else None
        axes.plot(epochs, means, dash, color=colour, label=label, marker=marker)
        if len(repeated) > 1:
            least = [min(by_epoch[epoch]) for epoch in epochs]
            most = [max(by_epoch[epoch]) for epoch in epochs]
            axes.fill_between(epochs, least, most, color=colour, alpha=0.2, linewidth=0)
    axes.set(xlabel="epoch", ylabel=_COLUMNS[column], ylim=(_bottom(axes), None))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    axes.set_title(title, fontsize=10)
    return write(plt, figure, path)


def _value(row: Mapping[str, Any], column: str) -> float | None:
    """A number of a history, errors in percent; None where nothing was validated."""
    if row.get(column) in (None, ""):
        return None
    return float(row[column]) * (100 if column.endswith("error") else 1)


def _bottom(axes: Any) -> float | None:
    """Where the y axis begins: at 0, unless a loss of one's own is negative."""
    return 0 if axes.dataLim.y0 >= 0 else None
