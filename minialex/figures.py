"""Pictures of your own run, by Matplotlib without a display; each function writes one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minialex.errors import InputError

if TYPE_CHECKING:
    from minialex.classifier import Classifier

_TRAIN, _VAL, _RIGHT, _WRONG = "#4477aa", "#cc6677", "#228833", "#bbbbbb"


def curves(history: list[dict], path: str | Path, title: str = "") -> Path:
    """Loss and errors by epoch, from `Result.history` or the rows of history.csv."""
    if not history:
        raise InputError("the history has no finished epoch yet: train for at least one")
    plt = _pyplot()
    epochs = [int(row["epoch"]) for row in history]

    def column(name):
        return [float(row[name]) for row in history]

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    left.plot(epochs, column("train_loss"), color=_TRAIN, label="training")
    left.plot(epochs, column("val_loss"), color=_VAL, label="validation")
    left.set(xlabel="epoch", ylabel="cross-entropy", ylim=(0, None))
    right.plot(epochs, 100 * np.array(column("val_top1_error")), color=_VAL, label="top-1")
    right.plot(epochs, 100 * np.array(column("val_top5_error")), "--", color=_VAL, label="top-5")
    right.set(xlabel="epoch", ylabel="validation error, %", ylim=(0, 100))
    for axes in (left, right):
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    return _write(plt, figure, path)


def kernels(classifier: Classifier, path: str | Path) -> Path:
    """The first layer's kernels, a row of pictures for each tower (paper, figure 3)."""
    plt = _pyplot()
    weight = classifier.backend.to_numpy(classifier.params["conv1"]["weight"])  # (R, S, C, K)
    r, s, _, k = weight.shape
    columns = 16
    rows = -(-k // columns)
    scale = np.abs(weight).max(axis=(0, 1, 2))
    sheet = np.ones((rows * (r + 1) + 1, columns * (s + 1) + 1, 3))
    for i in range(k):
        top, left = i // columns * (r + 1) + 1, i % columns * (s + 1) + 1
        sheet[top : top + r, left : left + s] = 0.5 + 0.5 * weight[..., i] / scale[i]
    figure, axes = plt.subplots(figsize=(columns * 0.5, rows * 0.5), layout="constrained")
    axes.imshow(sheet, interpolation="nearest")
    axes.set_axis_off()
    return _write(plt, figure, path)


def predictions(
    classifier: Classifier, images, path: str | Path, titles: list[str] | None = None
) -> Path:
    """Images with their five best labels as bars, the one that is the title green (figure 4)."""
    from minialex.data.images import load_rgb, square

    plt = _pyplot()
    guesses = classifier.predict(images, top=5)
    columns = min(4, len(guesses))
    rows = -(-len(guesses) // columns)
    figure, grid = plt.subplots(
        2 * rows,
        columns,
        figsize=(2.3 * columns, 3.5 * rows),
        squeeze=False,
        layout="constrained",
        gridspec_kw={"height_ratios": [2, 1] * rows},
    )
    for axes in grid.ravel():
        axes.set_axis_off()
    for i, (image, best) in enumerate(zip(images, guesses, strict=True)):
        picture, bars = grid[2 * (i // columns) : 2 * (i // columns) + 2, i % columns]
        pixels = load_rgb(image) if isinstance(image, str | Path) else image
        title = titles[i] if titles else ""
        picture.imshow(square(pixels, 224))
        picture.set_title(title, fontsize=9)
        colours = [_RIGHT if guess.name == title else _WRONG for guess in best]
        bars.barh(range(len(best)), [guess.probability for guess in best], color=colours)
        bars.set(xlim=(0, 1), ylim=(len(best) - 0.5, -0.5))
        for y, guess in enumerate(best):
            bars.text(0.02, y, guess.name, va="center", fontsize=8)
    return _write(plt, figure, path)


def _pyplot():
    try:
        import matplotlib
    except ImportError:
        raise InputError(
            "pictures need Matplotlib: install it with pip install 'minialex[figures]'"
        ) from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _write(plt, figure, path: str | Path) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, facecolor="white")
    plt.close(figure)
    return path
