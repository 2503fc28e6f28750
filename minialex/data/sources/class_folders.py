"""Photographs in class folders, or flat beside a file of labels (see class_folder_layouts.py)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from minialex.data.dataset import Dataset, Splits
from minialex.data.decode import images
from minialex.data.remarks import NONE, Remarks
from minialex.data.sources.class_folder_layouts import Part, find_layout, require_images
from minialex.data.sources.names import read_names
from minialex.data.sources.source import Source
from minialex.data.split import split
from minialex.errors import InputError
from minialex.utils.composed import all_composed

_TRIED_SIZES = 15


@dataclass(frozen=True, repr=False)
class ImageFolder(Dataset):
    """Images in one folder and those below it; `files` are relative to it."""

    folder: Path
    name: str
    layout: str
    class_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    files: tuple[str, ...]
    labels: np.ndarray  # int64 (N,)
    remarks: Remarks = NONE
    listed: bool = False  # whether a table gives the labels, and the order

    def __len__(self) -> int:
        return len(self.files)

    def image(self, index: int, size: int) -> np.ndarray:
        return images.load_resized(self.path(index), size)

    def path(self, index: int) -> Path:
        return self.folder / self.files[index]

    def image_name(self, index: int) -> str:
        return self._names[index]

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return all_composed(self.files)

    def dimensions(self, index: int) -> tuple[int, int]:
        return images.dimensions(self.path(index))

    def describe(self, index: int) -> str:
        return str(self.path(index))

    @cached_property
    def native_size(self) -> int | None:
        """The median shorter side of a few files, from their headers; None if none can be read."""
        return typical_side(len(self), self.path)


def in_disk_order(dataset: Dataset, class_ids: Sequence[str]) -> Dataset:
    """The photographs as sorted by older versions, which used names as they are on the disk.

    `class_ids` are the classes in that order. Other data sets are returned as they are.
    """
    if not isinstance(dataset, ImageFolder) or set(all_composed(class_ids)) != set(
        dataset.class_ids
    ):
        return dataset
    now = {class_id: label for label, class_id in enumerate(dataset.class_ids)}
    labels_now = [now[class_id] for class_id in all_composed(class_ids)]
    before = np.argsort(labels_now)  # the label then of each label now
    order = list(range(len(dataset)))
    if not dataset.listed:
        order.sort(key=lambda index: dataset.files[index].split("/", 1))
    return replace(
        dataset,
        class_ids=tuple(class_ids),
        class_names=tuple(dataset.class_names[label] for label in labels_now),
        files=tuple(dataset.files[index] for index in order),
        labels=before[dataset.labels[order]],
    )


def typical_side(count: int, source: Callable[[int], images.Source]) -> int | None:
    """The median shorter side of a few of `count` image files; None if none can be read."""
    sides = []
    for index in np.linspace(0, count - 1, min(count, _TRIED_SIZES)).astype(int):
        try:
            _, width, height = images.probe(source(index))
        except (InputError, OSError):
            continue
        sides.append(min(width, height))
    return int(np.median(sides)) if sides else None


def open_folder(root: Path, *, seed: int, val_fraction: float) -> Splits:
    """The training and validation photographs under `root`, in any known layout.

    Raises InputError if there are fewer than two classes, if a class has no readable image, and if
    val/ has a class that train/ lacks.
    """
    layout = find_layout(root)
    train = of_part(layout.train, name=root.name, layout=str(layout), names_from=root)
    if len(train.class_ids) < 2:
        raise InputError(
            f"{str(layout.train.folder)!r} holds only the class {train.class_ids[0]!r}: "
            "at least two class folders are needed"
        )
    if layout.val is None:
        return split(train, val_fraction, seed)
    return Splits(train, of_part(layout.val, like=train))


def open_validation(root: Path) -> Dataset:
    """The images of val/, or all of them if there is no such folder."""
    layout = find_layout(root)
    like = None
    if layout.val is not None and layout.val.labels:
        like = of_part(layout.train, name=root.name, names_from=root)
    part = layout.val or layout.train
    return of_part(part, like=like, name=root.name, names_from=root)


def _check(
    root: Path, size: int | None, workers: int | None, progress: Callable[[int], object] | None
) -> Iterable[str]:
    from minialex.data.inspect import check_class_folders  # it lists images through this module

    return check_class_folders.check(root, size, workers, progress)


SOURCE = Source("class folders", 1000, lambda _: True, open_folder, open_validation, _check)


def of_part(
    part: Part,
    *,
    like: Dataset | None = None,
    name: str | None = None,
    layout: str | None = None,
    names_from: Path | None = None,
) -> ImageFolder:
    """The images of a part as a data set.

    `like` gives the classes, so that labels agree with another data set's; readable class names are
    looked up in `names_from`. Raises InputError for a class that `like` lacks, and for class
    folders without a readable image.
    """
    if not part.class_ids:
        raise InputError(
            f"{str(part.folder)!r} holds no class folders: put the images of each class into a "
            f"folder {part.folder.name}/<class>/"
        )
    class_ids = part.class_ids if like is None else like.class_ids
    label_of = {class_id: label for label, class_id in enumerate(class_ids)}
    for class_id in part.class_ids:
        if class_id not in label_of:
            raise InputError(
                f"{str(part.folder / class_id)!r} is a class that the training images lack: "
                "remove the folder or add it to the training images"
            )
    if not part.labels:
        require_images(part)
        _require_readable(part)
    class_names = read_names(names_from or part.folder, class_ids)
    return ImageFolder(
        folder=part.folder,
        name=name or (like.name if like else part.folder.name),
        layout=layout or (like.layout if like else f"class folders in {part.folder.name}/"),
        class_ids=class_ids,
        class_names=class_names if like is None else like.class_names,
        files=part.files,
        labels=np.array([label_of[class_id] for class_id in part.classes], np.int64),
        remarks=part.remarks,
        listed=bool(part.labels),
    )


def _require_readable(part: Part) -> None:
    """Raise InputError for a class without a readable image."""
    open_classes: dict[str, list[str]] = {class_id: [] for class_id in part.class_ids}
    for name, class_id in zip(part.files, part.classes, strict=True):
        if class_id not in open_classes:
            continue
        try:
            images.load_resized(part.folder / name, 8)
        except (InputError, OSError) as error:
            open_classes[class_id].append(str(error))
        else:
            del open_classes[class_id]
    for class_id, reasons in open_classes.items():
        raise InputError(
            f"class folder {str(part.folder / class_id)!r} holds no readable image: none of its "
            f"{len(reasons)} files opens ({reasons[0]}); replace them or remove the folder"
        )
