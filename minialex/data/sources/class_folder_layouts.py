"""Finds the images and their classes in a folder, in the layouts that are in common use.

train/<class>/ and val/<class>/        or <class>/ alone
train/<class>/ and val/ flat           with a file of labels, see labels.py
<class>/images/                        as in Tiny ImageNet
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from minialex.data.decode import kinds
from minialex.data.remarks import Remarks
from minialex.data.sources import ilsvrc_devkit, labels, walk
from minialex.errors import InputError
from minialex.utils.composed import composed

TRAIN_NAMES = ("train", "training")
VAL_NAMES = ("val", "valid", "validation", "test")
_INNER = "images"  # Tiny ImageNet's folder between a class and its images


@dataclass(frozen=True)
class Part:
    """The images of one part: `files` are relative to `folder`, `classes` are their ids.

    Ids are in composed form, file names as on the disk.
    """

    folder: Path
    files: tuple[str, ...]
    classes: tuple[str, ...]
    class_ids: tuple[str, ...]  # sorted, including those without an image
    remarks: Remarks = field(default_factory=Remarks)
    labels: str = ""  # the name of the file that gives the classes

    @cached_property
    def counts(self) -> Counter[str]:
        """Images of each class."""
        return Counter(self.classes)

    def class_folder(self, class_id: str) -> Path:
        """The folder of a class, as it is called on the disk."""
        names = walk.listing(self.folder, Remarks()).folders
        return self.folder / next((n for n in names if composed(n) == class_id), class_id)


@dataclass(frozen=True)
class Layout:
    """What a folder holds; without `val`, part of `train` is held out."""

    root: Path
    train: Part
    val: Part | None

    def __str__(self) -> str:
        if self.val is None:
            inside = self.train.folder != self.root
            return "class folders" + (f" in {self.train.folder.name}/" if inside else "")
        if self.val.labels:
            return (
                f"class folders in {self.train.folder.name}/, "
                f"labels of {_name(self.val.folder)}/ from {self.val.labels}"
            )
        return f"class folders in {self.train.folder.name}/ and {self.val.folder.name}/"


def find_layout(root: Path) -> Layout:
    """The layout of `root`. Raises InputError if it has none of the known ones."""
    others = Remarks()
    beside = walk.listing(root, others)
    inside = {name.lower(): root / name for name in beside.folders}
    trains = [inside[name] for name in TRAIN_NAMES if name in inside]
    folder = next((path for path in trains if has_folders(path)), None)
    if folder is None:
        _require_classes(root, set(inside), trains)
        part = class_folders(root)
        _note_loose(part.remarks, beside.images)
        return Layout(root, part, None)
    train = class_folders(folder)
    train.remarks.add_some(others, walk.LINKS)  # such as a val/ that was not fetched
    devkit_counts(train, (root, folder))
    for path in (inside[name] for name in VAL_NAMES if name in inside):
        val = _validation(path, root, train)
        if val is not None:
            return Layout(root, train, val)
    return Layout(root, train, None)


def class_folders(folder: Path) -> Part:
    """The images of the class folders in `folder`."""
    remarks = Remarks()
    prefix = f"{folder.name}/" if folder.name.lower() in (*TRAIN_NAMES, *VAL_NAMES) else ""
    others = Remarks()
    beside = walk.listing(folder, others, prefix)
    remarks.add_some(others, walk.LINKS)
    if prefix:
        _note_loose(remarks, [prefix + name for name in beside.images])
    files: list[str] = []
    classes: list[str] = []
    class_ids: list[str] = []
    for class_id, inside in sorted((composed(name), name) for name in beside.folders):
        of_class = Remarks()
        found = _class_files(folder / inside, of_class, f"{prefix}{class_id}/")
        if found is None:
            remarks.leave_out(walk.OUTPUT, prefix + class_id)
            continue
        if class_ids[-1:] == [class_id]:
            raise InputError(
                f"{str(folder)!r} has two folders called {class_id!r}, one of them as macOS "
                "writes it (with separate accents): move the images of one into the other"
            )
        remarks.add(of_class)
        class_ids.append(class_id)
        files += [f"{inside}/{name}" for name in sorted(found, key=composed)]
        classes += [class_id] * len(found)
    return Part(folder, tuple(files), tuple(classes), tuple(class_ids), remarks)


def flat_folder(folder: Path, known: labels.Labels, class_ids: tuple[str, ...]) -> Part:
    """The images directly in `folder` with the classes that `known` gives, of `class_ids`."""
    remarks = Remarks()
    names = walk.listing(folder, remarks, f"{_name(folder)}/", known.path.name).images
    names.sort(key=composed)
    files, classes, entries = [], [], set()
    wanted = set(class_ids)
    for name in names:
        entry = known.entry(name)
        if entry is None:
            raise InputError(
                f"{str(folder / name)!r} has no label, because {known.path} does not name it: "
                "remove the file, or complete the download"
            )
        entries.add(entry)
        class_id = known.classes[entry]
        if class_id in wanted:
            files.append(name)
            classes.append(class_id)
        else:
            remarks.leave_out(walk.OTHER_CLASS, f"{_name(folder)}/{name}")
    if entries and not files:
        example = known.classes[min(entries)]
        raise InputError(
            f"{known.path} gives the images in {str(folder)!r} classes that the training images "
            f"do not have, for example {example}: the two do not belong together"
        )
    named = len(known.classes)
    if missing := named - len(entries):
        remarks.lack(
            f"{missing:,} of the {named:,} images that {known.path.name} names are not in "
            f"{_name(folder)}/"
        )
    return Part(folder, tuple(files), tuple(classes), class_ids, remarks, known.path.name)


def devkit_counts(train: Part, folders: Iterable[Path]) -> None:
    """Add remarks on classes that have fewer images than the development kit says."""
    found = (ilsvrc_devkit.find(folder) for folder in folders)
    path = next((kit for kit in found if kit is not None), None)
    if path is None:
        return
    try:
        train.remarks.lack(*ilsvrc_devkit.read(path).lacking(train.counts))
    except InputError as error:  # images in class folders can be used without the kit
        train.remarks.lack(str(error))


def has_folders(folder: Path) -> bool:
    """Whether there are folders in it that may be classes."""
    try:
        return bool(walk.listing(folder, Remarks()).folders)
    except OSError:
        return False


def require_images(part: Part) -> None:
    """Raise InputError for a class without an image."""
    counts = part.counts
    folders = [part.class_folder(class_id) for class_id in part.class_ids if not counts[class_id]]
    below = {folder: walk.listing(folder, Remarks()).folders for folder in folders}
    for folder, inside in below.items():
        if set(map(str.lower, inside)) & set(TRAIN_NAMES):
            raise InputError(
                f"{str(folder)!r} looks like the data set rather than a class of "
                f"{str(part.folder)!r}: use that path"
            )
    for folder, inside in below.items():
        if any(True for name in inside for _ in walk.below(folder / name, Remarks())):
            raise InputError(
                f"class folder {str(folder)!r} has images only in folders below it: "
                "move them up, give a folder of class folders, or list files and labels in a table "
                "(labels.csv)"
            )
        raise InputError(
            f"class folder {str(folder)!r} has no image: add images directly to it, "
            "or remove the folder"
        )


def _class_files(folder: Path, remarks: Remarks, prefix: str) -> list[str] | None:
    """The images of one class, relative to its folder; None if minialex wrote the folder."""
    try:
        found = walk.listing(folder, remarks, prefix)
    except OSError as error:
        raise InputError(
            f"class folder {str(folder)!r} cannot be opened ({error.strerror}): make it readable, "
            "or remove it"
        ) from None
    if found.output:
        return None
    if not found.images and found.folders == [_INNER]:
        inner = walk.listing(folder / _INNER, remarks, f"{prefix}{_INNER}/")
        return [f"{_INNER}/{name}" for name in inner.images]
    for name in found.folders:
        if kinds.is_image_name(name):
            remarks.leave_out(walk.FOLDER, prefix + name)
        for image in walk.below(folder / name, Remarks()):
            remarks.leave_out(walk.BELOW, f"{prefix}{name}/{image}")
    return found.images


def _validation(path: Path, root: Path, train: Part) -> Part | None:
    """The validation images in `path`; None for images without labels in test/."""
    found = walk.listing(path, Remarks())
    if found.folders and (found.folders != [_INNER] or _INNER in train.class_ids):
        return class_folders(path)
    flat = path / _INNER if found.folders == [_INNER] and not found.images else path
    names = walk.listing(flat, Remarks()).images
    if not names:
        raise InputError(
            f"{str(path)!r} holds no class folders: put the images of each class into a "
            f"folder {path.name}/<class>/"
        )
    known = labels.find((path, root), train.class_ids) or labels.in_names(path, names)
    if known is not None:
        return flat_folder(flat, known, train.class_ids)
    if path.name.lower() != "test":
        raise InputError(
            f"{str(path)!r} holds {len(names):,} images, but no file gives their classes: put "
            f"{labels.EXPECTED} beside it, or sort them into {path.name}/<class>/"
        )
    for name in names:
        train.remarks.leave_out(walk.UNLABELLED, f"{path.name}/{name}")
    return None


def _require_classes(root: Path, inside: set[str], trains: list[Path]) -> None:
    """Raise InputError if the folders in `root` cannot be classes."""
    if inside and inside <= {*TRAIN_NAMES, *VAL_NAMES}:
        if trains:
            raise InputError(
                f"{str(trains[0])!r} holds no class folders: put the images of each class into a "
                f"folder {trains[0].name}/<class>/"
            )
        raise InputError(
            f"{str(root)!r} has a folder {min(inside)}/ but no train/: "
            "expected train/<class>/ and val/<class>/, or <class>/ folders alone"
        )
    if not inside:
        found = "no class folders" if any(root.iterdir()) else "nothing at all"
        raise InputError(
            f"{str(root)!r} holds {found}: expected train/<class>/ and val/<class>/, "
            "or one folder of images for each class"
        )


def _note_loose(remarks: Remarks, names: list[str]) -> None:
    for name in names:
        remarks.leave_out(walk.LOOSE, name)


def _name(folder: Path) -> str:
    """A part's folder, by the name that distinguishes it from the other part's."""
    return f"{folder.parent.name}/{_INNER}" if folder.name == _INNER else folder.name
