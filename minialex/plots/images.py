"""Images with predicted labels, and with their nearest images (figure 4 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minialex.errors import InputError
from minialex.plots.by_pillow import grid, matplotlib_missing, save
from minialex.plots.figure import RIGHT, WRONG, pyplot, require_picture, shortened, write
from minialex.utils.paths import expanded

if TYPE_CHECKING:
    from minialex.data.dataset import Dataset
    from minialex.inference.classifier import Classifier
    from minialex.inference.ensemble import Ensemble

_LABEL = 24  # characters that fit beside a bar


def predictions(
    classifier: Classifier | Ensemble,
    images: Sequence[Any],
    path: str | Path,
    titles: list[str] | None = None,
) -> Path:
    """Images with their top five labels as bars; the one equal to the title is green and marked.

    `images` are arrays (H, W, 3) or paths.
    """
    plt = pyplot()
    guesses = classifier.predict(images, top=5)
    columns = min(4, len(guesses))
    rows = -(-len(guesses) // columns)
    figure, axes_grid = plt.subplots(
        2 * rows,
        columns,
        figsize=(2.3 * columns, 3.5 * rows),
        squeeze=False,
        layout="constrained",
        gridspec_kw={"height_ratios": [2, 1] * rows},
    )
    for axes in axes_grid.ravel():
        axes.set_axis_off()
    for i, (image, best) in enumerate(zip(images, guesses, strict=True)):
        picture, bars = axes_grid[2 * (i // columns) : 2 * (i // columns) + 2, i % columns]
        title = titles[i] if titles else ""
        picture.imshow(_resized(image))
        picture.set_title(shortened(title, _LABEL + 2), fontsize=9, color="black")
        right = [guess.name == title for guess in best]
        probabilities = [guess.probability for guess in best]
        bars.barh(range(len(best)), probabilities, color=[RIGHT if r else WRONG for r in right])
        bars.set(xlim=(0, 1), ylim=(max(5, len(best)) - 0.5, -0.5))
        for y, (guess, is_right) in enumerate(zip(best, right, strict=True)):
            text = shortened(guess.name, _LABEL)
            text = f"{text} (correct)" if is_right else text
            weight = "bold" if is_right else "normal"
            bars.text(0.02, y, text, va="center", fontsize=8, fontweight=weight, color="black")
    return write(plt, figure, path)


def sample_predictions(
    classifier: Classifier | Ensemble, dataset: Dataset, path: str | Path, count: int = 8
) -> Path:
    """`predictions` of `count` images, evenly spaced over `dataset` and so over its classes."""
    if len(dataset) == 0:
        raise InputError(f"{dataset.name} has no images")
    chosen = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int)
    images = [dataset.image(int(i), 256) for i in chosen]
    titles = [dataset.class_names[dataset.labels[i]] for i in chosen]
    return predictions(classifier, images, path, titles)


def neighbors(
    queries: list[Any],
    rows: list[list[Any]],
    path: str | Path,
    title: str = "",
    labels: list[list[str]] | None = None,
) -> Path:
    """A row for each query: the query on the left, then its nearest images, the nearest first.

    `queries` and `rows` hold arrays (H, W, 3) or paths; `labels` has [query, neighbour, ...] for
    each row.
    """
    if not any(rows):
        raise InputError("there are no neighbours to draw")
    if matplotlib_missing():
        shown = [
            [_resized(image, 128) for image in (query, *row)]
            for query, row in zip(queries, rows, strict=True)
        ]
        words = labels and [[shortened(label, 16) for label in row] for row in labels]
        return save(grid(shown, ("query", "nearest"), title, words), require_picture(path))
    plt = pyplot()
    columns = 1 + max(map(len, rows))
    figure, axes_grid = plt.subplots(
        len(queries),
        columns,
        figsize=(1.3 * columns + 0.2, (1.3 + 0.2 * bool(labels)) * len(queries) + 0.5),
        squeeze=False,
        layout="constrained",
    )
    for axes in axes_grid.ravel():
        axes.set(xticks=[], yticks=[], frame_on=False)
    for i, (query, row) in enumerate(zip(queries, rows, strict=True)):
        for j, image in enumerate([query, *row]):
            axes_grid[i, j].imshow(_resized(image, 128))
            if labels:
                axes_grid[i, j].set_xlabel(shortened(labels[i][j], 16), fontsize=7, color="black")
    axes_grid[0, 0].set_title("query", fontsize=9, color="black")
    axes_grid[0, 1].set_title("nearest", fontsize=9, color="black")
    figure.suptitle(title, fontsize=10, color="black")
    return write(plt, figure, path)


def _resized(image: Any, size: int = 224) -> np.ndarray:
    from minialex.data.decode.images import load_rgb, resize_and_crop

    pixels = load_rgb(expanded(image)) if isinstance(image, str | Path) else image
    return resize_and_crop(pixels, size)
