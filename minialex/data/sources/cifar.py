"""CIFAR-10 in its official binary layout: records of one label byte and 3 x 32 x 32 pixels."""

import re
from pathlib import Path

import numpy as np

from minialex.data.dataset import Splits, split
from minialex.data.sources.records import PlanarImages
from minialex.data.sources.source import Source
from minialex.errors import InputError

_SIDE = 32
_RECORD = 1 + 3 * _SIDE * _SIDE  # bytes
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


def is_cifar(root: Path) -> bool:
    """Whether `root` looks like the binary layout."""
    return (root / "test_batch.bin").is_file() or bool(_training_files(root))


def open_cifar(root: Path, *, seed: int, val_fraction: float) -> Splits:
    """The training batches and the test batch in `root`; without the latter, a split by seed.

    Raises InputError for a file whose size is not a multiple of 3,073 or whose labels exceed 9.
    """
    paths = _training_files(root)
    if not paths:
        raise InputError(
            f"{str(root)!r} holds test_batch.bin but no data_batch_*.bin: "
            "copy the training batches of CIFAR-10's binary version there"
        )
    names = _class_names(root / "batches.meta.txt")
    train = _read(paths, names, f"CIFAR-10 binary layout, {len(paths)} training file(s)")
    test = root / "test_batch.bin"
    if not test.is_file():
        return split(train, val_fraction, seed)
    return Splits(train, _read([test], names, train.layout))


SOURCE = Source("CIFAR-10, binary version", 10, is_cifar, open_cifar)


def _training_files(root: Path) -> list[Path]:
    numbered = [
        (int(match[1]), path)
        for path in root.iterdir()
        if (match := re.fullmatch(r"data_batch_(\d+)\.bin", path.name))
    ]
    return [path for _, path in sorted(numbered)]


def _read(paths: list[Path], names: tuple[str, ...], layout: str) -> PlanarImages:
    records = [_map(path) for path in paths]
    return PlanarImages(
        paths=tuple(paths),
        planes=tuple(r[:, 1:].reshape(-1, 3, _SIDE, _SIDE) for r in records),
        labels=np.concatenate([r[:, 0] for r in records]).astype(np.int64),
        class_ids=names,
        layout=layout,
        name="cifar-10",
        record_name="record",
    )


def _map(path: Path) -> np.ndarray:
    """The records of a file, memory-mapped: uint8 (n, 3073)."""
    size = path.stat().st_size
    if size == 0 or size % _RECORD:
        raise InputError(
            f"{str(path)!r} has {size:,} bytes, not a multiple of the {_RECORD:,} of a CIFAR-10 "
            "record: the file is incomplete or not CIFAR-10's binary version"
        )
    records = np.memmap(path, np.uint8, "r").reshape(-1, _RECORD)
    largest = int(records[:, 0].max())
    if largest >= len(_CLASSES):
        raise InputError(
            f"{str(path)!r} has a record labelled {largest}, and CIFAR-10's labels are 0 to 9: "
            "the file is damaged or not CIFAR-10's binary version"
        )
    return records


def _class_names(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return _CLASSES
    names = tuple(path.read_text(encoding="utf-8", errors="replace").split())
    if len(names) != len(_CLASSES):
        raise InputError(f"{str(path)!r} names {len(names)} classes: expected CIFAR-10's 10")
    return names
