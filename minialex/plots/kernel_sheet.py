"""First-layer kernels side by side, as pixels."""

import numpy as np

from minialex.inference.classifier import Classifier
from minialex.inference.filters import colours, first_kernels

COLUMNS = 16


def kernel_sheets(
    classifier: Classifier, towers: int | None = None
) -> list[tuple[str, np.ndarray]]:
    """A caption and a picture, uint8 (H, W, 3), for each tower.

    `towers` is as for `inference.filters.colours`; InputError for a network without kernels over
    RGB.
    """
    found = colours(classifier, towers)
    parts = np.split(first_kernels(classifier), len(found.towers), axis=3)
    sheets = []
    for part, tower in zip(parts, found.towers, strict=True):
        name = f"tower {tower.number}" if len(parts) > 1 else "all kernels"
        sheets.append((f"{name}: median colourfulness {tower.median:.0%}", sheet(part)))
    return sheets


def sheet(kernels: np.ndarray) -> np.ndarray:
    """Kernels (R, S, 3, K) on white, each scaled to its largest weight, grey where it is zero.

    A weight is a square of several pixels, so that viewers do not blur it.
    """
    r, s, _, count = kernels.shape
    columns = min(COLUMNS, count)
    zoom = max(1, round(44 / max(r, s)))
    high, wide = r * zoom + 4, s * zoom + 4
    found = np.full((-(-count // columns) * high, columns * wide, 3), 255, np.uint8)
    largest = np.maximum(np.abs(kernels).max(axis=(0, 1, 2)), np.finfo(np.float32).tiny)
    shown = np.rint(127.5 + 127.5 * kernels / largest).astype(np.uint8)
    for k in range(count):
        top, left = k // columns * high + 2, k % columns * wide + 2
        big = shown[..., k].repeat(zoom, axis=0).repeat(zoom, axis=1)
        found[top : top + r * zoom, left : left + s * zoom] = big
    return found
