"""User-defined augmentation: a function of an image and a random generator.

    def snow(image, draw):        # uint8 (S, S, channels), numpy.random.Generator
        image[draw.random(image.shape[:2]) < 0.01] = 255
        return image

It runs before all other augmentation. The generator depends only on the seed, the epoch and the
image's position in the epoch, so a resumed run draws the same numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minialex.errors import InputError
from minialex.rng import Stream
from minialex.utils.plugins import Registry, run

Function = Callable[[np.ndarray, np.random.Generator], Any]


@dataclass(frozen=True)
class Augmentation:
    """A user's function, and where it is defined."""

    function: Function
    source: str

    def __call__(
        self, images: np.ndarray, positions: np.ndarray, *, seed: int, epoch: int
    ) -> np.ndarray:
        """The images (N, S, S, channels) at `positions` of an epoch's order, changed."""
        out = np.empty_like(images)
        for image, position, row in zip(images, positions, out, strict=True):
            draw = np.random.default_rng((seed, int(Stream.OWN), epoch, int(position)))
            made = run(f"the augmentation {self.source}", self.function, image.copy(), draw)
            found = np.shape(made), getattr(made, "dtype", type(made).__name__)
            if found != (image.shape, image.dtype):
                raise InputError(
                    f"the augmentation {self.source} returned {found[1]} {found[0]}: it must "
                    f"return {image.dtype} {image.shape}, like its input"
                )
            row[...] = made
        return out


PLUGINS: Registry[Augmentation] = Registry("augmentation", "--augment", {}, Augmentation)


def register(name: str, function: Function) -> None:
    """Make `function(image, draw)` the augmentation called `name` in this process.

    A package can provide one through an entry point of the group "minialex.augmentations".
    """
    PLUGINS.register(name, function)


def use(augmentation: Any) -> Any:
    """The name of one given as a name, a function, FILE.py:NAME or package.module:NAME."""
    return PLUGINS.use(augmentation)


def get(name: str) -> Augmentation:
    """The augmentation called `name`."""
    return PLUGINS.get(name)
