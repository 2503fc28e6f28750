"""A data set that any method learns at once: vertical or horizontal stripes in six colours."""

import colorsys
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from minialex.data.dataset import Dataset, Splits

COLOURS = ("red", "yellow", "green", "cyan", "blue", "violet")
CLASSES = tuple(f"{colour} {run}" for colour in COLOURS for run in ("level", "upright"))


@dataclass(frozen=True)
class Stripes(Dataset):
    """`count` images, cycling through 12 classes; their shift, width, light and noise vary."""

    count: int
    seed: int = 0
    part: int = 0
    name: str = "stripes"
    layout: str = "striped squares"
    native_size: None = None
    class_ids: ClassVar[tuple[str, ...]] = tuple(name.replace(" ", "-") for name in CLASSES)
    class_names: ClassVar[tuple[str, ...]] = CLASSES

    @property
    def labels(self) -> np.ndarray:
        return np.arange(self.count, dtype=np.int64) % len(CLASSES)

    def __len__(self) -> int:
        return self.count

    def image(self, index: int, size: int) -> np.ndarray:
        draw = np.random.default_rng((self.seed, self.part, index))
        hue, upright = divmod(index % len(CLASSES), 2)
        waves = np.sin(2 * np.pi * (draw.uniform(3, 5) * np.arange(size) / size + draw.random()))
        light = 0.6 + 0.25 * waves + draw.normal(0, 0.05, (size, size))
        colour = 255 * np.array(colorsys.hsv_to_rgb(hue / len(COLOURS), 0.8, draw.uniform(0.8, 1)))
        return np.clip((light if upright else light.T)[..., None] * colour, 0, 255).astype(np.uint8)

    def describe(self, index: int) -> str:
        return f"{self.name}:{self.part}/{index}"


def stripes(train: int, val: int, seed: int = 0) -> Splits:
    return Splits(Stripes(train, seed), Stripes(val, seed, part=1))
