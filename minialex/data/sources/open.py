"""From what the user calls the data to a training and a validation set."""

import difflib
import os
from pathlib import Path

from minialex.data.dataset import Dataset, Splits
from minialex.errors import InputError

DEFAULT_SHAPES = 2400


def open_data(
    data: str | os.PathLike[str] | None = None, *, seed: int = 0, val_fraction: float = 0.1
) -> Splits:
    """The data set called `data`, as `Splits(train, val)`.

    None or "shapes" is the built-in set (2,400 + 600 images), "shapes:N" makes N + N // 4 of it,
    and anything else is the path of a folder: train/<class>/ and val/<class>/, or <class>/ alone,
    or ILSVRC-2012's archives as they are downloaded, or its Kaggle layout, or CIFAR-10's files, or
    cuda-convnet's batches, or what `minialex prepare` packed. Where there is no validation part,
    `val_fraction` of each class is held out by `seed`. Write "./shapes" for a folder of that name.

    Raises FileNotFoundError for a path that does not exist and InputError, in a sentence, for a
    folder that cannot be used.
    """
    from minialex.data.packed import dataset
    from minialex.data.sources import archives, cifar, convnet, folder, kaggle, shapes

    if data is None or is_builtin(data):
        return shapes.open_shapes(_count(str(data or "shapes")), seed=seed)
    root = existing_folder(data)
    if dataset.is_packed(root):
        return dataset.open_packed(root)
    if cifar.is_cifar(root):
        return cifar.open_cifar(root, seed=seed, val_fraction=val_fraction)
    if convnet.is_convnet(root):
        return convnet.open_convnet(root, seed=seed, val_fraction=val_fraction)
    if archives.is_archives(root):
        return archives.open_archives(root, seed=seed, val_fraction=val_fraction)
    if kaggle.is_kaggle(root):
        return kaggle.open_kaggle(root, seed=seed, val_fraction=val_fraction)
    return folder.open_folder(root, seed=seed, val_fraction=val_fraction)


def open_for_evaluation(data: str | os.PathLike[str]) -> Dataset:
    """The images of `data` to judge a network by: its validation part, or all if it has none."""
    from minialex.data.packed import dataset
    from minialex.data.sources import archives, cifar, convnet, folder, kaggle

    if isinstance(data, str) and data.partition(":")[0] == "shapes":
        return open_data(data).val
    root = existing_folder(data)
    if dataset.is_packed(root) or cifar.is_cifar(root) or convnet.is_convnet(root):
        return open_data(root).val
    if archives.is_archives(root):
        return archives.open_validation(root)
    if kaggle.is_kaggle(root):
        return kaggle.open_validation(root)
    layout = folder.find_layout(root)
    return folder.read_folder(layout.val or layout.train, name=root.name, names_from=root)


def is_builtin(data: str | os.PathLike[str]) -> bool:
    """Whether `data` names the drawn images: "shapes" or "shapes:N"."""
    return isinstance(data, str) and data.partition(":")[0] == "shapes"


def existing_folder(data: str | os.PathLike[str]) -> Path:
    """`data` as a folder that exists, or FileNotFoundError that suggests its nearest neighbour.

    One of ILSVRC's archives stands for the folder it lies in, beside the others.
    """
    from minialex.data.sources import archives

    root = Path(data).expanduser()
    if root.name in archives.NAMES and root.is_file():
        root = root.parent
    if root.is_dir():
        return root.resolve()
    if root.exists():
        raise InputError(
            f"data {str(root)!r} is a file: give a folder of class folders (archives other than "
            "ILSVRC's are unpacked first)"
        )
    missing = root
    while not missing.parent.is_dir():
        missing = missing.parent
    try:
        siblings = [entry.name for entry in missing.parent.iterdir()]
    except OSError:
        siblings = []
    near = difflib.get_close_matches(missing.name, siblings, n=1)
    hint = f"did you mean {str(missing.parent / near[0])!r}?" if near else "check the path"
    raise FileNotFoundError(
        f"no data at {str(root)!r}: {hint} (give a folder, or 'shapes' for the built-in images)"
    )


def _count(data: str) -> int:
    _, colon, number = data.partition(":")
    if not colon:
        return DEFAULT_SHAPES
    if not number.isdecimal():
        raise InputError(f"data {data!r}: expected 'shapes' or 'shapes:N' with a number of images")
    return int(number)
