"""The parts of a report on a data set, as lines of text."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeVar

import numpy as np

from minialex.data.dataset import Splits
from minialex.data.decode.jpeg import simplejpeg
from minialex.data.loading.retry import Patience
from minialex.data.remarks import Remarks, every_line
from minialex.data.sources.names import mislabelled
from minialex.errors import InputError
from minialex.utils.cores import usable_cores

T = TypeVar("T", bound=tuple[Any, ...])

PROBLEMS = "problems:"  # everything after this line of a report

_TABLE_ROWS = 40  # a longer table shows the smallest and the largest classes
_EXAMPLES = 10


@dataclass(frozen=True)
class CheckedFile:
    """One image as it was found; `problem` is None if it can be read."""

    part: str
    class_id: str
    name: str
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


def mislabelled_files(files: Iterable[CheckedFile]) -> Iterator[str]:
    """ILSVRC images whose own name says another class than their folder."""
    wrong = [(f, reason) for f in files if (reason := mislabelled(f.name, f.class_id))]
    if wrong:
        yield f"mislabelled files, which prepare leaves out: {len(wrong):,}"
        yield from examples(f"{f.name}: {reason}" for f, reason in wrong)


def doubles(files: Sequence[CheckedFile]) -> Iterator[str]:
    """Images that are there more than once, pixel for pixel: two labels, leakage, or repetition."""
    groups: dict[bytes, list[CheckedFile]] = {}
    for file in files:
        if file.digest:
            groups.setdefault(file.digest, []).append(file)
    two_labels, leaked, twice = [], [], []
    for first, *others in groups.values():
        for other in others:
            pair = f"{other.name} = {first.name}"
            if first.class_id != other.class_id:
                two_labels.append(f"{pair}, as {other.class_id} and {first.class_id}")
            if first.part != other.part:
                leaked.append(pair)
            elif first.class_id == other.class_id:
                twice.append(pair)
    for title, pairs in (
        ("the same image in two classes, so one of the labels is wrong", two_labels),
        ("train/val leakage, images of val that are also in train", leaked),
        ("the same image twice in one class", twice),
    ):
        if pairs:
            yield f"{title}: {len(pairs):,}"
            yield from examples(pairs)


def decoder_note() -> Iterator[str]:
    """What cannot be noticed here."""
    if simplejpeg() is None:
        yield (
            "damage in the middle of a JPEG is not noticed by Pillow alone: install simplejpeg "
            "(pip install 'minialex[fast]') to check for it"
        )


def harmless(remarks: Sequence[Remarks]) -> Iterator[str]:
    """What was left out and is no problem."""
    problems = {problem for one in remarks for problem in one.problems()}
    yield from (line for line in every_line(list(remarks)) if line not in problems)


def fingerprint(pixels: np.ndarray) -> bytes:
    """A digest that is the same for the same pixels."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).digest()


def read_all(
    todo: Sequence[T],
    read: Callable[[T], CheckedFile],
    workers: int | None,
    progress: Callable[[int], object] | None,
) -> list[CheckedFile]:
    """`read` of every (part, class id, name) by threads; its errors become the file's problem."""
    patience = Patience()

    def checked(image: T) -> CheckedFile:
        try:
            return patience.read(lambda: read(image))
        except (InputError, OSError) as error:
            part, class_id, name = image[:3]
            return CheckedFile(part, class_id, str(name), problem=str(error))

    files = []
    with ThreadPoolExecutor(workers or usable_cores()) as pool:
        for file in pool.map(checked, todo):
            files.append(file)
            if progress is not None:
                progress(1)
    return files


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
