"""Holds out images for validation if a data set has no validation part."""

import hashlib
from collections.abc import Sequence

import numpy as np

from minialex import rng
from minialex.data.dataset import Dataset, Splits, subset
from minialex.errors import InputError

SEED, VAL_FRACTION = 0, 0.1  # defaults


def split(dataset: Dataset, val_fraction: float, seed: int) -> Splits:
    """Hold out about `val_fraction` of each class, as `hold_out` does; 0 holds out none."""
    held_out = hold_out(_names(dataset), dataset.labels, val_fraction, seed)
    return divide(dataset, held_out, described(dataset.layout, val_fraction, seed))


def hold_out(
    names: Sequence[str], labels: np.ndarray, val_fraction: float, seed: int
) -> np.ndarray:
    """Which of the images to hold out, drawn by `seed` and by each image's name: bool (N,).

    Of the n images of a class, those with the round(val_fraction * n) smallest digests of their
    names; of two or more images at least one is held out and at least one is not.
    """
    # A threshold on the digest would never move an image when another is added or deleted, but of
    # 20 images it would hold out anything from 1 to 5. Ranking gives the right number, and such a
    # change moves at most one other image, the one at the border; runs store their lists anyway.
    if not 0 <= val_fraction < 1:
        raise InputError(
            f"val_fraction is {val_fraction}: give the share of images to hold out, from 0 to "
            "below 1"
        )
    held_out = np.zeros(len(names), bool)
    if val_fraction > 0:
        for members in _drawn_by_class(names, labels, seed):
            held_out[members[: _count(val_fraction, len(members))]] = True
    return held_out


def fold_of(dataset: Dataset, number: int, folds: int, seed: int) -> Splits:
    """Hold out the `number`-th (from 1) of `folds` parts, each with its share of every class."""
    parts = np.zeros(len(dataset), int)
    for members in _drawn_by_class(_names(dataset), dataset.labels, seed):
        label = int(dataset.labels[members[0]])
        if len(members) < 2:
            raise InputError(
                f"the class {dataset.class_names[label]} has a single image: with it held out, "
                "none is left to train on"
            )
        # classes begin with different parts, so that small ones do not all fill the first ones
        parts[members] = (np.arange(len(members)) + label) % folds
    if len(np.unique(parts)) < folds:  # found before the first fold is trained
        raise InputError(f"{dataset.name} has too few images for {folds} folds: choose fewer")
    return divide(
        dataset, parts == number - 1, f"{dataset.layout}, fold {number} of {folds} by seed {seed}"
    )


def split_by_position(dataset: Dataset, val_fraction: float, seed: int) -> Splits:
    """The split of runs by older versions: by each image's position in its class."""
    held_out = np.zeros(len(dataset), bool)
    labels = dataset.labels
    by_class = np.argsort(labels, kind="stable")
    for run in _classes(labels[by_class]):
        members = by_class[run]
        order = rng.permutation(seed, rng.Stream.SPLIT, int(labels[members[0]]), len(members))
        held_out[members[order[: _count(val_fraction, len(members))]]] = True
    return divide(dataset, held_out, described(dataset.layout, val_fraction, seed))


def divide(dataset: Dataset, held_out: np.ndarray, layout: str) -> Splits:
    """`dataset` in two: the images where `held_out`, bool (N,), is true are for validation."""
    train, val = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    return Splits(subset(dataset, train, layout), subset(dataset, val, layout))


def described(layout: str, val_fraction: float, seed: int) -> str:
    """A data set's layout and how it was split, in one phrase."""
    return f"{layout}, about {val_fraction:.0%} of each class held out by seed {seed}"


def _count(val_fraction: float, images: int) -> int:
    return min(max(round(val_fraction * images), 1), images - 1)


def _names(dataset: Dataset) -> list[str]:
    return [dataset.image_name(index) or dataset.describe(index) for index in range(len(dataset))]


def _drawn_by_class(names: Sequence[str], labels: np.ndarray, seed: int) -> list[np.ndarray]:
    """The indices of each class's images, in the order of the digests of their names."""
    order = np.lexsort((np.array([_drawn(name, seed) for name in names]), labels))
    return [order[members] for members in _classes(labels[order])]


def _classes(labels: np.ndarray) -> list[np.ndarray]:
    """The indices of each class in sorted labels."""
    runs = np.split(np.arange(len(labels)), np.flatnonzero(np.diff(labels)) + 1)
    return [run for run in runs if len(run)]


def _drawn(name: str, seed: int) -> int:
    """A number that is a function of the seed and the name."""
    digest = hashlib.blake2b(
        name.encode("utf-8", "surrogateescape"), digest_size=6, key=str(seed).encode()
    )
    return int.from_bytes(digest.digest(), "big")
