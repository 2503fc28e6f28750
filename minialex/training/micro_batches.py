"""Batches that are read and computed in micro-batches, whose gradients are summed.

Micro-batches are cut by positions in the epoch's order, so that an unreadable image changes only
its own. What is random depends on an image's position and on that of its micro-batch in the batch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from minialex.data.loading.loader import Batch
from minialex.parallel.world import World

Span = tuple[int, int]


@dataclass
class MicroBatches:
    """A batch: the images at positions `start` … `end` - 1, in micro-batches of `size`.

    `parts` yields each of this rank's with its index; those without a readable image are left out.
    A step sets `images`, their number on all ranks, and `suspect`, the rank's first micro-batch
    with a loss that is not finite, and its index.
    """

    start: int
    end: int
    size: int
    parts: Callable[[], Iterator[tuple[int, Any]]]
    images: int = 0
    suspect: tuple[int, Any] | None = None

    def __len__(self) -> int:
        return self.images

    @property
    def count(self) -> int:
        """The number of micro-batches; the last may be smaller."""
        return -(-(self.end - self.start) // self.size)


def of_arrays(batch: tuple[np.ndarray, np.ndarray], size: int, world: World) -> MicroBatches:
    """A batch (x, labels) of host arrays, which all ranks have, in micro-batches."""
    x, labels = batch

    def parts() -> Iterator[tuple[int, Any]]:
        for k in world.share(found.count):
            rows = slice(k * size, (k + 1) * size)
            yield k, (x[rows], labels[rows])

    found = MicroBatches(0, len(labels), size, parts)
    return found


def spans(images: int, batch_size: int, size: int, first: int, world: World) -> Iterator[Span]:
    """The positions of this rank's micro-batches in an epoch of `images`."""
    for start in range(first, images, batch_size):
        end = min(start + batch_size, images)
        cuts = range(start, end, size)
        for k in world.share(len(cuts)):
            yield cuts[k], min(cuts[k] + size, end)


def read(
    batches: Callable[[list[Span]], Iterator[Batch]],
    images: int,
    batch_size: int,
    size: int,
    first: int = 0,
    world: World = World(),  # noqa: B008  it has no state
) -> Iterator[MicroBatches]:
    """Batches of the `images` of an epoch, each read while its micro-batches are used.

    `batches` reads spans of the epoch's order, as `Loader.batches`.
    """
    stream = _Stream(batches, images, batch_size, size, first, world)
    for start in range(first, images, batch_size):
        end = min(start + batch_size, images)
        if stream.generation != world.generation:  # the shares are others now
            stream = _Stream(batches, images, batch_size, size, start, world)
        yield MicroBatches(start, end, size, partial(stream.parts, start, end))


class _Stream:
    """The rank's micro-batches of several batches, one after the other."""

    def __init__(
        self,
        batches: Callable[[list[Span]], Iterator[Batch]],
        images: int,
        batch_size: int,
        size: int,
        first: int,
        world: World,
    ):
        self._read, self._batch_size, self._size, self._world = batches, batch_size, size, world
        self._batches = batches(list(spans(images, batch_size, size, first, world)))
        self.generation = world.generation
        self._next: Batch | None = None
        self._ended = False

    def parts(self, start: int, end: int) -> Iterator[tuple[int, Batch]]:
        """Those of the batch at `start` … `end` - 1; of a later generation, they are read anew."""
        if self.generation != self._world.generation:
            own = spans(end, self._batch_size, self._size, start, self._world)
            for one in self._read(list(own)):
                yield (one.start - start) // self._size, one
            return
        while (found := self._peek()) is not None and found.start < end:
            self._next = None
            yield (found.start - start) // self._size, found

    def _peek(self) -> Batch | None:
        if self._next is None and not self._ended:
            self._next = next(self._batches, None)
            self._ended = self._next is None
        return self._next
