"""A data set that `minialex prepare` packed: shards of resized images, memory-mapped in training.

Opening reads the manifest, which has its own checksum, and compares every file's size and header
with it; `verify` reads everything.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from minialex.data.dataset import Dataset, Splits, inner_name
from minialex.data.decode import images
from minialex.data.packed.format import MANIFEST, PARTS, Manifest
from minialex.data.sources.records import locate, starts
from minialex.data.statistics import Statistics
from minialex.errors import InputError


@dataclass(frozen=True, repr=False)
class Packed(Dataset):
    """One part of a packed data set."""

    folder: Path
    name: str
    layout: str
    class_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    labels: np.ndarray  # int64 (N,)
    names: np.ndarray  # bytes (N,)
    size: int  # S
    native_size: int | None
    shards: dict[str, np.ndarray]  # by file name: uint8 (n, S, S, 3) each, or (bytes,) of JPEG
    counts: tuple[int, ...]  # images of each shard
    byte_ranges: np.ndarray | None  # int64 (N, 2): offset and length of each JPEG in its shard
    statistics: Statistics | None = None  # of the training part
    origins: np.ndarray | None = None  # uint64 (N, 2): bytes and digest of what was packed
    checksums: tuple[str, ...] = ()  # of the shards

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def mapped_size(self) -> int | None:
        return None if self.byte_ranges is not None else self.size

    @property
    def stored_size(self) -> int:
        return self.size

    @property
    def cropped(self) -> bool:
        return True

    def image(self, index: int, size: int) -> np.ndarray:
        shard, row = locate(index, self._starts)
        content = self._arrays[shard]
        if self.byte_ranges is None:
            image = np.array(content[row])
        else:
            start, length = (int(v) for v in self.byte_ranges[index])
            file = content[start : start + length].tobytes()
            image = images.load_rgb(file, self.describe(index))
            if image.shape != (self.size, self.size, 3):
                raise InputError(f"{self.describe(index)} has the wrong size: {image.shape[:2]}")
        return image if size == self.size else images.resize_and_crop(image, size)

    def copy_mapped(self, indices: np.ndarray, out: np.ndarray) -> None:
        indices = np.asarray(indices, np.int64)
        shards = np.searchsorted(self._starts, indices, side="right") - 1
        rows = indices - self._starts[shards]
        for target, shard, row in zip(out, shards.tolist(), rows.tolist(), strict=True):
            target[...] = self._arrays[shard][row]

    def image_name(self, index: int) -> str:
        name = self.names[index].decode("utf-8", "surrogateescape")
        return inner_name(name, self.class_ids[int(self.labels[index])])

    def content_size(self, index: int) -> int | None:
        size = 0 if self.origins is None else int(self.origins[index, 0])
        return size or None

    def content_digest(self, index: int) -> str | None:
        found = 0 if self.origins is None else int(self.origins[index, 1])
        return f"{found:016x}" if found else None

    def describe(self, index: int) -> str:
        shard, row = locate(index, self._starts)
        name = self.names[index].decode("utf-8", "surrogateescape")
        return f"{self.folder / list(self.shards)[shard]}, image {row} ({name})"

    @cached_property
    def _starts(self) -> np.ndarray:
        """int64 (shards + 1,), the index of each shard's first image."""
        return starts(list(self.counts))

    @cached_property
    def _arrays(self) -> list[np.ndarray]:
        return list(self.shards.values())


def is_packed(root: Path) -> bool:
    """Whether `root` is a packed data set, complete or not."""
    return (root / MANIFEST).is_file()


def open_packed(root: Path) -> Splits:
    """The parts of the packed data set in `root`, mapped, not read.

    Raises InputError if the manifest or a file is damaged, or if they disagree.
    """
    return open_parts(Manifest(root))


def open_parts(manifest: Manifest) -> Splits:
    """The parts that a manifest describes; maps all their files."""
    return Splits(*(_open_part(manifest, part) for part in PARTS))


def verify(root: Path, progress: Callable[[int], object] | None = None) -> list[str]:
    """Read every file of the packed set and name those whose checksum is wrong."""
    manifest = Manifest(root)
    open_parts(manifest)
    problems = []
    for entry in manifest.files:
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


def _open_part(manifest: Manifest, part: str) -> Packed:
    """Open one part's files."""
    values, size = manifest.values, manifest.size
    of_part = manifest.of(manifest.of(values, "parts", dict), part, dict)
    count = manifest.number(of_part, "images", 1, 1 << 40)
    shards: dict[str, np.ndarray] = {}
    counts = []
    for entry in manifest.of(of_part, "shards", list):
        if not isinstance(entry, dict):
            raise manifest.wrong("an entry of shards is not an object")
        counts.append(manifest.number(entry, "images", 1, count))
        shape: tuple[int, ...] = (counts[-1], size, size, 3)
        if manifest.jpeg:
            shape = (manifest.number(entry, "bytes", 1, 1 << 60),)
        array = manifest.map(entry, "|u1", shape, has_header=not manifest.jpeg)
        if shards.setdefault(entry["file"], array) is not array:
            raise manifest.wrong(f"{entry['file']} is listed twice")
    if sum(counts) != count:
        raise manifest.wrong(f"the shards of {part} hold {sum(counts):,} images, not {count:,}")
    labels = manifest.map(manifest.of(of_part, "labels", dict), "<i8", (count,))
    if labels.min() < 0 or labels.max() >= len(manifest.class_ids):
        raise manifest.wrong(f"{part} has a label beyond the {len(manifest.class_ids)} classes")
    names = manifest.of(of_part, "names", dict)
    native = values.get("native_size")
    if native is not None:
        native = min(manifest.number(values, "native_size", 1, 1 << 40), size)
    origins = None
    if "origins" in of_part:  # older versions kept none
        origins = manifest.map(manifest.of(of_part, "origins", dict), "<u8", (count, 2))
    kind, source = "JPEG" if manifest.jpeg else "pixels", manifest.of(values, "source", str)
    return Packed(
        folder=manifest.root,
        name=manifest.of(values, "name", str),
        layout=f"packed {kind}, {size} x {size}, from {source}",
        class_ids=manifest.class_ids,
        class_names=manifest.class_names,
        labels=np.array(labels, np.int64),
        names=manifest.map(names, f"|S{manifest.number(names, 'width', 1, 1 << 20)}", (count,)),
        size=size,
        native_size=native,
        shards=shards,
        counts=tuple(counts),
        byte_ranges=_byte_ranges(manifest, of_part, part, counts, shards),
        statistics=manifest.statistics() if part == "train" else None,
        origins=origins,
        checksums=tuple(str(entry.get("sha256")) for entry in of_part["shards"]),
    )


def _byte_ranges(
    manifest: Manifest, of_part: dict, part: str, counts: list[int], shards: dict[str, np.ndarray]
) -> np.ndarray | None:
    """Offset and length of each JPEG, checked to lie inside its shard; None for stored pixels."""
    if not manifest.jpeg:
        return None
    ranges = manifest.map(manifest.of(of_part, "places", dict), "<i8", (sum(counts), 2))
    sizes = np.repeat([len(shard) for shard in shards.values()], counts)
    start, length = ranges[:, 0], ranges[:, 1]
    if (start < 0).any() or (length < 1).any() or (start > sizes - length).any():
        raise manifest.wrong(f"an image of {part} lies outside its shard")
    return ranges
