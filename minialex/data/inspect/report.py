"""What is wrong with a data set: `minialex check --data PATH`."""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from minialex.data.dataset import Dataset, Splits
from minialex.data.inspect import sections
from minialex.data.inspect.sections import CheckedFile
from minialex.data.sources.open import existing_folder, is_builtin, open_data
from minialex.data.sources.source import source_of
from minialex.errors import InputError
from minialex.utils.cores import usable_cores


def problems(report: str) -> list[str]:
    """The problems in a report of `check_data`, one sentence each."""
    lines = report.splitlines()
    if sections.PROBLEMS not in lines:
        return []
    return [line.strip() for line in lines[lines.index(sections.PROBLEMS) + 1 :]]


def check_data(
    data: str | os.PathLike[str] | None,
    size: int = 256,
    *,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> str:
    """Read every image of `data` and report what is in it and what is wrong, in lines of text.

    `size` is the side that images will be resized to. `progress` is called with the number of
    files just read. Raises what `open_data` raises for a path that is no data set at all.
    """
    if data is not None and not is_builtin(data):
        root = existing_folder(data)
        if (check := source_of(root).check) is not None:
            return "\n".join(check(root, size, workers, progress))
    return "\n".join(_check_images(open_data(data), size, workers, progress))


def _check_images(
    splits: Splits, size: int, workers: int | None, progress: Callable[[int], object] | None
) -> Iterator[str]:
    """Class sizes, and unreadable or duplicate images, of any data set that can be opened."""
    yield f"{splits.train.name}: {splits.train.layout}"
    yield from sections.label_counts(splits)
    side, stored = splits.train.native_size, splits.train.stored_size
    if side is None:
        yield f"sizes: drawn at any size, here {size} x {size}"
        yield from sections.verdict([])
        return
    if stored is None:
        side = size
    else:
        yield f"sizes: {side} x {side}" + (f", enlarged to {size} x {size}" if size > side else "")

    def read(image: tuple[str, Dataset, int]) -> CheckedFile:
        part, dataset, index = image
        path = Path(dataset.describe(index))
        try:
            digest = hashlib.sha256(dataset.image(index, side).tobytes()).digest()
        except (InputError, OSError) as error:
            return CheckedFile(part, "", path, problem=str(error))
        return CheckedFile(part, "", path, digest)

    every = [(part, data, i) for part, data in splits.parts.items() for i in range(len(data))]
    files = []
    with ThreadPoolExecutor(workers or usable_cores()) as pool:
        for file in pool.map(read, every):
            files.append(file)
            if progress is not None:
                progress(1)
    yield from sections.verdict([*sections.file_problems(files), *sections.duplicates(files)])
