"""The images of an experiment: a balanced part of a data set, and two data sets joined."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from minialex import rng
from minialex.data.dataset import Dataset, Splits, Subset, subset

MAX_DRAWINGS = 4000  # built-in training images where an experiment would take "all"


@dataclass(frozen=True)
class Data:
    """Training and validation images, and the description that goes into a result's cache key."""

    splits: Splits
    key: dict[str, Any]

    @property
    def line(self) -> str:
        """The data set and its size in one line."""
        name, train, val = (self.key[k] for k in ("name", "train", "val"))
        classes = len(self.splits.train.class_ids)
        return f"{name}: {train:,} training and {val:,} validation images, {classes} classes"

    def evaluated_on_training(self, count: int) -> "Data":
        """With `count` training images for validation: every "validation" error is then a
        training error."""
        train = self.splits.train
        some = subset(train, balanced_indices(train, count))
        key = {**self.key, "val": len(some), "judged_on": "training images"}
        return Data(Splits(train, some), key)

    def in_memory(self) -> Splits:
        """The same images, kept in memory once they have been read."""

        def keep(dataset: Dataset) -> InMemory:
            return InMemory(dataset, np.arange(len(dataset)), dataset.layout)

        return Splits(keep(self.splits.train), keep(self.splits.val))

    def joined_with(self, other: "Data") -> "Data":
        """The images and classes of both."""
        train = Joined(self.splits.train, other.splits.train)
        val = Joined(self.splits.val, other.splits.val)
        key = {
            **self.key,
            "name": f"{self.key['name']} and {other.key['name']}",
            "train": len(train),
            "val": len(val),
            "more": other.key,
        }
        return Data(Splits(train, val), key)


@dataclass(frozen=True)
class InMemory(Subset):
    """Images that stay in memory once read, for runs that are resumed after every epoch."""

    images: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)

    def image(self, index: int, size: int) -> np.ndarray:
        if (index, size) not in self.images:
            self.images[index, size] = super().image(index, size)
        return self.images[index, size]


@dataclass(frozen=True, repr=False)
class Joined(Dataset):
    """Two data sets as one; classes with the same id are one class."""

    first: Dataset
    second: Dataset

    @property
    def name(self) -> str:
        return f"{self.first.name}-{self.second.name}"

    @property
    def layout(self) -> str:
        return f"{self.first.layout}, and {self.second.layout}"

    @cached_property
    def _classes(self) -> dict[str, str]:
        """{id: name}, sorted by id."""
        both = (self.second, self.first)
        names = {k: n for d in both for k, n in zip(d.class_ids, d.class_names, strict=True)}
        return dict(sorted(names.items()))

    @property
    def class_ids(self) -> tuple[str, ...]:
        return tuple(self._classes)

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self._classes.values())

    @cached_property
    def labels(self) -> np.ndarray:
        joined_label = {name: k for k, name in enumerate(self._classes)}
        parts = [
            np.array([joined_label[name] for name in d.class_ids], np.int64)[d.labels]
            for d in (self.first, self.second)
        ]
        return np.concatenate(parts)

    @property
    def native_size(self) -> int | None:
        return self.first.native_size

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def image(self, index: int, size: int) -> np.ndarray:
        dataset, index = self._locate(index)
        return dataset.image(index, size)

    def describe(self, index: int) -> str:
        dataset, index = self._locate(index)
        return dataset.describe(index)

    def image_name(self, index: int) -> str | None:
        dataset, index = self._locate(index)
        return dataset.image_name(index)

    def _locate(self, index: int) -> tuple[Dataset, int]:
        """The data set of an image, and its index there."""
        n = len(self.first)
        return (self.first, index) if index < n else (self.second, index - n)


def open_subset(source: str | None, train: int | None, val: int | None) -> Data:
    """At most `train` and `val` images of `source`, balanced over the classes; None for all.

    The choice does not depend on a run's seed: all seeds see the same images.
    """
    from minialex.data.image_record import fingerprint
    from minialex.data.sources.open import is_builtin, open_data
    from minialex.inference.judged_images import data_key

    if source is None or source == "shapes":  # drawn on demand, as many as are asked for
        wanted = max(train or MAX_DRAWINGS, 4 * (val or 0))
        source = f"shapes:{wanted}"
    splits = open_data(source, seed=0)
    some = Splits(balanced_subset(splits.train, train), balanced_subset(splits.val, val))
    ids = " ".join(splits.train.class_ids)
    key = {
        "data": source if is_builtin(source) else fingerprint(splits) or data_key(source),
        "name": "built-in images" if is_builtin(source) else splits.train.name,
        "train": len(some.train),
        "val": len(some.val),
        "classes": hashlib.sha256(ids.encode("utf-8", "backslashreplace")).hexdigest()[:10],
    }
    return Data(some, key)


def balanced_subset(dataset: Dataset, count: int | None) -> Dataset:
    """`count` images, as many of each class as possible; all of them for None."""
    if count is None or count >= len(dataset):
        return dataset
    return subset(dataset, balanced_indices(dataset, count))


def balanced_indices(dataset: Dataset, count: int) -> np.ndarray:
    """Sorted indices of `count` images, taken from the classes in turn; always the same ones."""
    labels = dataset.labels
    order = rng.permutation(0, rng.Stream.SPLIT, 1 << 20, len(labels))
    turn = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        turn[members] = np.arange(len(members))
    return np.sort(order[np.argsort(turn[order], kind="stable")][:count])
