"""The images of an experiment: which of the data given, and how many of them."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from minialex import rng
from minialex.data.dataset import Dataset, Splits, Subset, subset

DRAWN_AT_MOST = 4000  # built-in training images where an experiment would take all there are


@dataclass(frozen=True)
class Data:
    """Images to train on and to judge by, and the description that results are kept under."""

    splits: Splits
    described: dict[str, Any]

    @property
    def line(self) -> str:
        """The data in words."""
        name, train, val = (self.described[k] for k in ("name", "train", "val"))
        classes = len(self.splits.train.class_ids)
        return f"{name}: {train:,} training and {val:,} validation images of {classes} classes"

    def judged_on_training(self, count: int) -> "Data":
        """The training images in both places: what "validation" says is then training error."""
        train = self.splits.train
        some = subset(train, spread_out(train, count))
        key = {**self.described, "val": len(some), "judged_on": "training images"}
        return Data(Splits(train, some), key)

    def kept(self) -> Splits:
        """The same images, in memory once they have been read."""

        def keep(dataset: Dataset) -> Kept:
            return Kept(dataset, np.arange(len(dataset)), dataset.layout)

        return Splits(keep(self.splits.train), keep(self.splits.val))

    def with_more(self, other: "Data") -> "Data":
        """The images of both, told apart by the classes of both."""
        train = Joined(self.splits.train, other.splits.train)
        val = Joined(self.splits.val, other.splits.val)
        key = {
            **self.described,
            "name": f"{self.described['name']} and {other.described['name']}",
            "train": len(train),
            "val": len(val),
            "more": other.described,
        }
        return Data(Splits(train, val), key)


@dataclass(frozen=True)
class Kept(Subset):
    """Images that stay in memory once read, for runs that are taken up again every epoch."""

    squares: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)

    def image(self, index: int, size: int) -> np.ndarray:
        if (index, size) not in self.squares:
            self.squares[index, size] = super().image(index, size)
        return self.squares[index, size]


@dataclass(frozen=True)
class Joined:
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
        place = {name: k for k, name in enumerate(self._classes)}
        parts = [
            np.array([place[name] for name in d.class_ids], np.int64)[d.labels]
            for d in (self.first, self.second)
        ]
        return np.concatenate(parts)

    @property
    def native_size(self) -> int | None:
        return self.first.native_size

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def image(self, index: int, size: int) -> np.ndarray:
        dataset, index = self._place(index)
        return dataset.image(index, size)

    def describe(self, index: int) -> str:
        dataset, index = self._place(index)
        return dataset.describe(index)

    def _place(self, index: int) -> tuple[Dataset, int]:
        n = len(self.first)
        return (self.first, index) if index < n else (self.second, index - n)


def open_part(source: str | None, train: int | None, val: int | None) -> Data:
    """At most `train` and `val` images of `source`, evenly from all classes; None is all of them.

    The choice does not depend on a run's seed: all seeds see the same images.
    """
    from minialex.data.sources.open import is_builtin, open_data
    from minialex.inference.classifier import data_key

    if source is None or source == "shapes":  # drawn as many as are wanted
        wanted = max(train or DRAWN_AT_MOST, 4 * (val or 0))
        source = f"shapes:{wanted}"
    splits = open_data(source, seed=0)
    some = Splits(part(splits.train, train), part(splits.val, val))
    ids = " ".join(splits.train.class_ids)
    described = {
        "data": source if is_builtin(source) else data_key(source),
        "name": "built-in images" if is_builtin(source) else splits.train.name,
        "train": len(some.train),
        "val": len(some.val),
        "classes": hashlib.sha256(ids.encode("utf-8", "backslashreplace")).hexdigest()[:10],
    }
    return Data(some, described)


def part(dataset: Dataset, count: int | None) -> Dataset:
    """`count` images of `dataset`, or all of it."""
    if count is None or count >= len(dataset):
        return dataset
    return subset(dataset, spread_out(dataset, count))


def spread_out(dataset: Dataset, count: int) -> np.ndarray:
    """Indices of `count` images: each class in turn, in an order that is the same every time."""
    labels = dataset.labels
    order = rng.permutation(0, rng.Stream.SPLIT, 1 << 20, len(labels))
    turn = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        turn[members] = np.arange(len(members))
    return np.sort(order[np.argsort(turn[order], kind="stable")][:count])
