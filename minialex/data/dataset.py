"""The interface of a data set, and training and validation parts of one."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minialex.data.remarks import NONE, Remarks
from minialex.errors import InputError
from minialex.utils.composed import all_composed, composed

if TYPE_CHECKING:
    from minialex.data.statistics import Statistics


class Dataset(ABC):
    """Base class of all data sets: labelled images, read one at a time.

    A subclass has six attributes (`name` to `native_size`, as fields or properties) and three
    methods (`__len__`, `image`, `describe`); everything else has a default. A dataclass that
    overrides such a default with a field gives the field a default too. `image` may be called from
    several threads at once.
    """

    if TYPE_CHECKING:  # at run time a dataclass would take these for its fields' defaults

        @property
        def name(self) -> str:
            """A short name for logs: the folder's name, `shapes`, ..."""

        @property
        def layout(self) -> str:
            """The format that was recognised and how it was split, in one phrase."""

        @property
        def class_ids(self) -> tuple[str, ...]:
            """Folder names or wnids, sorted; a label is an index into these."""

        @property
        def class_names(self) -> tuple[str, ...]:
            """Readable class names, in the same order."""

        @property
        def labels(self) -> np.ndarray:
            """int64 (N,)"""

        @property
        def native_size(self) -> int | None:
            """The typical shorter side of the images in pixels; None where they are drawn."""

    def __repr__(self) -> str:
        count = f"{len(self):,} images of {len(self.class_ids):,} classes"
        return f"<{type(self).__name__} {self.name}: {count}, {self.layout}>"

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def image(self, index: int, size: int) -> np.ndarray:
        """Shorter side resized to `size`, centre cropped: uint8 (size, size, channels), RGB.

        Raises InputError or OSError for an image that cannot be read.
        """

    @abstractmethod
    def describe(self, index: int) -> str:
        """Where the image comes from, for messages: its path, or file and record."""

    @property
    def channels(self) -> int:
        """Channels of an image; a stack of optical flow fields has more than 3."""
        return 3

    @property
    def stored_size(self) -> int | None:
        """The side of the stored images if all are squares of one size."""
        return None

    @property
    def cropped(self) -> bool:
        """Whether the stored images were cropped to squares, so that they cannot be squashed."""
        return False

    @property
    def mapped_size(self) -> int | None:
        """The size at which `copy_mapped` can deliver images, from a memory-mapped file."""
        return None

    def copy_mapped(self, indices: np.ndarray, out: np.ndarray) -> None:
        """Copy the mapped images at `indices` into `out`, uint8 (n, S, S, 3), S = mapped_size."""
        raise NotImplementedError(f"{self.name} is not memory-mapped")

    @property
    def statistics(self) -> "Statistics | None":
        """Mean and colour statistics of these images, if they came with the data."""
        return None

    @property
    def remarks(self) -> Remarks:
        """What the reader skipped, and what is missing."""
        return NONE

    def dimensions(self, index: int) -> tuple[int, int] | None:
        """(width, height) of the stored image by its header; None if it is drawn at any size."""
        return None if self.stored_size is None else (self.stored_size, self.stored_size)

    def path(self, index: int) -> Path | None:
        """The file that contains only this image, if there is one."""
        return None

    def image_name(self, index: int) -> str | None:
        """The image's name in the data set, independent of the data set's location: cat/07.jpg.

        None for an image that does not come from a file, such as a drawing.
        """
        return inner_name(self.describe(index), self.class_ids[int(self.labels[index])])

    def content_size(self, index: int) -> int | None:
        """Size of the original image in bytes, if known without reading it."""
        path = self.path(index)
        return None if path is None else path.stat().st_size

    def content(self, index: int) -> bytes | None:
        """The original encoded image; None if it was converted for storage."""
        path = self.path(index)
        return None if path is None else path.read_bytes()

    def content_digest(self, index: int) -> str | None:
        """`digest` of the original image, if stored; None if it must be computed from `content`."""
        return None

    @property
    def checksums(self) -> tuple[str, ...]:
        """Checksums of the stored images, if the data came with any."""
        return ()


def digest(content: bytes) -> str:
    """A hash that identifies an image: 16 hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def inner_name(described: str, class_id: str) -> str:
    """The image's path from its class folder on, or the file name if there is no class folder.

    An image thus has the same name in a folder, in an archive, and packed.
    """
    parts = composed(described).replace(".tar:", "/").replace("\\", "/").split("/")
    for depth in range(len(parts) - 2, -1, -1):
        if parts[depth] == composed(class_id):
            return "/".join(parts[depth:])
    return parts[-1]


@dataclass(frozen=True)
class Splits:
    """A training and a validation set with the same classes."""

    train: Dataset
    val: Dataset

    def __post_init__(self) -> None:
        for name, part in self.parts.items():
            object.__setattr__(self, name, complete(part))
        train, val = (all_composed(part.class_ids) for part in self.parts.values())
        if train != val:
            raise InputError(
                f"the classes to validate on ({_first(val)}) are not those to train "
                f"({_first(train)}): both parts need the same, in the same order"
            )

    @property
    def parts(self) -> dict[str, Dataset]:
        """Both by name: "train" and "val"."""
        return {"train": self.train, "val": self.val}

    @property
    def remarks(self) -> tuple[Remarks, ...]:
        """What was skipped in each part, and what is missing."""
        return tuple(part.remarks for part in self.parts.values())

    @property
    def whole(self) -> Dataset | None:
        """The data set that `val` was split from; None if the data came in two parts."""
        train, val = self.train, self.val
        if isinstance(train, Subset) and isinstance(val, Subset) and train.whole is val.whole:
            return train.whole
        return None


def _first(ids: Sequence[str]) -> str:
    return ", ".join(ids[:4]) + ", ..." * (len(ids) > 4)


_ATTRIBUTES = ("name", "layout", "class_ids", "class_names", "labels", "native_size")
_REQUIRED = (*_ATTRIBUTES, "__len__", "image", "describe")


def complete(dataset: Any) -> Dataset:
    """The data set; if it does not derive from `Dataset`, with defaults for what it lacks.

    Raises InputError if it lacks what has no default, or has labels that are no classes of its own.
    """
    if isinstance(dataset, Dataset):
        _labels(dataset)
        return dataset
    if dataset is None:
        raise InputError(
            "a data set is None; to train without validation images, make one of none, "
            "subset(train, []), and pass val_fraction=0"
        )
    missing = [name for name in _REQUIRED if not hasattr(dataset, name)]
    if missing:
        raise InputError(
            "a data set must be a minialex.data.dataset.Dataset or have the same attributes and "
            f"methods: {type(dataset).__name__} has no {', '.join(missing)}"
        )
    has = [name for name in dir(Dataset) if name[0] != "_" and hasattr(dataset, name)]
    own = {name: property(attrgetter(f"_dataset.{name}")) for name in has}
    own["labels"] = property(attrgetter("_labels"))
    return type(type(dataset).__name__, (_Completed,), own)(dataset)


def _labels(dataset: Any) -> np.ndarray:
    """Its labels, int64 (N,), from any integers; InputError for others than its classes."""
    labels, count, classes = np.asarray(dataset.labels), len(dataset), len(dataset.class_ids)
    if labels.shape != (count,) or (count and labels.dtype.kind not in "iu"):
        raise InputError(
            f"the labels of the data set {dataset.name!r} are an array {labels.shape} of "
            f"{labels.dtype}: they must be integers, one for each of its {count:,} images"
        )
    if count and not 0 <= labels.min() <= labels.max() < classes:
        raise InputError(
            f"the labels of the data set {dataset.name!r} go from {labels.min()} to "
            f"{labels.max()}, but it has {classes} classes: they must be from 0 to {classes - 1}"
        )
    return labels.astype(np.int64, copy=False)


class _Completed(Dataset):
    """Wraps a data set of another class; missing attributes get `Dataset`'s defaults."""

    def __init__(self, dataset: Any):
        self._dataset, self._labels = dataset, _labels(dataset)

    def __getattr__(self, name: str) -> Any:
        if name == "_dataset":
            raise AttributeError(name)
        return getattr(self._dataset, name)

    def __len__(self) -> int:
        return len(self._dataset)

    def image(self, index: int, size: int) -> np.ndarray:
        return self._dataset.image(index, size)

    def describe(self, index: int) -> str:
        return self._dataset.describe(index)


@dataclass(frozen=True, repr=False)
class Subset(Dataset):
    """Some images of another data set, by their indices, with all of its classes."""

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

    @cached_property  # read once per image
    def labels(self) -> np.ndarray:
        return self.whole.labels[self.indices]

    @property
    def native_size(self) -> int | None:
        return self.whole.native_size

    @property
    def channels(self) -> int:
        return self.whole.channels

    @property
    def stored_size(self) -> int | None:
        return self.whole.stored_size

    @property
    def cropped(self) -> bool:
        return self.whole.cropped

    @property
    def remarks(self) -> Remarks:
        return self.whole.remarks

    def __len__(self) -> int:
        return len(self.indices)

    def image(self, index: int, size: int) -> np.ndarray:
        return self.whole.image(int(self.indices[index]), size)

    def describe(self, index: int) -> str:
        return self.whole.describe(int(self.indices[index]))

    def dimensions(self, index: int) -> tuple[int, int] | None:
        return self.whole.dimensions(int(self.indices[index]))

    def path(self, index: int) -> Path | None:
        return self.whole.path(int(self.indices[index]))

    def image_name(self, index: int) -> str | None:
        return self.whole.image_name(int(self.indices[index]))

    def content_size(self, index: int) -> int | None:
        return self.whole.content_size(int(self.indices[index]))

    def content(self, index: int) -> bytes | None:
        return self.whole.content(int(self.indices[index]))

    def content_digest(self, index: int) -> str | None:
        return self.whole.content_digest(int(self.indices[index]))

    @property
    def checksums(self) -> tuple[str, ...]:
        return self.whole.checksums


def subset(dataset: Dataset, indices: np.ndarray | list[int], layout: str | None = None) -> Subset:
    """The images of `dataset` at `indices`, in that order."""
    return Subset(complete(dataset), np.asarray(indices, np.int64), layout or dataset.layout)
