"""ILSVRC-2012 as Kaggle lays it out: class folders for training, flat files and a table for val."""

import csv
from pathlib import Path

import numpy as np

from minialex.data.dataset import Dataset, Splits, split
from minialex.data.sources import folder
from minialex.data.sources.source import Source
from minialex.errors import InputError

IMAGES = Path("ILSVRC", "Data", "CLS-LOC")
SOLUTION = "LOC_val_solution.csv"


def is_kaggle(root: Path) -> bool:
    """Whether `root` holds ILSVRC/Data/CLS-LOC."""
    return (root / IMAGES).is_dir()


def open_kaggle(root: Path, *, seed: int, val_fraction: float) -> Splits:
    """Training and validation images under `root`; without the latter, a split by `seed`.

    Raises InputError where there is no training folder, where validation images have no table, and
    for a table that does not fit them.
    """
    train = _open_train(root)
    if not (root / IMAGES / "val").is_dir():
        return split(train, val_fraction, seed)
    return Splits(train, _open_val(root, train))


def open_validation(root: Path) -> Dataset:
    """The validation images, or all training images where there are none."""
    train = _open_train(root)
    return _open_val(root, train) if (root / IMAGES / "val").is_dir() else train


SOURCE = Source("ILSVRC-2012 from Kaggle", 40, is_kaggle, open_kaggle, open_validation)


def _open_train(root: Path) -> folder.ImageFolder:
    path = root / IMAGES / "train"
    if not path.is_dir():
        raise InputError(f"there is no {str(path)!r}: unpack the whole Kaggle archive there")
    return folder.read_folder(
        path, name=root.name, layout="Kaggle's ILSVRC layout", names_from=root
    )


def _open_val(root: Path, train: Dataset) -> folder.ImageFolder:
    path = root / IMAGES / "val"
    files = folder.image_files(path)
    known = _solution(root / SOLUTION)
    label_of = {class_id: label for label, class_id in enumerate(train.class_ids)}
    labels = []
    for name in files:
        wnid = known.get(name.partition(".")[0])
        if wnid is None or wnid not in label_of:
            found = "does not name it"
            if wnid is not None:
                found = f"calls it {wnid}, a class without training images"
            raise InputError(
                f"{str(path / name)!r} has no label, because {root / SOLUTION} {found}: remove the "
                "file, or complete the download"
            )
        labels.append(label_of[wnid])
    if not files:
        raise InputError(f"{str(path)!r} holds no image: unpack the whole Kaggle archive there")
    return folder.ImageFolder(
        folder=path,
        name=train.name,
        layout=train.layout,
        class_ids=train.class_ids,
        class_names=train.class_names,
        files=tuple(files),
        labels=np.array(labels, np.int64),
    )


def _solution(path: Path) -> dict[str, str]:
    """Image name without suffix -> wnid; a row is `ImageId,<wnid> x y x y [<wnid> ...]`."""
    if not path.is_file():
        raise InputError(f"the validation labels are in {path.name}, which is not there: {path}")
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        try:
            rows = list(csv.reader(file))
        except csv.Error as error:
            raise InputError(f"{path} is no table of labels ({error}): fetch it again") from None
    if not rows or rows[0][:2] != ["ImageId", "PredictionString"]:
        raise InputError(f"{path} does not start with ImageId,PredictionString: fetch it again")
    return {row[0]: row[1].split()[0] for row in rows[1:] if len(row) > 1 and row[1].split()}
