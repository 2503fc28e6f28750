import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from minialex.data.decode import images, kinds
from minialex.errors import InputError


def saved(image: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def flat(mode: str, colour, **options) -> bytes:
    return saved(Image.new(mode, (6, 4), colour), **options)


MODES = [
    (flat("RGB", (1, 2, 3)), (1, 2, 3)),
    (flat("L", 77), (77, 77, 77)),
    (flat("LA", (40, 255)), (40, 40, 40)),
    (flat("LA", (40, 0)), (255, 255, 255)),
    (flat("RGBA", (200, 100, 0, 255)), (200, 100, 0)),
    (flat("RGBA", (200, 100, 0, 0)), (255, 255, 255)),
    (flat("RGBA", (0, 0, 0, 51)), (204, 204, 204)),
    (flat("1", 1), (255, 255, 255)),
    (flat("1", 0), (0, 0, 0)),
    (flat("I;16", 65535), (255, 255, 255)),
    (flat("I;16", 257 * 200 + 100), (200, 200, 200)),
    (flat("F", 0.5, format="TIFF"), (128, 128, 128)),
    (flat("F", 200.0, format="TIFF"), (200, 200, 200)),
    (flat("CMYK", (0, 0, 0, 0), format="TIFF"), (255, 255, 255)),
    (flat("CMYK", (0, 255, 255, 0), format="TIFF"), (255, 0, 0)),
    (saved(Image.new("RGB", (6, 4), (9, 99, 199)).quantize(4)), (9, 99, 199)),
]


@pytest.mark.parametrize(("data", "expected"), MODES, ids=range(len(MODES)))
def test_every_mode_becomes_rgb(data, expected):
    pixels = images.load_rgb(data)
    assert pixels.shape == (4, 6, 3)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.broadcast_to(np.uint8(expected), (4, 6, 3)))


def test_transparent_palette_entry_is_white():
    image = Image.new("P", (6, 4), 0)
    image.putpalette([10, 20, 30])
    data = saved(image, transparency=0)
    assert (images.load_rgb(data) == 255).all()


def test_cmyk_jpeg():
    pixels = images.load_rgb(saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"))
    assert np.abs(pixels.astype(int) - (255, 0, 0)).max() < 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_camera_rotation_is_undone(orientation):
    upright = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    turn_as_stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }
    stored = Image.fromarray(np.ascontiguousarray(turn_as_stored[orientation](upright)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(images.load_rgb(saved(stored, exif=exif)), upright)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0"]
)
def test_damaged_camera_notes_are_ignored(exif):
    upright = Image.new("RGB", (16, 8), (10, 200, 30))
    np.testing.assert_array_equal(
        images.load_rgb(saved(upright, "JPEG", exif=exif)), images.load_rgb(saved(upright, "JPEG"))
    )


def test_paths_files_and_bytes_agree(tmp_path, photo):
    path = photo(tmp_path / "a.jpg")
    from_path = images.load_rgb(path)
    np.testing.assert_array_equal(images.load_rgb(str(path)), from_path)
    np.testing.assert_array_equal(images.load_rgb(path.read_bytes()), from_path)
    with path.open("rb") as file:
        np.testing.assert_array_equal(images.load_rgb(file), from_path)


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises width x height pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("pillow_limit", [Image.MAX_IMAGE_PIXELS, None])
def test_a_decompression_bomb_is_refused_before_decoding(tmp_path, monkeypatch, pillow_limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillow_limit)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    (tmp_path / "bomb.png").write_bytes(png_that_claims(50_000, 50_000))
    with pytest.raises(InputError, match=r"bomb\.png claims .* pixels.* 178 million"):
        images.load_rgb(tmp_path / "bomb.png")


@pytest.mark.parametrize("load", [images.load_rgb, lambda path: images.load_resized(path, 8)])
def test_a_truncated_file_is_named_with_the_reason(tmp_path, photo, load):
    path = photo(tmp_path / "cut.jpg", size=(200, 200))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"cut\.jpg cannot be read as an image: .*truncated"):
        load(path)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.jpg").write_text("not an image")
    with pytest.raises(InputError, match=r"a\.jpg is not an image"):
        images.load_rgb(tmp_path / "a.jpg")
    with pytest.raises(FileNotFoundError, match=r"no image file .*b\.jpg"):
        images.load_rgb(tmp_path / "b.jpg")
    with pytest.raises(IsADirectoryError):
        images.load_rgb(tmp_path)


def test_postscript_is_never_run():
    data = saved(Image.new("RGB", (6, 4)), "EPS")
    with pytest.raises(InputError, match="is not an image"):
        images.load_rgb(data)
    assert {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif"} <= kinds.suffixes()
    assert not {".eps", ".ps", ".wmf", ".pdf"} & kinds.suffixes()


PHOTO = saved(Image.effect_mandelbrot((64, 48), (-2, -1, 1, 1), 50).convert("RGB"), "JPEG")


@given(
    st.lists(st.tuples(st.integers(2, len(PHOTO) - 1), st.integers(0, 255)), max_size=20),
    st.integers(0, len(PHOTO)),
)
def test_damaged_files_raise_input_error_or_give_an_image(changes, length):
    data = bytearray(PHOTO)
    for offset, value in changes:
        data[offset] = value
    try:
        pixels = images.load_rgb(bytes(data[:length]))
    except InputError:
        return
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 70))
def test_any_image_is_resized_to_a_square(height, width, size):
    """A ramp along the longer side: its middle must land in the middle."""
    along = 1 if width >= height else 0
    ramp = np.linspace(0, 255, max(width, height)).astype(np.uint8)
    pixels = np.broadcast_to(np.expand_dims(ramp, 1 - along)[..., None], (height, width, 3))
    out = images.resize_and_crop(np.ascontiguousarray(pixels), size)
    assert out.shape == (size, size, 3)
    middle = (int(ramp[(len(ramp) - 1) // 2]) + int(ramp[len(ramp) // 2])) / 2
    step = 255 / max(len(ramp) - 1, 1)
    assert abs(out.mean() - middle) <= step + 2


def test_resizing_keeps_pixels_that_need_no_scaling():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 31, 3), np.uint8)
    np.testing.assert_array_equal(images.resize_and_crop(pixels, 20), pixels[:, 5:25])


def test_resizing_scales_then_crops():
    wide = Image.effect_mandelbrot((160, 80), (-2, -1, 1, 1), 50).convert("RGB")
    scaled = wide.resize((80, 40), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(images.resize_and_crop(wide, 40), np.asarray(scaled)[:, 20:60])


def test_large_jpegs_are_reduced_without_a_visible_difference(tmp_path):
    image = Image.effect_mandelbrot((1600, 1200), (-2, -1.2, 1, 1.2), 80).convert("RGB")
    image.save(tmp_path / "large.jpg", quality=90)
    quick = images.load_resized(tmp_path / "large.jpg", 64).astype(int)
    exact = images.resize_and_crop(images.load_rgb(tmp_path / "large.jpg"), 64).astype(int)
    assert np.abs(quick - exact).mean() < 2
    small = images.load_rgb(tmp_path / "large.jpg")[:90, :90]
    Image.fromarray(small).save(tmp_path / "small.jpg")
    np.testing.assert_array_equal(
        images.load_resized(tmp_path / "small.jpg", 64),
        images.resize_and_crop(images.load_rgb(tmp_path / "small.jpg"), 64),
    )


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8)],
)
def test_unsupported_arrays_are_refused(array):
    with pytest.raises(InputError, match=r"give uint8 \(H, W\)"):
        images.resize_and_crop(array, 4)
    with pytest.raises(InputError, match="no pixel"):
        images.resize_and_crop(np.zeros((0, 4, 3), np.uint8), 4)


def test_pillow_images_without_pixels_and_of_rare_modes():
    with pytest.raises(InputError, match="0 x 5 pixels"):
        images.to_rgb(Image.new("RGB", (0, 5)))
    assert images.to_rgb(Image.new("La", (4, 4))).mode == "RGB"
