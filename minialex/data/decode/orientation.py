"""The camera's orientation from Exif, and turning images upright."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

TAG = 0x0112  # of Exif: 1 is upright

_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}


def of(image: "Image") -> int:
    """The orientation of an image as stored, 1 to 8."""
    try:
        found = image.getexif().get(TAG, 1)
    except Exception:  # damaged Exif data does not make the image unreadable
        return 1
    return found if found in _TURNS else 1


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels as stored, upright: (H, W, 3)."""
    return np.ascontiguousarray(_TURNS[orientation](pixels))


def upright(image: "Image") -> "Image":
    """A Pillow image, upright."""
    from PIL import ImageOps

    if of(image) == 1:
        return image
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # as above
        return image
