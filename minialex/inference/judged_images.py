"""Selects the images to evaluate a network on: those that it was not trained on."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minialex.data.dataset import Dataset, Splits, complete, subset
from minialex.data.image_record import NEW, stored_record
from minialex.data.sources.open import is_builtin, open_data, open_for_evaluation, require_clear
from minialex.data.split import split_by_position
from minialex.errors import InputError
from minialex.models.recipe import Recipe
from minialex.utils.arguments import wrong
from minialex.utils.paths import expanded

MOST_RUNS = 50  # the newest of a lineage, which are kept
MOST_LINES = 2_000_000  # in the lists of the runs that a network started from: 150 MB
UNLISTED = "unlisted_runs"  # the number of older runs


@dataclass(frozen=True)
class Judged:
    """The images to evaluate on, and a sentence if there are fewer than expected."""

    dataset: Dataset
    note: str = ""


def data_key(data: object) -> str | None:
    """What a run records as its data: a folder's full path, a built-in set's name, or None."""
    if data is None:
        return "shapes"
    if not isinstance(data, (str, Path)):
        return None
    folder = expanded(data)
    if is_builtin(data) or not folder.exists():
        return str(data)
    return str(folder.resolve())


def images_to_judge(about: dict[str, Any], data: Any = None) -> Judged:
    """The images of `data` (None: of the training data) that a network was not trained on.

    `about` is the data record of its weights. A data set passed as an object is used in full.
    Raises InputError if no image is left.
    """
    if data is not None and not isinstance(data, (str, Path)):
        if not isinstance(data, Splits) and not hasattr(data, "labels"):
            raise wrong("data", data, "a folder's path, a data set or Splits")
        dataset = data.val if isinstance(data, Splits) else complete(data)
        if not len(dataset):
            part = "validation images" if isinstance(data, Splits) else "images"
            raise InputError(f"{dataset.name} has no {part} to evaluate on: give other images")
        new, by_name = _unlearnt_by_all(lineage(about), dataset)
        learnt = int(np.sum(~new))
        note = f"the network was trained on {learnt:,} of these {len(dataset):,} images"
        return Judged(dataset, "; ".join(filter(None, (note if learnt else "", by_name))))
    require_clear(data)
    seen = about.get("data")
    if data is None and seen is None:
        raise InputError(
            "the weights do not say what they were trained on (a data set made in Python, or "
            "another program's weights): give data to evaluate them on"
        )
    if data is None or (seen is not None and data_key(data) == seen):
        judged, runs = _held_out(about), lineage(about)[1:]
    else:
        judged, runs = Judged(open_for_evaluation(data), _unlisted(about)), lineage(about)
    if count := about.get(UNLISTED):
        forgotten = f"the training images of {count} earlier runs of these weights are not listed"
        judged = Judged(judged.dataset, "; ".join(filter(None, (judged.note, forgotten))))
    keep, by_name = _unlearnt_by_all(runs, judged.dataset)
    if keep.all():
        return Judged(judged.dataset, "; ".join(filter(None, (judged.note, by_name))))
    if not keep.any():
        raise InputError(
            f"the network was trained on all images of {data or seen}, or on most of them, but "
            "does not list which: give images that it has not seen"
        )
    left = f"{int(np.sum(~keep)):,} of {len(keep):,} images are left out"
    note = f"{left}: the network was trained on them"
    return Judged(
        subset(judged.dataset, np.flatnonzero(keep)),
        "; ".join(filter(None, (judged.note, note, by_name))),
    )


def unlearnt(about: dict[str, Any], dataset: Dataset) -> np.ndarray:
    """Which images of `dataset` the run was certainly not trained on: bool (N,).

    All of them if the run has no record of its images, as with older versions.
    """
    record = stored_record(about)
    return np.ones(len(dataset), bool) if record is None else record.match(dataset).unlearnt


def cropped_before(dataset: Dataset, recipes: Iterable[Recipe]) -> str:
    """A sentence if the images were cropped in another way than a recipe's; empty if not."""
    if not dataset.cropped or not any(recipe.resizes_otherwise for recipe in recipes):
        return ""
    return (
        "the images were cropped to squares when they were packed, but the network resizes them in "
        "another way: the original images may give another accuracy"
    )


def by_name_alone(count: int) -> str:
    """A sentence about images that were matched by name only; empty if there are none."""
    if not count:
        return ""
    return (
        f"{count:,} images are recognised by their names alone: the packed set, or the list in the "
        "weights, is from an older version and has no digests"
    )


def _unlearnt_by_all(runs: list[dict[str, Any]], dataset: Dataset) -> tuple[np.ndarray, str]:
    """Which images none of `runs` was trained on: bool (N,); and `by_name_alone`."""
    keep, by_name = np.ones(len(dataset), bool), 0
    for run in runs:
        if (record := stored_record(run)) is not None:
            matched = record.match(dataset)
            keep &= matched.unlearnt
            by_name = max(by_name, matched.by_name)
    return keep, by_name_alone(by_name)


def learnt(about: dict[str, Any], dataset: Dataset, *, named: bool) -> np.ndarray:
    """Which images of `dataset` a network was trained on, as far as is known: bool (N,).

    `named`: the data set is the one named by the network's run, for weights of older versions.
    """
    found = np.zeros(len(dataset), bool)
    for run in lineage(about):
        found |= ~unlearnt(run, dataset)
    if named and about.get("data") is not None and stored_record(about) is None:
        train = open_as_trained(about).train
        names = {train.describe(index) for index in range(len(train))}
        found |= np.array([dataset.describe(index) in names for index in range(len(dataset))], bool)
    return found


def lineage(about: dict[str, Any]) -> list[dict[str, Any]]:
    """The data of a network's own run, then of those whose weights it started from."""
    runs = [about]
    while isinstance(earlier := runs[-1].get("started_from"), dict):
        runs.append(earlier)
    return runs


def shortened(about: dict[str, Any]) -> dict[str, Any]:
    """`about` without the runs that newer ones of its lineage repeat, limited in length.

    A network can be fine-tuned again and again, often on the same images, and every file stores the
    whole lineage.
    """
    own, *earlier = lineage(about)
    kept, seen, listed, unlisted = [own], [_images(own)], 0, about.get(UNLISTED, 0)
    for run in earlier:
        unlisted += run.get(UNLISTED, 0)
        if _images(run) in seen:
            continue
        record = stored_record(run)
        listed += 0 if record is None else len(record.held_out) + len(record.trained_on)
        if len(kept) == MOST_RUNS or listed > MOST_LINES:
            unlisted += 1
            continue
        kept.append(run)
        seen.append(_images(run))
    found: dict[str, Any] | None = None
    for run in reversed(kept):
        found = {k: v for k, v in run.items() if k not in ("started_from", UNLISTED)} | (
            {} if found is None else {"started_from": found}
        )
    return {**(found or {}), **({UNLISTED: unlisted} if unlisted else {})}


def _images(run: dict[str, Any]) -> tuple:
    """The key that identifies a run's training images; no seed if they are listed."""
    record = stored_record(run)
    drawn = (run.get("seed"), run.get("val_fraction")) if record is None else ()
    return run.get("data"), record, *drawn


def open_as_trained(about: dict[str, Any]) -> Splits:
    """The data set that a network was trained on, split as it was then."""
    seed, fraction = about.get("seed", 0), about.get("val_fraction", 0.1)
    # None: a run's "shapes" never was a folder
    data = None if about["data"] == "shapes" else about["data"]
    splits = open_data(data, seed=seed, val_fraction=fraction)
    record, whole = stored_record(about), splits.whole
    if whole is None:
        return splits
    if record is None:
        return split_by_position(whole, fraction, seed)  # as older versions did
    unseen = record.match(whole, own=True).unlearnt
    rest = subset(whole, np.flatnonzero(~unseen), splits.train.layout)
    return Splits(rest, subset(whole, np.flatnonzero(unseen), splits.val.layout))


def _held_out(about: dict[str, Any]) -> Judged:
    """The images of the training data that were held out, and what has changed since."""
    try:
        splits = open_as_trained(about)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; if the images were moved, give their folder") from None
    record = stored_record(about)
    if not len(splits.val):
        raise InputError(
            f"the network was trained without validation images, or none of them is left in "
            f"{about['data']}: give images that it has not seen"
        )
    if record is None or splits.whole is None or not record.drawn:
        return Judged(splits.val)
    again = record.copies(splits.val)
    val = subset(splits.val, np.flatnonzero(~again)) if again.any() else splits.val
    found = []
    if copies := int(np.sum(again)):
        found.append(f"{copies:,} copies of held-out images are left out")
    if gone := record.held_out_images - len(val):
        found.append(f"{gone:,} of the {record.held_out_images:,} held-out images are gone")
    if new := record.match(splits.whole, own=True).count(NEW) if record.complete else 0:
        found.append(f"{new:,} images were added after the training and are left out")
    return Judged(val, "; ".join(found))


def _unlisted(about: dict[str, Any]) -> str:
    """A sentence for weights without a record of their training images."""
    seen = about.get("data")
    if stored_record(about) is not None or seen is None or is_builtin(seen):
        return ""
    return "these weights do not list their training images: some of these may be among them"
