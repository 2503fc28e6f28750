"""Checks folders of images by class, also those that are too broken to be opened."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from minialex.data.decode import images
from minialex.data.inspect.sections import (
    CheckedFile,
    class_sizes,
    class_table,
    duplicates,
    examples,
    file_problems,
    verdict,
)
from minialex.data.sources import folder
from minialex.errors import InputError
from minialex.utils.cores import usable_cores

_MODES = {  # Pillow's, in words
    "RGB": "RGB",
    "1": "black and white",
    "L": "grey",
    "LA": "grey with alpha",
    "P": "palette",
    "RGBA": "RGB with alpha",
    "CMYK": "CMYK",
}


def check(
    root: Path, size: int, workers: int | None, progress: Callable[[int], object] | None
) -> Iterator[str]:
    """The report on `root`, after every image in it was read."""
    layout = folder.find_layout(root)
    parts = {"train": layout.train} | ({"val": layout.val} if layout.val else {})
    classes = {part: folder.subfolders(path) for part, path in parts.items()}
    names = [
        (part, class_id, path / class_id / name)
        for part, path in parts.items()
        for class_id in classes[part]
        for name in folder.image_files(path / class_id)
    ]
    files = []
    with ThreadPoolExecutor(workers or usable_cores()) as pool:
        for file in pool.map(lambda name: _read(*name), names):
            files.append(file)
            if progress is not None:
                progress(1)
    yield f"{layout.root}: {layout}"
    if ignored := sum(_others(path / i) for part, path in parts.items() for i in classes[part]):
        yield f"files in class folders that are not images, ignored: {ignored:,}"
    if layout.val is None:
        yield "no val/ folder: training will hold out a part of each class, drawn by its seed"
    yield from _counts(classes, files)
    yield from _modes(files)
    yield from _sizes(files, size)
    problems = [*_class_problems(classes, files), *file_problems(files), *duplicates(files)]
    yield from verdict(problems)


def _others(class_folder: Path) -> int:
    visible = [name for name in os.listdir(class_folder) if not name.startswith(".")]
    return len(visible) - len(folder.image_files(class_folder))


def _read(part: str, class_id: str, path: Path) -> CheckedFile:
    try:
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").digest()
        mode, width, height = images.probe(path)
    except (InputError, OSError) as error:
        return CheckedFile(part, class_id, path, problem=str(error))
    return CheckedFile(part, class_id, path, digest, mode, width, height)


def _counts(classes: dict[str, list[str]], files: list[CheckedFile]) -> Iterator[str]:
    counts = {part: Counter(f.class_id for f in files if f.part == part) for part in classes}
    for part, ids in classes.items():
        yield class_sizes(part, [counts[part][i] for i in ids])
    every = sorted(set().union(*classes.values()))
    rows = {i: tuple(counts[part][i] for part in classes) for i in every}
    yield from class_table(list(classes), rows)


def _modes(files: list[CheckedFile]) -> Iterator[str]:
    found = Counter(f.mode for f in files if f.problem is None).most_common()
    if found:
        described = [
            f"{count:,} {_MODES.get(mode, mode)}" + ("" if mode == "RGB" else " (converted to RGB)")
            for mode, count in found
        ]
        yield "colour modes: " + ", ".join(described)


def _sizes(files: list[CheckedFile], size: int) -> Iterator[str]:
    readable = [f for f in files if f.problem is None]
    if not readable:
        return
    sides = np.array([min(f.width, f.height) for f in readable])
    yield f"shorter sides: {sides.min()} to {sides.max()} pixels (median {np.median(sides):.0f})"
    if small := int((sides < size).sum()):
        yield f"  smaller than {size}, will be enlarged: {small:,}"
    if tiny := [f for f in readable if 4 * min(f.width, f.height) < size]:
        yield f"  smaller than a quarter of {size}: {len(tiny):,}"
        yield from examples(f"{f.path} ({f.width} x {f.height})" for f in tiny)


def _class_problems(classes: dict[str, list[str]], files: list[CheckedFile]) -> Iterator[str]:
    if len(classes["train"]) < 2:
        yield f"only {len(classes['train'])} class: a classifier needs at least two"
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
