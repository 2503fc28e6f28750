"""Random crops, mirroring and colour shifts, and the fixed crops of evaluation: pure functions.

Random draws depend on the position of the image in the epoch's order, so that they do not change
with the batch size, the number of devices, or when a run is resumed. The draws for augmentation
beyond the paper's are in `warp_draws.py`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from minialex import rng
from minialex.errors import InputError


@dataclass(frozen=True)
class Draws:
    """How each of n resized images becomes the network's input."""

    top: np.ndarray  # int64 (n,), offset of the crop, 0 to stored - crop
    left: np.ndarray  # int64 (n,)
    flip: np.ndarray  # bool (n,), mirrored left to right after cropping
    shift: np.ndarray  # float32 (n, 3), added to every pixel, on a scale of 0 to 255

    def __len__(self) -> int:
        return len(self.top)


def random_draws(
    seed: int,
    epoch: int,
    positions: ArrayLike,
    stored: int,
    crop: int,
    *,
    mirror: bool = True,
    colour_noise: float = 0.1,
    colour: tuple[np.ndarray, np.ndarray] | None = None,
    crop_chunk: int = 1,
) -> Draws:
    """The draws for the images at `positions` of an epoch's order (paper, section 4.1).

    `colour` is (standard deviations (3,), axes in columns (3, 3)) of the training set's RGB values;
    the shift is axes @ (colour_noise * normal * deviations), as in the original code; the paper
    uses eigenvalues instead of deviations. `crop_chunk` consecutive images share one crop and one
    mirroring; the original code uses chunks of 32. It has 33 offsets per axis, both edges included;
    the paper counts 32.
    """
    largest = _largest_offset(stored, crop)
    positions = np.asarray(positions, np.int64)
    word = rng.words(seed, rng.Stream.CROP, epoch, positions // crop_chunk, 3)
    top, left = rng.integers(word[:, 0], largest + 1), rng.integers(word[:, 1], largest + 1)
    flip = (word[:, 2] >> np.uint32(31)).astype(bool) & mirror
    shift = np.zeros((len(positions), 3), np.float32)
    if colour is not None and colour_noise:
        std, axes = colour
        alpha = rng.normal(rng.words(seed, rng.Stream.COLOUR, epoch, positions, 4))[:, :3]
        shift = ((colour_noise * alpha * std) @ np.asarray(axes).T).astype(np.float32)
    return Draws(top, left, flip, shift)


def centre_draws(n: int, stored: int, crop: int) -> Draws:
    """The centre crop of each of n images, not mirrored."""
    offset = np.full(n, _largest_offset(stored, crop) // 2)
    return _fixed(offset, offset)


def ten_crop_draws(stored: int, crop: int) -> Draws:
    """The ten crops of one image in the original's order.

    Upper left, upper right, centre, lower left, lower right, and the same five mirrored.
    """
    end = _largest_offset(stored, crop)
    top = np.array([0, 0, end // 2, end, end] * 2)
    left = np.array([0, end, end // 2, 0, end] * 2)
    return _fixed(top, left, np.arange(10) >= 5)


def epoch_order(seed: int, epoch: int, n: int) -> np.ndarray:
    """The order in which an epoch visits n images: a permutation of 0 … n-1."""
    return rng.permutation(seed, rng.Stream.SHUFFLE, epoch, n)


def _fixed(top: np.ndarray, left: np.ndarray, flip: np.ndarray | None = None) -> Draws:
    flip = np.zeros(len(top), bool) if flip is None else flip
    shift = np.zeros((len(top), 3), np.float32)
    return Draws(top.astype(np.int64), left.astype(np.int64), flip, shift)


def _largest_offset(stored: int, crop: int) -> int:
    if not 0 < crop <= stored:
        raise InputError(
            f"a crop of {crop} pixels does not fit into images of {stored}: "
            f"choose a size of at least {crop}"
        )
    return stored - crop
