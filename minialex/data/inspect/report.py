"""What a folder of images holds, and what is wrong with it: `minialex check --data PATH`."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from minialex.data.dataset import Dataset, Splits
from minialex.data.decode import images
from minialex.data.packed import dataset
from minialex.data.sources import archives, cifar, convnet, folder, kaggle
from minialex.data.sources.open import existing_folder, is_builtin, open_data
from minialex.errors import InputError
from minialex.utils.cores import usable_cores

_TABLE_ROWS = 40  # a longer table shows the smallest and the largest classes
_EXAMPLES = 10
_PROBLEMS = "problems:"  # all that follows it in a report
_NO_FOLDERS = (cifar.is_cifar, convnet.is_convnet, archives.is_archives, kaggle.is_kaggle)
_MODES = {
    "1": "black and white",
    "L": "grey",
    "LA": "grey with alpha",
    "P": "palette",
    "RGBA": "colour with alpha",
    "CMYK": "print colours",
}


@dataclass(frozen=True)
class _File:
    """One image file as found; `problem` is None where it can be read."""

    part: str
    class_id: str
    path: Path
    digest: bytes = b""
    mode: str = ""
    width: int = 0
    height: int = 0
    problem: str | None = None


def problems(report: str) -> list[str]:
    """What `check_data` found wrong, a sentence each."""
    lines = report.splitlines()
    if _PROBLEMS not in lines:
        return []
    return [line.strip() for line in lines[lines.index(_PROBLEMS) + 1 :]]


def check_data(
    data: str | os.PathLike[str] | None,
    size: int = 256,
    *,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> str:
    """Read every image of `data` and report, in lines of text, what a trainer should know.

    `size` is the side that images will be scaled to. `progress` is called with the number of files
    just read. Raises what `open_data` raises for a path that is no data set at all.
    """
    if data is None or is_builtin(data):
        return "\n".join(_check_records(open_data(data), size, workers, progress))
    root = existing_folder(data)
    if dataset.is_packed(root):
        return "\n".join(_check_packed(root))
    if any(known(root) for known in _NO_FOLDERS):
        return "\n".join(_check_records(open_data(data), size, workers, progress))
    layout = folder.find_layout(root)
    parts = {"train": layout.train} | ({"val": layout.val} if layout.val else {})
    classes = {part: folder.subfolders(path) for part, path in parts.items()}
    names = [
        (part, class_id, path / class_id / name)
        for part, path in parts.items()
        for class_id in classes[part]
        for name in folder.image_files(path / class_id)
    ]
    with ThreadPoolExecutor(workers or usable_cores()) as pool:
        files = []
        for file in pool.map(lambda name: _read(*name), names):
            files.append(file)
            if progress is not None:
                progress(1)
    lines = [f"{layout.root}: {layout}"]
    if ignored := sum(_others(path / i) for part, path in parts.items() for i in classes[part]):
        lines.append(f"ignored inside class folders, being no images: {ignored:,}")
    if layout.val is None:
        lines.append("no val/ folder: training will hold out a part of each class, by its seed")
    lines += _counts(classes, files)
    problems = [*_class_problems(classes, files), *_file_problems(files), *_duplicates(files)]
    return "\n".join([*lines, *_kinds(files, size), *_verdict(problems)])


def _others(class_folder: Path) -> int:
    visible = [name for name in os.listdir(class_folder) if not name.startswith(".")]
    return len(visible) - len(folder.image_files(class_folder))


def _read(part: str, class_id: str, path: Path) -> _File:
    try:
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").digest()
        mode, width, height = images.probe(path)
    except (InputError, OSError) as error:
        return _File(part, class_id, path, problem=str(error))
    return _File(part, class_id, path, digest, mode, width, height)


def _digest(image: np.ndarray) -> bytes:
    return hashlib.sha256(image.tobytes()).digest()


def _check_records(splits: Splits, size: int, workers, progress) -> Iterator[str]:
    """A data set without class folders: class sizes, and unreadable or double images."""
    yield f"{splits.train.name}: {splits.train.layout}"
    yield from _label_counts(splits)
    parts: dict[str, Dataset] = {"train": splits.train, "val": splits.val}
    side = splits.train.native_size
    if side is None:
        yield f"sizes: drawn at any size, here {size} x {size}"
        yield from _verdict([])
        return
    photographs = hasattr(getattr(splits.train, "whole", splits.train), "dimensions")
    if photographs:
        side = size
    else:
        yield f"sizes: {side} x {side}" + (f", enlarged to {size} x {size}" if size > side else "")

    def read(where: tuple[str, Dataset, int]) -> _File:
        part, data, index = where
        path = Path(data.describe(index))
        try:
            return _File(part, "", path, _digest(data.image(index, side)))
        except (InputError, OSError) as error:
            return _File(part, "", path, problem=str(error))

    places = [(part, data, i) for part, data in parts.items() for i in range(len(data))]
    files = []
    with ThreadPoolExecutor(workers or usable_cores()) as pool:
        for file in pool.map(read, places):
            files.append(file)
            if progress is not None:
                progress(1)
    yield from _verdict([*_file_problems(files), *_duplicates(files)])


def _check_packed(root: Path) -> Iterator[str]:
    """A packed set: class sizes, and whether every byte is still what was written."""
    splits = open_data(root)
    yield f"{root}: {splits.train.layout}"
    yield from _label_counts(splits)
    yield from _verdict(dataset.verify(root))


def _label_counts(splits: Splits) -> Iterator[str]:
    parts: dict[str, Dataset] = {"train": splits.train, "val": splits.val}
    names = {part: list(splits.train.class_names) for part in parts}
    counts = {
        part: Counter(splits.train.class_names[label] for label in data.labels)
        for part, data in parts.items()
    }
    yield from _count_lines(names, counts)


# ------------------------------------------------------------------------------------ the sections


def _counts(classes: dict[str, list[str]], files: list[_File]) -> Iterator[str]:
    counts = {part: Counter(f.class_id for f in files if f.part == part) for part in classes}
    yield from _count_lines(classes, counts)


def _count_lines(classes: dict[str, list[str]], counts: dict[str, Counter]) -> Iterator[str]:
    for part, ids in classes.items():
        sizes = [counts[part][i] for i in ids] or [0]
        yield (
            f"{part}: {sum(sizes):,} images in {len(ids):,} classes, "
            f"{min(sizes):,} to {max(sizes):,} a class (median {median(sizes):,.0f})"
        )
    rows = sorted(set().union(*classes.values()))
    if len(rows) > _TABLE_ROWS:
        rows.sort(key=lambda i: counts["train"][i])
        yield f"the {_TABLE_ROWS // 4} smallest and {_TABLE_ROWS // 4} largest classes:"
        rows = rows[: _TABLE_ROWS // 4] + rows[-_TABLE_ROWS // 4 :]
    width = max([5, *(len(row) for row in rows)])
    yield f"  {'class':<{width}}" + "".join(f"{part:>9}" for part in classes)
    for row in rows:
        yield f"  {row:<{width}}" + "".join(f"{counts[part][row]:>9,}" for part in classes)


def _kinds(files: list[_File], size: int) -> Iterator[str]:
    """Modes and sizes: not wrong, but worth knowing."""
    readable = [f for f in files if f.problem is None]
    if not readable:
        return
    modes = Counter(f.mode for f in readable).most_common()
    described = [
        f"{count:,} {mode}" + (f" ({_MODES[mode]})" if mode in _MODES else "")
        for mode, count in modes
    ]
    yield "stored as: " + ", ".join(described) + "; all are read as RGB"
    sides = np.array([min(f.width, f.height) for f in readable])
    yield f"shorter sides: {sides.min()} to {sides.max()} pixels (median {np.median(sides):.0f})"
    if small := int((sides < size).sum()):
        yield f"  smaller than {size}, to be enlarged: {small:,}"
    if tiny := [f for f in readable if 4 * min(f.width, f.height) < size]:
        yield f"  smaller than a quarter of that: {len(tiny):,}"
        yield from _some(f"{f.path} ({f.width} x {f.height})" for f in tiny)


def _class_problems(classes: dict[str, list[str]], files: list[_File]) -> Iterator[str]:
    if len(classes["train"]) < 2:
        yield f"only {len(classes['train'])} class: telling classes apart takes two"
    filled = {(f.part, f.class_id) for f in files}
    readable = {(f.part, f.class_id) for f in files if f.problem is None}
    for part, ids in classes.items():
        for i in ids:
            if (part, i) not in filled:
                yield f"class {i} of {part} is empty"
            elif (part, i) not in readable:
                yield f"class {i} of {part} has no readable image"
    if "val" in classes:
        for i in sorted(set(classes["val"]) - set(classes["train"])):
            yield f"class {i} of val is not in train"
        for i in sorted(set(classes["train"]) - set(classes["val"])):
            yield f"class {i} of train is not in val"


def _file_problems(files: list[_File]) -> Iterator[str]:
    broken = [f for f in files if f.problem is not None]
    if broken:
        yield f"files that cannot be read, which training leaves out: {len(broken):,}"
        yield from (f"  {f.problem}" for f in broken)


def _duplicates(files: list[_File]) -> Iterator[str]:
    """Images of val whose bytes also occur in train: the error measured on them is flattered."""
    first = {f.digest: f.path for f in files if f.part == "train" and f.digest}
    same = [(f.path, first[f.digest]) for f in files if f.part == "val" and f.digest in first]
    if same:
        yield f"images of val that are also in train, byte for byte: {len(same):,}"
        yield from _some(f"{val} = {train}" for val, train in same)


def _some(lines: Iterator[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        if number == _EXAMPLES:
            yield "    ..."
            return
        yield f"    {line}"


def _verdict(problems: list[str]) -> list[str]:
    if not problems:
        return ["no problems found"]
    return [_PROBLEMS, *(f"  {problem}" for problem in problems)]
