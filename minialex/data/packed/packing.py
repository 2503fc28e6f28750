"""The rest of a packed data set beside its shards: names, labels, statistics and the manifest."""

import errno
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from minialex.data.dataset import Dataset, Splits
from minialex.data.decode.jpeg import simplejpeg
from minialex.data.packed import report as packing_report
from minialex.data.packed.manifest import FORMAT, MANIFEST, PARTS, VERSION, checksum
from minialex.data.packed.npy import write_array
from minialex.data.packed.shards import STATE, PartState, PrepareState
from minialex.data.statistics import from_sums
from minialex.errors import InputError
from minialex.utils import atomic


def finish(folder: Path, state: PrepareState, splits: Splits, root: Path | None) -> None:
    """Write all other files; the manifest comes last and makes the set complete."""
    for name in PARTS:
        if not state.parts[name].kept:
            raise InputError(f"no image of {name} can be used: see {folder / packing_report.NAME}")
    request = state.request
    statistics = from_sums(state.total, state.products, len(state.parts["train"].kept))
    names = {p: _names(splits.parts[p], state.parts[p], root) for p in PARTS}
    values: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "name": splits.train.name,
        "source": splits.train.layout,
        "size": request["size"],
        "native_size": splits.train.native_size,
        "pixels": "uint8 N H W C, RGB" if request["quality"] is None else "jpeg",
        "decoder": _decoder(),
        "request": request,
        "class_ids": list(splits.train.class_ids),
        "class_names": list(splits.train.class_names),
        "parts": {p: _part(folder, p, state.parts[p], splits, names[p], request) for p in PARTS},
        "statistics": {
            "images": statistics.count,
            "mean": write_array(folder / "mean.npy", statistics.mean, "<f4"),
            "colour_std": statistics.colour_std.tolist(),
            "colour_axes": statistics.colour_axes.tolist(),
        },
    }
    report = packing_report.text(values, state, splits, names)
    atomic.write_bytes(folder / packing_report.NAME, report.encode("utf-8", "backslashreplace"))
    atomic.write_json(folder / MANIFEST, {**values, "checksum": checksum(values)})
    (folder / STATE).unlink()


def source_name(dataset: Dataset, index: int, root: Path | None) -> str:
    """Where an image comes from, relative to the source."""
    described = dataset.describe(index)
    return described if root is None else described.removeprefix(f"{root}{os.sep}")


def fingerprint(splits: Splits, root: Path | None) -> str:
    """SHA-256 of all names, labels and classes, which must not change before packing is resumed."""
    digest = hashlib.sha256()
    for part in PARTS:
        dataset = splits.parts[part]
        digest.update(
            "\0".join((part, *dataset.class_ids, *dataset.class_names, "")).encode(
                "utf-8", "surrogateescape"
            )
        )
        digest.update(np.ascontiguousarray(dataset.labels, "<i8").tobytes())
        for index in range(len(dataset)):
            digest.update(os.fsencode(source_name(dataset, index, root)) + b"\0")
    return digest.hexdigest()


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Keep other processes from packing into the same folder, if the file system has locks."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno not in (errno.EAGAIN, errno.EACCES):  # a file system without locks
            yield
            return
        raise InputError(
            f"another process is packing into {str(folder)!r}: wait for it, or name another folder"
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)


def _names(dataset: Dataset, part: PartState, root: Path | None) -> np.ndarray:
    return np.array([os.fsencode(source_name(dataset, i, root)) for i in part.kept])


def _part(
    folder: Path, name: str, part: PartState, splits: Splits, names: np.ndarray, request: dict
) -> dict[str, Any]:
    labels = splits.parts[name].labels[np.array(part.kept, np.int64)]
    width = names.dtype.itemsize
    written = write_array(folder / f"{name}-names.npy", names, f"|S{width}")
    values: dict[str, Any] = {
        "images": len(labels),
        "left_out": len(part.left_out),
        "per_class": np.bincount(labels, minlength=len(splits.train.class_ids)).tolist(),
        "labels": write_array(folder / f"{name}-labels.npy", labels, "<i8"),
        "names": {**written, "width": width},
        "shards": part.shards,
    }
    if request["quality"] is not None:
        byte_ranges = np.array(part.byte_ranges, np.int64).reshape(-1, 2)
        values["places"] = write_array(folder / f"{name}-places.npy", byte_ranges, "<i8")
    return values


def _decoder() -> str:
    import PIL
    from PIL import features

    fast = simplejpeg()
    used = f"Pillow {PIL.__version__}, libjpeg {features.version('jpg')}"
    return used if fast is None else f"{used}, simplejpeg {fast.__version__}"
