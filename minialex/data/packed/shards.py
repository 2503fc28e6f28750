"""Writes the shards of a packed data set atomically, and the state to resume from."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minialex.data.packed.npy import header
from minialex.errors import InputError
from minialex.utils import checkpoint

STATE = "unfinished.safetensors"
SHARD_BYTES = 256 << 20  # of pixels, so about 1,300 images of 256 x 256
_MOST_IMAGES = 2048  # so that a kill loses seconds of work even if images are small


def images_per_shard(size: int) -> int:
    """How many images of the source go into one shard, including those that are left out."""
    return min(_MOST_IMAGES, max(1, SHARD_BYTES // (size * size * 3)))


class ShardWriter:
    """One shard under way: `add` images, then `finish`; a context manager that drops the rest.

    It is written to a temporary file, flushed and renamed. `size` None is for JPEG.
    """

    def __init__(self, path: Path, size: int | None, expected: int):
        self.path = path
        self.size = size
        self.expected = expected
        self.count = 0
        self.bytes = 0
        self.byte_ranges: list[tuple[int, int]] = []
        self._part = path.with_name(f"{path.name}.part")
        self._file = self._part.open("w+b")
        self._digest = hashlib.sha256()
        self._write(self._header(expected))

    def add(self, content: memoryview | bytes) -> None:
        """Append one image."""
        self.byte_ranges.append((self.bytes, len(content)))
        self._write(content)
        self.count += 1

    def finish(self) -> dict[str, Any] | None:
        """Rename the shard to its path; returns its entry for the manifest, None if it is empty."""
        if not self.count:
            return None
        with self._room():
            if self.count != self.expected and self.size is not None:
                self._file.seek(0)
                self._file.write(self._header(self.count))
                self._file.seek(0)
                self._digest = hashlib.file_digest(self._file, "sha256")
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        os.replace(self._part, self.path)
        return {
            "file": self.path.name,
            "images": self.count,
            "bytes": self.bytes,
            "sha256": self._digest.hexdigest(),
        }

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *exception) -> None:
        with suppress(OSError):  # of a full disk, which has been reported
            self._file.close()
        self._part.unlink(missing_ok=True)

    def _header(self, count: int) -> bytes:
        return header("|u1", (count, self.size, self.size, 3)) if self.size is not None else b""

    @contextmanager
    def _room(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(
                error.errno,
                f"no room to write {self.path} ({error.strerror}); finished shards are kept, so "
                "free some space and run the same command again",
            ) from None

    def _write(self, content: memoryview | bytes) -> None:
        with self._room():
            self._file.write(content)
        self._digest.update(content)
        self.bytes += len(content)


@dataclass
class PartState:
    """Progress on one part."""

    shards: list[dict[str, Any]] = field(default_factory=list)
    done: int = 0  # images of the source, read or left out
    left_out: dict[str, str] = field(default_factory=dict)  # name -> reason
    kept: list[int] = field(default_factory=list)  # indices in the source
    digests: list[int] = field(default_factory=list)  # of the kept images' pixels
    byte_ranges: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class PrepareState:
    """Everything that a killed `prepare` needs to continue, saved after each shard."""

    request: dict[str, Any]
    parts: dict[str, PartState]
    total: np.ndarray  # int64 (S, S, 3), the sum of the training images
    products: np.ndarray  # int64 (3, 3), of the channels, over all their pixels

    def save(self, folder: Path) -> None:
        """Write it, atomically."""
        tensors = {"total": self.total, "products": self.products}
        described: dict[str, Any] = {}
        for name, part in self.parts.items():
            tensors[f"{name}.kept"] = np.array(part.kept, np.int64)
            tensors[f"{name}.digests"] = np.array(part.digests, np.uint64)
            tensors[f"{name}.places"] = np.array(part.byte_ranges, np.int64).reshape(-1, 2)
            described[name] = {k: getattr(part, k) for k in ("shards", "done", "left_out")}
        metadata = {"request": self.request, "parts": described}
        checkpoint.save(folder / STATE, tensors, metadata)

    @staticmethod
    def load(folder: Path) -> "PrepareState":
        """The state in `folder`; raises InputError where it is damaged."""
        tensors, metadata = checkpoint.load(folder / STATE)
        try:
            parts = {
                name: PartState(
                    **described,
                    kept=tensors[f"{name}.kept"].tolist(),
                    digests=tensors[f"{name}.digests"].tolist(),
                    byte_ranges=[(a, b) for a, b in tensors[f"{name}.places"].tolist()],
                )
                for name, described in metadata["parts"].items()
            }
            total, products = tensors["total"], tensors["products"]
            return PrepareState(metadata["request"], parts, total, products)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{str(folder / STATE)!r} is damaged ({error!r}): remove {str(folder)!r} and start "
                "again"
            ) from None
