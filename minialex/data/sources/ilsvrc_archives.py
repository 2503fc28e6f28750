"""ILSVRC-2012 or ILSVRC-2010 as downloaded: images are read from the tar files, not unpacked.

ILSVRC2012_img_train.tar holds a tar for each class, ILSVRC2012_img_val.tar 50,000 flat files whose
labels are in the development kit; those of 2010 have other names (`ilsvrc_devkit.EDITIONS`).
"""

import os
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np

from minialex.data.dataset import Dataset, Splits
from minialex.data.decode import images, kinds
from minialex.data.remarks import NONE, Reason, Remarks
from minialex.data.sources import ilsvrc_devkit, walk
from minialex.data.sources.class_folders import typical_side
from minialex.data.sources.ilsvrc_devkit import EDITIONS, Devkit, Edition
from minialex.data.sources.names import short_names
from minialex.data.sources.source import Source
from minialex.data.sources.tar import Member, members
from minialex.data.split import split
from minialex.errors import InputError

_NO_CLASS = Reason("entries that are not class archives (n01440764.tar, ...)", False)
_CLASS_TAR = re.compile(r"(?:\./)?(n\d{8})\.tar")
_VAL_IMAGE = r"(?:.*/)?ILSVRC{}_val_(\d{{8}})\.JPEG"  # of a year


@dataclass(frozen=True, repr=False)
class TarImages(Dataset):
    """Images in one tar, read in place."""

    archive: Path
    name: str
    layout: str
    class_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    names: tuple[str, ...]
    offsets: np.ndarray  # int64 (N,), of each image's first byte in the file
    sizes: np.ndarray  # int64 (N,), bytes
    labels: np.ndarray  # int64 (N,)
    remarks: Remarks = NONE

    def __len__(self) -> int:
        return len(self.names)

    def image(self, index: int, size: int) -> np.ndarray:
        return images.load_resized(self.read(index), size, self.describe(index))

    def read(self, index: int) -> bytes:
        """The image file as it is in the archive."""
        offset, size = int(self.offsets[index]), int(self.sizes[index])
        images.refuse_large(size, self.describe(index))
        if hasattr(os, "pread"):  # several threads read one file
            return os.pread(self._file.fileno(), size, offset)
        with self.archive.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def content_size(self, index: int) -> int:
        return int(self.sizes[index])

    def content(self, index: int) -> bytes:
        return self.read(index)

    def dimensions(self, index: int) -> tuple[int, int]:
        return images.dimensions(self.read(index), self.describe(index))

    def describe(self, index: int) -> str:
        return f"{self.archive}:{self.names[index]}"

    @cached_property
    def native_size(self) -> int | None:
        """The median shorter side of a few images; None if none can be read."""
        return typical_side(len(self), self.read)

    @cached_property
    def _file(self) -> BinaryIO:
        return self.archive.open("rb")


def is_archives(root: Path) -> bool:
    """Whether one of a year's two image archives is in `root`."""
    return _edition(root) is not None


def open_archives(root: Path, *, seed: int, val_fraction: float) -> Splits:
    """The archives in `root`; without the validation archive, part of each class is held out.

    Raises InputError if the training archive or, for validation, the development kit is missing,
    and for an archive that is damaged.
    """
    edition = _required(root)
    if not (root / edition.train).is_file():
        raise InputError(
            f"{str(root)!r} has {edition.val} but no {edition.train} to train on: copy it there"
        )
    kit = _kit(root, edition)
    train = _open_train(root, edition, kit)
    if not (root / edition.val).is_file():
        return split(train, val_fraction, seed)
    return Splits(train, _open_val(root, edition, kit, train.class_ids))


def open_validation(root: Path) -> Dataset:
    """The validation archive, or else all of the training archive."""
    edition = _required(root)
    kit = _kit(root, edition)
    if not (root / edition.val).is_file():
        return _open_train(root, edition, kit)
    ids = tuple(sorted(kit.wnids.values())) if kit else ()
    return _open_val(root, edition, kit, ids)


SOURCE = Source(
    "ILSVRC archives",
    30,
    is_archives,
    open_archives,
    open_validation,
    file_names=tuple(name for e in EDITIONS for name in (e.train, e.val, *e.kits)),
)


def _edition(root: Path) -> Edition | None:
    """The edition whose archives are in `root`; the newest, if there are several."""
    return next((e for e in EDITIONS if any((root / n).is_file() for n in (e.train, e.val))), None)


def _required(root: Path) -> Edition:
    edition = _edition(root)
    if edition is None:
        raise InputError(f"{str(root)!r} has no archive such as {EDITIONS[0].train}")
    return edition


def _kit(root: Path, edition: Edition) -> Devkit | None:
    path = ilsvrc_devkit.find(root, [edition])
    return None if path is None else ilsvrc_devkit.read(path)


def _open_train(root: Path, edition: Edition, kit: Devkit | None) -> TarImages:
    path = root / edition.train
    found: dict[str, list[Member]] = {}
    remarks = Remarks()
    with path.open("rb", buffering=0) as file:
        for outer in members(file, str(path)):
            match = _CLASS_TAR.fullmatch(outer.name)
            if match is None or not outer.plain:
                reason = _why_left_out(file, outer)
                remarks.leave_out(_NO_CLASS if reason is None else reason, outer.name)
                continue
            inside = f"{path}:{outer.name}"
            inner = members(file, inside, outer.offset, outer.offset + outer.size)
            if match[1] in found:
                raise InputError(f"{path} has {outer.name} twice: it is not an ILSVRC archive")
            found[match[1]] = []
            for member in inner:
                if (reason := _why_left_out(file, member)) is None:
                    found[match[1]].append(member)
                else:
                    remarks.leave_out(reason, f"{outer.name}:{member.name}")
    class_ids = tuple(sorted(found))
    if len(class_ids) < 2:
        raise InputError(
            f"{str(path)!r} has {len(class_ids)} class archives such as n01440764.tar, but at "
            "least two are needed: download the whole archive"
        )
    for class_id in class_ids:
        if not found[class_id]:
            raise InputError(f"{path}:{class_id}.tar holds no images: download the archive again")
    if kit and (strange := sorted(set(class_ids) - set(kit.words))):
        raise InputError(
            f"{path} has a class {strange[0]} that is not in the development kit {kit.path}: "
            f"use that of ILSVRC-{edition.year}, {edition.kits[0]}"
        )
    counts = [len(found[class_id]) for class_id in class_ids]
    if kit:
        remarks.lack(*kit.lacking(Counter(dict(zip(class_ids, counts, strict=True)))))
    layout = f"ILSVRC-{edition.year} archives, {len(class_ids):,} classes"
    return TarImages(
        archive=path,
        name=root.name,
        layout=layout if kit else f"{layout}, no development kit",
        class_ids=class_ids,
        class_names=short_names(class_ids, kit.words) if kit else class_ids,
        names=tuple(f"{c}.tar:{m.name}" for c in class_ids for m in found[c]),
        offsets=np.array([m.offset for c in class_ids for m in found[c]], np.int64),
        sizes=np.array([m.size for c in class_ids for m in found[c]], np.int64),
        labels=np.repeat(np.arange(len(class_ids)), counts).astype(np.int64),
        remarks=remarks,
    )


def _open_val(
    root: Path, edition: Edition, kit: Devkit | None, class_ids: tuple[str, ...]
) -> TarImages:
    """The validation images of the classes in `class_ids`; the others are counted in `layout`."""
    path = root / edition.val
    if kit is None:
        raise InputError(
            f"the labels of {path} are in {edition.kits[0]}, which is missing: copy it to {root}"
        )
    image = re.compile(_VAL_IMAGE.format(edition.year))
    label_of = {class_id: label for label, class_id in enumerate(class_ids)}
    remarks = Remarks()
    kept = []
    total = 0
    with path.open("rb", buffering=0) as file:
        for member in members(file, str(path)):
            match = image.fullmatch(member.name)
            reason = _why_left_out(file, member)
            if match is None or reason is not None:
                remarks.leave_out(walk.UNLABELLED if reason is None else reason, member.name)
                continue
            wnid = kit.wnid_of(int(match[1]))
            if wnid is None:
                raise InputError(
                    f"{path} has {member.name}, but the development kit has labels for images 1 "
                    f"to {len(kit.truth):,} only: they do not belong together"
                )
            total += 1
            if wnid in label_of:
                kept.append((member, label_of[wnid]))
    if not kept:
        raise InputError(
            f"{str(path)!r} has no validation images (ILSVRC{edition.year}_val_….JPEG) of the "
            "training classes: download it again"
        )
    if total < len(kit.truth):
        remarks.lack(
            f"{len(kit.truth) - total:,} of the {len(kit.truth):,} validation images that the "
            f"development kit labels are not in {edition.val}"
        )
    layout = f"ILSVRC-{edition.year} archives, {len(class_ids):,} classes"
    if len(kept) < total:
        layout += f", to which {len(kept):,} of {total:,} validation images belong"
    kept.sort(key=lambda pair: pair[0].name)
    return TarImages(
        archive=path,
        name=root.name,
        layout=layout,
        class_ids=class_ids,
        class_names=short_names(class_ids, kit.words),
        names=tuple(m.name for m, _ in kept),
        offsets=np.array([m.offset for m, _ in kept], np.int64),
        sizes=np.array([m.size for m, _ in kept], np.int64),
        labels=np.array([label for _, label in kept], np.int64),
        remarks=remarks,
    )


def _why_left_out(file: BinaryIO, member: Member) -> Reason | None:
    """Why a member is not read as an image; None if it is."""
    if not member.plain:
        return walk.NOT_PLAIN

    def head() -> bytes:
        file.seek(member.offset)
        return file.read(min(member.size, kinds.HEAD))

    return walk.why_left_out(member.name, head)
