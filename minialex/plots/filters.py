"""First-layer kernels by tower (figure 3 of the paper)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minialex.inference.filters import colours, first_kernels
from minialex.plots.by_pillow import below_each_other, matplotlib_missing, save
from minialex.plots.figure import pyplot, require_picture, write
from minialex.plots.kernel_sheet import kernel_sheets

if TYPE_CHECKING:
    from minialex.inference.classifier import Classifier

_COLUMNS = 16
_MIN_WIDTH = 3.4  # inches, the width of the title above a tower


def kernels(classifier: Classifier, path: str | Path, towers: int | None = None) -> Path:
    """Each kernel as a small image, grey where it is zero; tower 1 above tower 2.

    `towers` is as for `inference.filters.colours`, whose median is printed above each tower.
    """
    if matplotlib_missing():
        return save(below_each_other(kernel_sheets(classifier, towers)), require_picture(path))
    found = colours(classifier, towers)
    weight = first_kernels(classifier)
    plt = pyplot()
    count = len(found.towers)
    parts = np.split(weight, count, axis=3)
    rows = -(-parts[0].shape[3] // _COLUMNS)
    width = max(_MIN_WIDTH, 0.5 * min(_COLUMNS, parts[0].shape[3]) + 0.2)
    figure, grid = plt.subplots(
        count,
        1,
        figsize=(width, count * (0.5 * rows + 0.35)),
        squeeze=False,
        layout="constrained",
    )
    for axes, part, tower in zip(grid[:, 0], parts, found.towers, strict=True):
        axes.imshow(_sheet(part), interpolation="nearest")
        axes.set_anchor("W")
        name = f"tower {tower.number}" if count > 1 else "all kernels"
        axes.set_title(f"{name}: median colourfulness {tower.median:.0%}", fontsize=9, loc="left")
        axes.set_axis_off()
    return write(plt, figure, path)


def _sheet(weight: np.ndarray) -> np.ndarray:
    """Kernels (R, S, C, K) side by side on white, each scaled to its largest weight."""
    r, s, _, k = weight.shape
    columns = min(_COLUMNS, k)
    rows = -(-k // columns)
    scale = np.maximum(np.abs(weight).max(axis=(0, 1, 2)), np.finfo(np.float32).tiny)
    sheet = np.ones((rows * (r + 1) + 1, columns * (s + 1) + 1, 3))
    for i in range(k):
        top, left = i // columns * (r + 1) + 1, i % columns * (s + 1) + 1
        sheet[top : top + r, left : left + s] = 0.5 + 0.5 * weight[..., i] / scale[i]
    return sheet
