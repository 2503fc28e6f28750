"""With simplejpeg or without: the same pixels, the same refusals."""

import io

import numpy as np
import pytest
from PIL import Image

from minialex.data.decode import images, jpeg
from minialex.errors import InputError

pytest.importorskip("simplejpeg", reason="simplejpeg, the extra `fast`, is not installed")


def encoded(image, **options) -> bytes:
    content = io.BytesIO()
    image.save(content, "JPEG", **options)
    return content.getvalue()


def both(monkeypatch, function, *arguments):
    """What `function` returns with simplejpeg and without it."""
    fast = function(*arguments)
    with monkeypatch.context() as patch:
        patch.setattr(jpeg, "simplejpeg", lambda: None)
        return fast, function(*arguments)


PHOTO = Image.effect_mandelbrot((161, 123), (-2, -1, 1, 1), 60)
EXIF = Image.Exif()
EXIF[0x0112] = 6


@pytest.mark.parametrize(
    "content",
    [
        encoded(PHOTO.convert("RGB"), quality=90),
        encoded(PHOTO.convert("RGB"), quality=30, subsampling=2),
        encoded(PHOTO.convert("RGB"), quality=95, subsampling=1),
        encoded(PHOTO.convert("RGB"), quality=95, subsampling=0),
        encoded(PHOTO.convert("RGB"), progressive=True),
        encoded(PHOTO.convert("L")),
        encoded(PHOTO.convert("CMYK")),
        encoded(PHOTO.convert("RGB"), exif=EXIF),
        encoded(PHOTO.convert("RGB"), keep_rgb=True),
        encoded(PHOTO.convert("RGB").resize((1, 1))),
    ],
    ids=["420", "low", "422", "444", "progressive", "grey", "cmyk", "turned", "rgb", "dot"],
)
def test_the_pixels_are_pillows(monkeypatch, tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    for source in (content, tmp_path / "a.jpg"):
        fast, slow = both(monkeypatch, images.load_rgb, source)
        np.testing.assert_array_equal(fast, slow)
        fast, slow = both(monkeypatch, images.load_resized, source, 40)
        np.testing.assert_array_equal(fast, slow)


def test_it_is_used():
    with Image.open(io.BytesIO(encoded(PHOTO.convert("RGB")))) as image:
        assert jpeg.decode(image, image.fp) is not None


def test_damaged_files_are_refused_alike(monkeypatch):
    whole = encoded(PHOTO.convert("RGB"))
    rng = np.random.default_rng(0)

    def attempt(content):
        try:
            return images.load_rgb(content)
        except InputError as error:
            return str(error)

    refused = 0
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(len(data))] = rng.integers(256)
        if rng.integers(3) == 0:
            del data[rng.integers(len(data)) :]
        fast, slow = both(monkeypatch, attempt, bytes(data))
        if isinstance(slow, str):
            assert fast == slow
            refused += 1
        elif isinstance(fast, str) or fast.shape != slow.shape:
            pytest.fail(f"Pillow reads what is refused with simplejpeg: {fast}")
    assert 0 < refused < 150


def test_the_real_photographs(monkeypatch, shared_data):
    paths = sorted((shared_data / "clothing").glob("*/*/*.jpg"))[::40]
    paths += sorted((shared_data / "imagenette").glob("val/*/*"))[::200]
    for path in paths:
        fast, slow = both(monkeypatch, images.load_rgb, path)
        np.testing.assert_array_equal(fast, slow)
