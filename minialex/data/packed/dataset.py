"""A data set that `minialex prepare` packed: shards of resized images, memory-mapped in training.

    manifest.json        classes, parts, shards, counts, sizes, checksums, colour statistics
    mean.npy             float32 (S, S, 3), the training images' mean
    train-00000.npy      uint8 (n, S, S, 3), RGB; or train-00000.jpegs, JPEG files end to end
    train-labels.npy     int64 (N,), indices into the manifest's classes
    train-names.npy      bytes (N,), each image's path in the source
    train-places.npy     int64 (N, 2), of JPEG only: byte offset in the shard, and length
    report.txt           what was left out, and why

Opening reads the manifest, which carries its own checksum, and compares every file's size and
header with it; `verify` reads everything.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minialex.data.dataset import Dataset, Splits
from minialex.data.decode import images
from minialex.data.packed.manifest import MANIFEST, PARTS, Manifest
from minialex.data.sources.records import locate, starts
from minialex.data.statistics import Statistics
from minialex.errors import InputError


@dataclass(frozen=True)
class Packed(Dataset):
    """One part of a packed data set."""

    folder: Path
    part: str
    name: str
    layout: str
    class_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    labels: np.ndarray  # int64 (N,)
    names: np.ndarray  # bytes (N,)
    size: int  # S
    native_size: int | None
    shards: tuple[np.ndarray, ...]  # uint8 (n, S, S, 3) each, or (bytes,) of JPEG
    files: tuple[str, ...]  # the shards' names
    first: np.ndarray  # int64 (shards + 1,), index of each shard's first image
    byte_ranges: np.ndarray | None  # int64 (N, 2): offset and length of each JPEG in its shard
    statistics: Statistics | None = None  # of the training part

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def mapped_size(self) -> int | None:
        return None if self.byte_ranges is not None else self.size

    @property
    def stored_size(self) -> int:
        return self.size

    def image(self, index: int, size: int) -> np.ndarray:
        shard, row = locate(index, self.first)
        if self.byte_ranges is None:
            image = np.array(self.shards[shard][row])
        else:
            start, length = (int(v) for v in self.byte_ranges[index])
            content = self.shards[shard][start : start + length].tobytes()
            image = images.load_rgb(content, self.describe(index))
            if image.shape != (self.size, self.size, 3):
                raise InputError(f"{self.describe(index)} has the wrong size: {image.shape[:2]}")
        return image if size == self.size else images.resize_and_crop(image, size)

    def copy_mapped(self, indices: np.ndarray, out: np.ndarray) -> None:
        indices = np.asarray(indices, np.int64)
        shards = np.searchsorted(self.first, indices, side="right") - 1
        rows = indices - self.first[shards]
        for target, shard, row in zip(out, shards.tolist(), rows.tolist(), strict=True):
            target[...] = self.shards[shard][row]

    def describe(self, index: int) -> str:
        shard, row = locate(index, self.first)
        name = self.names[index].decode("utf-8", "surrogateescape")
        return f"{self.folder / self.files[shard]}, image {row} ({name})"


def is_packed(root: Path) -> bool:
    """Whether `root` is a packed data set, complete or not."""
    return (root / MANIFEST).is_file()


def open_packed(root: Path) -> Splits:
    """The parts of the packed data set in `root`, mapped, not read.

    Raises InputError where the manifest or a file is damaged, or where they disagree.
    """
    manifest = Manifest(root)
    return Splits(_open_part(manifest, "train"), _open_part(manifest, "val"))


def _open_part(manifest: Manifest, part: str) -> Packed:
    """Open one part's files."""
    of_part = manifest.of(manifest.of(manifest.values, "parts", dict), part, dict)
    count = manifest.number(of_part, "images", 1, 1 << 40)
    entries = manifest.of(of_part, "shards", list)
    shards, files, counts = [], [], []
    for entry in entries:
        if not isinstance(entry, dict):
            raise manifest.wrong("an entry of shards is no object")
        n = manifest.number(entry, "images", 1, count)
        shape: tuple[int, ...] = (n, manifest.size, manifest.size, 3)
        if manifest.jpeg:
            shape = (manifest.number(entry, "bytes", 1, 1 << 60),)
        shards.append(manifest.map(entry, "|u1", shape, header=not manifest.jpeg))
        files.append(entry["file"])
        counts.append(n)
    if sum(counts) != count:
        raise manifest.wrong(f"the shards of {part} hold {sum(counts):,} images, not {count:,}")
    width = manifest.number(manifest.of(of_part, "names", dict), "width", 1, 1 << 20)
    labels = manifest.map(manifest.of(of_part, "labels", dict), "<i8", (count,))
    if labels.min() < 0 or labels.max() >= len(manifest.class_ids):
        raise manifest.wrong(f"{part} has a label beyond the {len(manifest.class_ids)} classes")
    native = None
    if manifest.values.get("native_size") is not None:
        native = min(manifest.number(manifest.values, "native_size", 1, 1 << 40), manifest.size)
    source = manifest.of(manifest.values, "source", str)
    kind, side = "JPEG" if manifest.jpeg else "pixels", manifest.size
    first = starts(counts)
    return Packed(
        folder=manifest.root,
        part=part,
        name=manifest.of(manifest.values, "name", str),
        layout=f"packed {kind}, {side} x {side}, from {source}",
        class_ids=manifest.class_ids,
        class_names=manifest.class_names,
        labels=np.array(labels, np.int64),
        names=manifest.map(of_part["names"], f"|S{width}", (count,)),
        size=manifest.size,
        native_size=native,
        shards=tuple(shards),
        files=tuple(files),
        first=first,
        byte_ranges=_byte_ranges(manifest, of_part, part, first, shards) if manifest.jpeg else None,
        statistics=manifest.statistics if part == "train" else None,
    )


def _byte_ranges(
    manifest: Manifest, of_part: dict, part: str, first: np.ndarray, shards: list
) -> np.ndarray:
    """Offset and length of each JPEG, all of them inside their shard."""
    ranges = manifest.map(manifest.of(of_part, "places", dict), "<i8", (int(first[-1]), 2))
    sizes = np.repeat([len(shard) for shard in shards], np.diff(first))
    start, length = ranges[:, 0], ranges[:, 1]
    if (start < 0).any() or (length < 1).any() or (start > sizes - length).any():
        raise manifest.wrong(f"an image of {part} lies outside its shard")
    return ranges


def verify(root: Path, progress: Callable[[int], object] | None = None) -> list[str]:
    """Read every file of the packed set and name those whose checksum is wrong."""
    manifest = Manifest(root)
    for part in PARTS:
        _open_part(manifest, part)
    problems = []
    for entry in manifest.entries():
        with (root / entry["file"]).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != entry.get("sha256"):
            problems.append(
                f"{root / entry['file']} has changed since it was written: its SHA-256 is not the "
                "one in the manifest"
            )
        if progress is not None:
            progress(entry["bytes"])
    return problems
