"""A run laid on a published learning curve, and where it leaves it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minialex.results.published_curve import Curve, Point

TITLES = {
    "train_loss": "Training loss",
    "val_loss": "Validation loss",
    "val_top1_error": "Top-1 validation error",
    "val_top5_error": "Top-5 validation error",
}
CLOSE_LOSS = 0.05  # of the published loss
CLOSE_ERROR = 0.02  # two points
_DRAWN = 200  # points of a line; a published training loss may have a hundred thousand


@dataclass(frozen=True)
class Comparison:
    """One quantity of the run and of the curve, by images seen."""

    column: str
    run: Sequence[Point]
    curve: Sequence[Point]
    sentence: str

    @property
    def title(self) -> str:
        return TITLES[self.column]


def compare(history: Sequence[dict[str, Any]], curve: Curve, epoch_images: int) -> list[Comparison]:
    """A comparison of each quantity that both have; `history` is that of a run's history.csv."""
    found = []
    for column in TITLES:
        rows = [
            (int(float(row["epoch"])), float(row[column]))
            for row in history
            if row.get(column) not in (None, "")
        ]
        points = curve.points.get(column, ())
        if rows and points:
            run = [(float(epoch * epoch_images), value) for epoch, value in rows]
            found.append(
                Comparison(column, run, _thinned(points), _said(column, rows, points, epoch_images))
            )
    return found


def _said(
    column: str, rows: Sequence[tuple[int, float]], points: Sequence[Point], epoch_images: int
) -> str:
    """Where the run leaves the curve, in a sentence."""
    title, errors = TITLES[column], column.endswith("error")
    limit = "2 points" if errors else f"{CLOSE_LOSS:.0%}"
    beside = []
    for epoch, ours in rows:
        theirs = _at(points, (epoch - 1) * epoch_images, epoch * epoch_images, column)
        if theirs is not None:
            beside.append((epoch, ours, theirs))
    if not beside:
        return f"{title}: the curve has no point among the images that this run has seen."
    near = [
        abs(ours - theirs) <= (CLOSE_ERROR if errors else CLOSE_LOSS * theirs)
        for _, ours, theirs in beside
    ]
    epoch, ours, theirs = beside[-1]
    pair = f"{ours:.1%} against {theirs:.1%}" if errors else f"{ours:.3g} against {theirs:.3g}"
    side = "above" if ours > theirs else "below"
    if all(near):
        said = f"stays within {limit} of the curve"
    elif near[-1]:
        since = beside[max(i for i, one in enumerate(near) if not one) + 1][0]
        said = f"is within {limit} of the curve since epoch {since}, and not before"
    elif any(near):
        left = beside[max(i for i, one in enumerate(near) if one)][0]
        said = f"leaves the curve after epoch {left} and ends {side} it"
    else:
        said = f"is {side} the curve throughout" if _one_sided(beside) else "is never on the curve"
    end = f" The curve ends before epoch {rows[-1][0]}." if epoch < rows[-1][0] else ""
    return f"{title}: the run {said} ({pair} at epoch {epoch}).{end}"


def _one_sided(beside: Sequence[tuple[int, float, float]]) -> bool:
    return len({ours > theirs for _, ours, theirs in beside}) == 1


def _at(points: Sequence[Point], start: float, end: float, column: str) -> float | None:
    """The curve's value at `end` images; None outside it.

    A training loss is an epoch's mean: the mean of the points after `start`, if there are any.
    """
    x, y = np.array(points, np.float64).T
    if column == "train_loss":
        inside = (x > start) & (x <= end)
        if inside.any():
            return float(y[inside].mean())
    return float(np.interp(end, x, y)) if x[0] <= end <= x[-1] else None


def _thinned(points: Sequence[Point]) -> list[Point]:
    """At most `_DRAWN` points, means of as many neighbours each."""
    parts = np.array_split(np.array(points, np.float64), min(_DRAWN, len(points)))
    return [(float(x), float(y)) for x, y in (part.mean(axis=0) for part in parts)]
