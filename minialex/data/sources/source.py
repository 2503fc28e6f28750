"""The interface of a data format, and the list of all formats.

Every module in this folder with a SOURCE is a format: to add one, add a file here and nothing else.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from minialex.data import sources
from minialex.data.dataset import Dataset, Splits
from minialex.utils.plugins import modules_with


class Open(Protocol):
    """Opens the data set in a folder that matches; raises InputError if it cannot be used.

    Without a validation part, `val_fraction` of each class is held out by `seed`.
    """

    def __call__(self, root: Path, *, seed: int, val_fraction: float) -> Splits: ...


class Check(Protocol):
    """The lines of `minialex check PATH` for a folder that matches.

    `size` is the side that a model resizes images to, None if not given; `progress` is called with
    the number of files just read.
    """

    def __call__(
        self,
        root: Path,
        size: int | None,
        workers: int | None,
        progress: Callable[[int], object] | None,
    ) -> Iterable[str]: ...


@dataclass(frozen=True)
class Source:
    """One data format.

    rank       formats are tried in ascending order, and the first that matches is used
    matches    whether a folder holds this format
    validation   the images to evaluate a network on: by default the validation part; a format that
               would have to hold images out returns all of them instead
    check      by default, reads every image of the data set that was opened
    file_names   files of this name stand for the folder they are in
    """

    name: str
    rank: int
    matches: Callable[[Path], bool]
    open: Open
    validation: Callable[[Path], Dataset] | None = None
    check: Check | None = None
    file_names: tuple[str, ...] = ()


@cache
def all_sources() -> tuple[Source, ...]:
    """The formats, in the order in which they are tried."""
    return tuple(sorted(modules_with(sources, "SOURCE"), key=lambda source: source.rank))


def source_of(root: Path) -> Source:
    """The format of a folder; the last one, class folders, matches every folder."""
    return next(source for source in all_sources() if source.matches(root))
