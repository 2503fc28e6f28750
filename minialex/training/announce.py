"""What a run says about itself before it starts: what is trained, on what, for how long, where."""

from math import ceil
from pathlib import Path

import numpy as np

from minialex.data.dataset import Splits
from minialex.inference.evaluation import accuracy_interval
from minialex.models import Model
from minialex.models.recipe import Recipe
from minialex.parallel import Devices

FEW = 200  # validation images that are too few to tell similar networks apart
UNEVEN = 5  # times as many images in the largest class as in the smallest


def table(
    model: Model, splits: Splits, devices: Devices, folder: Path, minutes: float | None
) -> str:
    """A line each for images, classes, network, updates, rate, device and folder."""
    rows = table_rows(model, splits, devices, folder, minutes)
    return "\n".join(f"{name:9} {text}" for name, text in rows.items())


def table_rows(
    model: Model, splits: Splits, devices: Devices, folder: Path, minutes: float | None
) -> dict[str, str]:
    """The lines of `table` by name."""
    network, device = model.network, devices.describe()[0].removeprefix("on the ")
    return {
        "images": f"{len(splits.train):,} for training, {len(splits.val):,} for validation",
        "classes": f"{model.classes:,}",
        "network": f"{model.name}, {network.parameter_count / 1e6:.1f} million parameters",
        "updates": length(model.recipe, len(splits.train), minutes),
        "rate": rate(model.recipe, minutes),
        "device": device,
        "folder": str(folder),
    }


def length(recipe: Recipe, images: int, minutes: float | None) -> str:
    """How long a recipe is on so many images."""
    if minutes is not None:
        plural = "s" * (minutes != 1)
        return f"as many as {minutes:g} minute{plural} allow, in batches of {recipe.batch_size}"
    updates = recipe.epochs * ceil(images / recipe.batch_size)
    plural = "s" * (recipe.epochs != 1)
    return f"{updates:,}: {recipe.epochs:,} epoch{plural} in batches of {recipe.batch_size}"


def rate(recipe: Recipe, minutes: float | None) -> str:
    """The learning rate and what becomes of it."""
    length = f"{recipe.warmup:.2g} epochs"
    if minutes is not None:
        length = f"{recipe.warmup / recipe.epochs:.0%} of the time"
    warmup = f", after a warm-up of {length}" if recipe.warmup else ""
    return f"{recipe.lr:.2g}, {recipe.schedule} schedule{warmup}"


def remarks(splits: Splits) -> list[str]:
    """What the numbers of images mean for the result, in sentences."""
    found = []
    counts = np.bincount(splits.train.labels, minlength=len(splits.train.class_ids))
    if counts.min() and counts.max() >= UNEVEN * counts.min():
        names = splits.train.class_names
        found.append(
            f"uneven classes: {counts.max():,} images of {names[int(counts.argmax())]}, "
            f"{counts.min():,} of {names[int(counts.argmin())]}"
        )
    if 0 < len(splits.val) < FEW:
        low, high = accuracy_interval(0.7 * len(splits.val), len(splits.val))
        found.append(
            f"{len(splits.val)} validation images tell little: a measured accuracy of 70% means "
            f"{low:.0%} to {high:.0%}"
        )
    return found
