"""Files that are not images are named by type, and reading never blocks."""

import errno
import os
import struct

import numpy as np
import pytest
from PIL import Image

from minialex.data.decode import images, kinds
from minialex.errors import InputError


def lossless_jpeg(pixels: np.ndarray) -> bytes:
    """Predictor 1, and one Huffman table of 17 codes of five bits each: uint8 (H, W, 3)."""
    height, width, colours = pixels.shape
    padded = np.full((height, width + 1, colours), 128, int)
    padded[:, 1:] = pixels
    padded[1:, 0] = pixels[:-1, 0]
    bits = ""
    for d in np.diff(padded, axis=1).ravel().tolist():
        n = abs(d).bit_length()
        bits += f"{n:05b}" + (f"{d if d > 0 else d + (1 << n) - 1:0{n}b}" if n else "")
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")

    def segment(kind: int, body: bytes) -> bytes:
        return bytes([0xFF, kind]) + struct.pack(">H", len(body) + 2) + body

    each = range(1, colours + 1)
    frame = struct.pack(">BHHB", 8, height, width, colours)
    frame += b"".join(bytes([i, 0x11, 0]) for i in each)
    table = bytes([0, 0, 0, 0, 0, 17]) + bytes(11) + bytes(range(17))
    scan = bytes([colours]) + b"".join(bytes([i, 0]) for i in each) + bytes([1, 0, 0])
    head = segment(0xC4, table) + segment(0xC3, frame) + segment(0xDA, scan)
    return b"\xff\xd8" + head + data + b"\xff\xd9"


def test_a_lossless_jpeg_is_read_at_every_size():
    pixels = np.random.default_rng(0).integers(60, 190, (24, 32, 3)).astype(np.uint8)
    content = lossless_jpeg(pixels)
    np.testing.assert_array_equal(images.load_rgb(content), pixels)
    for size in (2, 5, 6, 12, 24, 40):
        expected = images.resize_and_crop(pixels, size)
        np.testing.assert_array_equal(images.load_resized(content, size), expected)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "it is empty"),
        (bytes(5000), "it starts with zeros, so the file is incomplete"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"/annex/objects/SHA256E-s1--0.jpg\n", "git annex get"),
        (b"\0\0\0\x18ftypheic" + bytes(90), "a HEIC photograph: convert it"),
        (b"\0\x05\x16\x07" + bytes(90), "AppleDouble"),
        (b" <!DOCTYPE html><html>404</html>", "a web page"),
    ],
)
def test_the_type_of_a_non_image_is_named(tmp_path, content, what):
    (tmp_path / "a.jpg").write_bytes(content)
    for read in (images.load_rgb, lambda path: images.load_resized(path, 8)):
        with pytest.raises(InputError, match=rf"a\.jpg is not an image .*{what}"):
            read(tmp_path / "a.jpg")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_images_are_recognised_by_their_first_bytes(tmp_path, kind):
    Image.new("RGB", (9, 9)).save(tmp_path / "photo", kind)
    assert kinds.is_image((tmp_path / "photo").read_bytes()[: kinds.HEAD])
    assert not kinds.is_image(b"BM is how some texts begin")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_links_and_pipes_give_clear_errors(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "circle.jpg").symlink_to("circle.jpg")
    (tmp_path / "lost.jpg").symlink_to("nowhere.jpg")
    for read in (images.load_rgb, lambda path: images.load_resized(path, 8)):
        with pytest.raises(InputError, match="pipe or a device"):
            read(tmp_path / "pipe.jpg")
        with pytest.raises(FileNotFoundError, match=r"lost\.jpg': the link leads nowhere"):
            read(tmp_path / "lost.jpg")
        with pytest.raises(OSError, match="symbolic links"):
            read(tmp_path / "circle.jpg")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("at", [0, 700])
def test_a_drive_error_is_not_blamed_on_the_file(tmp_path, monkeypatch, at, kind):
    """Whether the first or later bytes fail: the error may pass, and must not count as damage."""
    path = tmp_path / "a.png"
    Image.effect_noise((60, 40), 90).save(path, kind)

    class Failing:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def read(self, count=-1):
            if self.file.tell() >= at or count < 0 or count > at:
                raise OSError(errno.EIO, "Input/output error")
            return self.file.read(count)

    opened = images.open_file
    monkeypatch.setattr(images, "open_file", lambda path: Failing(opened(path)))
    for read in (images.load_rgb, lambda path: images.load_resized(path, 8)):
        with pytest.raises(OSError) as caught:
            read(path)
        assert caught.value.errno == errno.EIO
