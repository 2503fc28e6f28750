"""Defaults fitted to the number of images: network, batch size, rate, schedule and length.

A published recipe counts epochs of a million images. On five hundred images it would make a few
hundred updates, where any network needs thousands. A run on few images therefore gets smaller
batches, more epochs, a schedule independent of the noisy validation error, and Adam, which needs
fewer updates than SGD there. So does a run on many images for which there is little time. No layer
decays more than the others: the decay of 3 in `cifar10`'s last layer is made for 55,000 updates,
and takes most of what is learnt in 300.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from typing import Any

from minialex import optim
from minialex.data.dataset import Dataset
from minialex.errors import InputError
from minialex.models.recipe import Recipe
from minialex.network import Network

PUBLISHED, FITTED = "published", "fitted"
RECIPES = (FITTED, PUBLISHED)

UPDATES = 3000  # when training from scratch
TUNING_UPDATES = 1000  # when fine-tuning
KEPT_RATE = 0.1  # relative rate of pre-trained layers: by SGD beside new ones, always without any
ENOUGH = 10_000  # a published recipe with this many updates is used unchanged
UPDATES_PER_EPOCH = 25  # minimum, if the smallest batch size allows it
SMALLEST_BATCH = 16
WARMUP = 0.05  # of the epochs
WARMUP_STEPS = 100  # minimum for Adam without batch normalisation: in fewer, it kills most units
ADAM_RATE = 3e-4  # with the smallest batch
NORMALISED_RATE = 1e-3  # the same with batch normalisation
AVERAGED = 0  # last epochs whose weights are averaged
OFTEN = 20  # with this many epochs, the paper's augmentation is too weak
STRONG: dict[str, Any] = {
    "crop_scale": 0.35,
    "aspect": 1.33,
    "brightness": 0.3,
    "contrast": 0.3,
}
SMOOTHING = 0.1  # of the labels, with STRONG; not when SGD fine-tunes
MANY_IMAGES = 50_000  # with at least this many, the paper's network is the default
MANY_MINUTES = 60  # in less time a published recipe hardly starts
LEAST_NORMALISED = 8  # images whose statistics are worth using


def default_network(
    train: Dataset,
    *,
    batch_norm: bool = True,
    epochs: int | None = None,
    minutes: float | None = None,
) -> str:
    """The default network for so many images of this size, and the length of the run.

    `batch_norm`: whether it may use batch normalisation.
    """
    size = train.native_size or train.stored_size
    if size is not None and size < 36:
        return "alexnet-32-bn" if batch_norm else "alexnet-32"
    large = len(train) >= MANY_IMAGES and (size is None or 2 * size >= Recipe.resize)
    if large and is_long(Recipe(), len(train), epochs, minutes):
        return "alexnet"
    return "alexnet-64-bn" if batch_norm else "alexnet-64"


def is_long(published: Recipe, images: int, epochs: int | None, minutes: float | None) -> bool:
    """Whether a run is long enough for a published recipe: by default as long as the recipe."""
    updates = (epochs or published.epochs) * images / published.batch_size
    return updates >= ENOUGH and (minutes is None or minutes >= MANY_MINUTES)


def fit(
    published: Recipe,
    images: int,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    schedule: str | None = None,
    optimizer: str | None = None,
    momentum: float | None = None,
    minutes: float | None = None,
    validated: bool = True,
    trained: bool = False,
    batch_norm: bool = False,
    augment: bool = True,
    smooth: bool = True,
) -> Recipe:
    """`published` with the requested changes, and the rest fitted to `images`.

    A long run on many images keeps the recipe, but no schedule that waits for the validation error
    where none is `validated` or the length is in `minutes`. Others get Adam, unless a learning rate
    or a momentum is given: those are meant for SGD.
    `trained` weights to start from need fewer updates, by SGD unless Adam is given. They, and
    networks with `batch_norm`, need no least number of updates to warm up. `augment`
    allows the stronger augmentation of small data sets. With it, labels are smoothed if `smooth`,
    for losses that take targets, unless SGD fine-tunes; from scratch, Adam needs no dropout.
    """
    asked: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "schedule": schedule,
        "optimizer": optimizer,
        "momentum": momentum,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    least = 0 if trained or batch_norm else WARMUP_STEPS
    adam_rate = NORMALISED_RATE if batch_norm else ADAM_RATE
    if not trained and is_long(published, images, epochs, minutes):
        if minutes is not None or not validated:
            published = without_plateau(published)
        return with_own_rate(replace(published, **given), lr, least, adam_rate)
    batch = batch_size or _batch_size(published.batch_size, images)
    steps = ceil(images / batch)
    length = epochs or max(1, ceil((TUNING_UPDATES if trained else UPDATES) / steps))
    by_adam = not trained and lr is None and momentum is None
    fitted = replace(
        published,
        optimizer=optim.ADAM if by_adam else published.optimizer,
        epochs=length,
        batch_size=batch,
        lr=published.lr * (batch / published.batch_size) ** 0.5,
        schedule="cosine",
        patience=max(published.patience, ceil(published.patience * length / published.epochs)),
        warmup=round(WARMUP * length, 2) if lr is None and schedule is None else 0.0,
        average_epochs=AVERAGED,
        layer_decays={name: min(1.0, share) for name, share in published.layer_decays.items()},
    )
    if augment and fitted.random_crops and length >= OFTEN:
        fitted = replace(fitted, **STRONG)
        adam = given.get("optimizer", fitted.optimizer) == optim.ADAM
        if smooth and (adam or not trained):
            fitted = replace(fitted, label_smoothing=SMOOTHING)
        if adam and not trained:
            fitted = replace(fitted, dropout=False)
    return with_own_rate(replace(fitted, **given), lr, least, adam_rate)


def without_plateau(recipe: Recipe) -> Recipe:
    """The recipe with a schedule that does not look at the validation error."""
    return replace(recipe, schedule="step") if recipe.schedule == "plateau" else recipe


def with_own_rate(
    recipe: Recipe, lr: float | None, warmup_steps: int = 0, adam_rate: float = ADAM_RATE
) -> Recipe:
    """With Adam, and without a given rate: the recipe with Adam's rate and least warm-up.

    `adam_rate` is for the smallest batch.
    """
    if recipe.optimizer != optim.ADAM or lr is not None:
        return recipe
    rate = adam_rate * (recipe.batch_size / SMALLEST_BATCH) ** 0.5
    return replace(recipe, lr=rate, warmup_steps=max(recipe.warmup_steps, warmup_steps))


def fine_tuned(
    recipe: Recipe, network: Network, kept: Sequence[str], asked: Mapping[str, float] | None = None
) -> Recipe:
    """Lower rates for the layers that were `kept`, if others are new and SGD trains them.

    Adam's updates do not depend on the size of the gradients, which a new layer makes large. The
    layers of `asked` keep the rates that they were given.
    """
    new = [name for name in network.parameter_shapes() if name not in kept]
    if not new:
        return replace(recipe, lr=recipe.lr * KEPT_RATE)
    if recipe.optimizer == optim.ADAM:
        return recipe
    rates = {name: KEPT_RATE * recipe.layer_rates.get(name, 1.0) for name in kept}
    for name, rate in recipe.layer_rates.items():
        if name.rpartition(".")[0] in kept:  # of one parameter, which comes before its layer's
            rates[name] = KEPT_RATE * rate
    return replace(recipe, layer_rates={**recipe.layer_rates, **rates, **(asked or {})})


def _batch_size(published: int, images: int) -> int:
    """The largest power of two that gives enough updates per epoch."""
    size = SMALLEST_BATCH
    while 2 * size * UPDATES_PER_EPOCH <= images and 2 * size <= published:
        size *= 2
    return min(size, published)


def require_recipe(name: str) -> None:
    """Raise InputError if there is no such recipe."""
    if name not in RECIPES:
        raise InputError(f'recipe must be "fitted" or "published", not {name!r}')
