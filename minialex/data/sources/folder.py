"""Photographs in class folders: ILSVRC's train/<class>/ and val/<class>/, or <class>/ alone."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from minialex.data.dataset import Dataset, Splits, split
from minialex.data.decode import images, kinds
from minialex.data.sources.source import Source
from minialex.errors import InputError

_TRAIN_NAMES = ("train", "training")
_VAL_NAMES = ("val", "valid", "validation", "test")
_NAME_FILES = ("synset_words.txt", "LOC_synset_mapping.txt")
_TRIED_SIZES = 15
_TRIED_FILES = 8  # a class whose first eight files are all unreadable counts as unreadable


@dataclass(frozen=True)
class ImageFolder(Dataset):
    """One folder of class folders; `files` are relative to it, class by class."""

    folder: Path
    name: str
    layout: str
    class_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    files: tuple[str, ...]
    labels: np.ndarray  # int64 (N,)

    def __len__(self) -> int:
        return len(self.files)

    def image(self, index: int, size: int) -> np.ndarray:
        return images.load_resized(self.path(index), size)

    def path(self, index: int) -> Path:
        return self.folder / self.files[index]

    def dimensions(self, index: int) -> tuple[int, int]:
        return images.dimensions(self.path(index))

    def describe(self, index: int) -> str:
        return str(self.path(index))

    @cached_property
    def native_size(self) -> int | None:
        """The median shorter side of a few files, by their headers; None if none can be read."""
        return typical_side(len(self), self.path)


@dataclass(frozen=True)
class Layout:
    """The folders of each part's classes; without `val`, it is split off from `train`."""

    root: Path
    train: Path
    val: Path | None

    def __str__(self) -> str:
        if self.val is not None:
            return f"class folders in {self.train.name}/ and {self.val.name}/"
        return "class folders" + (f" in {self.train.name}/" if self.train != self.root else "")


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


def find_layout(root: Path) -> Layout:
    """The layout of `root`. Raises InputError if it has none of those known."""
    inside = {name.lower(): root / name for name in subfolders(root)}
    val = next((inside[name] for name in _VAL_NAMES if name in inside), None)
    train = next((inside[name] for name in _TRAIN_NAMES if name in inside), None)
    if train is not None:
        return Layout(root, train, val)
    if val is not None and set(inside) <= set(_VAL_NAMES):
        raise InputError(
            f"{str(root)!r} has a folder {val.name}/ but no train/: "
            "expected train/<class>/ and val/<class>/, or <class>/ folders alone"
        )
    if not inside:
        found = "no class folders" if any(root.iterdir()) else "nothing at all"
        raise InputError(
            f"{str(root)!r} holds {found}: expected train/<class>/ and val/<class>/, "
            "or one folder of images for each class"
        )
    return Layout(root, root, None)


def subfolders(folder: Path) -> list[str]:
    """Names of the folders directly inside, sorted, without the hidden ones."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def image_files(folder: Path) -> list[str]:
    """Names of the image files directly inside, by their suffix, sorted, without hidden ones."""
    known = kinds.suffixes()
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if not e.name.startswith(".") and e.is_file()]
    return sorted(name for name in names if os.path.splitext(name)[1].lower() in known)


def open_folder(root: Path, *, seed: int, val_fraction: float) -> Splits:
    """The training and validation photographs under `root`, in any known layout.

    Raises InputError if there are fewer than two classes, if a class has no readable image, and if
    val/ has a class that train/ lacks.
    """
    layout = find_layout(root)
    train = read_folder(layout.train, name=root.name, layout=str(layout), names_from=root)
    if len(train.class_ids) < 2:
        raise InputError(
            f"{str(layout.train)!r} holds only the class {train.class_ids[0]!r}: "
            "telling classes apart takes at least two class folders"
        )
    if layout.val is None:
        return split(train, val_fraction, seed)
    return Splits(train, read_folder(layout.val, like=train))


def open_validation(root: Path) -> Dataset:
    """The images of val/, or all of them if there is no such folder."""
    layout = find_layout(root)
    return read_folder(layout.val or layout.train, name=root.name, names_from=root)


def _check(
    root: Path, size: int, workers: int | None, progress: Callable[[int], object] | None
) -> Iterable[str]:
    from minialex.data.inspect import class_folders  # which lists them by this module

    return class_folders.check(root, size, workers, progress)


SOURCE = Source("class folders", 1000, lambda _: True, open_folder, open_validation, _check)


def read_folder(
    folder: Path,
    *,
    like: Dataset | None = None,
    name: str | None = None,
    layout: str | None = None,
    names_from: Path | None = None,
) -> ImageFolder:
    """All images of the class folders in `folder` as one data set.

    `like` gives the classes, so that labels agree with another data set's; readable class names are
    looked up in `names_from`. Raises InputError for a class that `like` lacks, and for class
    folders without a readable image.
    """
    found = subfolders(folder)
    if not found:
        raise InputError(
            f"{str(folder)!r} holds no class folders: put the images of each class into a "
            f"folder {folder.name}/<class>/"
        )
    class_ids = tuple(found) if like is None else like.class_ids
    label_of = {class_id: label for label, class_id in enumerate(class_ids)}
    files: list[str] = []
    labels: list[int] = []
    for class_id in found:
        if class_id not in label_of:
            raise InputError(
                f"{str(folder / class_id)!r} is a class that the training images lack: "
                "remove the folder or add it to the training images"
            )
        names = image_files(folder / class_id)
        _require_readable(folder / class_id, names)
        files += [f"{class_id}/{name}" for name in names]
        labels += [label_of[class_id]] * len(names)
    class_names = read_names(names_from or folder, class_ids) if like is None else like.class_names
    return ImageFolder(
        folder=folder,
        name=name or (like.name if like else folder.name),
        layout=layout or (like.layout if like else f"class folders in {folder.name}/"),
        class_ids=class_ids,
        class_names=class_names,
        files=tuple(files),
        labels=np.array(labels, np.int64),
    )


def _require_readable(folder: Path, names: list[str]) -> None:
    if not names:
        raise InputError(
            f"class folder {str(folder)!r} holds no image: add images directly to it, "
            "or remove the folder"
        )
    reasons = []
    for name in names[:_TRIED_FILES]:
        try:
            images.load_resized(folder / name, 8)
        except (InputError, OSError) as error:
            reasons.append(str(error))
        else:
            return
    raise InputError(
        f"class folder {str(folder)!r} holds no readable image: none of the first "
        f"{len(reasons)} of {len(names)} files opens ({reasons[0]}); replace them or remove "
        "the folder"
    )


def read_names(root: Path, class_ids: tuple[str, ...]) -> tuple[str, ...]:
    """Readable class names from lines `<id> <name>, <synonym>...` in `root`, or the ids."""
    path = next((root / name for name in _NAME_FILES if (root / name).is_file()), None)
    if path is None:
        return class_ids
    known = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        class_id, _, words = line.strip().partition(" ")
        known[class_id] = words.strip() or class_id
    return short_names(class_ids, known)


def short_names(class_ids: tuple[str, ...], known: dict[str, str]) -> tuple[str, ...]:
    """The first synonym of each class, or all where two share it, or these and the id.

    ILSVRC has two maillots, one of them also called a tank suit, and two cranes that share theirs.
    """
    full = [known.get(class_id, class_id) for class_id in class_ids]
    short = [words.split(",")[0].strip() for words in full]
    return tuple(
        s if short.count(s) == 1 else w if full.count(w) == 1 else f"{w} ({i})"
        for i, s, w in zip(class_ids, short, full, strict=True)
    )
