"""Chooses a run's validation images, excluding any that its weights were trained on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minialex.data.dataset import Dataset, Splits, Subset
from minialex.data.image_record import HELD_OUT, TRAINED_ON, record, stored_record
from minialex.data.sources.class_folders import in_disk_order
from minialex.data.sources.open import open_data
from minialex.data.split import divide, fold_of, split_by_position
from minialex.errors import InputError
from minialex.inference.classifier import Classifier, is_foreign, weight_file
from minialex.inference.judged_images import by_name_alone, learnt, lineage, shortened
from minialex.training import run_folder
from minialex.training.config import TrainConfig
from minialex.utils import checkpoint
from minialex.utils.composed import all_composed, is_composed


@dataclass(frozen=True)
class Held:
    """A run's data, a sentence on how it was split, and the record to store with its weights."""

    splits: Splits
    said: str = ""
    about: dict[str, Any] | None = None  # of a resumed run, from its last state


def open_splits(config: TrainConfig, source: Classifier | None, folder: Path | None) -> Held:
    """The data of a run that starts from `source`, or of the one that is resumed in `folder`."""
    splits = drawn_anew(config, folder)
    if folder is not None:
        _require_classes(splits, folder)
    last = None if folder is None else folder / "last.safetensors"
    if folder is not None and last is not None and last.exists():
        about = checkpoint.load_metadata(last).get("data") or {}
        if config.data is not splits:
            splits = as_before(_as_named_before(splits, about, folder), about, config)
        return Held(splits, _leaks(splits, about) if config.allow_changed_data else "", about)
    about = _started_from(config, source)
    if about is None:
        return Held(splits)
    if config.fold is not None:
        _require_unseen(splits, about, config.trained_on["data"])
        return Held(splits)
    return away_from(splits, about, config.trained_on["data"])


def drawn_anew(config: TrainConfig, folder: Path | None) -> Splits:
    """The data of a new run, or of the one in `folder`, split according to its arguments."""
    splits = config.data if isinstance(config.data, Splits) else _open(config, folder)
    numbers = config.fold_numbers()
    if numbers is None:
        return splits
    return fold_of(splits.train if splits.whole is None else splits.whole, *numbers, config.seed)


def _require_classes(splits: Splits, folder: Path) -> None:
    """Raise InputError if the classes differ from those of the run in `folder`."""
    before = run_folder.read_config(folder).get("data", {}).get("class_ids")
    now = list(splits.train.class_ids)
    if before is None or before == now:
        return
    if not is_composed(before) and sorted(all_composed(before)) == now:
        return  # by an older version, from names as macOS writes them: see `_as_named_before`
    parts = []
    for verb, names in (("has", set(now) - set(before)), ("lacks", set(before) - set(now))):
        if names:
            parts.append(f"{verb} {', '.join(sorted(names)[:3])}" + ", ..." * (len(names) > 3))
    said = " and ".join(parts) or "has them in another order"
    raise InputError(
        f"the run in {folder} has other classes than {splits.train.name}, which "
        f"{said}: use the run's own images, or start a new run from its weights (`initial`)"
    )


def _as_named_before(splits: Splits, about: dict[str, Any], folder: Path) -> Splits:
    """The images in the order of an older version, if it saw file names as macOS writes them.

    That version sorted names as stored on disk.
    """
    ids = run_folder.read_config(folder).get("data", {}).get("class_ids")
    record = stored_record(about)
    names = () if record is None else (*record.held_out, *record.trained_on)
    if ids is None or is_composed((*ids, *names)):
        return splits
    whole = splits.whole
    if whole is None:
        return Splits(*(in_disk_order(part, ids) for part in splits.parts.values()))
    return divide(in_disk_order(whole, ids), np.zeros(len(whole), bool), splits.val.layout)


def _require_unseen(splits: Splits, about: dict[str, Any], key: str | None) -> None:
    """Raise InputError if the weights to start from were trained on an image of any fold."""
    whole = splits.whole
    assert whole is not None  # it was divided into folds
    count = int(np.sum(learnt(about, whole, named=key is not None and key == about.get("data"))))
    if count:
        raise InputError(
            f"the weights to start from were trained on {count:,} of these {len(whole):,} images, "
            "so their folds could not be judged fairly: train without folds, which validates on "
            "images that the weights have not seen, or start from other weights"
        )


def remembered(
    config: TrainConfig, held: Held, source: Classifier | None, *, anew: bool = False
) -> dict[str, Any]:
    """The data record stored with the run's weights; made `anew` if the data has changed."""
    if held.about is not None:
        kept: dict[str, Any] = {**held.about, **config.trained_on}
        before, now = stored_record(kept), record(held.splits) if anew else None
        if before is not None and now is not None:
            kept["images"] = now.with_earlier(before).as_json()
        return kept
    about: dict[str, Any] = dict(config.trained_on)
    images = record(held.splits)
    if images is not None:
        about["images"] = images.as_json()
    if (earlier := _started_from(config, source)) is not None:
        about["started_from"] = earlier
    return shortened(about)


def write_list(folder: Path, about: dict[str, Any]) -> None:
    """Write held_out.txt for the user; the weight file contains the same list."""
    images = stored_record(about)
    if images is not None and images.drawn and images.held_out:
        run_folder.write_held_out(folder, images.text())


def require_validation(
    config: TrainConfig, splits: Splits, schedule: str, resumed: bool = False
) -> None:
    """Raise InputError if there are no validation images, unless that was requested."""
    if len(splits.val):
        return
    if resumed and config.val_fraction != 0:
        raise InputError(
            f"none of the images that were held out for validation is in {splits.train.name} any "
            "more: restore one, or start a new run from these weights (`initial`)"
        )
    if config.val_fraction != 0:
        raise InputError(
            f"{splits.train.name} has no class with two images, so none can be held out for "
            "validation: add images, or train without validation (`val_fraction=0`)"
        )
    if config.stop_early is not None:
        raise InputError(
            "`stop_early` needs the validation loss, but there are no validation images: leave it "
            "out, or hold some out (`val_fraction`)"
        )
    if schedule == "plateau":
        raise InputError(
            "the schedule 'plateau' needs the validation error, but there are no validation "
            "images: choose another (`schedule='step'`), or hold some out (`val_fraction`)"
        )


def _started_from(config: TrainConfig, source: Classifier | None) -> dict[str, Any] | None:
    """The data record of the weights that the run starts from."""
    if source is not None:
        return source.data or None
    if config.shallow is not None:
        path = Path(config.shallow)
        if is_foreign(path):
            return None
        return checkpoint.load_metadata(weight_file(path)).get("data") or None
    return None


def _open(config: TrainConfig, resumed: Path | None) -> Splits:
    try:
        return open_data(config.data, seed=config.seed, val_fraction=config.val_fraction)
    except FileNotFoundError as error:
        if resumed is None:
            raise
        raise FileNotFoundError(
            f"{error}; if the images of the run in {resumed} were moved, give their folder (`data`)"
        ) from None


def as_before(splits: Splits, about: dict[str, Any], config: TrainConfig) -> Splits:
    """The split with which the run was first started."""
    whole, images = splits.whole, stored_record(about)
    if whole is None:
        return splits
    if images is None and config.allow_changed_data:
        raise InputError(
            "`allow_changed_data` needs the list of held-out images, which runs of older versions "
            "do not have: leave it out"
        )
    if images is None and config.fold is not None:
        return splits  # of drawings, which have no names: drawn again, they are the same
    if images is None:
        return split_by_position(whole, config.val_fraction, config.seed)  # as older versions did
    if config.allow_changed_data:  # an image may have been renamed, or replaced by another
        held_out = images.match(whole, own=True).parts == HELD_OUT
        return divide(whole, held_out, splits.val.layout)
    return divide(whole, images.held_out_by_name(whole), splits.val.layout)


def away_from(splits: Splits, about: dict[str, Any], key: str | None) -> Held:
    """Keep images that the initial weights were trained on out of validation, or warn.

    `key` is what the run calls its data; None if it was given from Python.
    """
    val, whole = splits.val, splits.whole
    if whole is None or key is None:
        count = int(np.sum(learnt(about, val, named=key == about.get("data"))))
        return Held(splits, _warning(count, len(val)) if count else "")
    by_name = 0
    trained_on, held_out = np.zeros(len(whole), bool), np.zeros(len(whole), bool)
    for run in lineage(about):
        own, images = run.get("data") == key, stored_record(run)
        if images is not None:
            matched = images.match(whole, own=own)
            by_name = max(by_name, matched.by_name)
            held_out |= matched.parts == HELD_OUT
            known = matched.parts == TRAINED_ON
            trained_on |= known if images.complete else ~matched.unlearnt
        elif own:
            before = split_by_position(whole, run.get("val_fraction", 0.1), run.get("seed", 0))
            held_out |= _mask(before.val, whole)
            trained_on |= ~_mask(before.val, whole)
    drawn = _mask(val, whole)
    chosen = (held_out | drawn) & ~trained_on
    if not trained_on.any() or np.array_equal(chosen, drawn):
        return Held(splits)
    if not chosen.any():
        return Held(splits, _warning(int(np.sum(drawn & trained_on)), len(val)))
    said = (
        f"validating on the {int(np.sum(chosen)):,} images that the initial weights were not "
        "trained on; --seed and --val-fraction are ignored"
    )
    said = "; ".join(filter(None, (said, by_name_alone(by_name))))
    return Held(divide(whole, chosen, val.layout), said)


def _leaks(splits: Splits, about: dict[str, Any]) -> str:
    """A warning if the data set's own validation part contains images trained on before."""
    count = 0 if splits.whole is not None else int(np.sum(learnt(about, splits.val, named=False)))
    return _warning(count, len(splits.val)) if count else ""


def _mask(part: Dataset, whole: Dataset) -> np.ndarray:
    held = np.zeros(len(whole), bool)
    held[part.indices if isinstance(part, Subset) else ()] = True
    return held


def _warning(count: int, of: int) -> str:
    return (
        f"the weights to start from were trained on {count:,} of the {of:,} validation images: "
        "the validation error will be too low"
    )
