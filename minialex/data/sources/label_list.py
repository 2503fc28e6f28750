"""Images with their classes in a table: labels.csv with a file and a label on each line.

The table may have a header line, and a column that says which images are for validation; file names
may be full or partial paths, also with Windows' backslashes.
"""

import csv
import io
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from minialex.data.dataset import Dataset, Splits
from minialex.data.decode import kinds
from minialex.data.remarks import Reason, Remarks
from minialex.data.sources import class_folders, labels, walk
from minialex.data.sources.class_folder_layouts import TRAIN_NAMES, VAL_NAMES, Part
from minialex.data.sources.source import Source
from minialex.data.split import split
from minialex.errors import InputError
from minialex.utils.composed import composed

SUFFIXES = (".csv", ".tsv", ".txt")
_BESIDE = ("labels.csv", "labels.tsv", "train.csv")  # beside nothing but images, or these folders:
_NO_CLASSES = {*TRAIN_NAMES, *VAL_NAMES, "images"}
_FILE = "file filename file_name filepath file_path path image image_name image_id image_path id"
_LABEL = "label class category target breed species label_name class_name"
_PART = "split set subset partition part"
_TRAIN, _VAL = ("train", "training"), ("val", "valid", "validation")
_DELIMITERS = ",;\t"

_ABSENT = Reason("files in the list that do not exist (check their names)", True)
_SEVERAL = Reason("file names that several folders have (add the folder to the name)", True)
_UNLABELLED = Reason("files without a label in the list", False)
_UNLISTED = Reason("images that are not in the list", False)
_AGAIN = Reason("files that are in the list twice", False)
_OTHER_PART = Reason("images that are neither for training nor for validation", False)


class Row(NamedTuple):
    """A line of the table; `part` is "" where the table has no such column."""

    line: int
    file: str
    label: str
    part: str = ""


def matches(root: Path) -> bool:
    """Whether `root` is such a table, or a folder with one and its images."""
    return root.is_file() or _beside(root) is not None


def _beside(root: Path) -> Path | None:
    """The table in a folder, if the folders there cannot be classes.

    The images lie flat beside it, or in a single folder, or in Kaggle's train/ and test/.
    """
    found = next((root / name for name in _BESIDE if (root / name).is_file()), None)
    if found is None:
        return None
    inside = walk.listing(root, Remarks())
    if inside.images or not inside.folders:
        return found if inside.images and not inside.folders else None
    if len(inside.folders) > 1 and not {name.lower() for name in inside.folders} <= _NO_CLASSES:
        return None
    below = [walk.listing(root / name, Remarks()) for name in inside.folders]
    flat = all(one.images and not one.folders for one in below)
    return found if flat else None


def open_list(root: Path, *, seed: int, val_fraction: float) -> Splits:
    """Training and validation images according to the table at `root`, or in it.

    Without a column that says which are which, `val_fraction` of each class is held out by `seed`.
    Raises InputError for an unusable table, and if fewer than two classes have images.
    """
    parts = _parts(root)
    train = parts["train"]
    if len(train.class_ids) < 2:
        raise InputError(
            f"{train.labels} gives all existing images the class "
            f"{train.class_ids[0]!r}: at least two classes are needed"
        )
    whole = _dataset(train)
    if "val" not in parts:
        return split(whole, val_fraction, seed)
    return Splits(whole, _dataset(parts["val"], whole))


def _open_validation(root: Path) -> Dataset:
    parts = _parts(root, for_training=False)
    train = _dataset(parts["train"])
    return _dataset(parts["val"], train) if "val" in parts else train


SOURCE = Source("list of labels", 5, matches, open_list, _open_validation)


def _dataset(part: Part, like: Dataset | None = None) -> Dataset:
    return class_folders.of_part(
        part,
        like=like,
        name=Path(part.labels).stem if like is None else None,
        layout=f"labels from {part.labels}",
        names_from=part.folder,
    )


def _parts(root: Path, *, for_training: bool = True) -> dict[str, Part]:
    """The images for training and, if the table says which, for validation."""
    path = root if root.is_file() else _beside(root)
    assert path is not None
    remarks = Remarks()
    found = list(_found(path, read(path), remarks))
    if not found:
        several = remarks.names.get(_SEVERAL, [])
        if several:
            raise InputError(
                f"several folders have files of the names in {path} ({', '.join(several[:2])}, "
                "...): add the folder to each name"
            )
        names = ", ".join(remarks.names.get(_ABSENT, [])[:2])
        raise InputError(
            f"none of the images in {path} exists ({names}, ...): put the list into the folder "
            "that their paths start from, or write full paths"
        )
    _note_unlisted(path, [image.file for image in found], remarks)
    if not any(image.part for image in found):
        return {"train": _part(path, found, remarks)}
    train = [image for image in found if image.part in _TRAIN]
    if not train and not for_training:
        return {"train": _part(path, _to_judge(found, remarks), remarks)}
    if not train:
        raise InputError(f"{path} has no image for training: write train or val in that column")
    val, known = [], {image.label for image in train}
    for image in found:
        if image.part not in (*_TRAIN, *_VAL):
            remarks.leave_out(_OTHER_PART, image.file)
        elif image.part in _VAL and image.label not in known:
            remarks.leave_out(walk.OTHER_CLASS, image.file)
        elif image.part in _VAL:
            val.append(image)
    parts = {"train": train, "val": val} if val else {"train": train}
    return {name: _part(path, images, remarks) for name, images in parts.items()}


def _to_judge(found: list[Row], remarks: Remarks) -> list[Row]:
    """Of a table without images to train on: those to validate on, or else all."""
    val = [image for image in found if image.part in _VAL]
    for image in found if val else ():
        if image.part not in _VAL:
            remarks.leave_out(_OTHER_PART, image.file)
    return val or found


def _part(path: Path, images: list[Row], remarks: Remarks) -> Part:
    classes = tuple(image.label for image in images)
    numbers = all(name.isdecimal() and len(name) < 10 for name in classes)
    ids = sorted(set(classes), key=lambda name: (int(name) if numbers else 0, name))
    files = tuple(image.file for image in images)
    return Part(path.parent, files, classes, tuple(ids), remarks, path.name)


# ------------------------------------------------------------------------------ the table


def read(path: Path) -> list[Row]:
    """The lines of a table; InputError if its columns cannot be identified."""
    text = labels.text(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(_DELIMITERS, key=first.count)
    if delimiter not in first:
        pairs = enumerate(text.splitlines(), 1)
        lines = [(n, line.strip().rsplit(None, 1)) for n, line in pairs if line.strip()]
    else:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            lines = [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
        except csv.Error as error:
            raise InputError(f"{path} is not a table of labels ({error})") from None
    if not lines:
        raise InputError(f"{path} is empty: expected a file and a label on each line")
    columns, headings = _columns(path, [cell.strip() for cell in lines[0][1]])
    _require_whole_rows(path, lines, columns)
    rows = []
    for number, cells in lines[headings:]:
        values = [cells[at].strip() if at < len(cells) else "" for at in columns]
        part = (word.lower() for word in values[2:])
        rows.append(Row(number, values[0], composed(values[1]), *part))
    if not rows:
        raise InputError(f"{path} has a header line and no lines below it")
    return rows


def _require_whole_rows(
    path: Path, lines: Sequence[tuple[int, list[str]]], columns: Sequence[int]
) -> None:
    """Raise InputError for a stray quote, which joins lines, or a comma within a name."""
    expected = len(lines[0][1])
    for number, cells in lines:
        for at, cell in enumerate(cells):
            joined = cell.splitlines()[1:]
            if joined and (at in columns or any(map(_starts_with_an_image, joined))):
                raise InputError(
                    f"a quoted cell of {path} goes over several lines, up to line {number}: close "
                    "its quote, or remove it"
                )
        if any(map(str.strip, cells[expected:])):
            raise InputError(
                f"line {number} of {path} has {len(cells)} cells, the first line {expected}: quote "
                "names that contain the separator, or name all columns in a header line"
            )


def _starts_with_an_image(line: str) -> bool:
    return kinds.is_image_name(re.split(r"[,;\t]", line)[0].strip())


def _columns(path: Path, first: list[str]) -> tuple[list[int], int]:
    """The columns of file, label and, if there is one, part; and the number of header lines."""
    names = [cell.lower().replace(" ", "_") for cell in first]
    file, label, part = (
        next((names.index(word) for word in words.split() if word in names), None)
        for words in (_FILE, _LABEL, _PART)
    )
    if file is not None and label is None and len(first) == 2:
        label = 1 - file
    if label is not None and file is None and len(first) == 2:
        file = 1 - label
    heads = not any(map(kinds.is_image_name, first))  # a class may be called `target`, too
    if heads and file is not None and label is not None:
        return [file, label, *([] if part is None else [part])], 1
    if len(first) == 2 or (len(first) > 2 and kinds.is_image_name(first[0])):
        return [0, 1], 0
    raise InputError(
        f"{path} starts with {', '.join(map(repr, first[:4]))}: expected a column named `file` and "
        "one named `label`, or two columns without a header"
    )


# ------------------------------------------------------------------------------ the images


def _found(path: Path, rows: Sequence[Row], remarks: Remarks) -> Iterator[Row]:
    """The rows whose image exists, each with its file relative to the table's folder."""
    seen: dict[str, Row] = {}
    files = _Files(path.parent, [row.file for row in rows])
    for row in rows:
        file = files.find(row.file, remarks)
        if file is None:
            continue
        if not row.label:
            remarks.leave_out(_UNLABELLED, file)
            continue
        before = seen.setdefault(file, row)
        if before.label != row.label:
            raise InputError(
                f"{path} gives {file} two classes, {before.label!r} in line {before.line} and "
                f"{row.label!r} in line {row.line}: remove the line that is wrong"
            )
        if before is not row:
            remarks.leave_out(_AGAIN, file)
            continue
        reason = walk.why_left_out(file, lambda file=file: _head(path.parent / file))  # type: ignore
        if reason is not None:
            remarks.leave_out(reason, file)
            continue
        yield row._replace(file=file)


@dataclass
class _Files:
    """The image files that a table may mean: in its folder, or below it."""

    root: Path
    listed: Sequence[str]
    _by_name: dict[str, list[str]] | None = None
    _folders_here: frozenset[str] = frozenset()

    def find(self, name: str, remarks: Remarks) -> str | None:
        """The file that a table calls `name`, relative to the root if it lies there.

        Found by the path as written, else by the longest end of it that fits exactly one file: the
        leading folders may be those of another machine, and the suffix may be missing. A file of
        that name in another folder is another image if the table's folders exist here.
        """
        for plain in (name, name.replace("\\", "/"), composed(name), normalize("NFD", name)):
            path = os.path.normpath(self.root / plain)
            if plain and os.path.isfile(path):
                inside = path.startswith(f"{self.root}{os.sep}")
                return os.path.relpath(path, self.root) if inside else path
        candidates = self._candidates(composed(name).replace("\\", "/")) if name else []
        if len(candidates) == 1:
            return candidates[0]
        remarks.leave_out(_SEVERAL if candidates else _ABSENT, name)
        return None

    def _candidates(self, name: str) -> list[str]:
        """The files that match the longest end of a path."""
        if self._by_name is None:
            self._by_name = defaultdict(list)
            files = list(walk.below(self.root, Remarks()))
            if any(_folders(file)[:1] == [name] for file in files for name in TRAIN_NAMES):
                # Kaggle's test/ beside train/ has images of the same names, and no labels
                files = [file for file in files if _folders(file)[:1] != ["test"]]
            self._folders_here = frozenset(folder for file in files for folder in _folders(file))
            for file in files:
                own = composed(file.rpartition("/")[2]).casefold()
                for key in {own, os.path.splitext(own)[0]}:
                    self._by_name[key].append(file)
        *above, last = [part for part in name.casefold().split("/") if part]
        found = self._by_name.get(last, [])
        for count in range(len(above), 0, -1):
            fits = [f for f in found if _folders(f)[-count:] == above[-count:]]
            if fits:
                return fits
        if not self._folders_here.isdisjoint(above):
            return []
        if above and len(found) == 1 and _folders(found[0]) and self._same_folders:
            return []
        return found

    @cached_property
    def _same_folders(self) -> bool:
        """Whether any of the folders that the table names exists here."""
        names = (_folders(name.replace("\\", "/")) for name in self.listed)
        return any(not self._folders_here.isdisjoint(folders) for folders in names)


def _folders(file: str) -> list[str]:
    """The folders that a file is in, as they are compared."""
    return composed(file).casefold().split("/")[:-1]


def _note_unlisted(path: Path, files: Sequence[str], remarks: Remarks) -> None:
    """Add remarks on unlisted images, and on what else is left out there."""
    listed = set(files)
    for inside in sorted({os.path.dirname(file) for file in files}):
        prefix = f"{inside}/" if inside else ""
        for name in walk.listing(path.parent / inside, remarks, prefix, path.name).images:
            if prefix + name not in listed:
                remarks.leave_out(_UNLISTED, prefix + name)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(kinds.HEAD)
