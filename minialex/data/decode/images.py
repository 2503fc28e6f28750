"""Decodes untrusted image files to uint8 RGB arrays, or raises an error that says why not.

Everything that Pillow reads becomes RGB: grey is repeated, palettes and CMYK are converted,
transparency is blended over white, 16 bits are scaled to 8, and the Exif rotation is applied.
"""

import io
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import numpy as np

from minialex.data.decode import depth, jpeg, kinds, orientation
from minialex.errors import InputError
from minialex.utils.image_size import Bilinear, Squashed

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")
Source = str | os.PathLike[str] | bytes | BinaryIO

PIXEL_LIMIT = 178_000_000  # a small file can claim any size and exhaust the memory

BYTE_LIMIT = 256 << 20  # of an encoded image

_ALPHA_MODES = {"LA", "La", "PA", "RGBA", "RGBa"}


def load_rgb(source: Source, name: str = "the image") -> np.ndarray:
    """The image in a file, an open binary file or bytes, called `name`, as uint8 (H, W, 3).

    Raises InputError for a file that is not an image, damaged, or larger than 178 million pixels,
    and OSError if the file cannot be opened at all.
    """

    def full(image: "Image", file: BinaryIO) -> np.ndarray:
        return np.require(_pixels(image, file), requirements=["C", "W"])

    pixels = _load_plain_jpeg(source)
    return _load(source, full, name) if pixels is None else pixels


def load_resized(source: Source, size: int, name: str = "the image") -> np.ndarray:
    """`resize_and_crop(load_rgb(source), size)`, faster: uint8 (size, size, 3).

    `name` is what messages call bytes that have no path. A large JPEG is decoded at a reduced
    resolution, as long as that is at least twice `size`; the quality of the result is then still
    that of the final filter. For a `Bilinear` size it is decoded at full resolution.
    """
    return resize_and_crop(load_reduced(source, size, name), size)


def load_reduced(source: Source, size: int, name: str = "the image") -> np.ndarray:
    """The whole image at the resolution that `load_resized` decodes it at: uint8 (H, W, 3)."""
    whole = isinstance(size, Bilinear)

    def reduced(image: "Image", file: BinaryIO) -> np.ndarray:
        if not whole and not jpeg.is_lossless(file):
            image.draft(None, (2 * size, 2 * size))  # type: ignore[arg-type]
        return _pixels(image, file)

    pixels = _load_plain_jpeg(source, PIXEL_LIMIT if whole else 4 * size)
    return _load(source, reduced, name) if pixels is None else pixels


def _load_plain_jpeg(source: Source, below: int = PIXEL_LIMIT) -> np.ndarray | None:
    """The pixels of a plain JPEG whose shorter side is below `below`; None for all others."""
    if jpeg.simplejpeg() is None or not isinstance(source, bytes | str | os.PathLike):
        return None
    if not isinstance(source, bytes):
        with open_file(source) as file:
            if os.fstat(file.fileno()).st_size > BYTE_LIMIT or file.read(3) != jpeg.START:
                return None
            file.seek(0)
            source = file.read()
    return jpeg.decode_plain(source, lambda h, w: h * w <= PIXEL_LIMIT and min(h, w) < below)


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Open an image file for reading; raises InputError for a pipe or device, else OSError."""
    try:
        file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115
    except FileNotFoundError:
        what = "the link leads nowhere" if os.path.islink(path) else "check the path"
        raise FileNotFoundError(f"no image file {str(path)!r}: {what}") from None
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise InputError(f"{path} is a pipe or a device: give an image file")


def _without_waiting(path: str, flags: int) -> int:
    """Open without waiting: opening a pipe would otherwise block until it has a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def refuse_large(size: int, name: str) -> None:
    """Raise InputError for an encoded image of more than 256 MiB."""
    if size > BYTE_LIMIT:
        raise InputError(
            f"{name} has {size:,} bytes, more than the {BYTE_LIMIT >> 20} MiB allowed: remove it"
        )


def probe(source: Source) -> tuple[str, int, int]:
    """Pillow's mode, and the stored width and height, after decoding the whole image."""

    def facts(image: "Image", file: BinaryIO) -> tuple[str, int, int]:
        stored = image.mode, image.width, image.height
        _pixels(image, file)
        return stored

    return _load(source, facts)


def header(source: Source, name: str = "the image") -> tuple[str, int, int]:
    """Pillow's mode, width and height from the header alone; the pixels may still be damaged."""
    return _load(source, lambda image, _: (image.mode, image.width, image.height), name)


def dimensions(source: Source, name: str = "the image") -> tuple[int, int]:
    """Width and height from the header alone; the pixels may still be damaged."""
    return header(source, name)[1:]


def resize_and_crop(image: "np.ndarray | Image", size: int) -> np.ndarray:
    """Shorter side to `size`, then a centre crop (paper, section 2): uint8 (size, size, 3).

    `image` is a Pillow image or a uint8 array (H, W), (H, W, 3) or (H, W, 4). A `Squashed`
    size resizes both sides and crops nothing; a `Bilinear` one resizes and crops as torchvision.
    """
    from minialex.data.decode import resize

    ready = isinstance(image, np.ndarray) and _is_rgb(image)
    rgb: np.ndarray = image if ready else np.asarray(to_rgb(image))  # type: ignore[assignment]
    height, width = rgb.shape[:2]
    if isinstance(size, Squashed):
        size = int(size)
        return np.array(rgb) if height == width == size else resize.squash(rgb, size)
    if isinstance(size, Bilinear):
        return resize.bilinear(rgb, int(size))
    if min(height, width) == size:
        left, top = (width - size) // 2, (height - size) // 2
        return np.array(rgb[top : top + size, left : left + size])
    return resize.resize_and_crop(rgb, size)


def _is_rgb(array: np.ndarray) -> bool:
    return array.dtype == np.uint8 and array.shape[2:] == (3,) and array.size > 0


def _pixels(image: "Image", file: BinaryIO) -> np.ndarray:
    """The upright pixels of an image that was opened from `file`: uint8 (H, W, 3)."""
    pixels = jpeg.decode(image, file)
    if pixels is not None:
        return orientation.turned(pixels, orientation.of(image))
    wide_colour, white = depth.has_wide_colour(image), None
    if depth.is_wide(image):
        white = depth.stated_white(image, file)
    pixels = np.asarray(to_rgb(image, white))
    if wide_colour:
        depth.require_visible(pixels)
    return pixels


def to_rgb(image: "np.ndarray | Image", white: float | None = None) -> "Image":
    """Any Pillow image or uint8 array as an upright Pillow image of mode RGB.

    `white` is the value of white in an image of more than eight bits. Raises InputError if it is
    not given and cannot be told from the values.
    """
    from PIL import Image

    if isinstance(image, np.ndarray):
        image = _from_array(image)
    if 0 in image.size:
        raise InputError(f"an image has {image.width} x {image.height} pixels: it is empty")
    image.load()
    image = orientation.upright(image)
    if image.mode == "La":  # which converts to no other mode
        image = image.convert("LA")
    if depth.is_wide(image):
        image = Image.fromarray(depth.to_bytes(image, white))
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        straight = image.convert("RGBA")
        paper = Image.new("RGBA", straight.size, "white")
        image = Image.alpha_composite(paper, straight)
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_array(array: np.ndarray) -> "Image":
    from PIL import Image

    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype != np.uint8 or not (array.ndim == 2 or array.shape[2:] in ((3,), (4,))):
        raise InputError(
            f"an image array has shape {array.shape} and type {array.dtype}: give uint8 "
            "(H, W), (H, W, 3) or (H, W, 4), values 0 to 255"
        )
    if array.size == 0:
        raise InputError(f"an image array has shape {array.shape}: it has no pixels")
    return Image.fromarray(array)


def _load(source: Source, convert: "Callable[[Image, BinaryIO], T]", name: str = "the image") -> T:
    """Open, check and convert one image."""
    if isinstance(source, bytes):
        return _decode(io.BytesIO(source), name, convert)
    if not isinstance(source, str | os.PathLike):
        return _decode(source, str(getattr(source, "name", name)), convert)
    with open_file(source) as file:
        return _decode(file, str(source), convert)


def _decode(file: BinaryIO, name: str, convert: "Callable[[Image, BinaryIO], T]") -> T:
    from PIL import Image, UnidentifiedImageError

    too_large = f"more than the {PIXEL_LIMIT // 10**6} million allowed: make it smaller"
    try:
        with Image.open(file, formats=kinds.formats()) as image:  # reads the header only
            if image.width * image.height > PIXEL_LIMIT:
                raise InputError(
                    f"{name} claims {image.width} x {image.height} pixels, {too_large}"
                )
            return convert(image, file)
    except depth.UnknownRange as error:
        raise InputError(f"{name} cannot be read as an image: {error}") from None
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{name} claims too many pixels, {too_large}") from error
    except UnidentifiedImageError as error:
        what = f"{name} is not an image that Pillow can read"
        file.seek(0)
        known = kinds.what_else(file.read(kinds.HEAD))
        raise InputError(f"{what}: {known}" if known else what) from error
    except Exception as error:  # Pillow's decoders raise a dozen types on damaged files
        if isinstance(error, OSError) and error.errno is not None:
            # the drive's fault, not the file's
            raise OSError(error.errno, error.strerror, name) from error
        reason = str(error) or type(error).__name__
        raise InputError(f"{name} cannot be read as an image: {reason}") from error
