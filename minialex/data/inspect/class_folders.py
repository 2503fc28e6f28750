"""Checks folders of images by class, also those that are too broken to be opened."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from minialex.data.decode import images
from minialex.data.inspect import sections
from minialex.data.inspect.sections import CheckedFile
from minialex.data.sources.layouts import Layout, Part, find_layout

_MODES = {  # Pillow's, in words
    "RGB": "RGB",
    "1": "black and white",
    "L": "grey",
    "LA": "grey with alpha",
    "P": "palette",
    "RGBA": "RGB with alpha",
    "CMYK": "CMYK",
    "I;16": "grey of 16 bits",
    "I": "grey of 32 bits",
    "F": "grey in floating point",
}


def check(
    root: Path, size: int, workers: int | None, progress: Callable[[int], object] | None
) -> Iterator[str]:
    """The report on `root`, after every image in it was read."""
    layout = find_layout(root)
    parts = _parts(layout)
    files = sections.read_all(
        [
            (part, class_id, of_part.folder / name)
            for part, of_part in parts.items()
            for name, class_id in zip(of_part.files, of_part.classes, strict=True)
        ],
        lambda image: _read(*image, size),
        workers,
        progress,
    )
    yield f"{layout.root}: {layout}"
    if layout.val is None:
        yield "no val/ folder: training will hold out a part of each class, drawn by its seed"
    yield from _counts(parts)
    yield from _modes(files)
    yield from _sizes(files, size)
    remarks = [of_part.remarks for of_part in parts.values()]
    yield from sections.harmless(remarks)
    yield from sections.decoder_note()
    yield from sections.verdict(
        [
            *_class_problems(parts, files),
            *(problem for remark in remarks for problem in remark.problems()),
            *sections.file_problems(files),
            *sections.mislabelled_files(files),
            *sections.doubles(files),
        ]
    )


def _parts(layout: Layout) -> dict[str, Part]:
    return {"train": layout.train} | ({"val": layout.val} if layout.val is not None else {})


def _read(part: str, class_id: str, path: Path, size: int) -> CheckedFile:
    """One file as training reads it; `sections.read_all` takes its errors."""
    digest = sections.fingerprint(images.load_resized(path, size))
    mode, width, height = images.header(path)
    return CheckedFile(part, class_id, str(path), digest, mode, width, height)


def _counts(parts: dict[str, Part]) -> Iterator[str]:
    for part, of_part in parts.items():
        yield sections.class_sizes(part, [of_part.counts[i] for i in of_part.class_ids])
    every = sorted(set().union(*(of_part.class_ids for of_part in parts.values())))
    counts = [of_part.counts for of_part in parts.values()]
    yield from sections.class_table(list(parts), {i: tuple(c[i] for c in counts) for i in every})


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
        yield from sections.examples(f"{f.name} ({f.width} x {f.height})" for f in tiny)


def _class_problems(parts: dict[str, Part], files: list[CheckedFile]) -> Iterator[str]:
    classes = {part: of_part.class_ids for part, of_part in parts.items()}
    if len(classes["train"]) < 2:
        yield f"only {len(classes['train'])} class: a classifier needs at least two"
    if "val" not in parts and max(parts["train"].counts.values(), default=0) < 2:
        yield "no class has two images, so none can be held out for validation"
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
