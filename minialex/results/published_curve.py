"""Learning curves in CSV files: a published run's losses and errors by the images it had seen.

A file has a column of progress ("images", "epoch" or "iteration") and any of training loss,
validation loss, and top-1 and top-5 error or accuracy, under the names that Caffe's logs, Keras and
our own history.csv use. The two halves of one run may be in two files.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from minialex.errors import InputError

Point = tuple[float, float]  # images seen, value

_ITERATIONS = ("iteration", "iterations", "iter", "numiters", "step")
_PROGRESS = ("images", "epoch", *_ITERATIONS)
_LOSSES = {
    "train_loss": ("train_loss", "training_loss"),
    "val_loss": ("val_loss", "validation_loss", "test_loss"),
}
_ERRORS = {
    "val_top1_error": ("val_top1_error", "top1_error", "val_error", "validation_error"),
    "val_top5_error": ("val_top5_error", "top5_error"),
}
_ACCURACIES = {
    "val_top1_error": ("val_accuracy", "validation_accuracy", "test_accuracy", "top1", "accuracy"),
    "val_top5_error": ("val_top5_accuracy", "top5_accuracy", "top5"),
}


@dataclass(frozen=True)
class Curve:
    """`points` of each column of history.csv that the files have, by images seen."""

    name: str
    points: Mapping[str, Sequence[Point]]


def read(paths: Sequence[str | Path], *, batch_size: int | None, epoch_images: int) -> Curve:
    """The curve in `paths`; raises InputError for a file that is not one.

    `batch_size` is the number of images of an iteration and `epoch_images` of an epoch.
    """
    points: dict[str, list[Point]] = {}
    for path in map(Path, paths):
        for column, found in _of_file(path, batch_size, epoch_images).items():
            points.setdefault(column, []).extend(found)
    return Curve(
        " and ".join(Path(path).name for path in paths),
        {column: sorted(found) for column, found in points.items()},
    )


def _of_file(path: Path, batch_size: int | None, epoch_images: int) -> dict[str, list[Point]]:
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text file: give a learning curve as CSV") from None
    try:
        head, *lines = list(csv.reader(content.splitlines())) or [[]]
    except csv.Error as error:
        raise InputError(f"{path} is not a table ({error}): give a learning curve as CSV") from None
    names = [name.strip().lower().replace("-", "_").replace(" ", "_") for name in head]
    progress = next((name for name in _PROGRESS if name in names), None)
    columns = _columns(names)
    if progress is None or not columns:
        raise InputError(
            f"{path} has the columns {', '.join(names) or 'none'}: a learning curve needs one of "
            f"{', '.join(_PROGRESS)} and a loss, an error or an accuracy, such as val_loss"
        )
    if progress in _ITERATIONS and batch_size is None:
        raise InputError(
            f"{path} counts iterations: give the number of images in one with `against_batch`"
        )
    rows = list(_numbers(path, lines, names))
    if not rows:
        raise InputError(f"{path} has no rows: a learning curve needs at least one")
    images = (_images_of_run(path) or epoch_images) if progress == "epoch" else batch_size
    scale = 1 if progress == "images" or images is None else images
    first = 1 if progress == "epoch" and min(row.get(progress, 1) for row in rows) == 0 else 0
    found = {}
    for column, (name, accuracy) in columns.items():
        pairs = [(row[progress] + first, row[name]) for row in rows if {progress, name} <= {*row}]
        share = 1.0
        if column.endswith("error"):
            share = 0.01 if max((y for _, y in pairs), default=0) > 1 else 1.0  # a percentage
        values = ((scale * x, y * share) for x, y in pairs)
        found[column] = [(x, 1 - y if accuracy else y) for x, y in values]
    return found


def _images_of_run(path: Path) -> int | None:
    """The training images of the run that this history.csv is of; None for other files."""
    try:
        images = json.loads((path.parent / "config.json").read_bytes())["data"]["train_images"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return images if path.name == "history.csv" and isinstance(images, int) else None


def _columns(names: Sequence[str]) -> dict[str, tuple[str, bool]]:
    """{column of history.csv: (the file's name for it, whether that is an accuracy)}."""
    validates = any(name.startswith(("val_", "validation_", "test_")) for name in names)
    found: dict[str, tuple[str, bool]] = {}
    for aliases, accuracy in ((_LOSSES, False), (_ERRORS, False), (_ACCURACIES, True)):
        for column, known in aliases.items():
            name = next((name for name in known if name in names), None)
            if name == "accuracy" and validates:  # of the training images, as in Keras' logs
                name = None
            if name is not None:
                found.setdefault(column, (name, accuracy))
    if "loss" in names:
        errors = any(column.endswith("error") for column in found)
        found.setdefault("val_loss" if errors and not validates else "train_loss", ("loss", False))
    return found


def _numbers(
    path: Path, lines: Sequence[list[str]], names: Sequence[str]
) -> Iterator[dict[str, float]]:
    """The finite numbers of each line, by column; other columns may hold anything."""
    wanted = {*_PROGRESS, *(name for name, _ in _columns(names).values())}
    for number, line in enumerate(lines, 2):
        row = {}
        for name, text in zip(names, line, strict=False):
            if name not in wanted or not text.strip():
                continue
            try:
                value = float(text)
            except ValueError:
                raise InputError(
                    f"line {number} of {path} has {text!r} as {name}: expected a number"
                ) from None
            if isfinite(value):
                row[name] = value
        if row:
            yield row
