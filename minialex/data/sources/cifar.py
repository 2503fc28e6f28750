"""CIFAR-10 and CIFAR-100 in their official binary layouts.

A record is one label byte, or two (of 20 and of 100 classes), and 3 x 32 x 32 pixels as planes.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minialex.data.dataset import Splits
from minialex.data.sources import labels
from minialex.data.sources.records import PlanarImages, require_whole
from minialex.data.sources.source import Source
from minialex.data.split import split
from minialex.errors import InputError

_SIDE = 32
_PAGE = 4096  # bytes: a file system's block, the smallest hole that an incomplete download leaves
_PIXELS = 3 * _SIDE * _SIDE
_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


@dataclass(frozen=True)
class _Kind:
    """One of the two layouts; the last of a record's label bytes is used."""

    name: str
    label_bytes: int
    classes: tuple[str, ...]
    names: str
    test: str
    wanted: str

    @property
    def record(self) -> int:
        return self.label_bytes + _PIXELS


_TEN = _Kind("CIFAR-10", 1, _CLASSES, "batches.meta.txt", "test_batch.bin", "data_batch_*.bin")
_HUNDRED = _Kind(
    "CIFAR-100", 2, tuple(map(str, range(100))), "fine_label_names.txt", "test.bin", "train.bin"
)


def is_cifar(root: Path) -> bool:
    """Whether `root` looks like one of the binary layouts."""
    return (root / _TEN.test).is_file() or bool(_batches(root)) or _is_hundred(root)


def open_cifar(root: Path, *, seed: int, val_fraction: float) -> Splits:
    """The training files and the test file in `root`; without the latter, a split by seed.

    Raises InputError for a file whose size is not a multiple of a record's, that has a block of
    zeros, or whose labels exceed the last class.
    """
    kind = _HUNDRED if _is_hundred(root) else _TEN
    paths = [root / kind.wanted] if kind is _HUNDRED else _batches(root)
    if not paths:
        raise InputError(
            f"{str(root)!r} has {kind.test} but no {kind.wanted}: "
            f"copy the training batches of {kind.name}'s binary version there"
        )
    names = _class_names(root / kind.names, kind)
    train = _read(paths, kind, names, f"{kind.name} binary layout, {len(paths)} training file(s)")
    test = root / kind.test
    if not test.is_file():
        return split(train, val_fraction, seed)
    return Splits(train, _read([test], kind, names, train.layout))


SOURCE = Source("CIFAR, binary version", 10, is_cifar, open_cifar)


def _is_hundred(root: Path) -> bool:
    beside = (root / _HUNDRED.test, root / _HUNDRED.names)
    return (root / _HUNDRED.wanted).is_file() and any(path.is_file() for path in beside)


def _batches(root: Path) -> list[Path]:
    numbered = [
        (int(match[1]), path)
        for path in root.iterdir()
        if (match := re.fullmatch(r"data_batch_(\d+)\.bin", path.name))
    ]
    return [path for _, path in sorted(numbered)]


def _read(paths: list[Path], kind: _Kind, names: tuple[str, ...], layout: str) -> PlanarImages:
    records = [_map(path, kind) for path in paths]
    first = kind.label_bytes
    return PlanarImages(
        paths=tuple(paths),
        planes=tuple(r[:, first:].reshape(-1, 3, _SIDE, _SIDE) for r in records),
        labels=np.concatenate([r[:, first - 1] for r in records]).astype(np.int64),
        class_ids=names,
        layout=layout,
        name=kind.name.lower(),
        record_name="record",
    )


def _map(path: Path, kind: _Kind) -> np.ndarray:
    """The records of a file, memory-mapped: uint8 (n, 3073), or (n, 3074)."""
    size = path.stat().st_size
    if size == 0 or size % kind.record:
        raise InputError(
            f"{str(path)!r} has {size:,} bytes, not a multiple of the {kind.record:,} of a "
            f"{kind.name} record: the file is incomplete or not {kind.name}'s binary version"
        )
    records = np.memmap(path, np.uint8, "r").reshape(-1, kind.record)
    require_whole(path, records, "record")
    flat = records.reshape(-1)
    pages = flat[: size // _PAGE * _PAGE].reshape(-1, _PAGE).max(axis=1)
    if not pages.all():  # a hole that lies across two records
        raise InputError(
            f"{str(path)!r} has only zeros from byte {int(np.argmin(pages)) * _PAGE:,} on: part "
            "of the file is missing, download it again"
        )
    largest, most = int(records[:, kind.label_bytes - 1].max()), len(kind.classes) - 1
    if largest > most:
        raise InputError(
            f"{str(path)!r} has a record labelled {largest}, but {kind.name}'s labels are 0 to "
            f"{most}: the file is damaged or not {kind.name}'s binary version"
        )
    return records


def _class_names(path: Path, kind: _Kind) -> tuple[str, ...]:
    if not path.is_file():
        return kind.classes
    names = tuple(labels.text(path).split())
    if len(names) != len(kind.classes):
        raise InputError(
            f"{str(path)!r} names {len(names)} classes: expected {kind.name}'s {len(kind.classes)}"
        )
    return names
