"""A training batch as the network sees it: pixels, and the classes of each image."""

from collections.abc import Sequence

import numpy as np

from minialex import backends
from minialex.data.loading.loader import Batch
from minialex.training.feed import Photographs

_NAMED = 0.1  # classes with at least this share of the target are named


def augmented(feed: Photographs, batch: Batch, epoch: int = 0) -> np.ndarray:
    """The augmented batch in `epoch`, without mean subtraction: uint8 (N, crop, crop, 3).

    RGB images only.
    """
    made, b, recipe = feed.preprocessing, backends.get("numpy"), feed.preprocessing.recipe
    positions = batch.positions
    images = made.host_images(batch.images, positions, seed=feed.seed, epoch=epoch)
    draws, _ = made.training_draws(
        positions, seed=feed.seed, epoch=epoch, noise=recipe.colour_noise
    )
    nothing = np.zeros(images.shape[1:], np.float32)
    where = (draws.top, draws.left, draws.flip, recipe.crop)
    x = b.crops(b.asarray(images), *where, nothing, None, None, draws.shift, 1.0, "float32")
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)


def names(
    feed: Photographs, batch: Batch, class_names: Sequence[str], epoch: int
) -> list[list[str]]:
    """The classes of each image, largest share first."""
    targets = feed.targets(batch, epoch)
    if targets.ndim == 1:
        return [[class_names[label]] for label in targets]
    shares = targets / np.maximum(targets.sum(axis=1, keepdims=True), 1e-30)
    found = []
    for share in shares:
        first, second = np.argsort(-share, kind="stable")[:2]
        if share[second] < _NAMED:
            found.append([class_names[first]])
        else:
            found.append([f"{share[k]:.0%} {class_names[k]}" for k in (first, second)])
    return found
