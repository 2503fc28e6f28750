"""Losses and errors by epoch: of one run, or of several with their range over seeds."""

from __future__ import annotations

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
    """Loss and errors by epoch, from `Result.history` or the rows of history.csv."""
    if not history:
        raise InputError("the history has no finished epoch: train for at least one")
    plt = pyplot()
    epochs = [int(row["epoch"]) for row in history]

    def column(name: str) -> list[float]:
        return [float(row[name]) for row in history]

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    left.plot(epochs, column("train_loss"), color=TRAIN, label="training")
    left.plot(epochs, column("val_loss"), color=VAL, label="validation")
    left.set(xlabel="epoch", ylabel="cross-entropy", ylim=(0, None))
    right.plot(epochs, 100 * np.array(column("val_top1_error")), color=VAL, label="top-1")
    right.plot(epochs, 100 * np.array(column("val_top5_error")), "--", color=VAL, label="top-5")
    right.set(xlabel="epoch", ylabel="validation error, %", ylim=(0, 100))
    for axes in (left, right):
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
    history.csv. If runs end at different epochs, the line continues with those that are left.
    """
    if column not in _COLUMNS:
        raise unknown("column", column, _COLUMNS)
    if not runs or not all(history for repeated in runs.values() for history in repeated or [[]]):
        raise InputError("each variant needs at least one history with a finished epoch")
    plt = pyplot()
    scale = 100 if column.endswith("error") else 1
    figure, axes = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
    for i, (name, repeated) in enumerate(runs.items()):
        by_epoch: dict[int, list[float]] = {}
        for history in repeated:
            for row in history:
                by_epoch.setdefault(int(row["epoch"]), []).append(scale * float(row[column]))
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
    axes.set(xlabel="epoch", ylabel=_COLUMNS[column], ylim=(0, None))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    axes.set_title(title, fontsize=10)
    return write(plt, figure, path)
