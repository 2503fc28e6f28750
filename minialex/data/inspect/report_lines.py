"""The parts of a report on a data set, as lines of text."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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

READ_SIZE = 256  # side at which images are read unless another is given; the paper's

_TABLE_ROWS = 40  # a longer table shows the smallest and the largest classes
_EXAMPLES = 10


@dataclass(frozen=True)
class CheckedFile:
    """One image of the data set; `problem` is None if it can be read."""

    part: str
    class_id: str
    name: str
    digest: bytes = b""
    mode: str = ""
    width: int = 0
    height: int = 0
    problem: str | None = None


def label_counts(splits: Splits) -> Iterator[str]:
    """The number of images in each part, and a table of the classes."""
    train = splits.train
    counts = {
        part: np.bincount(dataset.labels, minlength=len(train.class_ids)).tolist()
        for part, dataset in splits.parts.items()
    }
    yield from class_sizes(counts)
    yield from class_table(counts, train.class_ids, train.class_names)


def stored_size(side: int, size: int | None) -> str:
    """The side of images that are stored as squares; whether a model that takes `size` enlarges."""
    enlarged = f", enlarged to {size} x {size} (--size)" if (size or 0) > side else ""
    return f"sizes: {side} x {side}{enlarged}"


def class_sizes(counts: Mapping[str, Sequence[int]]) -> Iterator[str]:
    """How many images and classes each part has, and how balanced the classes are."""
    for part, of_class in counts.items():
        of_class = of_class or [0]
        each = _span(min(of_class), median(of_class), max(of_class), "per class")
        yield f"{part}: {sum(of_class):,} images in {len(of_class):,} classes, {each}"


def shorter_sides(low: float, middle: float, high: float) -> str:
    """How large the images are: the smallest, median and largest shorter side in pixels."""
    return f"shorter sides: {_span(low, middle, high, 'pixels')}"


def _span(low: float, middle: float, high: float, unit: str) -> str:
    if low == high:
        return f"{low:,} {unit}"
    return f"{low:,} to {high:,} {unit} (median {middle:,.0f})"


def class_table(
    counts: Mapping[str, Sequence[int]],
    class_ids: Sequence[str],
    class_names: Sequence[str],
) -> Iterator[str]:
    """A row for each class: its images in each part, and its readable name if there is another."""
    order, most = list(range(len(class_ids))), _TABLE_ROWS
    if len(order) > most:
        first = next(iter(counts.values()))
        order.sort(key=first.__getitem__)
        order = order[: most // 4] + order[-most // 4 :]
        yield f"the {most // 4} smallest and {most // 4} largest classes:"
    width = max([5, *(len(class_ids[row]) for row in order)])
    yield f"  {'class':<{width}}" + "".join(f"{part:>9}" for part in counts)
    for row in order:
        class_id, name = class_ids[row], class_names[row]
        line = f"  {class_id:<{width}}" + "".join(f"{each[row]:>9,}" for each in counts.values())
        yield line if name == class_id else f"{line}  {name}"


def file_problems(files: Iterable[CheckedFile]) -> Iterator[str]:
    """The files that cannot be read."""
    broken = [f for f in files if f.problem is not None]
    if broken:
        yield f"unreadable files, which training skips: {len(broken):,}"
        yield from (f"  {f.problem}" for f in broken)


def mislabelled_files(files: Iterable[CheckedFile]) -> Iterator[str]:
    """ILSVRC images whose file name gives another class than their folder."""
    wrong = [(f, reason) for f in files if (reason := mislabelled(f.name, f.class_id))]
    if wrong:
        yield f"mislabelled files, which prepare leaves out: {len(wrong):,}"
        yield from examples(f"{f.name}: {reason}" for f, reason in wrong)


def doubles(files: Sequence[CheckedFile]) -> Iterator[str]:
    """Images that occur twice, pixel for pixel: with two labels, in both parts, or in one class."""
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
    """What this installation cannot detect."""
    if simplejpeg() is None:
        yield (
            "Pillow alone does not detect damage in the middle of a JPEG: install simplejpeg "
            "(pip install 'minialex[fast]') to check for it"
        )


def harmless(remarks: Sequence[Remarks]) -> Iterator[str]:
    """What was left out, without being a problem."""
    problems = {problem for one in remarks for problem in one.problems()}
    yield from (line for line in every_line(remarks) if line not in problems)


def fingerprint(pixels: np.ndarray) -> bytes:
    """A digest that is equal for equal pixels."""
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
