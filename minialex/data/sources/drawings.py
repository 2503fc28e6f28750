"""Built-in images, drawn on demand: one class for each combination of colour, texture and shape.

2 colours x 2 textures x 3 shapes = 12 classes. Each cue alone leaves four or six classes open, so a
network must use all three. Position, size, tilt, texture scale, the multicoloured background with
its plain distractors, lighting and noise vary from image to image, independently of the class.

An image is a function of (seed, part, index) alone, and looks the same at every size.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from minialex import rng
from minialex.data.dataset import Dataset, Splits
from minialex.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

COLOURS = ("blue", "red")
TEXTURES = ("dotted", "striped")
FORMS = ("cross", "disc", "triangle")
CLASSES = tuple(" ".join(words) for words in product(COLOURS, TEXTURES, FORMS))

DEFAULT_COUNT = 2400  # training images of "shapes"
_MOST = 10_000_000
_HUES = {"blue": 0.61, "red": 0.99}
_OVERSAMPLING = 2  # shapes are drawn larger and averaged down: smooth edges
_NOISE_SIDE = 512  # one tile of noise serves all images, each at its own offset


@dataclass(frozen=True, repr=False)
class Drawings(Dataset):
    """`count` drawn images, cycling through the classes; `part` 0: training, 1: validation."""

    count: int
    seed: int = 0
    part: int = 0
    name: str = "shapes"
    native_size: None = None
    class_ids: ClassVar[tuple[str, ...]] = tuple(c.replace(" ", "-") for c in CLASSES)
    class_names: ClassVar[tuple[str, ...]] = CLASSES

    @property
    def layout(self) -> str:
        return f"built-in drawn images, {len(CLASSES)} classes, seed {self.seed}"

    @cached_property
    def labels(self) -> np.ndarray:
        return np.arange(self.count, dtype=np.int64) % len(CLASSES)

    def __len__(self) -> int:
        return self.count

    def image(self, index: int, size: int) -> np.ndarray:
        if not 0 <= index < self.count:
            raise IndexError(f"image {index} of {self.count}")
        numbers = rng.uniform(rng.words(self.seed, rng.Stream.SHAPES, self.part, [index], 96)[0])
        return _draw(index % len(CLASSES), _Numbers(numbers), size)

    def image_name(self, index: int) -> None:
        return None

    def describe(self, index: int) -> str:
        return f"shapes:{('train', 'val')[self.part]}/{index} (seed {self.seed})"


def is_drawings(data: object) -> bool:
    """Whether `data` names these images: "shapes" or "shapes:N"."""
    return isinstance(data, str) and data.partition(":")[0] == "shapes"


def named_count(data: str) -> int:
    """The number of training images that "shapes" or "shapes:N" asks for."""
    _, colon, number = data.partition(":")
    if not colon:
        return DEFAULT_COUNT
    if not number.isdecimal():
        raise InputError(f"data {data!r}: expected 'shapes' or 'shapes:N' with a number of images")
    return int(number)


def open_drawings(count: int, *, seed: int) -> Splits:
    """`count` training images and a quarter as many for validation."""
    if count > _MOST:
        raise InputError(f"shapes:{count} is too many images: ask for at most {_MOST:,}")
    if count < 4 * len(CLASSES):
        raise InputError(
            f"shapes:{count} is too few images: ask for at least {4 * len(CLASSES)}, "
            "so that validation sees every class"
        )
    return Splits(Drawings(count, seed, 0), Drawings(count // 4, seed, 1))


class _Numbers:
    """Hands out an image's random numbers one after the other."""

    def __init__(self, drawn: np.ndarray):
        self._drawn, self._next = drawn, 0

    def uniform(self, low, high, count: int | None = None):
        """One number in (low, high), or an array of `count`."""
        start, self._next = self._next, self._next + (count or 1)
        drawn = self._drawn[start : self._next]
        return low + (high - low) * (float(drawn[0]) if count is None else drawn)


def _draw(label: int, numbers: _Numbers, size: int) -> np.ndarray:
    from PIL import Image

    colour, texture, form = CLASSES[label].split()
    picture = _background(numbers, size)
    mask, ink = _object_masks(form, texture, numbers, size)
    hue = _HUES[colour] + numbers.uniform(-0.04, 0.04)
    saturation = numbers.uniform(0.65, 0.95)
    # Ground or ink may be the darker one, so that lightness does not give the texture away.
    dark, light = numbers.uniform(0.3, 0.5), numbers.uniform(0.85, 1.0)
    if numbers.uniform(0, 1) < 0.5:
        dark, light = light, dark
    ground, pattern = _rgb(hue, saturation, dark), _rgb(hue, saturation * 0.6, light)
    fill = Image.composite(
        Image.new("RGB", (size, size), pattern), Image.new("RGB", (size, size), ground), ink
    )
    picture.paste(fill, mask=mask)
    return _light_and_noise(np.asarray(picture, np.float32), numbers)


def _background(numbers: _Numbers, size: int) -> "Image":
    """A blurred patchwork of colours with a few plain ellipses, which may be red or blue too."""
    from PIL import Image, ImageDraw

    grid = np.stack(
        [
            _rgb(*hsv)
            for hsv in zip(
                numbers.uniform(0, 1, 9),
                numbers.uniform(0.05, 0.75, 9),
                numbers.uniform(0.25, 0.95, 9),
                strict=True,
            )
        ]
    )
    patches = Image.fromarray(grid.astype(np.uint8).reshape(3, 3, 3))
    picture = patches.resize((size, size), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for _ in range(4):
        x, y = numbers.uniform(0, size, 2)
        rx, ry = numbers.uniform(0.04, 0.13, 2) * size
        fill = _rgb(numbers.uniform(0, 1), numbers.uniform(0.3, 0.95), numbers.uniform(0.4, 1.0))
        draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=fill)
    return picture


def _object_masks(form: str, texture: str, numbers: _Numbers, size: int) -> tuple["Image", "Image"]:
    """Masks of the object and of the texture on it: two images of mode L."""
    from PIL import Image, ImageDraw

    side = size * _OVERSAMPLING
    radius = numbers.uniform(0.32, 0.44) * side
    centre = numbers.uniform(radius, side - radius, 2)
    # With larger tilts a small network needs many more images before it starts to learn.
    form_turn, texture_turn = (_rotation(angle) for angle in numbers.uniform(-0.4, 0.4, 2))

    mask = Image.new("L", (side, side))
    outline = ImageDraw.Draw(mask)
    if form == "disc":
        r = 0.82 * radius
        outline.ellipse((*(centre - r), *(centre + r)), fill=255)
    else:
        corners = _OUTLINES[form] @ form_turn * radius + centre
        outline.polygon(corners.ravel().tolist(), fill=255)

    ink = Image.new("L", (side, side))
    pattern = ImageDraw.Draw(ink)
    period = numbers.uniform(0.38, 0.52)
    offset = numbers.uniform(0, period, 2)
    lines = np.arange(-1.5, 1.5, period)
    if texture == "striped":
        for y in lines + offset[1]:
            stripe = np.array([(-2, y), (2, y), (2, y + period / 2), (-2, y + period / 2)])
            corners = stripe @ texture_turn * radius + centre
            pattern.polygon(corners.ravel().tolist(), fill=255)
    else:
        r = 0.4 * period * radius  # covers half of the area, like the stripes
        grid = np.stack(np.meshgrid(lines + offset[0], lines + offset[1]), -1).reshape(-1, 2)
        for x, y in grid[(grid**2).sum(1) < 1.4] @ texture_turn * radius + centre:
            pattern.ellipse((x - r, y - r, x + r, y + r), fill=255)
    return mask.reduce(_OVERSAMPLING), ink.reduce(_OVERSAMPLING)


def _light_and_noise(pixels: np.ndarray, numbers: _Numbers) -> np.ndarray:
    """Uneven lighting, a colour cast and noise: float32 (S, S, 3) to uint8."""
    size = len(pixels)
    slope = numbers.uniform(-0.3, 0.3, 2)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    light = 1 + np.float32(slope[0]) * ramp[:, None] + np.float32(slope[1]) * ramp
    tint = numbers.uniform(0.75, 1.05) * numbers.uniform(0.92, 1.08, 3)
    pixels *= light[:, :, None] * tint.astype(np.float32)
    y, x = (int(v) for v in numbers.uniform(0, _NOISE_SIDE, 2))
    rows, columns = (np.arange(size) + y) % _NOISE_SIDE, (np.arange(size) + x) % _NOISE_SIDE
    pixels += (_noise()[rows][:, columns] * np.float32(numbers.uniform(2, 9)))[:, :, None]
    return np.clip(pixels, 0, 255, out=pixels).astype(np.uint8)


@lru_cache(maxsize=1)
def _noise() -> np.ndarray:
    shape = (_NOISE_SIDE, _NOISE_SIDE)
    return rng.normal_array(0, rng.Stream.SHAPES, 2**32 - 1, shape, 1.0, np.float32)


def _rgb(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    """Hue in turns, saturation and value in 0 … 1, to 0 … 255."""
    import colorsys

    r, g, b = (int(255 * v) for v in colorsys.hsv_to_rgb(hue % 1, saturation, value))
    return r, g, b


def _rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _regular(corners: int) -> np.ndarray:
    angles = 2 * np.pi * np.arange(corners) / corners
    return np.stack((np.sin(angles), -np.cos(angles)), axis=-1)


_W = 0.32  # half the width of the cross's arms
_OUTLINES = {
    "triangle": _regular(3) * 1.12,
    "cross": np.array(
        [
            *[(-_W, -1), (_W, -1), (_W, -_W), (1, -_W), (1, _W), (_W, _W)],
            *[(_W, 1), (-_W, 1), (-_W, _W), (-1, _W), (-1, -_W), (-_W, -_W)],
        ]
    ),
}
