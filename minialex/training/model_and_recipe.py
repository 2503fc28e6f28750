"""The network and recipe of a run, from its arguments, its data and what they default to."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from minialex import losses, models
from minialex.data.dataset import Splits
from minialex.errors import InputError
from minialex.models import Model
from minialex.models.recipe import Recipe
from minialex.training import augmentation_options, fitted_recipe, layer_rates, without_effect
from minialex.training.config import TrainConfig
from minialex.training.fitted_recipe import LEAST_NORMALISED, SMALLEST_BATCH


def _suits_batch_norm(config: TrainConfig) -> bool:
    """Whether the default network may have batch normalisation.

    It needs the statistics of whole batches, its running statistics fit no averaged weights, and it
    has neither response normalisation nor dropout that an option could ask for or leave out.
    """
    changed = {"response_norm", "dropout"} & set(config.model_options or {})
    averaged = (config.average_epochs or 0) > 1
    small = (config.batch_size or SMALLEST_BATCH) < LEAST_NORMALISED
    return not (config.micro_batch or averaged or config.dropout or changed or small)


def resolve_model(
    config: TrainConfig,
    splits: Splits,
    stored: Recipe | None = None,
    optimizer: str | None = None,
    alone: bool = True,
    multipliers: Mapping[str, Any] | None = None,
) -> Model:
    """The model with the recipe of a configuration; `stored` is that of a resumed run.

    `optimizer` is used if the configuration names none. `alone`: one process on one device trains.
    `multipliers` are fields of the recipe that the initial weights come with.
    """
    classes = len(splits.train.class_ids)
    default = fitted_recipe.default_network(
        splits.train,
        batch_norm=alone and _suits_batch_norm(config),
        epochs=config.epochs,
        minutes=config.minutes,
    )
    name, options = config.model or default, config.model_options or {}
    if stored is None:
        models.require_options(name, options)
    model = models.stored(name, classes, options)
    model = replace(model, recipe=replace(model.recipe, **(multipliers or {})))
    channels, reads = splits.train.channels, model.network.input_shape[2]
    if channels != reads:
        raise InputError(
            f"the images of {splits.train.name} have {channels} channels, but {model.name} reads "
            f"{reads}: choose a network for such images"
        )
    length: dict[str, Any] = {
        "epochs": config.epochs,
        "batch_size": config.batch_size,
        "lr": config.lr,
        "schedule": config.schedule,
        "optimizer": config.optimizer or optimizer,
        "momentum": config.momentum,
    }
    own_rate = stored is not None and config.lr not in (None, stored.lr)  # given to this resumption
    asked: dict[str, Any] = {
        "average_epochs": config.average_epochs,
        "dropout": config.dropout,
        "warmup": config.warmup,
        "warmup_steps": 0 if config.warmup is not None or own_rate else None,
        "warmup_shape": config.warmup_shape,
        "weight_decay": config.weight_decay,
        "mirror": config.mirror,
        "random_crops": config.crops,
        "colour_noise": config.colour_noise,
        "reshuffle": config.reshuffle,
        "squash": None if config.resize is None else config.resize == "squash",
        **{name: getattr(config, name) for name in augmentation_options.OF_RECIPE},
    }
    if stored is not None or config.recipe == fitted_recipe.PUBLISHED:
        asked |= length
        given = {name: value for name, value in length.items() if value is not None}
        recipe = stored or fitted_recipe.with_own_rate(replace(model.recipe, **given), config.lr)
        if stored is None and config.fold is not None and "schedule" not in given:
            recipe = fitted_recipe.without_plateau(recipe)  # the fold is judged, not looked at
    else:
        trained = config.initial is not None
        colours = model.network.input_shape[2] == 3
        recipe = fitted_recipe.fit(
            model.recipe,
            len(splits.train),
            **length,
            minutes=config.minutes,
            validated=len(splits.val) > 0 and config.fold is None,
            trained=trained,
            batch_norm=bool(model.network.layers_with_statistics),
            augment=colours and config.crops is not False and config.freeze is None,
            smooth=getattr(losses.get(config.loss, config.margin), "takes_targets", False),
        )
    recipe = replace(recipe, **{k: v for k, v in asked.items() if v is not None})
    if stored is None and (config.warmup or 0) > recipe.epochs:
        raise InputError(
            f"`warmup` is {recipe.warmup:g} epochs of only {recipe.epochs}: choose fewer, or a "
            "larger `epochs`"
        )
    if stored is None:
        without_effect.refuse_warmup_shape(config.warmup_shape, recipe)
    for layer in model.network.layers_with_statistics if recipe.average_epochs > 1 else ():
        raise InputError(
            f"the running statistics of {layer} do not fit averaged weights: leave out "
            "`average_epochs`, or train a network without batch normalisation"
        )
    recipe = layer_rates.applied(recipe, model.network, config.layer_rates or {}, config.freeze)
    native = splits.train.native_size
    chosen = model.name != default and stored is None  # there is no default for smaller ones
    if chosen and native and 2 * native < recipe.resize and not config.allow_upscaling:
        other = "" if config.initial is not None else "choose a network for smaller images, or "
        raise InputError(
            f"{splits.train.name} has images {native} pixels wide and model {model.name!r} takes "
            f"{recipe.crop}x{recipe.crop} crops of {recipe.resize}x{recipe.resize}: {other}allow "
            "upscaling (`allow_upscaling=True`)"
        )
    if recipe.squash and splits.train.cropped and stored is None:
        raise InputError(
            f"the images of {splits.train.name} were cropped to squares when they were packed, and "
            "cannot be squashed any more: choose `resize='crop'`, or train on the original images"
        )
    without = model.network.without_dropout()
    if config.dropout and stored is None and model.network == without:
        raise InputError(
            f"{model.name} has no dropout layers: leave out `dropout`, or choose a network with "
            "some, such as alexnet-64 or alexnet-32"
        )
    network = model.network if recipe.dropout else without
    return replace(model, network=network, recipe=recipe)
