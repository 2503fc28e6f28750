"""The record of images stored with a network's weights: the held-out ones, and those trained on.

If the held-out images were drawn at random from a folder, the folder alone cannot tell which they
were: it may have been copied or changed since. So the weights carry a list of them, and a sample of
the training images to recognise these by. An image is recognised by the digest of its content; by
name and size where reading all contents would take long; and by name alone if nothing is known
about the content, as in packed sets of older versions.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal
from unicodedata import normalize

import numpy as np

from minialex.data.dataset import Dataset, Splits, digest
from minialex.errors import InputError
from minialex.utils.composed import composed

SAMPLE = 1000  # training images in a record; all of a small data set
MOST_CONTENT = 256 << 20  # bytes read for the digests of a list; of a longer one, every nth image

Form = Literal["NFC", "NFD"]

_CONTENTS = 64  # images of each part whose contents are in a fingerprint, at every start
_VERSION = "2:"  # of fingerprints


NEW, HELD_OUT, TRAINED_ON = 0, 1, 2

# how an image was recognised; _OTHER: it has a listed name, but is another image
_NOTHING, _OTHER, _SIZE, _NAME, _CONTENT = range(5)


@dataclass(frozen=True)
class Matched:
    """What a record says about a data set's images."""

    parts: np.ndarray  # NEW, HELD_OUT or TRAINED_ON for each: int8 (N,)
    unlearnt: np.ndarray  # whether the network was certainly not trained on it: bool (N,)
    by_name: int = 0  # images that were recognised by their names alone

    def count(self, part: int) -> int:
        """How many images are known to be of this part."""
        return int(np.sum(self.parts == part))


@dataclass(frozen=True)
class ImageRecord:
    """The images of a run, one a line: digest, size in bytes ("-": unknown) and name."""

    held_out: tuple[str, ...]
    trained_on: tuple[str, ...]
    held_out_images: int  # in all: more than are listed if they were a data set of their own
    trained_on_images: int
    drawn: bool  # whether the images were held out by drawing, so that all of them are listed

    def as_json(self) -> dict[str, Any]:
        """The record for a weight file's metadata."""
        return asdict(self)

    def text(self) -> str:
        """The held-out images, for people: one a line."""
        return "".join(f"{line}\n" for line in self.held_out)

    @property
    def complete(self) -> bool:
        """Whether every training image is listed."""
        return len(self.trained_on) == self.trained_on_images

    def with_earlier(self, earlier: "ImageRecord") -> "ImageRecord":
        """This record with the images that an earlier record of the same run has and it lacks."""
        held_out = tuple(sorted({*self.held_out, *earlier.held_out}))
        trained_on = tuple(sorted({*self.trained_on, *earlier.trained_on}))
        images = len(trained_on)
        if not (self.complete and earlier.complete):
            images = max(images + 1, self.trained_on_images)
        held_out_images = len(held_out) if self.drawn else self.held_out_images
        return ImageRecord(held_out, trained_on, held_out_images, images, self.drawn)

    def held_out_by_name(self, dataset: Dataset) -> np.ndarray:
        """Which images of the run's own data were held out: bool (N,)."""
        names = {name for part, _, _, name in self._entries if part == HELD_OUT}
        own = (dataset.image_name(i) for i in range(len(dataset)))
        return np.array([name is not None and self._key(name) in names for name in own], bool)

    def copies(self, dataset: Dataset) -> np.ndarray:
        """Which of the held-out images in `dataset` are listed once but there again: bool (N,)."""
        listed = {name: found for part, found, _, name in self._entries if part == HELD_OUT}
        names = [self._key(dataset.image_name(i) or "") for i in range(len(dataset))]
        there = {listed[name] for name in names if name in listed}
        again = np.zeros(len(names), bool)
        for index, name in enumerate(names):
            if name not in listed and (found := _digest_or_none(dataset, index)) != "-":
                again[index] = found in there
                there.add(found)
        return again

    def match(self, dataset: Dataset, *, own: bool = False) -> Matched:
        """Recognise the images of `dataset`; `own` if it is the data that the run started on."""
        parts = np.zeros(len(dataset), np.int8)
        known_by = np.zeros(len(dataset), np.int8)
        for index in range(len(dataset)):
            parts[index], known_by[index] = self._match(dataset, index, own)
        if not own:
            certain = known_by == _CONTENT
            others = int(np.sum(known_by == _OTHER))
            if others > certain.sum() or not self._enough(parts, len(dataset)):
                parts[~certain] = NEW  # it is another data set, with some of the same names
        by_name = 0 if own else int(np.sum((known_by == _NAME) & (parts != NEW)))
        return Matched(parts, self._unlearnt(parts, own), by_name)

    def _match(self, dataset: Dataset, index: int, own: bool) -> tuple[int, int]:
        """-> the image's part, and how it was recognised."""
        name = dataset.image_name(index)
        if name is None:
            return NEW, _NOTHING
        known = self._by_name.get(self._key(name), [])  # two of one name in train/ and val/
        named = {part for part, _, _ in known}
        part = named.pop() if len(named) == 1 else NEW
        try:
            size = _shown(dataset.content_size(index))
            found = dataset.content_digest(index) or "-"
            if found == "-" and not self._sizes.isdisjoint((size, "-")):
                found = _digest(dataset, index)
        except (OSError, InputError):  # it will be left out as unreadable
            return (part if own else NEW), _NOTHING
        for same, _, listed in known:
            if found == listed != "-":
                return same, _CONTENT
        if found in self._by_digest:
            return self._by_digest[found], _CONTENT
        if not known or own:
            return part, _NOTHING
        alike = [(of, _alike(size, found, *one)) for of, *one in known]
        may_be = [(of, by) for of, by in alike if by != _OTHER]
        if not may_be:
            return NEW, _OTHER
        parts = {of for of, _ in may_be}
        return (parts.pop() if len(parts) == 1 else NEW), max(by for _, by in may_be)

    def _enough(self, parts: np.ndarray, count: int) -> bool:
        """Whether enough images are recognised for a part of the run's data."""
        listed = len(self.held_out) + len(self.trained_on)
        share = listed / max(1, self.held_out_images + self.trained_on_images)
        return 2 * int(np.sum(parts != NEW)) >= min(share * count, listed)

    def _unlearnt(self, parts: np.ndarray, own: bool) -> np.ndarray:
        if own:
            return parts == HELD_OUT
        learnt = int(np.sum(parts == TRAINED_ON))
        share = len(self.trained_on) / max(1, self.held_out_images + self.trained_on_images)
        if learnt and not self.complete and 2 * learnt >= share * len(parts):
            return parts == HELD_OUT  # most of the others were trained on too, and are not listed
        return parts != TRAINED_ON

    @cached_property
    def _by_name(self) -> dict[str, list[tuple[int, str, str]]]:
        found: dict[str, list[tuple[int, str, str]]] = {}
        for part, listed, size, name in self._entries:
            found.setdefault(name, []).append((part, size, listed))
        return found

    @cached_property
    def _by_digest(self) -> dict[str, int]:
        return {digest: part for part, digest, _, _ in self._entries if digest != "-"}

    @cached_property
    def _sizes(self) -> set[str]:
        return {size for _, digest, size, _ in self._entries if digest != "-"}

    @cached_property
    def _entries(self) -> list[tuple[int, str, str, str]]:
        found = []
        for part, lines in ((HELD_OUT, self.held_out), (TRAINED_ON, self.trained_on)):
            for line in lines:
                digest, size, name = line.split(" ", 2)
                found.append((part, digest, size, self._key(name)))
        return found

    def _key(self, name: str) -> str:
        """By which an image is found: the composed name, unless the images have it in two forms."""
        key = composed(name)
        return name if key in self._in_two_forms else key

    @cached_property
    def _in_two_forms(self) -> set[str]:
        """Composed names of two images that differ in nothing but the form of their names."""
        forms: dict[str, set[str]] = {}
        for line in (*self.held_out, *self.trained_on):
            name = line.split(" ", 2)[2]
            forms.setdefault(composed(name), set()).add(name)
        return {key for key, names in forms.items() if len(names) > 1}


def record(splits: Splits) -> ImageRecord | None:
    """The record of a run on `splits`; None if its images have no names."""
    train, val = splits.train, splits.val
    if any(part.image_name(0) is None for part in (train, val) if len(part)):
        return None
    drawn = splits.whole is not None
    held_out = _lines(val, np.arange(len(val)) if drawn else _sample(len(val)))
    trained_on = _lines(train, _sample(len(train)))
    for lines in (held_out, trained_on):
        names = [line.split(" ", 2)[2] for line in lines]
        if len(set(names)) < len(lines) and (drawn or any(line[:2] == "- " for line in lines)):
            return None  # a data set made in Python, whose images have no names of their own
    return ImageRecord(held_out, trained_on, len(val), len(train), drawn)


def stored_record(about: dict[str, Any]) -> ImageRecord | None:
    """The record in the metadata of weights; older versions kept none."""
    found = about.get("images")
    if not isinstance(found, dict):
        return None
    lists = {name: tuple(found[name]) for name in ("held_out", "trained_on")}
    return ImageRecord(**{**found, **lists})


def _sample(count: int, most: int | None = None) -> np.ndarray:
    most = SAMPLE if most is None else most
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def _lines(dataset: Dataset, indices: Sequence[int] | np.ndarray) -> tuple[str, ...]:
    """The images at `indices`, sorted by name."""
    sizes = [_size(dataset, int(index)) for index in indices]
    every = max(1, -(-sum(size or 0 for size in sizes) // MOST_CONTENT))
    lines = []
    for n, (index, size) in enumerate(zip(indices, sizes, strict=True)):
        found = "-"
        if n % every == 0 or dataset.content_digest(int(index)) is not None:
            found = _digest_or_none(dataset, int(index))
        lines.append((dataset.image_name(int(index)) or "", f"{found} {_shown(size)} "))
    return tuple(start + name for name, start in sorted(lines))


def _size(dataset: Dataset, index: int) -> int | None:
    try:
        return dataset.content_size(index)
    except OSError:
        return None


def _shown(size: int | None) -> str:
    return "-" if size is None else str(size)


def _digest(dataset: Dataset, index: int) -> str:
    if (kept := dataset.content_digest(index)) is not None:
        return kept
    content = dataset.content(index)
    return "-" if content is None else digest(content)


def _digest_or_none(dataset: Dataset, index: int) -> str:
    try:
        return _digest(dataset, index)
    except (OSError, InputError):  # it cannot be read now, and will be left out
        return "-"


def _alike(size: str, found: str, listed_size: str, listed: str) -> int:
    """Whether an image may be the one listed under its name: _OTHER, or how it is recognised."""
    if "-" not in (found, listed):
        return _OTHER  # equal ones were recognised before
    if "-" in (size, listed_size):
        return _NAME
    return _SIZE if size == listed_size else _OTHER


def fingerprint(splits: Splits, form: Form = "NFC") -> str | None:
    """A digest of all names and labels, of some sizes and contents, and of all packed pixels.

    None if images have no names; `form` is the names' Unicode form. Training on two data sets with
    equal fingerprints gives the same bits, unless an image that is not sampled was replaced by
    another of the same name.
    """
    found = _names_and_sizes(splits, form)
    if found is None:
        return None
    hashed = hashlib.blake2b(found.encode(), digest_size=16)
    for dataset in splits.parts.values():
        hashed.update(" ".join(dataset.checksums).encode())
        for index in _sample(len(dataset), _CONTENTS):
            hashed.update(f"{_digest_or_none(dataset, int(index))}\n".encode())
    return _VERSION + hashed.hexdigest()


def same_data(stored: str | None, splits: Splits) -> bool:
    """Whether a run's stored fingerprint matches these data."""
    # fingerprints of older versions covered less, and used names as macOS writes them
    tell = _names_and_sizes if stored is not None and stored[:2] != _VERSION else fingerprint
    forms: tuple[Form, ...] = ("NFC", "NFD")
    return any(stored == tell(splits, form) for form in forms)


def _names_and_sizes(splits: Splits, form: Form = "NFC") -> str | None:
    hashed = hashlib.blake2b(digest_size=16)
    for part, dataset in splits.parts.items():
        labels = dataset.labels
        hashed.update(f"{part} {len(dataset)}\n".encode())
        for index in range(len(dataset)):
            name = dataset.image_name(index)
            if name is None:
                return None
            line = f"{labels[index]} {normalize(form, name)}\n"
            hashed.update(line.encode("utf-8", "surrogateescape"))
        for index in _sample(len(dataset)):
            hashed.update(f"{_size(dataset, int(index))}\n".encode())
    return hashed.hexdigest()
