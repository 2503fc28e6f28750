"""Opens a data set by path or name: a folder in any known format, or built-in images."""

import os
from pathlib import Path
from unicodedata import normalize

from minialex.data.dataset import Dataset, Splits
from minialex.data.remarks import Remarks
from minialex.data.sources import label_list, walk
from minialex.data.sources.class_folder_layouts import TRAIN_NAMES, VAL_NAMES
from minialex.data.sources.drawings import DEFAULT_COUNT, is_drawings, named_count, open_drawings
from minialex.data.sources.source import all_sources, source_of
from minialex.errors import InputError, nearest
from minialex.utils.paths import expanded

_LEVELS = 3  # of folders that contain nothing but one other folder


def open_data(
    data: str | os.PathLike[str] | None = None, *, seed: int = 0, val_fraction: float = 0.1
) -> Splits:
    """The data set called `data`, as `Splits(train, val)`.

    None or "shapes" is the built-in set (2,400 + 600 images), "shapes:N" makes N + N // 4 of it,
    and anything else is the path of a table of files and labels, or of a folder: train/<class>/ and
    val/<class>/, or <class>/ alone, or ILSVRC-2012's archives as downloaded, or its Kaggle layout,
    or CIFAR-10's files, or cuda-convnet's batches, or what `minialex prepare` packed.
    Without a validation part, `val_fraction` of each class is held out by `seed`.

    Raises FileNotFoundError for a path that does not exist and InputError for a folder that cannot
    be used, and for "shapes" where a folder has that name: "./shapes" names the folder and
    "shapes:2400" the built-in set.
    """
    require_clear(data)
    if data is None or is_builtin(data):
        return open_drawings(named_count(str(data or "shapes")), seed=seed)
    root = existing_folder(data)
    return source_of(root).open(root, seed=seed, val_fraction=val_fraction)


def require_clear(data: object) -> None:
    """Raise InputError for "shapes" where it could also be a folder."""
    if isinstance(data, str) and data == "shapes" and Path(data).is_dir():
        raise InputError(
            "data 'shapes' may be the built-in images or the folder of that name: write ./shapes "
            f"for the folder, shapes:{DEFAULT_COUNT} for the built-in images"
        )


def open_for_evaluation(data: str | os.PathLike[str]) -> Dataset:
    """The images of `data` to evaluate a network on: the validation part, or else all."""
    if is_builtin(data):
        return open_data(data).val
    root = existing_folder(data)
    source = source_of(root)
    return source.validation(root) if source.validation is not None else open_data(root).val


def is_builtin(data: str | os.PathLike[str]) -> bool:
    """Whether `data` names the drawn images: "shapes" or "shapes:N"."""
    return is_drawings(data)


def existing_folder(data: str | os.PathLike[str]) -> Path:
    """`data` as a folder, or a list of labels, that exists.

    One of ILSVRC's archives stands for the folder it is in. A folder that contains nothing but the
    data set's own folder stands for that one.

    Raises FileNotFoundError, which suggests the nearest name, or InputError for another file.
    """
    if not os.fspath(data):
        raise InputError("the data has an empty name: give a folder, or 'shapes'")
    root = expanded(data)
    if not root.exists():  # it may be spelt as macOS spells it, or as other systems do
        forms = (Path(normalize(form, str(root))) for form in ("NFC", "NFD"))
        root = next((path for path in forms if path.exists()), root)
    if root.is_file() and any(root.name in source.file_names for source in all_sources()):
        root = root.parent
    if root.is_dir():
        return _inner(root.resolve())
    if root.is_file() and root.suffix.lower() in label_list.SUFFIXES:
        return root.resolve()
    if root.exists():
        raise InputError(
            f"data {str(root)!r} is a file: give a folder of class folders, or a list of labels "
            "such as labels.csv (unpack archives other than ILSVRC's first)"
        )
    hint = nearest(root) or "check the path"
    raise FileNotFoundError(
        f"no data at {str(root)!r}: {hint} (give a folder, or 'shapes' for the built-in images)"
    )


def _inner(root: Path) -> Path:
    """The data set's own folder, if `root` is one or a few levels above it."""
    for _ in range(_LEVELS):
        inside = walk.listing(root, Remarks())
        if len(inside.folders) != 1 or inside.images or _is_special(root):
            break
        [only] = inside.folders
        below = walk.listing(root / only, Remarks())
        classes = below.folders and not below.images and below.folders != ["images"]
        if only.lower() in (*TRAIN_NAMES, *VAL_NAMES) or not (classes or _is_special(root / only)):
            break
        root = root / only
    return root


def _is_special(root: Path) -> bool:
    """Whether a format other than class folders recognises `root`."""
    return source_of(root) is not all_sources()[-1]
