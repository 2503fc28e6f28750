"""Packs the images of a data set into shards.

Threads decode; one consumer writes the images in the source's order, so that the bytes depend
neither on the number of threads nor on interruptions.
"""

import hashlib
import io
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minialex.data.dataset import Dataset, Splits
from minialex.data.decode import images
from minialex.data.loading.retry import may_pass, patiently
from minialex.data.loading.workers import Workers
from minialex.data.packed import report
from minialex.data.packed.packing import source_name
from minialex.data.packed.shards import PartState, PrepareState, ShardWriter, images_per_shard
from minialex.data.sources.names import mislabelled
from minialex.data.statistics import channel_products
from minialex.errors import InputError
from minialex.utils.interrupt import Interrupt
from minialex.utils.progress import Progress


class Read(NamedTuple):
    """One image, read and measured."""

    content: bytes | memoryview  # what is stored
    image: np.ndarray  # as training will see it: uint8 (S, S, 3)
    products: np.ndarray
    digest: int


@dataclass
class Packer:
    """Writes the shards of one data set; `quality` None keeps pixels, not JPEG."""

    splits: Splits
    root: Path | None
    folder: Path
    state: PrepareState
    quality: int | None
    max_left_out: float
    show: Progress

    def run(self, part_name: str, workers: int, interrupt: Interrupt) -> None:
        """Write the shards of one part that are missing."""
        dataset = self.splits.parts[part_name]
        part, size = self.state.parts[part_name], self.state.request["size"]
        per_shard, total = images_per_shard(size), len(dataset)
        with (
            self.show.bar(part_name, total, part.done) as bar,
            Workers(workers, dataset.describe) as pool,
        ):
            found = _in_order(pool, self._reader(dataset, part_name), part.done, total, 4 * workers)
            while part.done < total and not interrupt.requested:
                expected = min(per_shard, total - part.done)
                path = self.folder / self._name(part_name, part.done // per_shard)
                new = PartState(done=part.done)
                sums = np.zeros_like(self.state.total), np.zeros_like(self.state.products)
                with ShardWriter(path, None if self.quality else size, expected) as shard:
                    for _ in range(expected):
                        index, read = next(found)
                        self._add(index, read, part_name, dataset, new, shard, sums)
                        bar.update(1)
                        if interrupt.requested:
                            return
                    entry = shard.finish()
                self._merge(part, new, entry, shard.byte_ranges)
                self.state.total += sums[0]
                self.state.products += sums[1]
                self.state.save(self.folder)

    def _reader(self, dataset: Dataset, part_name: str) -> Callable[[int], "Read | str"]:
        size, quality, root = self.state.request["size"], self.quality, self.root
        labels, class_ids = dataset.labels, dataset.class_ids

        def read(index: int) -> Read | str:
            name = source_name(dataset, index, root)
            if wrong := mislabelled(name, class_ids[labels[index]]):
                return wrong
            try:
                image = patiently(lambda: dataset.image(index, size))
            except (InputError, OSError) as error:
                if isinstance(error, OSError) and may_pass(error):
                    raise OSError(  # the image is not damaged, and must not be missing for good
                        error.errno,
                        f"the drive failed ({error.strerror}); finished shards are kept, so run "
                        "the same command again",
                        dataset.describe(index),
                    ) from None
                return str(error) if root is None else str(error).replace(f"{root}{os.sep}", "")
            content: bytes | memoryview = image.data.cast("B")
            if quality is not None:
                content = encode(image, quality)
                image = images.load_rgb(content)
            digest = hashlib.sha256(content).digest()[:8]
            return Read(content, image, channel_products(image), int.from_bytes(digest, "big"))

        return read

    def _add(self, index, read, part_name, dataset, new, shard, sums) -> None:
        """Add one image to the shard, or to those left out."""
        new.done += 1
        if isinstance(read, str):
            new.left_out[source_name(dataset, index, self.root)] = read
            return
        shard.add(read.content)
        new.kept.append(index)
        new.digests.append(read.digest)
        if part_name == "train":
            np.add(sums[0], read.image, out=sums[0])
            np.add(sums[1], read.products, out=sums[1])

    def _merge(
        self,
        part: PartState,
        new: PartState,
        entry: dict | None,
        byte_ranges: list[tuple[int, int]],
    ) -> None:
        part.done = new.done
        part.left_out.update(new.left_out)
        part.kept += new.kept
        part.digests += new.digests
        if entry is not None:
            part.shards.append(entry)
            part.byte_ranges += byte_ranges

    def require_usable(self) -> None:
        """Raise InputError if more images were left out than allowed, once all were read.

        The shards stay: the same command with a larger share has nothing left to read.
        """
        left_out = [part.left_out for part in self.state.parts.values()]
        count = sum(map(len, left_out))
        total = len(self.splits.train) + len(self.splits.val)
        if count > self.max_left_out * total:
            listed = {name: reason for one in left_out for name, reason in one.items()}
            report.write_left_out(self.folder, listed)
            first, reason = next(iter(listed.items()))
            raise InputError(
                f"{count:,} of {total:,} images are unreadable or mislabelled, more than "
                f"the share of {self.max_left_out:g} that may be left out, the first: "
                f"{reason if first in reason else f'{first}: {reason}'}; "
                f"{self.folder / report.NAME} lists them: repair them, or allow more"
            )

    def _name(self, part_name: str, number: int) -> str:
        return f"{part_name}-{number:05d}.{'jpegs' if self.quality else 'npy'}"


def encode(image: np.ndarray, quality: int) -> bytes:
    """A JPEG file of uint8 (S, S, 3)."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=quality)
    return content.getvalue()


def _in_order(pool: Workers, task, first: int, stop: int, ahead: int) -> Iterator[tuple]:
    pending: deque[Future] = deque()
    submitted = first
    for index in range(first, stop):
        while submitted < min(index + ahead, stop):
            pending.append(pool.submit(task, submitted))
            submitted += 1
        yield index, pool.result(pending.popleft())
