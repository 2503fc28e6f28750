"""Holding images out for validation, where a data set has no part of its own for it."""

import hashlib
from collections.abc import Sequence

import numpy as np

from minialex import rng
from minialex.data.dataset import Dataset, Splits, subset
from minialex.errors import InputError


def split(dataset: Dataset, val_fraction: float, seed: int) -> Splits:
    """Hold out about `val_fraction` of each class, as `hold_out` does; 0 holds out none."""
    names = [dataset.image_name(index) or dataset.describe(index) for index in range(len(dataset))]
    held_out = hold_out(names, dataset.labels, val_fraction, seed)
    return divide(dataset, held_out, _how(dataset, val_fraction, seed))


def hold_out(
    names: Sequence[str], labels: np.ndarray, val_fraction: float, seed: int
) -> np.ndarray:
    """Which of the images to hold out, drawn by `seed` and by each image's name: bool (N,).

    An image's part depends on nothing but its name, so one that is added or deleted moves no other;
    but of two or more images of a class at least one is held out and at least one is not.
    """
    if not 0 <= val_fraction < 1:
        raise InputError(
            f"val_fraction is {val_fraction}: give the share of images to hold out, from 0 to "
            "below 1"
        )
    drawn = np.array([_drawn(name, seed) for name in names])
    held_out = drawn < val_fraction
    for label in np.unique(labels) if val_fraction > 0 else ():
        members = np.flatnonzero(labels == label)
        if len(members) > 1 and not held_out[members].any():
            held_out[members[np.argmin(drawn[members])]] = True
        elif held_out[members].all():
            held_out[members[np.argmax(drawn[members])]] = False
    return held_out


def split_by_place(dataset: Dataset, val_fraction: float, seed: int) -> Splits:
    """The split of runs that older versions stored: by each image's place in its class."""
    held_out = np.zeros(len(dataset), bool)
    for label in np.unique(dataset.labels):
        members = np.flatnonzero(dataset.labels == label)
        count = min(max(round(val_fraction * len(members)), 1), len(members) - 1)
        order = rng.permutation(seed, rng.Stream.SPLIT, int(label), len(members))
        held_out[members[order[:count]]] = True
    return divide(dataset, held_out, _how(dataset, val_fraction, seed))


def divide(dataset: Dataset, held_out: np.ndarray, layout: str) -> Splits:
    """`dataset` in two: the images where `held_out`, bool (N,), is true are for validation."""
    train, val = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    return Splits(subset(dataset, train, layout), subset(dataset, val, layout))


def _how(dataset: Dataset, val_fraction: float, seed: int) -> str:
    return f"{dataset.layout}, {val_fraction:.0%} of each class held out by seed {seed}"


def _drawn(name: str, seed: int) -> float:
    """A number in [0, 1) that is a function of the seed and the name."""
    digest = hashlib.blake2b(
        name.encode("utf-8", "surrogateescape"), digest_size=6, key=str(seed).encode()
    )
    return int.from_bytes(digest.digest(), "big") / 2**48
