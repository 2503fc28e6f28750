"""Resizing equals Pillow's, one direction after the other, to the last bit."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from minialex.data.decode import images, resize
from minialex.utils.image_size import Bilinear, Squashed

BICUBIC = Image.Resampling.BICUBIC


def by_pillow(pixels: np.ndarray, size: int) -> np.ndarray:
    """Rows first, then columns: each alone is the same in all versions of Pillow."""
    height, width, _ = pixels.shape
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    image = Image.fromarray(pixels)
    across = image.resize((size, height), BICUBIC, box=(left, 0, left + side, height))
    return np.array(across.resize((size, size), BICUBIC, box=(0, top, size, top + side)))


@given(st.integers(1, 150), st.integers(1, 150), st.integers(1, 120), st.integers(0, 2**32))
def test_every_bit_matches_pillow(height, width, size, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    np.testing.assert_array_equal(resize.resize_and_crop(pixels, size), by_pillow(pixels, size))


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 80), st.integers(0, 2**32))
def test_squashing_crops_nothing(height, width, size, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    across = Image.fromarray(pixels).resize((size, height), BICUBIC)
    wanted = np.array(across.resize((size, size), BICUBIC))
    np.testing.assert_array_equal(images.resize_and_crop(pixels, Squashed(size)), wanted)


def as_torchvision(image, size):
    """torchvision's Resize(size) and CenterCrop(size) on a Pillow image, as in its source."""
    width, height = image.size
    short, long = min(width, height), max(width, height)
    new = int(size * long / short)
    wide, high = (size, new) if width <= height else (new, size)
    if short != size:
        image = image.resize((wide, high), Image.Resampling.BILINEAR)
    left, top = round((image.width - size) / 2.0), round((image.height - size) / 2.0)
    return np.asarray(image.crop((left, top, left + size, top + size)))


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [(300, 200, 64), (201, 333, 64), (64, 97, 64), (97, 64, 64), (500, 375, 256), (90, 91, 128)],
)
def test_bilinear_matches_torchvision(width, height, size, tmp_path):
    """Equal to the last bit, except for images that Pillow filters in the other order."""
    rng = np.random.default_rng(width)
    coarse = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    expected = as_torchvision(image, size)
    found = images.resize_and_crop(np.asarray(image), Bilinear(size))
    apart = np.abs(found.astype(int) - expected)
    assert apart.max() <= (0 if width >= height else 1)
    image.save(tmp_path / "image.png")
    again = images.load_resized(tmp_path / "image.png", Bilinear(size))
    np.testing.assert_array_equal(again, found)
    if min(width, height) != size:
        assert np.any(found != images.resize_and_crop(np.asarray(image), size))


def test_a_squashed_size_differs_from_a_plain_one():
    """So that caches keep both kinds apart."""
    assert Squashed(8) == Squashed(8) != Squashed(9)
    assert Bilinear(8) == Bilinear(8) != Squashed(8) != 8 != Bilinear(8)
    assert Squashed(8) != 8
    assert [8].count(Squashed(8)) == 0  # from the other side
    assert len({8, Squashed(8), Squashed(8)}) == 2
    assert np.zeros((Squashed(8), 2)).shape == (8, 2)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 50), st.integers(0, 99))
def test_unusual_arrays_are_read_correctly(height, width, size, seed):
    whole = np.random.default_rng(seed).integers(0, 256, (2 * height, width + 3, 3), np.uint8)
    view = whole[::2, 3:]
    copy = np.ascontiguousarray(view)
    np.testing.assert_array_equal(
        resize.resize_and_crop(view, size), resize.resize_and_crop(copy, size)
    )
    copy.setflags(write=False)
    np.testing.assert_array_equal(
        resize.resize_and_crop(view, size), resize.resize_and_crop(copy, size)
    )


@pytest.mark.parametrize("size", [64, 72, 256, 300])
def test_photographs_match_pillows_resize(size):
    """Pillow 13 filters some tall images in the other order: hard edges then differ a little."""
    for shape in ((160, 400), (400, 160), (300, 300)):
        wide = Image.effect_mandelbrot(shape, (-2, -1, 1, 1), 60).convert("RGB")
        side = min(shape)
        left, top = (shape[0] - side) / 2, (shape[1] - side) / 2
        box = (left, top, left + side, top + side)
        pillow = np.array(wide.resize((size, size), BICUBIC, box=box)).astype(int)
        ours = images.resize_and_crop(wide, size)
        assert np.abs(ours - pillow).mean() < 0.2


def test_it_works_without_a_disk_cache(tmp_path):
    script = (
        "import numba, numba.core.caching as c\n"
        "def none(*a): raise RuntimeError('no locator available')\n"
        "c.CacheImpl.__init__ = none\n"
        "import numpy as np\n"
        "from minialex.data.decode import resize\n"
        "print(resize.resize_and_crop(np.full((9, 7, 3), 5, np.uint8), 4).mean())"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.stdout == "5.0\n", ended.stderr
