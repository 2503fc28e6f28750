"""The parts of a report on a data set, as lines of text."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from minialex.data.dataset import Splits

PROBLEMS = "problems:"  # everything after this line of a report

_TABLE_ROWS = 40  # a longer table shows the smallest and the largest classes
_EXAMPLES = 10


@dataclass(frozen=True)
class CheckedFile:
    """One image as it was found; `problem` is None if it can be read."""

    part: str
    class_id: str
    path: Path
    digest: bytes = b""
    mode: str = ""
    width: int = 0
    height: int = 0
    problem: str | None = None


def label_counts(splits: Splits) -> Iterator[str]:
    """Images of each part, and a table of its classes by name."""
    counts = {}
    for part, dataset in splits.parts.items():
        of_class = np.bincount(dataset.labels, minlength=len(splits.train.class_names)).tolist()
        yield class_sizes(part, of_class)
        counts[part] = of_class
    each = zip(*counts.values(), strict=True)
    rows = sorted(zip(splits.train.class_names, each, strict=True))
    yield from class_table(list(counts), dict(rows))


def class_sizes(part: str, counts: Sequence[int]) -> str:
    """How many images and classes a part has, and how evenly they are spread."""
    counts = counts or [0]
    return (
        f"{part}: {sum(counts):,} images in {len(counts):,} classes, "
        f"{min(counts):,} to {max(counts):,} per class (median {median(counts):,.0f})"
    )


def class_table(
    parts: Sequence[str],
    rows: dict[str, tuple[int, ...]],
    names: dict[str, str] | None = None,
    most: int = _TABLE_ROWS,
) -> Iterator[str]:
    """A row for each class: its images in each part, and its readable name if there is another."""
    order = list(rows)
    if len(order) > most:
        order.sort(key=lambda name: rows[name][0])
        order = order[: most // 4] + order[-most // 4 :]
        yield f"the {most // 4} smallest and {most // 4} largest classes:"
    width = max([5, *map(len, order)])
    yield f"  {'class':<{width}}" + "".join(f"{part:>9}" for part in parts)
    for row in order:
        line = f"  {row:<{width}}" + "".join(f"{count:>9,}" for count in rows[row])
        name = row if names is None else names[row]
        yield line if name == row else f"{line}  {name}"


def file_problems(files: Iterable[CheckedFile]) -> Iterator[str]:
    """The files that cannot be read."""
    broken = [f for f in files if f.problem is not None]
    if broken:
        yield f"unreadable files, which training skips: {len(broken):,}"
        yield from (f"  {f.problem}" for f in broken)


def duplicates(files: Sequence[CheckedFile]) -> Iterator[str]:
    """Train/val leakage: validation images whose bytes also occur in the training part."""
    first = {f.digest: f.path for f in files if f.part == "train" and f.digest}
    same = [(f.path, first[f.digest]) for f in files if f.part == "val" and f.digest in first]
    if same:
        yield f"train/val leakage, images of val that are also in train: {len(same):,}"
        yield from examples(f"{val} = {train}" for val, train in same)


def examples(lines: Iterable[str], most: int = _EXAMPLES) -> Iterator[str]:
    """The first lines, indented."""
    for number, line in enumerate(lines):
        if number == most:
            yield "    ..."
            return
        yield f"    {line}"


def verdict(problems: Sequence[str]) -> list[str]:
    """The end of a report."""
    if not problems:
        return ["no problems found"]
    return [PROBLEMS, *(f"  {problem}" for problem in problems)]
