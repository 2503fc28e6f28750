"""Images of more than eight bits: decoded by their range, or refused, but never black."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from minialex.data.decode import images
from minialex.errors import InputError

RAMP = np.linspace(0, 1, 48).reshape(6, 8)


def saved(values: np.ndarray, kind: str, **options) -> bytes:
    content = io.BytesIO()
    Image.fromarray(values).save(content, kind, **options)
    return content.getvalue()


def with_chunk(png: bytes, kind: bytes, body: bytes) -> bytes:
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return png[:33] + chunk + png[33:]  # after the header


def wide_colour_png(values: np.ndarray) -> bytes:
    """A PNG of 16 bits per channel, which Pillow does not write: uint16 (H, W, 3)."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    empty = saved(np.zeros((1, 1), np.uint8), "PNG")[:8]
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        empty += struct.pack(">I", len(body)) + kind + body
        empty += struct.pack(">I", zlib.crc32(kind + body))
    return empty


def twelve_bits() -> np.ndarray:
    return (RAMP * 4095).astype(np.uint16)


def tag(number: int, value: int) -> TiffImagePlugin.ImageFileDirectory_v2:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[number] = value
    tags.tagtype[number] = 3
    return tags


@pytest.mark.parametrize(
    "content",
    [
        saved((RAMP * 65535).astype(np.uint16), "PNG"),
        with_chunk(saved(twelve_bits(), "PNG"), b"sBIT", b"\x0c"),
        saved(twelve_bits(), "TIFF", tiffinfo=tag(281, 4095)),
        saved((RAMP * 255).astype(np.int32), "TIFF"),
        saved((RAMP * 65535).astype(np.int32), "TIFF"),
        saved(RAMP.astype(np.float32), "TIFF"),
        saved((RAMP * 1.02).astype(np.float32), "TIFF"),
        saved((RAMP * 255).astype(np.float32), "TIFF"),
        saved((RAMP * 65535).astype(np.float32), "TIFF"),
        wide_colour_png(np.repeat((RAMP * 65535).astype(np.uint16)[..., None], 3, 2)),
    ],
    ids=range(10),
)
def test_the_full_range_of_values_is_used(content):
    pixels = images.load_rgb(content)[..., 0]
    np.testing.assert_allclose(pixels, RAMP * 255, atol=5.5)


def test_a_dark_image_with_a_stated_range_stays_dark():
    dark = with_chunk(saved(np.full((4, 4), 2570, np.uint16), "PNG"), b"sBIT", b"\x10")
    assert (images.load_rgb(dark) == 10).all()


def test_black_is_black():
    for dtype in (np.uint16, np.int32, np.float32):
        assert (images.load_rgb(saved(np.zeros((4, 4), dtype), "TIFF")) == 0).all()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (saved(twelve_bits(), "PNG"), "16-bit values only reach 4,095 of 65,535"),
        (saved(twelve_bits(), "TIFF"), "16-bit values only reach 4,095 of 65,535"),
        (saved(twelve_bits().astype(np.int32), "TIFF"), "from 0 to 4,095, so white"),
        (saved((RAMP * 2**31 - 1).astype(np.int32), "TIFF"), "so white is neither"),
        (saved((RAMP * 9).astype(np.float32), "TIFF"), "from 0 to 9, so white"),
        (wide_colour_png(np.repeat(twelve_bits()[..., None], 3, 2)), "stay below 4,096"),
    ],
    ids=range(6),
)
def test_an_unknown_range_is_refused(content, reason):
    for read in (images.load_rgb, images.probe, lambda c: images.load_resized(c, 4)):
        with pytest.raises(InputError, match=f"image cannot be read as an image: .*{reason}"):
            read(content)


def test_images_passed_from_python_are_checked_too():
    with pytest.raises(InputError, match="4,095 of 65,535"):
        images.resize_and_crop(Image.fromarray(twelve_bits()), 4)
