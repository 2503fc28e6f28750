"""What the trainer asks of a data set, and the few things every data set shares."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from minialex import rng
from minialex.errors import InputError


class Dataset(Protocol):
    """Labelled images, read one at a time; `image` may be called from several threads at once."""

    @property
    def name(self) -> str:
        """A short name for logs: the folder's name, `shapes`, ..."""

    @property
    def layout(self) -> str:
        """One phrase: what was recognised, and how it was split."""

    @property
    def class_ids(self) -> tuple[str, ...]:
        """Folder names or wnids, sorted; a label is a position here."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """What a person calls the classes, in the same order."""

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,)"""

    @property
    def native_size(self) -> int | None:
        """The typical shorter side of the images in pixels, or None where it can be chosen."""

    def __len__(self) -> int: ...

    def image(self, index: int, size: int) -> np.ndarray:
        """Shorter side scaled to `size`, centre cut out: uint8 (size, size, 3), RGB.

        Raises InputError or OSError for an image that cannot be read.
        """

    def describe(self, index: int) -> str:
        """Where the image comes from, for messages: its path, or file and record."""


@dataclass(frozen=True)
class Splits:
    """A data set to learn from and one to be judged by, with the same classes."""

    train: Dataset
    val: Dataset


@dataclass(frozen=True)
class Subset:
    """Some images of another data set, by their indices; the classes stay all the same."""

    whole: Dataset
    indices: np.ndarray  # int64 (N,)
    layout: str

    @property
    def name(self) -> str:
        return self.whole.name

    @property
    def class_ids(self) -> tuple[str, ...]:
        return self.whole.class_ids

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.whole.class_names

    @property
    def labels(self) -> np.ndarray:
        return self.whole.labels[self.indices]

    @property
    def native_size(self) -> int | None:
        return self.whole.native_size

    @property
    def channels(self) -> int:
        return getattr(self.whole, "channels", 3)

    def __len__(self) -> int:
        return len(self.indices)

    def image(self, index: int, size: int) -> np.ndarray:
        return self.whole.image(int(self.indices[index]), size)

    def describe(self, index: int) -> str:
        return self.whole.describe(int(self.indices[index]))


def subset(dataset: Dataset, indices, layout: str | None = None) -> Subset:
    """The images of `dataset` at `indices`, in that order."""
    return Subset(dataset, np.asarray(indices, np.int64), layout or dataset.layout)


def split(dataset: Dataset, val_fraction: float, seed: int) -> Splits:
    """Hold out a share of each class, drawn by `seed`: at least one image if a class has two."""
    if not 0 < val_fraction < 1:
        raise InputError(
            f"val_fraction is {val_fraction}: give the share of images to hold out, between 0 and 1"
        )
    held_out = np.zeros(len(dataset), bool)
    for label in np.unique(dataset.labels):
        members = np.flatnonzero(dataset.labels == label)
        count = min(max(round(val_fraction * len(members)), 1), len(members) - 1)
        order = rng.permutation(seed, rng.Stream.SPLIT, int(label), len(members))
        held_out[members[order[:count]]] = True
    how = f"{dataset.layout}, {val_fraction:.0%} of each class held out by seed {seed}"
    train, val = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    return Splits(subset(dataset, train, how), subset(dataset, val, how))
