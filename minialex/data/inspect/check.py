"""Finds problems in a data set: `minialex check PATH`."""

import os
from collections.abc import Callable, Iterator

from minialex.data.dataset import Dataset, Splits
from minialex.data.inspect import report_lines
from minialex.data.inspect.report_lines import CheckedFile
from minialex.data.sources.open import existing_folder, is_builtin, open_data
from minialex.data.sources.source import source_of


def problems(report: str) -> list[str]:
    """The problems in a report of `check_data`, one sentence each."""
    lines = report.splitlines()
    if report_lines.PROBLEMS not in lines:
        return []
    return [line.strip() for line in lines[lines.index(report_lines.PROBLEMS) + 1 :]]


def check_data(
    data: str | os.PathLike[str] | None,
    size: int | None = None,
    *,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> str:
    """Read every image of `data` and report what is in it and what is wrong, in lines of text.

    `size` is the side that a model resizes images to: smaller ones are counted. `progress` is
    called with the number of files just read. Raises what `open_data` raises if the path is not a
    data set.
    """
    if data is not None and not is_builtin(data):
        root = existing_folder(data)
        if (check := source_of(root).check) is not None:
            return "\n".join(check(root, size, workers, progress))
    return "\n".join(_check_images(open_data(data), size, workers, progress))


def _check_images(
    splits: Splits, size: int | None, workers: int | None, progress: Callable[[int], object] | None
) -> Iterator[str]:
    """Class sizes, and unreadable or duplicate images, of any data set that can be opened."""
    yield f"{splits.train.name}: {splits.train.layout}"
    yield from report_lines.label_counts(splits)
    side, stored = splits.train.native_size, splits.train.stored_size
    if side is None:
        yield "sizes: drawn at any size"
        yield from report_lines.verdict([])
        return
    if stored is None:
        side = size or report_lines.READ_SIZE
    else:
        yield report_lines.stored_size(stored, size)

    files = report_lines.read_all(
        [
            (part, dataset.class_ids[dataset.labels[i]], dataset.describe(i), dataset, i)
            for part, dataset in splits.parts.items()
            for i in range(len(dataset))
        ],
        lambda image: _read(*image, side),
        workers,
        progress,
    )
    yield from report_lines.harmless(splits.remarks)
    if stored is None:
        yield from report_lines.decoder_note()
    problems = dict.fromkeys(problem for each in splits.remarks for problem in each.problems())
    yield from report_lines.verdict(
        [
            *problems,
            *_unreadable_classes(splits, files),
            *report_lines.file_problems(files),
            *report_lines.mislabelled_files(files),
            *report_lines.doubles(files),
        ]
    )


def _unreadable_classes(splits: Splits, files: list[CheckedFile]) -> Iterator[str]:
    """Training classes without a readable image."""
    readable = {file.class_id for file in files if file.part == "train" and file.problem is None}
    for class_id in splits.train.class_ids:
        if class_id not in readable:
            yield f"class {class_id} of train has no readable image"


def _read(
    part: str, class_id: str, name: str, dataset: Dataset, index: int, size: int
) -> CheckedFile:
    digest = report_lines.fingerprint(dataset.image(index, size))
    return CheckedFile(part, class_id, name, digest)
