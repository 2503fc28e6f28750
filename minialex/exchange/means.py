"""Computes the mean image of training images, for weights that come without one."""

from pathlib import Path

import numpy as np

from minialex.data.sources.open import open_data
from minialex.data.statistics import measure
from minialex.errors import InputError

LARGEST_SIDE = 4096  # of a foreign network's images, in pixels: their mean image is kept


def measured(folder: Path, size: int) -> np.ndarray:
    """The mean of the training images in a folder: float32 (size, size, 3), RGB.

    `size` is the one that the network's recipe resizes to, a `Squashed` for both sides.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder of training images")
    return measure(open_data(folder).train, size).mean
