"""With and without simplejpeg: the same pixels, the same errors."""

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
def test_pixels_match_pillow(monkeypatch, tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    for source in (content, tmp_path / "a.jpg"):
        fast, slow = both(monkeypatch, images.load_rgb, source)
        np.testing.assert_array_equal(fast, slow)
        fast, slow = both(monkeypatch, images.load_resized, source, 40)
        np.testing.assert_array_equal(fast, slow)


LARGE = PHOTO.convert("RGB").resize((644, 492))


def with_a_hole(content: bytes) -> bytes:
    """Zeros over a sixth of the data."""
    start, length = len(content) // 3, len(content) // 6
    return content[:start] + bytes(length) + content[start + length :]


@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"exif": EXIF}, {"keep_rgb": True}, {"optimize": True}],
    ids=" ".join,
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_damage_in_the_middle_is_detected_at_every_size(tmp_path, mode, options):
    """Pillow alone fills the rest of such an image with grey."""
    if mode != "RGB" and "keep_rgb" in options:
        return
    whole = encoded(LARGE.convert(mode), **options)
    for name, content in (
        ("hole", with_a_hole(whole)),
        ("tail", whole[: len(whole) // 2] + bytes(len(whole) // 2)),
    ):
        (tmp_path / f"{name}.jpg").write_bytes(content)
        for source in (content, tmp_path / f"{name}.jpg"):
            for read in (images.load_rgb, images.probe):
                with pytest.raises(InputError, match="cannot be read as an image"):
                    read(source)
            for size in (16, 100, 300, 600):
                with pytest.raises(InputError, match="cannot be read as an image"):
                    images.load_resized(source, size)


@pytest.mark.parametrize("gap", [bytes(5), bytes(64), b"\xff" * 9, b"  ", b"xy", b"\0\0\xff\xff"])
def test_padding_before_the_end_marker_is_not_damage(monkeypatch, gap):
    whole = encoded(PHOTO.convert("RGB"))
    fast, slow = both(monkeypatch, images.load_rgb, whole[:-2] + gap + whole[-2:])
    np.testing.assert_array_equal(fast, images.load_rgb(whole))
    np.testing.assert_array_equal(fast, slow)


@pytest.mark.parametrize("left", [b"picture", bytes(range(40)), bytes(300), b"\0" * 20 + b"a"])
def test_image_data_before_the_end_marker_is_damage(left):
    whole = encoded(PHOTO.convert("RGB"))
    with pytest.raises(InputError, match="extraneous bytes"):
        images.load_rgb(whole[:-2] + left + whole[-2:])


def test_zeros_decoded_as_pixels_are_damage():
    warning = "Corrupt JPEG data: 5 extraneous bytes before marker 0xd9"
    jpeg._require_sound(b"\xff\xd8 picture" + bytes(9) + b"\xff\xd9", warning)
    with pytest.raises(jpeg.Damaged):
        jpeg._require_sound(b"\xff\xd8 picture" + bytes(40) + b"\xff\xd9", warning)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_reduced_and_rotated_images_match_pillow(monkeypatch, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(LARGE, exif=exif)
    for size in (16, 30, 61, 200):
        fast, slow = both(monkeypatch, images.load_resized, content, size)
        np.testing.assert_array_equal(fast, slow)


def test_simplejpeg_is_used():
    with Image.open(io.BytesIO(encoded(PHOTO.convert("RGB")))) as image:
        assert jpeg.decode(image, image.fp) is not None


def test_damaged_files_are_refused_with_and_without_simplejpeg(monkeypatch):
    whole = encoded(PHOTO.convert("RGB"))
    rng = np.random.default_rng(0)

    def attempt(content):
        try:
            return images.load_rgb(content)
        except InputError as error:
            return str(error)

    refused = corrupt = 0
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(len(data))] = rng.integers(256)
        if rng.integers(3) == 0:
            del data[rng.integers(len(data)) :]
        fast, slow = both(monkeypatch, attempt, bytes(data))
        if isinstance(slow, str):
            assert fast == slow or "Corrupt JPEG data" in fast
            refused += 1
        elif isinstance(fast, str):  # Pillow fills what is missing with grey
            assert "Corrupt JPEG data" in fast
            corrupt += 1
        else:
            np.testing.assert_array_equal(fast, slow)
    assert refused > 0
    assert 0 < corrupt < 150 - refused


def test_real_photographs_match_pillow(monkeypatch, shared_data):
    paths = sorted((shared_data / "clothing").glob("*/*/*.jpg"))[::40]
    paths += sorted((shared_data / "imagenette").glob("val/*/*"))[::200]
    for path in paths:
        fast, slow = both(monkeypatch, images.load_rgb, path)
        np.testing.assert_array_equal(fast, slow)
