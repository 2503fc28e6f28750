"""A picture of a training batch as the network sees it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from minialex import backends
from minialex.data.inspect.contact_sheet import font
from minialex.data.loading.loader import Batch
from minialex.training.feed import Photographs

if TYPE_CHECKING:
    from PIL.Image import Image

COUNT, COLUMNS, SIDE = 32, 8, 128  # images at most, in a row, and pixels of one
_LINE = 16  # pixels of a line of text
_NAMED = 0.1  # a class's share of the target from which it is named


def batch_picture(
    feed: Photographs, batch: Batch, class_names: Sequence[str], epoch: int = 0
) -> "Image":
    """Up to 32 images of a batch as training crops, warps, colours and mixes them in `epoch`.

    Below each are its classes, with their shares where it has two. The mean is not subtracted, as
    it would be for the network. RGB images only.
    """
    from PIL import Image, ImageDraw

    pixels, below = augmented(feed, batch, epoch)[:COUNT], names(feed, batch, class_names, epoch)
    columns = min(COLUMNS, len(pixels))
    rows, step = -(-len(pixels) // columns), SIDE + 4
    height = step + 2 * _LINE
    sheet = Image.new("RGB", (columns * step, rows * height), "white")
    draw, (letters, spell) = ImageDraw.Draw(sheet), font()
    for n, picture in enumerate(pixels):
        x, y = n % columns * step, n // columns * height
        tile = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        sheet.paste(tile, (x, y))
        for line, name in enumerate(below[n]):
            at = x + 2, y + SIDE + 2 + line * _LINE
            draw.text(at, spell(name)[:20], fill="black", font=letters)
    return sheet


def augmented(feed: Photographs, batch: Batch, epoch: int = 0) -> np.ndarray:
    """What the network sees in `epoch`, the mean not subtracted: uint8 (N, crop, crop, 3)."""
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
    """Of each image its classes, the larger share first."""
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
