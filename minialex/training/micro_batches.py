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

Span = tuple[int, int]


@dataclass
class MicroBatches:
    """A batch: the images at positions `start` … `end` - 1, in micro-batches of `size`.

    `parts` yields each with its index; those without a readable image are left out. A step sets
    `images`, their number in all, and `suspect`, the first micro-batch with a loss that is not
    finite, and its index.
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


def of_arrays(batch: tuple[np.ndarray, np.ndarray], size: int) -> MicroBatches:
    """A batch (x, labels) of host arrays, in micro-batches."""
    x, labels = batch

    def parts() -> Iterator[tuple[int, Any]]:
        for k, low in enumerate(range(0, len(labels), size)):
            yield k, (x[low : low + size], labels[low : low + size])

    return MicroBatches(0, len(labels), size, parts)


def read(
    batches: Callable[[list[Span]], Iterator[Batch]],
    images: int,
    batch_size: int,
    size: int,
    first: int = 0,
) -> Iterator[MicroBatches]:
    """Batches of the `images` of an epoch, each read while its micro-batches are used.

    `batches` reads spans of the epoch's order, as `Loader.batches`. A batch without a readable
    image is left out.
    """
    starts = range(first, images, batch_size)
    cuts = [(start, min(start + batch_size, images)) for start in starts]
    spans = [(low, min(low + size, end)) for start, end in cuts for low in range(start, end, size)]
    stream = _Stream(batches(spans))
    for start, end in cuts:
        if stream.has_any_before(end):
            yield MicroBatches(start, end, size, partial(stream.parts, start, end, size))


class _Stream:
    """The micro-batches of several batches, one after the other."""

    def __init__(self, batches: Iterator[Batch]):
        self._batches = batches
        self._next = next(batches, None)

    def has_any_before(self, end: int) -> bool:
        return self._next is not None and self._next.start < end

    def parts(self, start: int, end: int, size: int) -> Iterator[tuple[int, Batch]]:
        while self._next is not None and self._next.start < end:
            found = self._next
            yield (found.start - start) // size, found
            self._next = next(self._batches, None)
