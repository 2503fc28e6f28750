"""A faster JPEG decoder, if it is installed: `pip install 'minialex[fast]'`.

simplejpeg calls the same library as Pillow, libjpeg-turbo, without Pillow's intermediate four bytes
a pixel; the pixels are the same. Everything it cannot decode is left to Pillow, and so are the
messages about damaged files.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

START = b"\xff\xd8\xff"  # of a JPEG file
_ORIENTATION = 0x0112  # Exif tag: 1 is upright
_METADATA = 1 << 17  # bytes at the front, where Exif is


def decode(image: "Image", file: BinaryIO) -> np.ndarray | None:
    """The pixels of an opened image, uint8 (H, W, 3), if it is a JPEG that simplejpeg decodes.

    `file` is what Pillow opened `image` from; its position is kept.
    """
    library = simplejpeg()
    if library is None or image.format != "JPEG" or image.mode not in ("RGB", "L"):
        return None
    try:
        if image.getexif().get(_ORIENTATION, 1) != 1:
            return None
        position = file.tell()
        file.seek(0)
        content = file.read()
        file.seek(position)
        pixels = library.decode_jpeg(content, "RGB", strict=True)
    except Exception:  # it raises no type of its own; Pillow tells what is wrong
        return None
    return pixels if pixels.shape == (image.height, image.width, 3) else None


def decode_plain(content: bytes, wanted: Callable[[int, int], bool]) -> np.ndarray | None:
    """The pixels of a plain upright JPEG of a wanted (height, width), without Pillow.

    None for all others: Exif data that may rotate it, other colour spaces, damaged files.
    """
    library = simplejpeg()
    if library is None or not content.startswith(START):
        return None
    if b"Exif" in content[:_METADATA] or b"Orientation" in content[:_METADATA]:
        return None
    try:
        height, width, colours, _ = library.decode_jpeg_header(content)
        if colours not in ("YCbCr", "Gray") or not wanted(height, width):
            return None
        return library.decode_jpeg(content, "RGB", strict=True)
    except Exception:  # as above
        return None


@functools.cache
def simplejpeg() -> Any | None:
    """The library, or None where it is not installed."""
    try:
        import simplejpeg as library
    except ImportError:
        return None
    return library
