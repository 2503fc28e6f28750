"""Finds the white level of images with more than eight bits per pixel.

A 16-bit file may contain a camera's 12 bits, and a 32-bit file any range. With the wrong range the
image would come out black, so an image whose range is unknown raises UnknownRange.
"""

import struct
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from minialex.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

_BITS_PER_SAMPLE, _LARGEST_SAMPLE, _S_LARGEST_SAMPLE = 258, 281, 341  # TIFF tags
_DIM = 4096  # a 16-bit image that stays below this has 12 bits, or looks black


class UnknownRange(InputError):
    """The image's range of values cannot be determined."""


def stated_white(image: "Image", file: BinaryIO) -> float | None:
    """The largest value that a pixel can have, if the file says so (PNG's sBIT, TIFF's tags)."""
    if image.format == "PNG":
        bits = _png_bits(file)
        return None if bits is None else 2**bits - 1
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return None
    for tag in (_LARGEST_SAMPLE, _S_LARGEST_SAMPLE):
        if (value := _first(tags.get(tag))) is not None and value > 0:
            return float(value)
    bits = _first(tags.get(_BITS_PER_SAMPLE))
    return 2**bits - 1 if bits is not None and 8 < bits < 16 else None


def has_wide_colour(image: "Image") -> bool:
    """Whether Pillow will keep only the upper 8 of 16 bits per channel when it reads the pixels."""
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())) and not is_wide(image)


def is_wide(image: "Image") -> bool:
    """Whether the image has a single channel of more than eight bits."""
    return image.mode == "F" or image.mode.startswith("I")


def to_bytes(image: "Image", white: float | None = None) -> np.ndarray:
    """An image with a single channel of more than eight bits as uint8 (H, W); `white` becomes 255.

    Raises UnknownRange if `white` is None and the range cannot be told from the values.
    """
    values = np.nan_to_num(np.asarray(image, np.float64), posinf=0, neginf=0)
    if white is None:
        white = _white(image.mode, float(values.min()), float(values.max()))
    return np.clip(np.rint(values * (255 / white)), 0, 255).astype(np.uint8)


def require_visible(pixels: np.ndarray) -> None:
    """Raise UnknownRange if 16-bit channels use only their lowest 12 bits; uint8, the upper 8."""
    if 0 < int(pixels.max(initial=0)) < _DIM >> 8:
        raise UnknownRange("its 16-bit channels stay below 4,096 of 65,535, " + _ADVICE)


_ADVICE = (
    "so the image would come out black: scale its values to the full range, or save it with 8 bits"
)


def _white(mode: str, low: float, high: float) -> float:
    """The value of white, judging by values from `low` to `high`."""
    if high <= 0:
        return 255.0  # all black
    if mode == "F":
        if high <= 1.5:  # a filter may overshoot 1
            return 1.0
        if 32 <= high < 512:
            return 255.0
    elif mode == "I" and high <= 255:
        return 255.0
    if _DIM <= high < 65536 + 4096 and low > -4096:
        return 65535.0
    if mode.startswith("I;16"):
        raise UnknownRange(f"its 16-bit values only reach {high:,.0f} of 65,535, {_ADVICE}")
    raise UnknownRange(
        f"its values range from {low:,.5g} to {high:,.5g}, so white is neither 1, 255 nor 65,535: "
        "save it with 8 or 16 bits"
    )


def _png_bits(file: BinaryIO) -> int | None:
    """Significant bits of a PNG file's first channel, from its sBIT chunk."""
    position = file.tell()
    file.seek(8)
    try:
        while True:
            length, kind = struct.unpack(">I4s", file.read(8))
            if kind == b"sBIT" and length:
                bits = file.read(1)[0]
                return bits if 8 < bits <= 16 else None
            if kind in (b"IDAT", b"IEND"):
                return None
            file.seek(length + 4, 1)
    except (struct.error, IndexError):  # damaged: found when it is decoded
        return None
    finally:
        file.seek(position)


def _first(value: object) -> int | None:
    """A TIFF tag's number, or the first of several."""
    if isinstance(value, tuple):
        value = value[0] if value else None
    return int(value) if isinstance(value, int) else None
