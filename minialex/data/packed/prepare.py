"""`minialex prepare`: decodes and resizes a data set once, so that training does not have to."""

import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minialex.data.dataset import Splits
from minialex.data.packed.dataset import open_parts
from minialex.data.packed.finish import finish, require_usable
from minialex.data.packed.format import MANIFEST, PARTS, Manifest
from minialex.data.packed.packing import (
    STATE,
    PartState,
    PrepareState,
    encode,
    pack,
    source_name,
)
from minialex.data.remarks import every_line
from minialex.data.sources.open import existing_folder, is_builtin, open_data
from minialex.errors import InputError
from minialex.utils.arguments import FRACTION, SEED, Number, integer
from minialex.utils.cores import usable_cores
from minialex.utils.interrupt import Interrupt
from minialex.utils.lock import LOCK, OWNER, lock
from minialex.utils.paths import expanded
from minialex.utils.progress import Progress

# what utils.atomic calls the files of data.packed.format until they are complete
_HALF_WRITTEN = re.compile(
    r"\.(unfinished\.safetensors|manifest\.json|report\.txt|mean\.npy"
    r"|(train|val)-(\d{5,}\.(npy|jpegs)|(labels|names|origins|places)\.npy))"
    r"\.[\w-]*-\d+\.part"
)
_SAMPLE = 24  # images from which the size of the JPEGs is estimated


@dataclass(frozen=True)
class Prepared:
    """What `prepare` returns; `interrupted` names the signal that ended it, if one did."""

    folder: Path
    images: dict[str, int]
    left_out: dict[str, str]  # name -> reason
    bytes: int
    interrupted: str | None = None


def prepare(
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    size: int = 256,
    jpeg: bool = False,
    quality: int = 90,
    workers: int | None = None,
    seed: int = 0,
    val_fraction: float = 0.1,
    max_left_out: float = 0.05,
    progress: bool = True,
) -> Prepared:
    """Pack the data set `source` into `folder`, for `open_data` and `minialex train --data`.

    size          shorter side in pixels, before a centre crop (paper, section 2)
    jpeg          store JPEG of `quality`, to be decoded in training, instead of pixels
    workers       threads that decode, one per core by default; the bytes do not depend on it
    seed, val_fraction   the share of each class to hold out if the source has no validation part
    max_left_out  the share of images that may be unreadable or mislabelled; they are left out and
                  listed in report.txt

    Called again after an interruption, it continues. Raises InputError for data or options that
    cannot be used, and if there is not enough room on the disk.
    """
    size = integer(8, at_most=4096).check("size", size)
    quality = integer(1, at_most=95).check("quality", quality)
    workers = None if workers is None else integer(1).check("workers", workers)
    seed, val_fraction = SEED.check("seed", seed), FRACTION.check("val_fraction", val_fraction)
    max_left_out = Number(float, at_least=0, at_most=1).check("max_left_out", max_left_out)
    show, folder = Progress(progress), expanded(folder)
    splits = open_data(source, seed=seed, val_fraction=val_fraction)
    if not len(splits.val):
        raise InputError(
            f"no image of {splits.train.name} is held out, but a packed set needs a val part: add "
            "images to its classes, or hold some out (`val_fraction`)"
        )
    root = None if is_builtin(source) else existing_folder(source)
    if root is not None and root.is_file():  # a list of labels: its images are named from there
        root = root.parent
    request = {
        "size": size,
        "quality": quality if jpeg else None,
        "data": _fingerprint(splits, root),
    }
    if root is not None and folder.resolve() == root:
        raise InputError(
            f"the packed data would be written into its source {str(root)!r}: choose another folder"
        )
    if (folder / MANIFEST).exists():
        return _done_before(folder, request)
    state = _start(folder, request)
    show.say(f"{splits.train.name}: {splits.train.layout}")
    for line in every_line(splits.remarks):
        show.say(line)
    native = splits.train.native_size
    if native is not None and 2 * native < size:
        show.say(
            f"the images are only {native} pixels wide: --size {native} keeps the same detail in "
            "less space"
        )
    _require_room(folder, _needed(splits, state), show)
    folder.mkdir(parents=True, exist_ok=True)
    busy = f"another process is packing into {str(folder)!r}: wait, or choose another folder"
    with lock(folder, busy), Interrupt() as interrupt:
        for path in folder.iterdir():
            if _HALF_WRITTEN.fullmatch(path.name):
                path.unlink()
        state.save(folder)  # ours now: may be overwritten, and is not a class
        for name, data in splits.parts.items():
            if not interrupt.requested:
                threads = workers or usable_cores()
                pack(name, data, root, folder, state, threads, interrupt, show)
        if interrupt.requested:
            show.say(f"stopped by {interrupt.requested}; run the same command again to continue")
        else:
            require_usable(folder, state, len(splits.train) + len(splits.val), max_left_out)
            finish(folder, state, splits, root)
            return _complete(folder)
    return Prepared(
        folder,
        {name: len(part.kept) for name, part in state.parts.items()},
        state.left_out,
        sum(shard["bytes"] for part in state.parts.values() for shard in part.shards),
        interrupt.requested,
    )


def _start(folder: Path, request: dict) -> PrepareState:
    """The state to continue from: that in `folder`, or a new one."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{str(folder)!r} is a file: choose a new folder for the packed data")
    if (folder / STATE).exists():
        state = PrepareState.load(folder)
        if state.request != request and any(part.done for part in state.parts.values()):
            raise InputError(
                f"{str(folder)!r} was started with other images or options: use the same ones, or "
                "delete it"
            )
        if state.request == request:
            return state
    elif folder.exists() and any(not _is_ours(path) for path in folder.iterdir()):
        raise InputError(
            f"{str(folder)!r} contains other files: choose a new folder for the packed data, or "
            "empty this one"
        )
    total = np.zeros((request["size"], request["size"], 3), np.int64)
    return PrepareState(request, {p: PartState() for p in PARTS}, total, np.zeros((3, 3), np.int64))


def _is_ours(path: Path) -> bool:
    """Whether a `prepare` that ended before its first saved state may have left this file."""
    return path.name in (LOCK, OWNER) or _HALF_WRITTEN.fullmatch(path.name) is not None


def _fingerprint(splits: Splits, root: Path | None) -> str:
    """SHA-256 of all names, labels and classes, which must not change before packing is resumed."""
    digest = hashlib.sha256()
    for part, dataset in splits.parts.items():
        words = "\0".join((part, *dataset.class_ids, *dataset.class_names, ""))
        digest.update(words.encode("utf-8", "surrogateescape"))
        digest.update(np.ascontiguousarray(dataset.labels, "<i8").tobytes())
        for index in range(len(dataset)):
            digest.update(os.fsencode(source_name(dataset, index, root)) + b"\0")
    return digest.hexdigest()


def _done_before(folder: Path, request: dict) -> Prepared:
    manifest = Manifest(folder)
    if manifest.values.get("request") != request:
        raise InputError(
            f"{str(folder)!r} holds a packed data set of other images or options: choose a new "
            "folder"
        )
    done = _complete(folder)
    (folder / STATE).unlink(missing_ok=True)
    return done


def _complete(folder: Path) -> Prepared:
    """What a finished set contains; raises InputError if it cannot be opened."""
    manifest = Manifest(folder)
    splits = open_parts(manifest)
    counts = {"train": len(splits.train), "val": len(splits.val)}
    left_out = manifest.values.get("left_out", {})  # sets of older versions do not list them
    return Prepared(folder, counts, left_out, sum(entry["bytes"] for entry in manifest.files))


def _needed(splits: Splits, state: PrepareState) -> int:
    """Bytes that are still to be written, estimated from a few images for JPEG."""
    size, quality = state.request["size"], state.request["quality"]
    each = float(size * size * 3)
    if quality is not None:
        data, sizes = splits.train, []
        for index in np.linspace(0, len(data) - 1, min(len(data), _SAMPLE)).astype(int):
            try:
                sizes.append(len(encode(data.image(int(index), size), quality)))
            except (InputError, OSError):
                continue
        each = 1.1 * float(np.mean(sizes)) if sizes else each
    left = sum(len(splits.parts[name]) - part.done for name, part in state.parts.items())
    return int(left * (each + 128)) + size * size * 12 * 3


def _require_room(folder: Path, needed: int, show: Progress) -> None:
    existing = folder.resolve()
    while not existing.is_dir():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    show.say(f"{folder} needs another {_size(needed)}; {_size(free)} are free there")
    if needed > free:
        raise InputError(
            f"the packed data needs {_size(needed)}, but {str(existing)!r} has {_size(free)} free: "
            "free some space, choose another disk, or use `jpeg=True`, which takes about a tenth"
        )


def _size(count: int) -> str:
    for unit, one in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= one:
            return f"{count / one:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"
