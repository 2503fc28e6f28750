"""The lines a run prints: model, data, length and devices at the start, then each epoch."""

from collections.abc import Iterable
from math import ceil, inf, isfinite
from pathlib import Path
from typing import Any

import numpy as np

from minialex import optim
from minialex.data.dataset import Splits
from minialex.inference.evaluation import FEW_CLASSES, Evaluation, accuracy_interval
from minialex.models import Model
from minialex.models.recipe import Recipe
from minialex.parallel import Devices
from minialex.training.recovery import AT_CHANCE
from minialex.training.step import TrainStep
from minialex.utils.progress import loss_text

FEW = 200  # validation images that are too few to tell similar networks apart
UNEVEN = 5  # times as many images in the largest class as in the smallest


def table(
    model: Model, splits: Splits, devices: Devices, folder: Path, minutes: float | None
) -> str:
    """A line each for images, classes, network, updates, learning rate, device and folder.

    Also for augmentation that the paper does not have, and for smoothed labels.
    """
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
        "network": f"{model.name}, {_number(network.parameter_count)} parameters"
        + ("" if model.recipe.dropout else ", no dropout"),
        "updates": length(model.recipe, len(splits.train), minutes),
        "lr": rate(model.recipe, len(splits.train), minutes),
        **augmentation(model.recipe),
        "device": device,
        "folder": str(folder),
    }


def augmentation(recipe: Recipe) -> dict[str, str]:
    """Lines for what a recipe adds to the paper's augmentation, and for what it does to labels."""
    amounts = ("aspect", "rotation", "brightness", "contrast", "saturation", "erasing", "mixup")
    usual = Recipe()
    images = [f"crops of {recipe.crop_scale:.0%} or more"] if recipe.crop_scale < 1 else []
    images += [
        f"{name} {getattr(recipe, name):g}"
        for name in amounts
        if getattr(recipe, name) != getattr(usual, name)
    ]
    images += ["vertical flips"] if recipe.vertical_flip else []
    images += [f"by {recipe.augment}"] if recipe.augment else []
    labels = [f"smoothed by {recipe.label_smoothing:g}"] if recipe.label_smoothing else []
    labels += ["weighted by class"] if recipe.class_weights else []
    rows = {"augment": ", ".join(images), "labels": ", ".join(labels)}
    return {name: text for name, text in rows.items() if text}


def _number(count: int) -> str:
    return f"{count:,}" if count < 100_000 else f"{count / 1e6:.1f} million"


def exchange(step: TrainStep) -> str:
    """How the gradients of several processes' devices travel; nothing on one, or on the CPU."""
    if step.world.size == 1 or step.devices.backends[0].device_id() is None:
        return ""
    return f"gradients {'by MPI, through host memory' if step.link is None else 'by NCCL'}"


def length(recipe: Recipe, images: int, minutes: float | None) -> str:
    """How long a recipe takes on so many images, and how many epochs' weights are averaged."""
    last = f", the last {recipe.average_epochs:,} averaged" if recipe.average_epochs > 1 else ""
    if minutes is not None:
        allow = "minute allows" if minutes == 1 else "minutes allow"
        return f"as many as {minutes:g} {allow}, in batches of {recipe.batch_size}{last}"
    updates = recipe.epochs * ceil(images / recipe.batch_size)
    plural = "s" * (recipe.epochs != 1)
    return f"{updates:,}: {recipe.epochs:,} epoch{plural} in batches of {recipe.batch_size}{last}"


def rate(recipe: Recipe, images: int, minutes: float | None) -> str:
    """The learning rate, the optimiser it is for, and its schedule."""
    length = f"{recipe.warmup:g} epoch{'s' * (recipe.warmup != 1)}" if recipe.warmup else ""
    in_epoch, least = ceil(images / recipe.batch_size), recipe.warmup_steps
    if minutes is not None and recipe.warmup:
        length = f"{recipe.warmup / recipe.epochs:.0%} of the time"
        length += f", at least {least} updates" if least else ""
    elif recipe.warmup * in_epoch < least:
        least = least if minutes is not None else min(least, ceil(recipe.epochs * in_epoch / 2))
        length = f"{least} update{'s' * (least != 1)}"
    square = "quadratic " * (recipe.warmup_shape == "quadratic")
    warmup = f", after a {square}warm-up of {length}" if length else ""
    optimizer = recipe.optimizer.rpartition(":")[2]
    optimizer = {optim.DEFAULT: "SGD", optim.ADAM: "Adam"}.get(optimizer, optimizer)
    return f"{recipe.lr:.2g} for {optimizer}, {recipe.schedule} schedule{warmup}"


def remarks(splits: Splits, batch_size: int = 1) -> list[str]:
    """Remarks on what the number of images means for training and its results."""
    found = []
    if batch_size > len(splits.train):
        found.append(
            f"a batch of {batch_size:,} is more than the {len(splits.train):,} training images: "
            "each update takes all of them"
        )
    counts = np.bincount(splits.train.labels, minlength=len(splits.train.class_ids))
    if counts.min() and counts.max() >= UNEVEN * counts.min():
        names = splits.train.class_names
        found.append(
            f"unbalanced classes: {counts.max():,} images of {names[int(counts.argmax())]}, "
            f"{counts.min():,} of {names[int(counts.argmin())]}"
        )
    if 0 < len(splits.val) < FEW:
        one = len(splits.val) == 1
        few = "1 validation image is" if one else f"{len(splits.val)} validation images are"
        low, high = accuracy_interval(0.7 * len(splits.val), len(splits.val))
        found.append(f"{few} few: a measured accuracy of 70% means {low:.0%} to {high:.0%}")
    return found


def nothing_learnt(
    losses: Iterable[float | None], chance: float, steps: int, what: str | None
) -> str | None:
    """The sentence for a run that ends without any loss below that of random guessing, else None.

    `losses` are those of its epochs, in training and validation; None: not measured. `what`: what
    to try, if more steps would not help.
    """
    finite = [loss for loss in losses if loss is not None and isfinite(loss)]
    if min(finite, default=-inf) <= AT_CHANCE * chance or not isfinite(chance):
        return None
    plural = "s" * (steps != 1)
    return (
        f"nothing learnt yet: after {steps} step{plural} the loss is no lower than that of random "
        f"guessing ({chance:.3f}); {what or 'train longer (--epochs or --minutes)'}"
    )


def epoch(
    row: dict[str, Any],
    epochs: int | None,
    evaluation: Evaluation | None,
    left_out: int,
    unread: int,
) -> str:
    """The line printed after an epoch, from its history row; `epochs` in total, None if unknown.

    `left_out` images could not be read in training, and `unread` in validation.
    """
    judged = "not validated"
    if evaluation is not None:
        mean = f"mean of {row['averaged']}: " if "averaged" in row else ""
        judged = f"{mean}val loss {loss_text(evaluation.loss)}  accuracy {evaluation.accuracy:.1%}"
        if evaluation.classes >= FEW_CLASSES and not mean:  # a line has 80 columns
            judged += f"  top-5 {1 - evaluation.top5_error:.0%}"
    of = "" if epochs is None else f"/{epochs}"
    plural = "s" * (left_out != 1)
    missing = f", {left_out:,} unreadable image{plural} left out" if left_out else ""
    if unread:
        missing += f", {unread:,} in validation"
    if "exchange_seconds" in row:
        missing += f", exchange {row['exchange_seconds']:.1f} s"
    return (
        f"epoch {row['epoch']:3}{of}  loss {loss_text(row['train_loss'])}  {judged} "
        f" lr {row['learning_rate']:.2g}{missing}"
    )
