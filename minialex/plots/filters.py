"""First-layer kernels by tower (figure 3 of the paper)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from minialex.plots.by_pillow import below_each_other, matplotlib_missing, save
from minialex.plots.figure import pyplot, require_picture, write
from minialex.plots.kernel_sheet import kernel_sheets

if TYPE_CHECKING:
    from minialex.inference.classifier import Classifier

_PIXELS = 96  # per inch
_MIN_WIDTH = 3.4  # inches, the width of the title above a tower


def kernels(classifier: Classifier, path: str | Path, towers: int | None = None) -> Path:
    """Each kernel as a small image, grey where it is zero; tower 1 above tower 2.

    `towers` is as for `inference.filters.colours`, whose median is printed above each tower.
    """
    sheets = kernel_sheets(classifier, towers)
    if matplotlib_missing():
        return save(below_each_other(sheets), require_picture(path))
    plt = pyplot()
    height, width, _ = sheets[0][1].shape
    size = max(_MIN_WIDTH, width / _PIXELS + 0.2), len(sheets) * (height / _PIXELS + 0.35)
    figure, grid = plt.subplots(len(sheets), 1, figsize=size, squeeze=False, layout="constrained")
    for axes, (title, picture) in zip(grid[:, 0], sheets, strict=True):
        axes.imshow(picture, interpolation="nearest")
        axes.set_anchor("W")
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_axis_off()
    return write(plt, figure, path)
