"""The files of a packed data set, written and checked: plain .npy arrays and manifest.json.

manifest.json        classes, parts, shards, counts, sizes, checksums, colour statistics
mean.npy             float32 (S, S, 3), the training images' mean
train-00000.npy      uint8 (n, S, S, 3), RGB; or train-00000.jpegs, JPEG files end to end
train-labels.npy     int64 (N,), indices into the manifest's classes
train-names.npy      bytes (N,), each image's path in the source
train-origins.npy    uint64 (N, 2), of the file each image came from: bytes, and digest; 0: unknown
train-places.npy     int64 (N, 2), of JPEG only: byte offset in the shard, and length
report.txt           what was left out, and why
"""

import hashlib
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minialex.data.statistics import Statistics
from minialex.errors import InputError
from minialex.utils.atomic import write_blocks
from minialex.utils.composed import all_composed

MANIFEST, FORMAT, VERSION = "manifest.json", "minialex packed images", 1
PARTS = ("train", "val")

_LARGEST_MANIFEST = 64 << 20  # bytes; 1,000 classes and 2,000 shards take 300 thousand
_LARGEST_SIDE = 8192


def header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """The start of a .npy file, version 1.0."""
    content = io.BytesIO()
    described = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(content, described)
    return content.getvalue()


def write_file(path: Path, blocks: Sequence[bytes | memoryview]) -> dict[str, Any]:
    """Write a file atomically; returns its entry for the manifest."""
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    write_blocks(path, blocks)
    return {"file": path.name, "bytes": sum(map(len, blocks)), "sha256": digest.hexdigest()}


def write_array(path: Path, array: np.ndarray, dtype: str) -> dict[str, Any]:
    """The same for an array as `dtype`."""
    return write_file(path, [header(dtype, array.shape), np.asarray(array, dtype).tobytes()])


def checksum(values: dict[str, Any]) -> str:
    """SHA-256 of all other values of a manifest."""
    rest = {key: value for key, value in values.items() if key != "checksum"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class Manifest:
    """manifest.json; every value is checked before it is used.

    `files` are the entries of the files that were mapped, with their sizes and checksums.
    """

    def __init__(self, root: Path):
        self.root = root
        self.values = self._read()
        self.files: list[dict[str, Any]] = []
        self.size = self.number(self.values, "size", 1, _LARGEST_SIDE)
        self.jpeg = self.of(self.values, "pixels", str) == "jpeg"
        self.class_ids, self.class_names = (
            all_composed(self._words(key)) for key in ("class_ids", "class_names")
        )
        if len(set(self.class_ids)) != len(self.class_ids) or len(self.class_ids) < 2:
            raise self.wrong("class_ids does not hold two or more different names")
        if len(self.class_names) != len(self.class_ids):
            raise self.wrong("class_names and class_ids differ in length")

    def statistics(self) -> Statistics:
        """Mean image and colour axes of the training part."""
        entry = self.of(self.values, "statistics", dict)
        mean = self.map(self.of(entry, "mean", dict), "<f4", (self.size, self.size, 3))
        try:
            std = np.array(entry["colour_std"], np.float64).reshape(3)
            axes = np.array(entry["colour_axes"], np.float64).reshape(3, 3)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise self.wrong(f"colour_std or colour_axes is missing or wrong ({error})") from None
        if not all(np.isfinite(values).all() for values in (mean, std, axes)):
            raise self.wrong("the mean or the colour statistics are not finite")
        return Statistics(np.array(mean), std, axes, self.number(entry, "images", 1, 1 << 40))

    def map(
        self, entry: dict, kind: str, shape: tuple[int, ...], has_header: bool = True
    ) -> np.ndarray:
        """The array in a file, memory-mapped; InputError unless it has this type and shape."""
        name = self.of(entry, "file", str)
        if Path(name).name != name or name in ("", ".", "..") or "\\" in name or "\0" in name:
            raise self.wrong(f"{name!r} is not the plain name of a file")
        path = self.root / name
        again = "copy the whole folder again, or prepare it again"
        if not path.is_file():
            raise InputError(f"{str(path)!r}, which {MANIFEST} names, is missing: {again}")
        size = path.stat().st_size
        if size != self.number(entry, "bytes", 1, 1 << 60):
            raise InputError(
                f"{str(path)!r} has {size:,} bytes, but {MANIFEST} says {entry['bytes']:,}: {again}"
            )
        self.files.append(entry)
        wanted = shape, False, np.dtype(kind)
        with path.open("rb") as file:
            found = _read_header(file) if has_header else wanted
            if found != wanted or size != file.tell() + math.prod(shape) * wanted[2].itemsize:
                raise InputError(
                    f"{str(path)!r} is not an array of {kind} with shape {shape}, as its manifest "
                    f"says: {again}"
                )
            # a plain array on the mapping: memmap's own indexing takes several times as long
            return np.memmap(file, kind, "r", file.tell(), shape).view(np.ndarray)

    def of(self, values: dict, key: str, kind: type) -> Any:
        """A value of this type."""
        if not isinstance(values.get(key), kind):
            raise self.wrong(f"{key} is missing or not of type {kind.__name__}")
        return values[key]

    def number(self, values: dict, key: str, low: int, high: int) -> int:
        """An integer in this range."""
        value = self.of(values, key, int)
        if isinstance(value, bool) or not low <= value <= high:
            raise self.wrong(f"{key} is {value}, which is not between {low:,} and {high:,}")
        return value

    def wrong(self, what: str) -> InputError:
        """The error for a manifest that cannot be used."""
        return InputError(
            f"{str(self.root / MANIFEST)!r} is damaged or not from `minialex prepare` ({what}): "
            "copy the whole folder again, or prepare it again"
        )

    def _words(self, key: str) -> tuple[str, ...]:
        words = self.of(self.values, key, list)
        if not all(isinstance(word, str) for word in words):
            raise self.wrong(f"{key} has entries that are not names")
        return tuple(words)

    def _read(self) -> dict[str, Any]:
        path = self.root / MANIFEST
        if path.stat().st_size > _LARGEST_MANIFEST:
            raise self.wrong(f"it has {path.stat().st_size:,} bytes")
        try:
            values = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise self.wrong(f"it is not JSON: {error}") from None
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise self.wrong(f"its format is not {FORMAT!r}")
        if values.get("version") != VERSION:
            raise InputError(
                f"{str(path)!r} is of version {values.get('version')!r}, but this minialex reads "
                f"version {VERSION}: update it, or prepare the data again"
            )
        if values.get("checksum") != checksum(values):
            raise self.wrong("its checksum is wrong")
        return values


def _read_header(file: io.BufferedReader) -> tuple | None:
    """(shape, Fortran order, type), or None where the file has no valid header."""
    try:
        if np.lib.format.read_magic(file) == (1, 0):
            return np.lib.format.read_array_header_1_0(file)
    except Exception:  # a damaged header is parsed as Python and can raise nearly anything
        return None
    return None
