"""A faster and stricter JPEG decoder, if it is installed: `pip install 'minialex[fast]'`.

simplejpeg calls the same library as Pillow, libjpeg-turbo, without Pillow's intermediate four bytes
a pixel; the pixels are the same. It also passes on the library's warnings: Pillow fills what is
missing after damage in the middle of a file with grey and does not say so. Files that simplejpeg
cannot decode are left to Pillow.
"""

import functools
import re
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

START = b"\xff\xd8\xff"  # of a JPEG file
_METADATA = 1 << 17  # bytes at the front, where Exif is

_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker 0x([0-9a-f]{2})")
_PADDING = 64  # most bytes of one value that some writers leave before the end marker
_ALIGNMENT = 2  # most bytes of any value there
_READ_AHEAD = 8  # most bytes already in libjpeg's bit buffer, which it does not count
_LOSSLESS = {0xC3, 0xC7, 0xCB, 0xCF}  # frame headers


class Damaged(ValueError):
    """The file is damaged, although some of its pixels can be decoded."""


def decode(image: "Image", file: BinaryIO) -> np.ndarray | None:
    """The pixels of an opened image, uint8 (H, W, 3), if it is a JPEG that simplejpeg decodes.

    `file` is what Pillow opened `image` from; its position is kept. The pixels are as stored: the
    camera's rotation is not undone. A size that `draft` chose is kept. Raises Damaged.
    """
    library = simplejpeg()
    if library is None or image.format not in ("JPEG", "MPO"):
        return None
    position = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(position)
    colours = "CMYK" if image.mode == "CMYK" else "RGB"
    try:
        pixels = library.decode_jpeg(
            content, colours, min_height=image.height, min_width=image.width, min_factor=1
        )
    except Exception as error:  # it has no exception type of its own; Pillow reports the rest
        _require_sound(content, str(error))
        return None
    return pixels if pixels.shape == (image.height, image.width, 3) else None


def decode_plain(content: bytes, wanted: Callable[[int, int], bool]) -> np.ndarray | None:
    """The pixels of a plain upright JPEG if `wanted(height, width)`, decoded without Pillow.

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


def is_lossless(file: BinaryIO) -> bool:
    """Whether this is a lossless JPEG, which cannot be decoded at a reduced size."""
    position = file.tell()
    file.seek(2)
    try:
        while True:
            mark, kind, length = struct.unpack(">BBH", file.read(4))
            if mark != 0xFF or kind == 0xDA:  # the scan
                return False
            if kind in _LOSSLESS:
                return True
            file.seek(length - 2, 1)
    except (struct.error, OSError):  # damaged: found when it is decoded
        return False
    finally:
        file.seek(position)


@functools.cache
def simplejpeg() -> Any | None:
    """The library, or None where it is not installed."""
    try:
        import simplejpeg as library
    except ImportError:
        return None
    return library


def _require_sound(content: bytes, warning: str) -> None:
    """Raise Damaged if libjpeg's `warning` means that pixels are missing."""
    extraneous = _EXTRANEOUS.search(warning)
    if "premature end of data segment" in warning or "bad Huffman code" in warning:
        raise Damaged(warning)
    if extraneous is not None:
        count, mark = int(extraneous[1]), int(extraneous[2], 16)
        if count > _ALIGNMENT and not _is_padding(content, count, mark):
            raise Damaged(warning)
    zeros = len(content) - len(content.rstrip(b"\0"))
    if "Premature end of JPEG file" in warning and zeros > _PADDING:
        raise Damaged(f"its last {zeros:,} bytes are zeros, so the file is incomplete")


def _is_padding(content: bytes, count: int, mark: int) -> bool:
    """Whether the `count` bytes that libjpeg skipped before a marker repeat one value.

    Damage leaves image data there, or zeros; libjpeg decodes the first zeros as pixels, so that
    there are more of them than it skipped.
    """
    if count > _PADDING:
        return False
    most, end = _PADDING + _READ_AHEAD, content.find(bytes((0xFF, mark)))
    while end >= 0:
        tail = content[max(0, end - 2 * most) : end].rstrip(b"\xff")  # fill bytes may precede marks
        run = len(tail) - len(tail.rstrip(tail[-1:]))
        if count <= run <= count + _READ_AHEAD:
            return True
        end = content.find(bytes((0xFF, mark)), end + 2)
    return False
