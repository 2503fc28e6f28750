"""Packs images into shards, in the source's order, and saves its state so that it can resume.

Threads decode and one consumer writes, so that the bytes depend neither on the number of threads
nor on interruptions.
"""

import hashlib
import io
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minialex.data.dataset import Dataset, digest
from minialex.data.decode import images
from minialex.data.loading.retry import may_pass, patiently
from minialex.data.loading.workers import Workers
from minialex.data.packed.format import header, write_file
from minialex.data.sources.names import mislabelled
from minialex.data.statistics import channel_products
from minialex.errors import InputError
from minialex.utils import checkpoint
from minialex.utils.interrupt import Interrupt
from minialex.utils.progress import Progress

STATE = "unfinished.safetensors"
SHARD_BYTES = 256 << 20  # of pixels: about 1,300 images of 256 x 256
_MOST_IMAGES = 2048  # so that a kill loses only seconds of work even if images are small


class Read(NamedTuple):
    """One image, read and measured."""

    content: bytes | memoryview  # what is stored
    digest: int  # of what is stored
    origin: tuple[int, int]  # bytes and digest of the image as it came; 0: unknown
    pixels: np.ndarray  # as training will see them: uint8 (S, S, 3)
    products: np.ndarray


@dataclass
class PartState:
    """Progress on one part."""

    shards: list[dict[str, Any]] = field(default_factory=list)
    done: int = 0  # images of the source, read or left out
    left_out: dict[str, str] = field(default_factory=dict)  # name -> reason
    kept: list[int] = field(default_factory=list)  # indices in the source
    digests: list[int] = field(default_factory=list)  # of the kept images
    places: list[tuple[int, int]] = field(default_factory=list)  # byte offset in the shard, length
    origins: list[tuple[int, int]] = field(default_factory=list)  # of the kept images


_ARRAYS = {
    "kept": (np.int64, (-1,)),
    "digests": (np.uint64, (-1,)),
    "places": (np.int64, (-1, 2)),
    "origins": (np.uint64, (-1, 2)),
}


@dataclass
class PrepareState:
    """All that a killed `prepare` needs to continue, saved after each shard."""

    request: dict[str, Any]
    parts: dict[str, PartState]
    total: np.ndarray  # int64 (S, S, 3), the sum of the training images
    products: np.ndarray  # int64 (3, 3), of the channels, over all their pixels

    @property
    def left_out(self) -> dict[str, str]:
        """{name: reason} of all images that could not be used."""
        return {name: why for part in self.parts.values() for name, why in part.left_out.items()}

    def save(self, folder: Path) -> None:
        """Write it, atomically."""
        tensors = {"total": self.total, "products": self.products}
        for name, part in self.parts.items():
            for key, (dtype, shape) in _ARRAYS.items():
                tensors[f"{name}.{key}"] = np.array(getattr(part, key), dtype).reshape(shape)
        described = {
            name: {key: getattr(part, key) for key in ("shards", "done", "left_out")}
            for name, part in self.parts.items()
        }
        checkpoint.save(folder / STATE, tensors, {"request": self.request, "parts": described})

    @staticmethod
    def load(folder: Path) -> "PrepareState":
        """The state in `folder`; raises InputError if it is damaged."""
        tensors, metadata = checkpoint.load(folder / STATE)
        try:
            for name in metadata["parts"]:  # older versions kept no origins
                unknown = np.zeros((len(tensors[f"{name}.kept"]), 2), np.uint64)
                tensors.setdefault(f"{name}.origins", unknown)
            parts = {
                name: PartState(**of, **{k: tensors[f"{name}.{k}"].tolist() for k in _ARRAYS})
                for name, of in metadata["parts"].items()
            }
            total, products = tensors["total"], tensors["products"]
            return PrepareState(metadata["request"], parts, total, products)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{str(folder / STATE)!r} is damaged ({error!r}): remove {str(folder)!r} and start "
                "again"
            ) from None


def pack(
    name: str,
    dataset: Dataset,
    root: Path | None,
    folder: Path,
    state: PrepareState,
    workers: int,
    interrupt: Interrupt,
    show: Progress,
) -> None:
    """Write the shards of one part that are missing, each with the state after it."""
    part, size, quality = state.parts[name], state.request["size"], state.request["quality"]
    per_shard = min(_MOST_IMAGES, max(1, SHARD_BYTES // (size * size * 3)))
    with show.bar(name, len(dataset), part.done) as bar, Workers(workers, dataset.describe) as pool:
        read = _reader(dataset, root, size, quality)
        found = _in_order(pool, read, part.done, len(dataset), 4 * workers)
        while part.done < len(dataset):
            suffix = "npy" if quality is None else "jpegs"
            path = folder / f"{name}-{part.done // per_shard:05d}.{suffix}"
            indices = range(part.done, min(part.done + per_shard, len(dataset)))
            stored: list[tuple] = []  # index, content, digest, origin
            left_out = {}
            total, products = np.zeros_like(state.total), np.zeros_like(state.products)
            for index in indices:
                image = next(found)
                if isinstance(image, str):
                    left_out[source_name(dataset, index, root)] = image
                else:
                    stored.append((index, image.content, image.digest, image.origin))
                    total += image.pixels
                    products += image.products
                bar.update(1)
                if interrupt.requested:
                    return
            _write_shard(path, part, stored, size if quality is None else None)
            part.left_out.update(left_out)
            part.done = indices.stop
            if name == "train":
                state.total += total
                state.products += products
            state.save(folder)


def source_name(dataset: Dataset, index: int, root: Path | None) -> str:
    """Where an image comes from, relative to the source."""
    described = dataset.describe(index)
    return described if root is None else described.removeprefix(f"{root}{os.sep}")


def encode(image: np.ndarray, quality: int) -> bytes:
    """A JPEG file of uint8 (S, S, 3)."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=quality)
    return content.getvalue()


def _write_shard(path: Path, part: PartState, stored: list[tuple], size: int | None) -> None:
    """Write the images and note them; no file if there are none. `size` None is for JPEG."""
    if not stored:
        return
    indices, contents, digests, origins = zip(*stored, strict=True)
    head = [] if size is None else [header("|u1", (len(stored), size, size, 3))]
    entry = write_file(path, [*head, *contents])
    part.shards.append({"file": path.name, "images": len(stored), **entry})
    part.kept += indices
    part.digests += digests
    part.origins += origins
    lengths = [len(content) for content in contents]
    offsets = np.cumsum([sum(map(len, head)), *lengths]).tolist()
    part.places += zip(offsets, lengths, strict=False)


def _reader(
    dataset: Dataset, root: Path | None, size: int, quality: int | None
) -> Callable[[int], Read | str]:
    """A function that reads an image, or returns the reason for skipping it."""
    labels, class_ids = dataset.labels, dataset.class_ids

    def read(index: int) -> Read | str:
        if wrong := mislabelled(source_name(dataset, index, root), class_ids[labels[index]]):
            return wrong
        try:
            image = patiently(lambda: dataset.image(index, size))
            origin = patiently(lambda: _origin(dataset, index))
        except (InputError, OSError) as error:
            if isinstance(error, OSError) and may_pass(error):
                raise OSError(  # the image is not damaged, so it must not be left out for good
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
        of_content = int.from_bytes(hashlib.sha256(content).digest()[:8], "big")
        return Read(content, of_content, origin, image, channel_products(image))

    return read


def _origin(dataset: Dataset, index: int) -> tuple[int, int]:
    """Size and digest of the original image, by which a run's images are recognised."""
    found = dataset.content_digest(index)
    if found is None:
        content = dataset.content(index)
        found = "0" if content is None else digest(content)
    return dataset.content_size(index) or 0, int(found, 16)


def _in_order(
    pool: Workers, task: Callable[[int], Read | str], first: int, stop: int, ahead: int
) -> Iterator[Read | str]:
    pending: deque[Future] = deque()
    submitted = first
    for index in range(first, stop):
        while submitted < min(index + ahead, stop):
            pending.append(pool.submit(task, submitted))
            submitted += 1
        yield pool.result(pending.popleft())
