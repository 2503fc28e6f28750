"""cuda-convnet's batches, the format of the original program, and CIFAR's Python versions.

`data_batch_N` is a pickled dict of `data`, uint8, and `labels`; an image is a column in
cuda-convnet's files and a row in CIFAR-10's: planes of red, green and blue. Class names are in
`batches.meta`. CIFAR-100 has `train`, `test` and `meta`, and its labels are `fine_labels`.
"""

import math
import re
from pathlib import Path

import numpy as np

from minialex.data.dataset import Splits
from minialex.data.sources.records import PlanarImages, require_whole
from minialex.data.sources.source import Source
from minialex.data.split import split
from minialex.errors import InputError
from minialex.utils.plain_pickle import load

_META, _TEST = "batches.meta", "test_batch"
_VALIDATION_FROM = 1000  # cuda-convnet2 numbers validation batches from here on


def is_convnet(root: Path) -> bool:
    """Whether `root` holds a file called data_batch_<number>, or CIFAR-100's `train` and `meta`."""
    return bool(_numbered(root)) or _is_hundred(root)


def open_convnet(root: Path, *, seed: int, val_fraction: float) -> Splits:
    """The batches in `root`, split as cuda-convnet's own examples are.

    The validation set is `test_batch`, or the batches from 1000 on, or the sixth of six; without
    any of these, images are held out by `seed`.

    Raises InputError for a batch that is damaged, or has anything but images and labels.
    """
    if _is_hundred(root):
        return _open_hundred(root, seed, val_fraction)
    numbered = _numbered(root)
    train = [path for number, path in numbered if number < _VALIDATION_FROM]
    val = [path for number, path in numbered if number >= _VALIDATION_FROM]
    if (root / _TEST).is_file():
        val.append(root / _TEST)
    elif not val and [number for number, _ in numbered] == [1, 2, 3, 4, 5, 6]:
        val = [train.pop()]
    if not train:
        raise InputError(f"{str(root)!r} has only validation batches: copy data_batch_1 … there")
    names = _class_names(root / _META)
    layout = f"cuda-convnet batches, {len(train)} for training"
    layout += f", {', '.join(path.name for path in val)} for validation" if val else ""
    data = _read(train, names, layout, root.name)
    if not val:
        return split(data, val_fraction, seed)
    return Splits(data, _read(val, data.class_ids, layout, root.name))


SOURCE = Source("cuda-convnet batches, CIFAR for Python", 20, is_convnet, open_convnet)


def _is_hundred(root: Path) -> bool:
    return (root / "train").is_file() and (root / "meta").is_file()


def _open_hundred(root: Path, seed: int, val_fraction: float) -> Splits:
    names, layout = _class_names(root / "meta"), "CIFAR-100 for Python"
    data = _read([root / "train"], names, layout, root.name)
    if not (root / "test").is_file():
        return split(data, val_fraction, seed)
    return Splits(data, _read([root / "test"], data.class_ids, layout, root.name))


def _numbered(root: Path) -> list[tuple[int, Path]]:
    found = ((re.fullmatch(r"data_batch_(\d{1,9})", path.name), path) for path in root.iterdir())
    return sorted((int(match[1]), path) for match, path in found if match and path.is_file())


def _read(paths: list[Path], names: tuple[str, ...] | None, layout: str, name: str) -> PlanarImages:
    planes, labels = zip(*(_batch(path) for path in paths), strict=True)
    sides = {p.shape[2] for p in planes}
    if len(sides) > 1:
        raise InputError(f"the batches in {str(paths[0].parent)!r} differ in image size: {sides}")
    every = np.concatenate(labels)
    if names is None:
        names = tuple(map(str, range(int(every.max()) + 1)))
    for path, of_file in zip(paths, labels, strict=True):
        if of_file.min() < 0 or of_file.max() >= len(names):
            raise InputError(
                f"{str(path)!r} has labels outside 0 to {len(names) - 1}: the file is damaged"
            )
    return PlanarImages(tuple(paths), planes, every, names, layout, name)


def _batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """One file's images, uint8 (n, 3, S, S), and labels, int64 (n,)."""
    values = load(path)
    values = {_text(k): v for k, v in values.items()} if isinstance(values, dict) else {}
    data = values.get("data")
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2:
        data = np.zeros((0, 0), np.uint8)
    try:
        found = values["labels"] if "labels" in values else values["fine_labels"]
        labels = np.array([int(label) for label in found], np.int64)
    except (KeyError, TypeError, ValueError, OverflowError):
        labels = np.zeros(0, np.int64)
    if not data.size or not len(labels):
        raise InputError(
            f"{str(path)!r} has no uint8 array `data` with `labels`: it is not a "
            "cuda-convnet batch of images"
        )
    values_each = next(
        (n for n, count in (data.shape, data.shape[::-1]) if count == len(labels)), 0
    )
    side = math.isqrt(values_each // 3)
    if values_each == 0 or 3 * side * side != values_each:
        raise InputError(
            f"{str(path)!r} has {len(labels)} labels and `data` of shape {data.shape}: expected an "
            "image of three square planes per column, or per row"
        )
    rows = data.T if data.shape[1] == len(labels) else data
    require_whole(path, rows, "image")
    return np.ascontiguousarray(rows).reshape(-1, 3, side, side), labels


def _class_names(path: Path) -> tuple[str, ...] | None:
    if not path.is_file():
        return None
    values = load(path)
    values = {_text(k): v for k, v in values.items()} if isinstance(values, dict) else {}
    words = values.get("label_names", values.get("fine_label_names"))
    if not isinstance(words, list) or not all(isinstance(w, str | bytes) for w in words):
        raise InputError(f"{str(path)!r} has no list `label_names`: download it again")
    names = tuple(map(_text, words))
    if len(set(names)) != len(names) or len(names) < 2:
        raise InputError(f"{str(path)!r} names fewer than two different classes")
    return names


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
