"""From resized images to network input, the same in training and evaluation.

It is stored in every weight file, so that a classifier preprocesses images as its training did.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from minialex.backends.base import Array, Backend
from minialex.data import own_augmentation
from minialex.data.augment.draws import Draws, centre_draws, random_draws, ten_crop_draws
from minialex.data.augment.warp_draws import random_mixing, random_warps
from minialex.data.statistics import Statistics
from minialex.errors import InputError
from minialex.models.recipe import Recipe

CENTRES_FIRST = (2, 7, 0, 1, 3, 4, 5, 6, 8, 9)
"""An order of the ten views: the centre, its mirror image, the others."""


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing of a recipe with the statistics of one training set; RGB, 0 to 255."""

    recipe: Recipe
    statistics: Statistics

    def __post_init__(self) -> None:
        size = self.recipe.resize
        if self.statistics.mean.shape[:2] != (size, size):
            raise InputError(
                f"the mean image is {self.statistics.mean.shape}, but the recipe says {size}: "
                "the weight file is inconsistent"
            )
        if self.recipe.warps and self.statistics.mean.shape[2] != 3:
            raise InputError(
                f"these images have {self.statistics.mean.shape[2]} channels: only RGB images can "
                "be augmented by more than crops and mirrors"
            )

    def host_images(
        self, images: np.ndarray, positions: np.ndarray, *, seed: int, epoch: int
    ) -> np.ndarray:
        """The input of `training_input` for a batch of resized images, uint8 (N, S, S, 3).

        The images themselves, changed by the user's own function if there is one; or, if the recipe
        warps them, (N, crop, crop, 3): crops, not yet mirrored, of random size, angle and colours,
        partly erased and mixed.
        """
        recipe = self.recipe
        if recipe.augment:
            own = own_augmentation.get(recipe.augment)
            images = own(images, positions, seed=seed, epoch=epoch)
        if not recipe.warps:
            return images
        from minialex.data.augment.warp import mix, warp  # imports Numba, which takes a while

        colour = self.statistics.mean.mean(axis=(0, 1))
        crops = self._paper_draws(positions, seed=seed, epoch=epoch, noise=0.0)
        warps = random_warps(recipe, seed, epoch, positions, crops, colour)
        cut = warp(images, warps, recipe.crop, np.rint(colour).astype(np.uint8))
        if recipe.mixup == 0:
            return cut
        return mix(cut, random_mixing(recipe.mixup, seed, epoch, positions))

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

        `images` are some of those that `host_images` returned, `positions` their positions in the
        epoch's order, `noise` the strength of the colour shift; the draws depend only on these, the
        seed and the epoch.
        """
        draws, scale = self.training_draws(positions, seed=seed, epoch=epoch, noise=noise)
        return self._crops(b, images, draws, scale, dtype, self.training_mean)

    def training_draws(
        self, positions: np.ndarray, *, seed: int, epoch: int, noise: float
    ) -> tuple[Draws, float]:
        """The random draws for what `host_images` returned, and the factor that scales values."""
        draws = self._paper_draws(positions, seed=seed, epoch=epoch, noise=noise)
        if self.recipe.warps:  # images that are cropped already
            corner = np.zeros(len(positions), np.int64)
            draws = Draws(corner, corner, draws.flip, draws.shift)
        return draws, 1 / (1 + noise) if self.recipe.colour_divide else 1.0

    def _paper_draws(self, positions: np.ndarray, *, seed: int, epoch: int, noise: float) -> Draws:
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
        return draws

    def views(self, crops: int) -> list[tuple[int, int, bool]]:
        """(top, left, mirrored) of each test view: one, or the ten of section 4.1.

        Only the five that are not mirrored if training did not mirror images, where left and right
        may differ, as in letters.
        """
        if crops not in (1, 10):
            raise InputError(f"evaluation uses 1 crop or 10, not {crops!r}")
        if crops == 1:
            return _views(centre_draws(1, self.recipe.resize, self.recipe.crop))
        return [view for view in self.ten_views() if self.recipe.mirror or not view[2]]

    def ten_views(self) -> list[tuple[int, int, bool]]:
        """The ten views of section 4.1, whether or not training mirrors images."""
        return _views(ten_crop_draws(self.recipe.resize, self.recipe.crop))

    def test_input(
        self, b: Backend, images: np.ndarray, view: tuple[int, int, bool], dtype: str
    ) -> Array:
        """One view of every image: uint8 (N, S, S, 3) -> (N, crop, crop, 3).

        Raises InputError for images of another shape or type, such as photographs for a network
        that reads optical flow.
        """
        self._require(images)
        n = len(images)
        top, left, flip = (np.full(n, value) for value in view)
        return self._crops(
            b, images, Draws(top, left, flip, np.zeros((n, 3), np.float32)), 1.0, dtype, self.mean
        )

    def _require(self, images: np.ndarray) -> None:
        """Raise InputError unless the images are uint8 (N, S, S, C) of the network's S and C."""
        size, _, channels = self.statistics.mean.shape
        if images.ndim == 4 and images.shape[3] != channels:
            raise InputError(
                f"these images have {images.shape[3]} channels, but the network reads {channels}: "
                "choose a network for such images"
            )
        if images.shape[1:] != (size, size, channels) or images.dtype != np.uint8:
            raise InputError(
                f"the images are {images.dtype} {images.shape}, but the network reads uint8 "
                f"(N, {size}, {size}, {channels}): give an array of that type and shape"
            )

    @property
    def mean_corner(self) -> int | None:
        """Offset of the mean image's crop, both ways; None: that of the image's crop."""
        margin = (self.recipe.resize - self.recipe.crop) // 2
        return margin if self.recipe.mean_window == "centre" else None

    @cached_property
    def mean(self) -> np.ndarray:
        """What is subtracted, (S, S, 3): the mean image, or its mean colour everywhere."""
        mean = self.statistics.mean
        if self.recipe.mean_window == "colour" and np.any(mean != mean[0, 0]):
            return np.full_like(mean, mean.mean(axis=(0, 1)))
        return mean

    @cached_property
    def training_mean(self) -> np.ndarray:
        """What is subtracted from the output of `host_images`: the mean, or its central window.

        The pixels of a warped crop have no matching pixels in the mean image, so warped crops use
        the window that test images have, whatever `mean_window` says.
        """
        if not self.recipe.warps:
            return self.mean
        crop = self.recipe.crop
        margin = (self.recipe.resize - crop) // 2
        window = slice(margin, margin + crop)
        return np.ascontiguousarray(self.mean[window, window])

    def _crops(
        self,
        b: Backend,
        images: np.ndarray,
        draws: Draws,
        scale: float,
        dtype: str,
        mean: np.ndarray,
    ) -> Array:
        fixed = self.mean_corner if mean is self.mean else None
        return b.crops(
            b.asarray(images),
            draws.top,
            draws.left,
            draws.flip,
            self.recipe.crop,
            mean,
            fixed,
            fixed,
            draws.shift if draws.shift.any() else None,
            scale,
            dtype,
        )


def _views(draws: Draws) -> list[tuple[int, int, bool]]:
    """(top, left, mirrored) of each draw."""
    return [
        (int(t), int(l), bool(f)) for t, l, f in zip(draws.top, draws.left, draws.flip, strict=True)
    ]
