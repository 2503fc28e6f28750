"""Batches of decoded images, read by threads ahead of the training step that uses them."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minialex.data.dataset import Dataset, complete
from minialex.data.loading.retry import MANY, may_pass, patiently
from minialex.data.loading.workers import Workers
from minialex.errors import InputError
from minialex.utils.cores import usable_cores

_SLICE = 32  # mapped images that a thread copies at a time; the timeout applies to one such task
_GIB = 1 << 30


@dataclass(frozen=True)
class Batch:
    """The readable images of one slice of an epoch's order."""

    images: np.ndarray  # uint8 (n, S, S, C)
    labels: np.ndarray  # int64 (n,)
    positions: np.ndarray  # int64 (n,), in the epoch's order: the counters of random draws
    indices: np.ndarray  # int64 (n,), indices in the data set
    start: int  # the first position of this batch
    end: int  # the first position after this batch: where a resumed epoch continues

    def __len__(self) -> int:
        return len(self.labels)


class Loader:
    """Decodes the images of `dataset`, resized to `size`, and caches what fits in memory.

    `workers` threads (default: one per core) stay up to `ahead` images (default: two batches)
    ahead of the consumer; Pillow releases the GIL while it decodes. The first images decoded stay
    in a cache of `cache_bytes` (default: 2 GiB or a quarter of the memory, whichever is less; 0
    for none). Neither changes what is delivered. Images that are memory-mapped at this size are
    copied from there, a batch at a time.

    An image that takes more than `timeout` seconds (default: 600) to read, or does not fit in
    memory, ends the iteration with an InputError that names it. `empty` allocates the images of a
    batch (default: `np.empty`; see `Backend.host_empty`). Reads that fail with a temporary
    drive error are retried with increasing delays, using `sleep`. `on_wait` is called while waiting
    for images, and may raise. `skipped` maps each unreadable image to the reason; `wait_seconds` is
    the total time consumers waited.
    """

    def __init__(
        self,
        dataset: Dataset,
        size: int,
        *,
        workers: int | None = None,
        ahead: int | None = None,
        cache_bytes: int | None = None,
        timeout: float | None = None,
        sleep: Callable[[float], object] = time.sleep,
        empty: Callable[[tuple[int, ...], str], np.ndarray] = np.empty,
    ):
        if workers is not None and workers < 1:
            raise InputError(f"workers is {workers}: decoding images takes at least 1 thread")
        self.dataset = dataset = complete(dataset)
        self.size = size
        self.workers = workers or usable_cores()
        self.ahead = ahead
        self.timeout = timeout
        self.sleep = sleep
        self._empty = empty
        self.on_wait: Callable[[], object] | None = None
        self.skipped: dict[str, str] = {}
        self.wait_seconds = 0.0
        self._labels = dataset.labels
        self._failures = 0  # of the drive, in a row
        self._early: dict[int, Future] = {}
        self._running: dict[int, tuple[int, float]] = {}
        self._cache: dict[int, np.ndarray] = {}
        space = default_cache_bytes() if cache_bytes is None else cache_bytes
        self._cache_limit = space // (size * size * dataset.channels)

    def batches(
        self,
        order: np.ndarray,
        batch_size: int,
        first: int = 0,
        spans: Sequence[tuple[int, int]] | None = None,
    ) -> Iterator[Batch]:
        """Batches of the images `order[first:]`, cut every `batch_size` positions from `first`.

        `spans` are other cuts, (first, end) of each batch in ascending order; what lies between
        them is not read.

        An image that cannot be read is left out of its batch, and so is a batch without images.
        Raises InputError once more than half of `order` cannot be read, or once the drive failed
        for 32 images in a row. The threads end with the iterator, whether it is exhausted, closed
        or garbage-collected.
        """
        order = np.asarray(order, np.int64)
        ahead = 2 * batch_size if self.ahead is None else self.ahead
        if spans is None:
            starts = range(first, len(order), batch_size)
            spans = [(start, min(start + batch_size, len(order))) for start in starts]
        with self._start_workers() as workers:
            if self._mapped:
                yield from self._copied(workers, order, spans, ahead)
            else:
                yield from self._decoded(workers, order, spans, ahead)

    def read_ahead(self, indices: np.ndarray) -> None:
        """Start reading these images now, for the next `batches` that delivers them.

        They stay in memory until they are delivered, so ask for a few batches at most.
        """
        if self._mapped:
            return
        workers = self._start_workers()
        for index in np.asarray(indices, np.int64):
            self._early[int(index)] = workers.submit(self._read, int(index))
        workers.finish()

    def _start_workers(self) -> Workers:
        return Workers(
            self.workers,
            self.dataset.describe,
            self.timeout,
            self._running,
            self.on_wait,
        )

    @property
    def _mapped(self) -> bool:
        return self.dataset.mapped_size == self.size

    def _decoded(
        self, workers: Workers, order: np.ndarray, spans: Sequence[tuple[int, int]], ahead: int
    ) -> Iterator[Batch]:
        pending: deque[Future] = deque()
        wanted = np.concatenate([np.arange(0), *(order[start:end] for start, end in spans)])
        submitted = delivered = unreadable = 0
        for start, end in spans:
            delivered += end - start
            for index in wanted[submitted : delivered + ahead]:
                early = self._early.pop(int(index), None)
                pending.append(early or workers.submit(self._read, int(index)))
            submitted = max(submitted, min(delivered + ahead, len(wanted)))
            waiting = time.perf_counter()
            found = [workers.result(pending.popleft()) for _ in range(start, end)]
            self.wait_seconds += time.perf_counter() - waiting
            batch = self._assemble(order, start, end, found)
            unreadable += end - start - len(batch)
            lost = self._failures >= MANY and self.skipped  # else a later batch has them
            if 2 * unreadable > len(wanted) or lost:
                raise self._too_many(unreadable, len(order))
            if len(batch):
                yield batch

    def _copied(
        self, workers: Workers, order: np.ndarray, spans: Sequence[tuple[int, int]], ahead: int
    ) -> Iterator[Batch]:
        """`batches` for memory-mapped images: each thread copies a slice of the batch."""
        pending: deque[tuple[np.ndarray, list[Future]]] = deque()
        coming, waiting_images = iter(spans), 0
        for start, end in spans:
            while waiting_images < end - start + ahead:
                low, high = next(coming, (0, 0))
                if low == high:
                    break
                pending.append(self._start_copy(workers, order[low:high]))
                waiting_images += high - low
            waiting_images -= end - start
            waiting = time.perf_counter()
            images, jobs = pending.popleft()
            for job in jobs:
                workers.result(job)
            self.wait_seconds += time.perf_counter() - waiting
            indices = order[start:end]
            positions = np.arange(start, end)
            yield Batch(images, self._labels[indices], positions, indices, start, end)

    def _start_copy(self, workers: Workers, indices: np.ndarray) -> tuple[np.ndarray, list[Future]]:
        images = self._new(len(indices))
        pieces = min(len(indices), max(self.workers, -(-len(indices) // _SLICE)))
        cuts = np.linspace(0, len(indices), pieces + 1).astype(int)

        def copy(low: int, high: int) -> Callable[[int], None]:
            return lambda _: self.dataset.copy_mapped(indices[low:high], images[low:high])

        spans = zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)
        jobs = [workers.submit(copy(*span), int(indices[span[0]])) for span in spans]
        return images, jobs

    def _new(self, count: int) -> np.ndarray:
        return self._empty((count, self.size, self.size, self.dataset.channels), "uint8")

    def _read(self, index: int) -> np.ndarray | str:
        """One image, from the cache or the file; or the reason why it cannot be read."""
        if (image := self._cache.get(index)) is not None:
            return image
        try:
            image = patiently(lambda: self.dataset.image(index, self.size), self.sleep)
        except (InputError, OSError) as error:
            self._failures = self._failures + 1 if may_pass(error) else 0
            return str(error)
        self._failures = 0
        self._require_image(index, image)
        if len(self._cache) < self._cache_limit:
            self._cache[index] = image
        return image

    def _require_image(self, index: int, image: Any) -> None:
        """Raise InputError for what a data set made in Python must not return."""
        size = int(self.size)  # which may also say how to resize
        wanted = (size, size, self.dataset.channels)
        if isinstance(image, np.ndarray) and (image.dtype, image.shape) == (np.uint8, wanted):
            return
        shape, kind = (getattr(image, name, None) for name in ("shape", "dtype"))
        what = type(image).__name__ if shape is None else f"an array {shape} of {kind}"
        raise InputError(
            f"image({index}, {size}) of the data set {self.dataset.name!r} returns {what}: it "
            f"must be an array {wanted} of uint8, 0 to 255: convert it with `np.asarray`"
        )

    def _assemble(self, order: np.ndarray, start: int, end: int, found: list) -> Batch:
        kept = []
        for position, image in zip(range(start, end), found, strict=True):
            if isinstance(image, str):
                self.skipped[self.dataset.describe(int(order[position]))] = image
            else:
                kept.append(position)
        images = self._new(len(kept))
        for row, position in enumerate(kept):
            images[row] = found[position - start]
        positions = np.array(kept, np.int64)
        indices = order[positions]
        return Batch(images, self._labels[indices], positions, indices, start, end)

    def _too_many(self, unreadable: int, total: int) -> InputError:
        *_, example = self.skipped.values()
        if self._failures >= MANY:
            return InputError(
                f"the drive failed for the last {self._failures} images of {self.dataset.name!r}, "
                f"{example}: check that it works, then try again"
            )
        example = next(iter(self.skipped.values()))
        return InputError(
            f"{unreadable} of {total} images of {self.dataset.name!r} cannot be read, the first: "
            f"{example}; see `minialex check PATH` for all of them"
        )


def default_cache_bytes() -> int:
    """2 GiB, or a quarter of the machine's or container's memory where that is less."""
    memory = [8 * _GIB]
    if hasattr(os, "sysconf"):
        memory.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (words := limit.read_text().strip()).isdecimal():
        memory.append(int(words))
    return min(memory) // 4
