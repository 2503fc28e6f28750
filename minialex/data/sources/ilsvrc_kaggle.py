"""ILSVRC-2012 as Kaggle lays it out: class folders for training, flat files and a table for val.

The tree is ILSVRC/Data/CLS-LOC/{train,val}, with the tables beside ILSVRC/; any of these folders
may be given.
"""

from pathlib import Path
from typing import NamedTuple

from minialex.data.dataset import Dataset, Splits
from minialex.data.sources import class_folder_layouts, class_folders, labels
from minialex.data.sources.source import Source
from minialex.data.split import split
from minialex.errors import InputError

_INSIDE = (Path("ILSVRC", "Data", "CLS-LOC"), Path("Data", "CLS-LOC"), Path("CLS-LOC"), Path())


class _Tree(NamedTuple):
    """Where the images are, and the folder of the tables."""

    images: Path
    tables: Path


def is_kaggle(root: Path) -> bool:
    """Whether `root` holds ILSVRC/Data/CLS-LOC, or is a folder of that path."""
    return _find(root) is not None


def open_kaggle(root: Path, *, seed: int, val_fraction: float) -> Splits:
    """Training and validation images under `root`; without the latter, a split by `seed`.

    Raises InputError if there is no training folder, if validation images have no table, and if
    the table does not fit them.
    """
    tree = _tree(root)
    train = _open_train(tree)
    if not (tree.images / "val").is_dir():
        return split(train, val_fraction, seed)
    return Splits(train, _open_val(tree, train))


def open_validation(root: Path) -> Dataset:
    """The validation images, or all training images if there are none."""
    tree = _tree(root)
    train = _open_train(tree)
    return _open_val(tree, train) if (tree.images / "val").is_dir() else train


SOURCE = Source("ILSVRC-2012 from Kaggle", 40, is_kaggle, open_kaggle, open_validation)


def _find(root: Path) -> _Tree | None:
    for inside in _INSIDE:
        images = root / inside
        if images.name == "CLS-LOC" and images.is_dir():
            above = (images.parents[2], images.parents[1], images.parents[0], images)
            tables = next((path for path in above if (path / labels.SOLUTION).is_file()), above[0])
            return _Tree(images, tables)
    return None


def _tree(root: Path) -> _Tree:
    tree = _find(root)
    if tree is None:
        raise InputError(f"{str(root)!r} does not hold ILSVRC/Data/CLS-LOC")
    return tree


def _open_train(tree: _Tree) -> class_folders.ImageFolder:
    path = tree.images / "train"
    if not path.is_dir():
        raise InputError(f"there is no {str(path)!r}: unpack the whole Kaggle archive there")
    part = class_folder_layouts.class_folders(path)
    class_folder_layouts.devkit_counts(part, (tree.tables,))
    return class_folders.of_part(
        part, name=tree.tables.name, layout="Kaggle's ILSVRC layout", names_from=tree.tables
    )


def _open_val(tree: _Tree, train: Dataset) -> class_folders.ImageFolder:
    path = tree.images / "val"
    known = labels.solution(tree.tables / labels.SOLUTION)
    part = class_folder_layouts.flat_folder(path, known, train.class_ids)
    if not part.files:
        raise InputError(f"{str(path)!r} has no image: unpack the whole Kaggle archive there")
    return class_folders.of_part(part, like=train)
