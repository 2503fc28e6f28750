"""Checks class folders, including those that are too broken to be opened as a data set."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from minialex.data.decode import images
from minialex.data.inspect import report_lines
from minialex.data.inspect.report_lines import READ_SIZE, CheckedFile
from minialex.data.sources.class_folder_layouts import Layout, Part, find_layout
from minialex.data.sources.names import read_names
from minialex.data.split import SEED, VAL_FRACTION, described, hold_out
from minialex.utils.composed import all_composed

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
    root: Path, size: int | None, workers: int | None, progress: Callable[[int], object] | None
) -> Iterator[str]:
    """The report on `root`, from reading every image in it."""
    layout = find_layout(root)
    parts = _parts(layout)
    files = report_lines.read_all(
        [
            (part, class_id, of_part.folder / name)
            for part, of_part in parts.items()
            for name, class_id in zip(of_part.files, of_part.classes, strict=True)
        ],
        lambda image: _read(*image, size or READ_SIZE),
        workers,
        progress,
    )
    drawn = layout.val is None
    said = described(str(layout), VAL_FRACTION, SEED) if drawn else str(layout)
    yield f"{layout.root.name}: {said}"
    class_ids = tuple(sorted(set().union(*(of_part.class_ids for of_part in parts.values()))))
    counts = _counts(parts, class_ids)
    yield from report_lines.class_sizes(counts)
    yield from report_lines.class_table(counts, class_ids, read_names(layout.root, class_ids))
    yield from _modes(files)
    yield from _sizes(files, size)
    remarks = [of_part.remarks for of_part in parts.values()]
    yield from report_lines.harmless(remarks)
    yield from report_lines.decoder_note()
    yield from report_lines.verdict(
        [
            *_class_problems(parts, files),
            *(problem for remark in remarks for problem in remark.problems()),
            *report_lines.file_problems(files),
            *report_lines.mislabelled_files(files),
            *report_lines.doubles(files),
        ]
    )


def _parts(layout: Layout) -> dict[str, Part]:
    return {"train": layout.train} | ({"val": layout.val} if layout.val is not None else {})


def _read(part: str, class_id: str, path: Path, size: int) -> CheckedFile:
    """One file as training reads it; `report_lines.read_all` takes its errors."""
    digest = report_lines.fingerprint(images.load_resized(path, size))
    mode, width, height = images.header(path)
    return CheckedFile(part, class_id, str(path), digest, mode, width, height)


def _counts(parts: dict[str, Part], class_ids: Sequence[str]) -> dict[str, list[int]]:
    """Images of each class in each part, as training will have them."""
    if len(parts) > 1:
        return {part: [of_part.counts[i] for i in class_ids] for part, of_part in parts.items()}
    train = parts["train"]
    labels = np.searchsorted(np.array(class_ids, object), np.array(train.classes, object))
    held_out = hold_out(all_composed(train.files), labels, VAL_FRACTION, SEED)
    both = {"train": labels[~held_out], "val": labels[held_out]}
    return {part: np.bincount(k, minlength=len(class_ids)).tolist() for part, k in both.items()}


def _modes(files: list[CheckedFile]) -> Iterator[str]:
    found = Counter(f.mode for f in files if f.problem is None).most_common()
    if found:
        described = [
            f"{count:,} {_MODES.get(mode, mode)}" + ("" if mode == "RGB" else " (converted to RGB)")
            for mode, count in found
        ]
        yield "colour modes: " + ", ".join(described)


def _sizes(files: list[CheckedFile], size: int | None) -> Iterator[str]:
    readable = [f for f in files if f.problem is None]
    if not readable:
        return
    sides = np.array([min(f.width, f.height) for f in readable])
    yield report_lines.shorter_sides(sides.min(), np.median(sides), sides.max())
    if size is None:
        return
    if small := int((sides < size).sum()):
        yield f"  smaller than {size} (--size), so enlarged: {small:,}"
    if tiny := [f for f in readable if 4 * min(f.width, f.height) < size]:
        yield f"  smaller than a quarter of {size}: {len(tiny):,}"
        yield from report_lines.examples(f"{f.name} ({f.width} x {f.height})" for f in tiny)


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
