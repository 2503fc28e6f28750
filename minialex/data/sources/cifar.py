"""CIFAR-10 in its official binary layout: records of one label byte and 3 x 32 x 32 pixels."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minialex.data.dataset import Splits, split
from minialex.data.decode import images
from minialex.errors import InputError

SIDE = 32
_RECORD = 1 + 3 * SIDE * SIDE
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
class Cifar:
    """Records in one or more memory-mapped files; the operating system keeps what is in use."""

    paths: tuple[Path, ...]
    records: tuple[np.ndarray, ...]  # uint8 (n, 3073) each
    labels: np.ndarray  # int64 (N,)
    class_ids: tuple[str, ...]
    layout: str
    name: str = "cifar-10"
    native_size: int = SIDE

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.class_ids

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int, size: int) -> np.ndarray:
        file, record = self._place(index)
        planes = self.records[file][record, 1:].reshape(3, SIDE, SIDE)
        pixels = np.ascontiguousarray(planes.transpose(1, 2, 0))  # (32, 32, 3)
        return pixels if size == SIDE else images.square(pixels, size)

    def describe(self, index: int) -> str:
        file, record = self._place(index)
        return f"{self.paths[file]}, record {record}"

    def _place(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        file = 0
        while index >= len(self.records[file]):
            index -= len(self.records[file])
            file += 1
        return file, int(index)


def is_cifar(root: Path) -> bool:
    """Whether `root` looks like the binary layout."""
    return (root / "test_batch.bin").is_file() or bool(_training_files(root))


def open_cifar(root: Path, *, seed: int, val_fraction: float) -> Splits:
    """The training batches and the test batch in `root`; without the latter, a split by seed.

    Raises InputError for a file whose size is no multiple of 3,073 or whose labels exceed 9.
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


def _training_files(root: Path) -> list[Path]:
    numbered = [
        (int(match[1]), path)
        for path in root.iterdir()
        if (match := re.fullmatch(r"data_batch_(\d+)\.bin", path.name))
    ]
    return [path for _, path in sorted(numbered)]


def _read(paths: list[Path], names: tuple[str, ...], layout: str) -> Cifar:
    records = tuple(_map(path) for path in paths)
    labels = np.concatenate([r[:, 0] for r in records]).astype(np.int64)
    return Cifar(tuple(paths), records, labels, names, layout)


def _map(path: Path) -> np.ndarray:
    size = path.stat().st_size
    if size == 0 or size % _RECORD:
        raise InputError(
            f"{str(path)!r} has {size:,} bytes, not a multiple of the {_RECORD:,} of a CIFAR-10 "
            "record: the file is incomplete or is not CIFAR-10's binary version"
        )
    records = np.memmap(path, np.uint8, "r").reshape(-1, _RECORD)
    worst = int(records[:, 0].max())
    if worst >= len(_CLASSES):
        raise InputError(
            f"{str(path)!r} has a record labelled {worst}, and CIFAR-10's labels are 0 to 9: "
            "the file is damaged or is not CIFAR-10's binary version"
        )
    return records


def _class_names(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return _CLASSES
    names = tuple(path.read_text(encoding="utf-8", errors="replace").split())
    if len(names) != len(_CLASSES):
        raise InputError(f"{str(path)!r} names {len(names)} classes: expected CIFAR-10's 10")
    return names
