"""The classes of images that lie flat in one folder, from the files that users of ILSVRC have.

These are Kaggle's table, the development kit, a list of synsets in the order of the images, or any
list of file names with classes: Caffe's val.txt, Tiny ImageNet's val_annotations.txt, a .csv.
Failing these, the images' own names may contain the class.
"""

import codecs
import csv
import io
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from minialex.data.decode import kinds
from minialex.data.sources import ilsvrc_devkit
from minialex.errors import InputError
from minialex.utils.composed import composed

SOLUTION = "LOC_val_solution.csv"

_PAIRS = (
    "val_annotations.txt",
    "val.txt",
    "val_map.txt",
    "val_list.txt",
    "val_labels.txt",
    "val_labels.csv",
    "val.csv",
    "labels.txt",
    "labels.csv",
)
_SYNSETS_IN_ORDER = ("imagenet_2012_validation_synset_labels.txt", "val_synsets.txt")
_CLASS_ORDER = ("synsets.txt", "synset_words.txt", "LOC_synset_mapping.txt")
_MAP = "map_clsloc.txt"  # of later kits: <wnid> <number> <name>
_WNID_IN_NAME = re.compile(r".*_(n\d{8})|(n\d{8})_.*")
_MOST_DIGITS = 10  # of a class's number; Python refuses to convert very long ones
_NUMBERED = re.compile(r"ILSVRC(\d{4})_val_(\d{8})(?:_n\d{8})?")
EXPECTED = f"the development kit, {SOLUTION} or val.txt"


@dataclass(frozen=True)
class Labels:
    """Class ids by image name, read from a file."""

    path: Path
    classes: dict[str, str]  # "#5" is ILSVRC's validation image 5
    stems: dict[str, str] = field(default_factory=dict)  # name without suffix -> name in `classes`
    twice: dict[str, str] = field(default_factory=dict)  # name -> a second class that it is given
    year: int = 2012  # of the numbered images

    def entry(self, name: str) -> str | None:
        """The key in `classes` of the image file `name`; None if it is not listed.

        Raises InputError for an image that has two classes.
        """
        name = composed(name.rpartition("/")[2])
        stem = _stem(name)
        match = _NUMBERED.fullmatch(stem)
        numbered = match is not None and int(match[1]) == self.year
        number = f"#{int(match[2])}" if match and numbered else None
        keys = name, stem, self.stems.get(stem), number
        found = next((key for key in keys if key in self.classes), None)
        if found in self.twice:
            raise InputError(
                f"{self.path} gives {found} two classes, {self.classes[found]} and "
                f"{self.twice[found]}: remove the line that is wrong"
            )
        return found

    def of(self, name: str) -> str | None:
        """The class of the image file `name`; None if it is not listed."""
        entry = self.entry(name)
        return None if entry is None else self.classes[entry]


def find(folders: Iterable[Path], class_ids: tuple[str, ...]) -> Labels | None:
    """The labels that a file in one of `folders` gives; None if there is no such file.

    `class_ids` are those of the training images. Raises InputError for an unusable file.
    """
    folders = list(folders)
    for folder in folders:
        if (folder / SOLUTION).is_file():
            return solution(folder / SOLUTION)
        if (kit := ilsvrc_devkit.find(folder)) is not None:
            return _of_kit(ilsvrc_devkit.read(kit))
        for name in _SYNSETS_IN_ORDER:
            if (folder / name).is_file():
                return _in_order(folder / name)
        for name in _PAIRS:
            if (folder / name).is_file():
                return _pairs(folder / name, class_ids, folders)
        for edition in ilsvrc_devkit.EDITIONS:
            truth = folder / edition.truth_name
            if not truth.is_file():
                continue
            mapped = next((f / _MAP for f in folders if (f / _MAP).is_file()), None)
            if mapped is not None:
                return _truth(truth, mapped, edition.year)
            raise InputError(
                f"{truth} numbers the classes as the development kit does: put the kit's meta.mat "
                "beside it"
            )
    return None


def in_names(folder: Path, names: list[str]) -> Labels | None:
    """The classes in the images' own names, as in ILSVRC2012_val_00000001_n01751748.JPEG."""
    found = {name: _WNID_IN_NAME.fullmatch(name.partition(".")[0]) for name in names}
    classes = {composed(name): match[1] or match[2] for name, match in found.items() if match}
    return Labels(folder, classes) if len(classes) == len(names) else None


def solution(path: Path) -> Labels:
    """Kaggle's table; a row is `ImageId,<wnid> x y x y [<wnid> ...]`."""
    if not path.is_file():
        raise InputError(f"the validation labels are in {path.name}, which is missing: {path}")
    rows = _rows(path)
    if not rows or rows[0][:2] != ["ImageId", "PredictionString"]:
        raise InputError(f"{path} does not start with ImageId,PredictionString: download it again")
    named = (row for row in rows[1:] if len(row) > 1 and row[1].split())
    return _by_name(path, ((row[0], row[1].split()[0]) for row in named))


def _of_kit(kit: ilsvrc_devkit.Devkit) -> Labels:
    numbers = enumerate(kit.truth, 1)
    classes = {f"#{n}": kit.wnids[number] for n, number in numbers}
    return Labels(kit.path, classes, year=kit.edition.year)


def _truth(path: Path, mapped: Path, year: int) -> Labels:
    """The development kit's class numbers of the images, mapped by a list of wnids."""
    rows = [line.split() for line in composed(text(mapped)).splitlines()]
    wnids = {row[1]: row[0] for row in rows if len(row) > 1}
    numbers = text(path).split()
    if strange := sorted(set(numbers) - set(wnids)):
        raise InputError(f"{path} has class {strange[0]}, which {mapped} does not have")
    return Labels(path, {f"#{n}": wnids[k] for n, k in enumerate(numbers, 1)}, year=year)


def _in_order(path: Path) -> Labels:
    lines = composed(text(path)).split()
    return Labels(path, {f"#{n}": wnid for n, wnid in enumerate(lines, 1)})


def _pairs(path: Path, class_ids: tuple[str, ...], folders: list[Path]) -> Labels:
    """A list of file names, each with a class id or with a number counted from 0."""
    pairs = _split(path)
    known = set(class_ids)
    if pairs and not (pairs[0][1] in known or pairs[0][1].isdecimal()):
        wordy = pairs[0][0].rpartition(".")[2] == pairs[0][0]  # a header line
        pairs = pairs[1:] if wordy else pairs
    if not pairs:
        raise InputError(f"{path} lists no images: expected a file name and a class on each line")
    values = [value for _, value in pairs]
    numbers = all(value.isdecimal() and len(value) < _MOST_DIGITS for value in values)
    if numbers and not any(value in known for value in values):
        order = _class_order(path, max(map(int, values)), class_ids, folders)
        values = [order[int(value)] for value in values]
    names = (full.rpartition("/")[2] for full, _ in pairs)
    return _by_name(path, zip(names, values, strict=True))


def _by_name(path: Path, pairs: Iterable[tuple[str, str]]) -> Labels:
    """Labels of pairs of an image's name and its class."""
    found = Labels(path, {})
    for name, class_id in pairs:
        if found.classes.setdefault(name, class_id) != class_id:
            found.twice[name] = class_id
        found.stems.setdefault(_stem(name), name)
    return found


def _stem(name: str) -> str:
    """The name without the suffix of an image, if it has one: "img.1" of "img.1.png"."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in kinds.suffixes() else name


def _class_order(
    path: Path, largest: int, class_ids: tuple[str, ...], folders: list[Path]
) -> tuple[str, ...]:
    """The classes in the order in which `path` numbers them from 0 to `largest`."""
    for folder in folders:
        for name in _CLASS_ORDER:
            if (folder / name).is_file():
                lines = composed(text(folder / name)).splitlines()
                order = tuple(line.split()[0] for line in lines if line.strip())
                if largest < len(order):
                    return order
    if largest == len(class_ids) - 1:
        return class_ids
    raise InputError(
        f"{path} numbers classes up to {largest}, but the training images have "
        f"{len(class_ids)}: put a synsets.txt with the order of the classes beside it"
    )


def _split(path: Path) -> list[tuple[str, str]]:
    """The first two fields of each line; a name may contain spaces."""
    if path.suffix == ".csv":
        return [(row[0].strip(), row[1].strip()) for row in _rows(path) if len(row) > 1]
    lines = composed(text(path)).splitlines()
    rows = [line.split("\t") if "\t" in line else line.strip().rsplit(None, 1) for line in lines]
    return [(row[0].strip(), row[1].strip()) for row in rows if len(row) > 1]


def _rows(path: Path) -> list[list[str]]:
    try:
        return list(csv.reader(io.StringIO(composed(text(path)), newline="")))
    except csv.Error as error:
        raise InputError(f"{path} is not a table of labels ({error}): download it again") from None


def text(path: Path) -> str:
    """A text file's content, in UTF-8 or Windows' UTF-16; InputError if it is in neither.

    Names of another encoding would have wrong letters, and several could become one.
    """
    content = path.read_bytes()
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # Windows' Notepad
    try:
        return content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path} is not in UTF-8 (line {line}): save it again in that encoding, in Excel as "
            '"CSV UTF-8"'
        ) from None
