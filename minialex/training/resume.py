"""What a resumed run takes from its folder, and which arguments may change."""

from pathlib import Path
from typing import Any

from minialex import __version__, optim, schedules
from minialex.data.dataset import Splits
from minialex.data.image_record import fingerprint, same_data
from minialex.errors import InputError
from minialex.models.recipe import Recipe
from minialex.parallel import DeviceConfig
from minialex.precision import check_dtype
from minialex.training import fitted_recipe, run_folder, without_effect
from minialex.training.config import TrainConfig
from minialex.training.state import State
from minialex.utils import checkpoint
from minialex.utils.composed import all_composed
from minialex.utils.cores import usable_cores
from minialex.utils.options import options

_ADDED = {
    "replace_classifier": False,
    "optimizer": optim.DEFAULT,
    "recipe": fitted_recipe.PUBLISHED,
}  # what runs of older versions were started with
_MAY_CHANGE = ("epochs", "lr", "schedule")  # of the recipe
_NO_DEFAULT = ("fold", "freeze", "initial", "micro_batch", "model_options", "shallow")
_OF_ONE_CALL = ("max_steps", "allow_changed_data")  # apply to one call, not to the run


def inherited(out: str | Path | None, data: Any, given: dict[str, Any]) -> dict[str, Any]:
    """The run's original arguments, overridden by those of this call.

    Fewer CPU threads than at the start are allowed: the run may resume on another machine.
    """
    if out is None:
        raise InputError("resume needs the run's folder: give it as `out`")
    settings = run_folder.read_config(Path(out))["settings"]
    names = {one.name for one in options(TrainConfig, DeviceConfig)}.difference(_OF_ONE_CALL)
    settings = without_effect.dropped({**_ADDED, **settings})
    stored = {name: value for name, value in settings.items() if name in names}
    try:
        check_dtype(stored.get("precision", "fp32"), stored.get("dtype", "float32"))
    except InputError:  # of a run of an older version, which was computed in its `dtype`
        stored["precision"] = "fp32"
    if "minutes" in given or "epochs" in given:  # one takes the place of the other
        stored["minutes"] = stored["epochs"] = None
    if stored.get("threads") is not None:
        stored["threads"] = min(stored["threads"], usable_cores())
    if "devices" in given and "parallel" not in given:
        given = {**given, "devices": DeviceConfig(devices=given["devices"]).devices}
        if not isinstance(given["devices"], tuple) or len(given["devices"]) < 2:
            stored.pop("parallel", None)  # there is nothing to split any more
    if data is None and stored.get("data") is None:
        raise InputError(
            f"the run in {out} was started from Python with its own data: resume it from Python "
            "and pass the data again"
        )
    if data is None and stored["data"] != "shapes":  # which never was a folder of that name
        data = stored["data"]
    return {**stored, **given, "data": data}


def given_before(folder: Path, data: Any = None) -> dict[str, Any]:
    """The original arguments of the run in `folder`; `data` is its data's current path."""
    settings = run_folder.read_config(folder)["settings"]
    names = {one.name for one in options(TrainConfig)} - {"log"}
    settings = without_effect.dropped({**_ADDED, **settings})
    stored = {name: value for name, value in settings.items() if name in names}
    if data is None and stored.get("data") is None:
        raise InputError(
            f"the run in {folder} was trained on data passed from Python: pass the data again"
        )
    return stored if data is None else {**stored, "data": data}


def stored_recipe(folder: Path) -> Recipe | None:
    """The recipe of the run in `folder`, if it has been saved."""
    last = folder / "last.safetensors"
    return Recipe(**checkpoint.load_metadata(last)["recipe"]) if last.exists() else None


def require_unfinished(folder: Path, epochs: int) -> None:
    """Raise InputError for fewer epochs than the run has done."""
    if not (folder / "last.safetensors").exists():
        return
    state = checkpoint.load_metadata(folder / "last.safetensors").get("state") or {}
    if epochs < (done := state.get("epoch", 0)):
        raise InputError(
            f"the run in {folder} has done {done} epochs, more than the {epochs} requested: "
            f"request at least {done}"
        )


def require_resumable(out: str | Path, config: TrainConfig) -> None:
    """Raise InputError for settings that differ from those of the run to resume."""
    stored = run_folder.read_config(Path(out))
    before, now = without_effect.dropped(stored["settings"]), config.settings()
    free = {one.name for one in options(TrainConfig) if one.metadata["free_on_resume"]}
    if stored.get("data", {}).get("fingerprint") is not None:
        free.add("data")  # wherever they lie now: `stored_config` compares the images themselves
    for one in options(TrainConfig):
        name, value = one.name, now[one.name]
        if name not in free and before.get(name, _ADDED.get(name)) != value:
            raise InputError(
                f"the run in {out} was started with {_in_words(name, before.get(name))}, not "
                f"{value!r}: resume it with the same settings, or start a new run"
            )


def stored_config(
    config: TrainConfig, where: DeviceConfig, splits: Splits, folder: Path
) -> tuple[dict[str, Any], str]:
    """The contents of config.json, and how the data of a resumed run has changed, if it has.

    Raises InputError for changed data, unless that is allowed.
    """
    seen = {
        "train_images": len(splits.train),
        "val_images": len(splits.val),
        "class_ids": list(splits.train.class_ids),
        "fingerprint": fingerprint(splits),
    }
    said = ""
    if (folder / "last.safetensors").exists():
        before = run_folder.read_config(folder).get("data", {})
        changed = [name for name in seen if before.get(name, seen[name]) != seen[name]]
        if all_composed(before.get("class_ids", ())) == all_composed(splits.train.class_ids):
            changed = [name for name in changed if name != "class_ids"]
        if "fingerprint" in changed and same_data(before["fingerprint"], splits):
            changed.remove("fingerprint")  # of an older version
        if changed:
            words = {"train_images": "images to train on", "val_images": "images held out"}
            counts = [
                f"{before[name]:,} {words[name]} then, {seen[name]:,} now"
                for name in words
                if name in changed
            ]
            said = "; ".join(counts) or "other images"
            if not config.allow_changed_data or "class_ids" in changed:
                raise InputError(
                    f"the data of the run in {folder} has changed since ({said}): restore "
                    "it, continue with the changed data (`allow_changed_data=True`), or start a "
                    f"new run from these weights (`initial={str(folder)!r}`)"
                )
    settings = {**config.settings(), **where.settings()}
    return {"version": __version__, "settings": settings, "data": seen}, said


def changes(before: Recipe, now: Recipe) -> str:
    """What a resumed run changes of its recipe: "lr 0.01 -> 0.001"; empty if nothing."""
    found = ((name, getattr(before, name), getattr(now, name)) for name in _MAY_CHANGE)
    return ", ".join(f"{name} {was} -> {value}" for name, was, value in found if was != value)


def rate_jump(before: Recipe, now: Recipe, state: State, images: int) -> str | None:
    """A sentence if the same schedule over more epochs raises the rate; `images` an epoch."""
    if (before.lr, before.schedule) != (now.lr, now.schedule) or before.epochs >= now.epochs:
        return None
    epoch, schedule = state.epoch + state.position / images, schedules.get(now.schedule)
    if state.history and state.position == 0:
        last = float(state.history[-1]["learning_rate"])
    else:
        last = schedule(before, epoch, state.errors).weight
    following = schedule(now, epoch, state.errors).weight
    if following <= 1.5 * last:
        return None
    return (
        f"the schedule {now.schedule!r} is stretched over all {now.epochs} epochs: the learning "
        f"rate goes from {last:.2g} up to {following:.2g}, which at first undoes some of the "
        "training; with `--schedule constant --lr RATE` it does not rise"
    )


def _in_words(name: str, value: Any) -> str:
    """A setting in words; most that are unset are the model's own."""
    if value is not None:
        return f"{name}={value!r}"
    if name == "data":
        return "data passed from Python"
    return f"no {name}" if name in _NO_DEFAULT else f"the model's own {name}"
