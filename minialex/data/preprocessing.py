"""From resized images to network input, the same in training and evaluation.

It is stored in every weight file, so that a classifier preprocesses images as its training did.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from minialex.backends.base import Array, Backend
from minialex.data.augment import Draws, centre_draws, random_draws, ten_crop_draws
from minialex.data.statistics import Statistics
from minialex.errors import InputError
from minialex.models.recipe import Recipe


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing of a recipe with the statistics of one training set; RGB, 0 to 255."""

    recipe: Recipe
    statistics: Statistics

    def __post_init__(self) -> None:
        size = self.recipe.resize
        if self.statistics.mean.shape[:2] != (size, size):
            raise InputError(
                f"the mean image is {self.statistics.mean.shape} but the recipe resizes to {size}: "
                "the weight file is inconsistent"
            )

    def training_input(
        self,
        b: Backend,
        images: np.ndarray,
        positions: np.ndarray,
        *,
        seed: int,
        epoch: int,
        noise: float,
        dtype: str,
    ) -> Array:
        """Crops, mirrors and colour shifts (section 4.1): (N, S, S, 3) -> (N, crop, crop, 3).

        `positions` are the images' positions in the epoch's order, `noise` the strength of the
        colour shift; the draws depend on these, the seed and the epoch alone.
        """
        draws, scale = self.training_draws(positions, seed=seed, epoch=epoch, noise=noise)
        return self._crops(b, images, draws, scale, dtype)

    def training_draws(
        self, positions: np.ndarray, *, seed: int, epoch: int, noise: float
    ) -> tuple[Draws, float]:
        """The random draws for training images, and the factor that scales their values."""
        recipe = self.recipe
        draws = random_draws(
            seed,
            epoch,
            positions,
            recipe.resize,
            recipe.crop,
            mirror=recipe.mirror,
            colour_noise=noise,
            colour=(self.statistics.colour_std, self.statistics.colour_axes),
            crop_chunk=recipe.crop_chunk,
        )
        if not recipe.random_crops:
            centre = centre_draws(len(positions), recipe.resize, recipe.crop)
            draws = Draws(centre.top, centre.left, draws.flip, draws.shift)
        return draws, 1 / (1 + noise) if recipe.colour_divide else 1.0

    def views(self, crops: int) -> list[tuple[int, int, bool]]:
        """(top, left, mirrored) of each test view: one, or the ten of section 4.1."""
        if crops not in (1, 10):
            raise InputError(f"evaluation uses 1 crop or 10, not {crops!r}")
        size, crop = self.recipe.resize, self.recipe.crop
        draws = centre_draws(1, size, crop) if crops == 1 else ten_crop_draws(size, crop)
        return [
            (int(t), int(l), bool(f))
            for t, l, f in zip(draws.top, draws.left, draws.flip, strict=True)
        ]

    def test_input(
        self, b: Backend, images: np.ndarray, view: tuple[int, int, bool], dtype: str
    ) -> Array:
        """One view of every image: (N, S, S, 3) -> (N, crop, crop, 3)."""
        n = len(images)
        top, left, flip = (np.full(n, value) for value in view)
        return self._crops(
            b, images, Draws(top, left, flip, np.zeros((n, 3), np.float32)), 1.0, dtype
        )

    @property
    def mean_corner(self) -> int | None:
        """Offset of the mean image's crop, both ways; None: that of the image's crop."""
        margin = (self.recipe.resize - self.recipe.crop) // 2
        return margin if self.recipe.mean_window == "centre" else None

    @cached_property
    def mean(self) -> np.ndarray:
        """The mean image that is subtracted, (S, S, 3), or its mean colour everywhere."""
        mean = self.statistics.mean
        if self.recipe.mean_window == "colour":
            return np.full_like(mean, mean.mean(axis=(0, 1)))
        return mean

    def _crops(
        self, b: Backend, images: np.ndarray, draws: Draws, scale: float, dtype: str
    ) -> Array:
        fixed = self.mean_corner
        return b.crops(
            b.asarray(images),
            draws.top,
            draws.left,
            draws.flip,
            self.recipe.crop,
            self.mean,
            fixed,
            fixed,
            draws.shift if draws.shift.any() else None,
            scale,
            dtype,
        )
