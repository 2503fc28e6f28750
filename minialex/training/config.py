"""From the arguments of `train` to a model with its recipe, and what a resumed run may change."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from minialex import __version__, models
from minialex.data.dataset import Splits
from minialex.errors import InputError
from minialex.models import Model
from minialex.optim import schedule as get_schedule
from minialex.training import run_folder

# The arguments of `train` that a resumed run may change; all others must be what they were.
FREE_ON_RESUME = (
    *("backend", "devices", "parallel", "precision", "threads"),
    *("checkpoint_every", "epochs", "max_steps", "workers"),
)

_ADDED = {"replace_classifier": False}  # what runs of older versions were started with


def plan(settings: dict[str, Any], splits: Splits) -> Model:
    """The model with the recipe that the arguments of `train` ask for."""
    classes = len(splits.train.class_ids)
    model = models.get(settings["model"], classes, **(settings["model_options"] or {}))
    asked = {
        "epochs": settings["epochs"],
        "batch_size": settings["batch_size"],
        "lr": settings["lr"],
        "schedule": settings["schedule"],
        "momentum": settings["momentum"],
        "weight_decay": settings["weight_decay"],
        "mirror": settings["mirror"],
        "random_crops": settings["crops"],
        "colour_noise": settings["colour_noise"],
    }
    recipe = replace(model.recipe, **{k: v for k, v in asked.items() if v is not None})
    get_schedule(recipe.schedule)
    for name in ("epochs", "batch_size", "lr"):
        if not getattr(recipe, name) > 0:
            raise InputError(f"{name} is {getattr(recipe, name)}: it must be above 0")
    if settings["dtype"] not in ("float32", "float64"):
        raise InputError(f'dtype is "float32" or "float64", not {settings["dtype"]!r}')
    native = splits.train.native_size
    if native is not None and 2 * native < recipe.resize and not settings["allow_upscaling"]:
        raise InputError(
            f"{splits.train.name} has images {native} pixels wide and model {model.name!r} takes "
            f"{recipe.crop}x{recipe.crop} crops of {recipe.resize}x{recipe.resize}: choose a "
            "network for smaller images, or allow upscaling (--allow-upscaling)"
        )
    network = model.network if settings["dropout"] else model.network.without_dropout()
    return replace(model, network=network, recipe=recipe)


def config(settings: dict[str, Any], splits: Splits, folder: Path) -> dict[str, Any]:
    """What config.json holds; refuses to resume on other data."""
    seen = {
        "train_images": len(splits.train),
        "val_images": len(splits.val),
        "class_ids": list(splits.train.class_ids),
    }
    if (folder / "config.json").exists():
        before = run_folder.read_config(folder).get("data", {})
        changed = [name for name, value in seen.items() if before.get(name) != value]
        if changed:
            raise InputError(
                f"the data of the run in {folder} has changed since ({', '.join(changed)}): "
                "restore it, or start a new run"
            )
    return {"version": __version__, "settings": settings, "data": seen}


def _said(name: str, value: Any) -> str:
    """A setting in words; those that were left open are the model's own."""
    return f"the model's own {name}" if value is None else f"{name}={value!r}"


def check_same(out, settings: dict[str, Any]) -> None:
    """Refuse to resume a run with other settings than it was started with."""
    if out is None:
        raise InputError("resume needs the run's folder: give it as `out`")
    before = run_folder.read_config(Path(out))["settings"]
    for name, value in settings.items():
        if name not in FREE_ON_RESUME and before.get(name, _ADDED.get(name)) != value:
            raise InputError(
                f"the run in {out} was started with {_said(name, before.get(name))}, not "
                f"{value!r}: resume it with the same settings, or start a new run"
            )
