"""Images named on the command line: files, folders, or built-in drawings."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from minialex.errors import InputError, nearest
from minialex.utils.paths import expanded

if TYPE_CHECKING:
    import numpy as np

_BATCH = 64


@dataclass(frozen=True)
class Item:
    """One image: its name in the output, and how to read it."""

    name: str
    read: "Callable[[int], np.ndarray]"  # size -> uint8 (size, size, 3)


class Photos:
    """The images given to a command; each readable one gets a row, in order.

    Unreadable ones are reported on standard error and set `exit_code`, unless nothing else was
    given, which is an error. A failing drive ends the iteration early and sets `complete` to False:
    another time there may be more images.
    """

    def __init__(self, names: Sequence[str]):
        self.names, self.exit_code, self.complete = names, 0, True
        self._said: set[str] = set()
        self.items: list[Item] = []
        for name in names:
            try:
                self.items += listed(name, self._skip)
            except (InputError, OSError) as error:
                if len(names) == 1:
                    raise
                self._skip(_sentence(error, name))

    def _skip(self, what: str) -> None:
        if what not in self._said:  # images may be read several times
            print(f"skipped: {what}", file=sys.stderr)
        self._said.add(what)
        self.exit_code = 1

    def batches(self, size: int) -> "Iterator[tuple[list[str], np.ndarray]]":
        """Names, and images uint8 (n, size, size, 3); InputError if none can be read."""
        for found, images in self.batches_at((size,)):
            yield found, images[size]

    def batches_at(
        self, sizes: Sequence[int]
    ) -> "Iterator[tuple[list[str], dict[int, np.ndarray]]]":
        """The same at several sizes: {size: images}."""
        import numpy as np

        from minialex.data.loading.retry import Patience, may_pass

        any_read, patience = False, Patience()
        for start in range(0, len(self.items), _BATCH):
            found: list[str] = []
            images: list[list[np.ndarray]] = []
            for number, item in enumerate(self.items[start : start + _BATCH], start + 1):
                try:
                    images.append(patience.read(partial(_at_sizes, item, sizes)))
                    found.append(item.name)
                except (InputError, OSError) as error:
                    if len(self.items) == len(self.names) == 1:
                        raise
                    self._skip(_sentence(error, item.name))
                    self.complete &= not may_pass(error)
                    if patience.gone:
                        left = len(self.items) - number
                        self._skip(
                            f"{left:,} more images: the drive failed for the last "
                            f"{patience.failures}, check that it works"
                        )
                        break
            if found:
                any_read = True
                columns = zip(*images, strict=True)
                yield found, {s: np.stack(c) for s, c in zip(sizes, columns, strict=True)}
            if patience.gone:
                break
        if not any_read:
            count = max(len(self.items), len(self.names))
            raise InputError(f"none of the {count} images in {', '.join(self.names)} is readable")


def _at_sizes(item: Item, sizes: Sequence[int]) -> "list[np.ndarray]":
    return [item.read(size) for size in sizes]


def _sentence(error: Exception, name: str) -> str:
    return str(error) if name in str(error) else f"{name}: {error}"


def is_drawn(name: str) -> bool:
    """Whether a name on the command line stands for drawings; a file or folder comes first."""
    from minialex.data.sources.drawings import is_drawings

    return is_drawings(name) and not os.path.lexists(name)


def listed(name: str, say: Callable[[str], object] = lambda _: None) -> list[Item]:
    """The images for one name on the command line; `say` gets what a folder leaves out."""
    from minialex.data.decode.images import load_resized
    from minialex.data.remarks import Remarks
    from minialex.inference.given_images import drawings, files_in

    if is_drawn(name):
        return [Item(drawing.name, drawing.read) for drawing in drawings(name)]
    path = expanded(name)
    if path.is_dir():
        remarks = Remarks()
        found = files_in(path, remarks)
        for problem in remarks.problems():
            say(problem.removeprefix("left out: "))
        return [Item(str(entry), partial(load_resized, entry)) for entry in found]
    if not os.path.lexists(path):
        raise FileNotFoundError(f"no image at {name!r}: {nearest(path) or 'check the path'}")
    return [Item(name, partial(load_resized, path))]
