"""Images named on the command line: files, folders, or built-in drawings."""

import difflib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from minialex.errors import InputError

_BATCH = 64


@dataclass(frozen=True)
class Item:
    """One image: its name in the output, how to read it, and whether it must be readable."""

    name: str
    read: Callable[[int], np.ndarray]  # size -> uint8 (size, size, 3)
    required: bool


def batches(names: list[str], size: int) -> Iterator[tuple[list[str], np.ndarray]]:
    """All images behind `names`, in batches: their names, and uint8 (n, size, size, 3).

    An unreadable file is an error if it was named; one found in a folder is skipped, with a line on
    standard error.
    """
    for found, images in batches_at(names, (size,)):
        yield found, images[size]


def batches_at(
    names: list[str], sizes: Sequence[int]
) -> Iterator[tuple[list[str], dict[int, np.ndarray]]]:
    """The same at several sizes: {size: images}."""
    from minialex.data.loading.retry import patiently

    def skipped(what: str) -> None:
        print(f"skipped: {what}", file=sys.stderr)

    items = [item for name in names for item in listed(name, skipped)]
    any_read = False
    for start in range(0, len(items), _BATCH):
        read = {}
        for item in items[start : start + _BATCH]:
            try:
                read[item.name] = [patiently(partial(item.read, size)) for size in sizes]
            except (InputError, OSError) as error:
                if item.required:
                    raise
                reason = str(error)
                said = reason if item.name in reason else f"{item.name}: {reason}"
                skipped(said)
        if read:
            any_read = True
            columns = zip(*read.values(), strict=True)
            yield list(read), {s: np.stack(c) for s, c in zip(sizes, columns, strict=True)}
    if not any_read:
        raise InputError(f"none of the {len(items)} images in {', '.join(names)} is readable")


def listed(name: str, say: Callable[[str], object] = lambda _: None) -> list[Item]:
    """The images behind one name on the command line; `say` is told what a folder leaves out."""
    from minialex.data.decode.images import load_resized
    from minialex.data.remarks import Remarks
    from minialex.data.sources import walk
    from minialex.data.sources.open import is_builtin

    if is_builtin(name):
        return _drawn(name)
    path = Path(name).expanduser()
    if path.is_dir():
        remarks = Remarks()
        found = sorted(path / inside for inside in walk.below(path, remarks))
        for problem in remarks.problems():
            say(problem.removeprefix("left out: "))
        if not found:
            raise InputError(f"no images in folder {name}: name image files, or a folder of them")
        return [Item(str(entry), partial(load_resized, entry), False) for entry in found]
    if not os.path.lexists(path):
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, siblings, n=1)
        hint = f"did you mean {str(path.parent / near[0])!r}?" if near else "check the path"
        raise FileNotFoundError(f"no image at {name!r}: {hint}")
    return [Item(name, partial(load_resized, path), True)]


def _drawn(name: str) -> list[Item]:
    """`shapes:N`: N drawings that are in no training set, named by their class."""
    from minialex.data.sources.open import open_data

    _, _, number = name.partition(":")
    count = int(number) if number.isdecimal() else 0
    if count < 1:
        raise InputError(f"{name!r}: expected shapes:N with a number of images, e.g. shapes:3")
    drawn = open_data(f"shapes:{max(4 * count, 400)}").val
    return [
        Item(
            f"drawing {i}: {drawn.class_names[drawn.labels[i]]}",
            partial(drawn.image, i),
            True,
        )
        for i in range(count)
    ]
