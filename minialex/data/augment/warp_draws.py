"""Random draws for the augmentation beyond the paper's: pure functions.

As in `draws.py`, they depend only on an image's position in the epoch's order, except MixUp's
partner, which is another image of the batch. `warp.py` applies them.
"""

from dataclasses import dataclass
from math import log, radians

import numpy as np
from numpy.typing import ArrayLike

from minialex import rng
from minialex.data.augment.draws import Draws
from minialex.models.recipe import Recipe

_LUMA = np.array([0.299, 0.587, 0.114])  # of ITU-R BT.601, as in JPEG
_ERASED = (0.02, 0.33)  # share of the crop (Zhong et al., "Random erasing data augmentation", 2017)
_ERASED_ASPECT = (0.3, 1 / 0.3)  # height to width


@dataclass(frozen=True)
class Warps:
    """How each of n resized images becomes a crop, before it is mirrored."""

    affines: np.ndarray  # float32 (n, 2, 3): from the crop's (x, y, 1) to the image's (x, y)
    colours: np.ndarray  # float32 (n, 3, 4): RGB of (R, G, B, 1), on a scale of 0 to 255
    holes: np.ndarray  # int64 (n, 4): top, left, bottom, right of the erased rectangle; empty: none

    def __len__(self) -> int:
        return len(self.affines)


@dataclass(frozen=True)
class Mixing:
    """The MixUp partner of each of the n images of a batch, and the image's own weight."""

    partner: np.ndarray  # int64 (n,), indices in the batch
    share: np.ndarray  # float32 (n,), 0.5 to 1


def random_warps(
    recipe: Recipe, seed: int, epoch: int, positions: ArrayLike, draws: Draws, mean: np.ndarray
) -> Warps:
    """The warps of the images at `positions` of an epoch's order, according to a recipe.

    `draws` are the same images' crops, kept as they are if the recipe changes neither their size
    nor their shape. `mean` (3,) is the training set's mean colour, about which contrast changes.
    """
    positions = np.asarray(positions, np.int64)
    return Warps(
        _maps(recipe, seed, epoch, positions, draws),
        _colours(recipe, seed, epoch, positions, mean),
        _holes(recipe, seed, epoch, positions),
    )


def random_mixing(alpha: float, seed: int, epoch: int, positions: ArrayLike) -> Mixing:
    """MixUp within one batch (Zhang et al., "mixup", 2018), with shares drawn from Beta(α, α).

    The larger share is always the image's own, so that an epoch shows every image; with shares near
    0 and independently drawn partners, half of the images would be replaced by others.
    """
    positions = np.asarray(positions, np.int64)
    n, word = len(positions), rng.words(seed, rng.Stream.MIXUP, epoch, positions, 4)
    others = rng.integers(word[:, 0], max(1, n - 1))
    partner = (np.arange(n) + 1 + others) % max(1, n)
    share = symmetric_beta(alpha, word[:, 1:])
    return Mixing(partner, np.maximum(share, 1 - share).astype(np.float32))


def symmetric_beta(alpha: float, word: np.ndarray) -> np.ndarray:
    """Map rows of two or more random words to Beta(α, α): (n, 2) -> (n,), float64.

    Devroye, "Random variate generation in one line of code", 1996: from Bailey's polar method for
    Student's t with 2α degrees of freedom. Nothing is rejected, whatever α is.
    """
    u, angle = rng.uniform(word[:, 0]), np.cos(2 * np.pi * rng.uniform(word[:, 1]))
    with np.errstate(over="ignore", divide="ignore"):  # for a small α, where the share is 0 or 1
        t = np.expm1(-np.log(u) / alpha) * angle**2
        return 0.5 + 0.5 * np.sign(angle) / np.sqrt(1 + 1 / t)


def _maps(recipe: Recipe, seed: int, epoch: int, positions: np.ndarray, draws: Draws) -> np.ndarray:
    """Crops of random size, shape and position, rotated about their centre, some upside down."""
    stored, crop = recipe.resize, recipe.crop
    u = rng.uniform(rng.words(seed, rng.Stream.WARP, epoch, positions, 6)).T
    x0, y0 = draws.left.astype(float), draws.top.astype(float)
    width = height = np.full(len(positions), float(crop))
    if recipe.crop_scale < 1 or recipe.aspect > 1:
        share = np.full(len(positions), (crop / stored) ** 2)
        if recipe.crop_scale < 1:
            share = recipe.crop_scale + (1 - recipe.crop_scale) * u[0]
        most = np.minimum(log(recipe.aspect), -np.log(share))  # so that it fits into the image
        stretch = np.exp((u[1] - 0.5) * most)  # squared it is width / height
        side = stored * np.sqrt(share)
        width, height = side * stretch, side / stretch
        x0, y0 = u[2] * (stored - width), u[3] * (stored - height)
    angle = radians(recipe.rotation) * (2 * u[4] - 1)  # counter-clockwise; y points down
    upside_down = (u[5] < 0.5) & recipe.vertical_flip
    along_x, along_y = width / crop, np.where(upside_down, -height, height) / crop
    affines = np.empty((len(positions), 2, 3))
    affines[:, 0, 0], affines[:, 0, 1] = np.cos(angle) * along_x, -np.sin(angle) * along_y
    affines[:, 1, 0], affines[:, 1, 1] = np.sin(angle) * along_x, np.cos(angle) * along_y
    centre = np.stack((x0 + width / 2, y0 + height / 2), axis=1)
    affines[:, :, 2] = centre - affines[:, :, :2].sum(axis=2) * (crop / 2)
    return affines.astype(np.float32)


def _colours(
    recipe: Recipe, seed: int, epoch: int, positions: np.ndarray, mean: np.ndarray
) -> np.ndarray:
    """Saturation, then brightness, then contrast: one matrix and one constant for each image."""
    strength = np.array([recipe.saturation, recipe.brightness, recipe.contrast])
    u = rng.uniform(rng.words(seed, rng.Stream.LIGHT, epoch, positions, 3))
    saturation, brightness, contrast = (1 + (2 * u - 1) * strength).T[:, :, None, None]
    matrix = saturation * np.eye(3) + (1 - saturation) * _LUMA
    constant = (1 - contrast) * np.asarray(mean, float)[:, None]
    return np.concatenate((contrast * brightness * matrix, constant), axis=2).astype(np.float32)


def _holes(recipe: Recipe, seed: int, epoch: int, positions: np.ndarray) -> np.ndarray:
    """A rectangle inside the crop, or none."""
    word, crop = rng.words(seed, rng.Stream.ERASE, epoch, positions, 5), recipe.crop
    u = rng.uniform(word)
    share = _ERASED[0] + (_ERASED[1] - _ERASED[0]) * u[:, 1]
    low, high = np.log(_ERASED_ASPECT)
    stretch = np.exp((low + (high - low) * u[:, 2]) / 2)
    height, width = (
        np.clip(np.rint(crop * np.sqrt(share) * way), 1, crop).astype(np.int64)
        for way in (stretch, 1 / stretch)
    )
    top = rng.integers(word[:, 3], crop + 1 - height)
    left = rng.integers(word[:, 4], crop + 1 - width)
    holes = np.stack((top, left, top + height, left + width), axis=1)
    holes[u[:, 0] >= recipe.erasing] = 0
    return holes
