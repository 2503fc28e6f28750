"""Colour histograms and histograms of oriented gradients (HOG), with a linear SVM.

The method of Dalal & Triggs (2005), written in an afternoon with scikit-image and scikit-learn: a
network trained on few images has to beat it.
"""

import numpy as np

from minialex.baselines import common
from minialex.baselines.common import Outcome
from minialex.data.dataset import Splits
from minialex.utils.progress import Progress

_BINS = 8  # of each channel's histogram


def run(
    splits: Splits,
    *,
    size: int = 96,
    cell: int = 12,
    penalty: float = 0.1,
    seed: int = 0,
    progress: bool = True,
) -> Outcome:
    """Train on `splits.train`, evaluate on `splits.val`.

    size     images are resized to size x size pixels
    cell     side of a HOG cell in pixels; colour histograms have cells four times as wide
    penalty  C of the SVMs
    """
    common.require("skimage", "sklearn")

    def encode(image: np.ndarray) -> np.ndarray:
        return np.concatenate([gradients(image, cell), colours(image, 4 * cell)])

    method = (
        f"HOG of {cell} x {cell} and colour histograms of {4 * cell} x {4 * cell} pixels, of "
        f"{size} x {size}, linear SVM"
    )
    show = Progress(progress)
    return common.linear(splits, size, [encode], method, penalty=penalty, seed=seed, show=show)


def gradients(image: np.ndarray, cell: int) -> np.ndarray:
    """HOG of nine directions, blocks of 2 x 2 cells: uint8 (S, S, 3) -> float32 (D,)."""
    from skimage.feature import hog

    found = hog(
        image,
        pixels_per_cell=(cell, cell),
        cells_per_block=(2, 2),
        channel_axis=-1,
        feature_vector=True,
    )
    return found.astype(np.float32)


def colours(image: np.ndarray, cell: int) -> np.ndarray:
    """The share of each value, by channel and square cell: uint8 (S, S, 3) -> float32 (D,)."""
    size = len(image)
    found = []
    for top in range(0, size, cell):
        for left in range(0, size, cell):
            pixels = image[top : top + cell, left : left + cell].reshape(-1, 3)
            for channel in pixels.T:
                counts = np.bincount(channel // (256 // _BINS), minlength=_BINS)
                found.append(np.sqrt(counts / len(pixels)))
    return np.concatenate(found).astype(np.float32)
