"""Files of `torch.save`, read without PyTorch: a zip archive since 1.6, a row of pickles before.

Both hold one pickle that describes the object, and beside it the numbers. Nothing in a pickle is
executed: its instructions are checked first, and the few functions and classes that tensors need
are stand-ins defined here (see `minialex.utils.plain_pickle`).
"""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from minialex.errors import InputError
from minialex.exchange.tensors import StoredTensor
from minialex.exchange.torch_writer import TEXTS
from minialex.utils import plain_pickle

ZIP_START = b"PK\x03\x04"
_MAGIC = 0x1950A86A20F9469CFC6C
# how a pickle of protocol 2 begins with that number, the first of the older kind
LEGACY_START = b"\x80\x02\x8a\x0a" + _MAGIC.to_bytes(10, "little")

_LARGEST = 4 << 20  # bytes of pickles; AlexNet's have 3,000
_MOST_DIMENSIONS = 8
_BFLOAT = "bfloat16"
_STORAGES = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "BFloat16Storage": _BFLOAT,
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "b1",
}


class _Refused(Exception):
    """Why a file cannot be read."""


def texts(path: Path) -> dict[str, str]:
    """What a file that we wrote says of its network; nothing for others."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next((n for n in archive.namelist() if n.endswith(f"/{TEXTS}")), None)
            if name is None:
                return {}
            found = json.loads(_content(archive, archive.getinfo(name), _LARGEST))
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, _Refused):
        return {}
    known = isinstance(found, dict) and all(isinstance(text, str) for text in found.values())
    return found if known else {}


def read(path: Path) -> Any:
    """The object in a file of `torch.save`, with a `StoredTensor` for each tensor.

    Raises InputError for a file that is damaged, or that holds more than plain values and tensors.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(LEGACY_START))
        return _read_zip(path) if start.startswith(ZIP_START) else _read_legacy(path)
    except (OSError, MemoryError):
        raise
    except _Refused as error:
        raise InputError(f"{path} {error}") from None
    except Exception as error:  # a damaged pickle or archive can raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} is damaged or not a file of torch.save ({reason})") from None


# ------------------------------------------------------------------------------------ the two kinds


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        if any(entry.header_offset < 0 for entry in entries.values()):
            raise _Refused("is damaged: an entry of the archive begins before it")
        found = [name for name in entries if name.endswith("data.pkl") and name.count("/") <= 1]
        if len(found) != 1:
            inside = next(iter(entries), "nothing")
            raise _Refused(f"is a zip archive, but not of torch.save (it holds {inside!r})")
        root = found[0].removesuffix("data.pkl")
        description = _content(archive, entries[found[0]], _LARGEST)
        order = "little"
        if f"{root}byteorder" in entries:
            order = _content(archive, entries[f"{root}byteorder"], 16).decode("ascii")
        size = path.stat().st_size

        def place(key: str, count: int, itemsize: int) -> tuple[int, int]:
            name = f"{root}data/{key}"
            if name not in entries:
                raise _Refused(f"is damaged: it has no {name}")
            entry = entries[name]
            start = entry.header_offset + _local_header(path, entry.header_offset)
            length = entry.file_size
            if entry.compress_type != zipfile.ZIP_STORED or start + length > size:
                raise _Refused(f"is damaged: {name} is cut short or compressed")
            return start, length

        return _load(path, description, "big" if order == "big" else "little", place)


def _local_header(path: Path, at: int) -> int:
    """The length of the header before an entry's bytes."""
    with path.open("rb") as file:
        file.seek(at)
        header = file.read(30)
    if len(header) < 30 or not header.startswith(ZIP_START):
        raise _Refused("is damaged: an entry of the archive has no header")
    return 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, largest: int) -> bytes:
    if entry.file_size > largest:
        raise _Refused(f"has {entry.file_size:,} bytes in {entry.filename}, which is too many")
    with archive.open(entry) as file:
        return file.read(largest)


def _read_legacy(path: Path) -> Any:
    with path.open("rb") as file:
        head = io.BytesIO(file.read(_LARGEST))
    magic, version, system = (_next_value(head) for _ in range(3))
    if magic != _MAGIC or version != 1001:
        raise _Refused(f"is not a file of torch.save that is known here (version {version!r})")
    order = "big" if isinstance(system, dict) and system.get("little_endian") is False else "little"
    description = _next_pickle(head)
    keys = _next_value(head)
    counts = _storages(description)
    size, at = path.stat().st_size, head.tell()
    places: dict[str, tuple[int, int]] = {}
    with path.open("rb") as file:
        for key in keys:
            if key not in counts:
                raise _Refused(f"is damaged: nothing uses the numbers {key!r}")
            count, itemsize = counts[key]
            file.seek(at)
            if int.from_bytes(file.read(8), order) != count:  # type: ignore[arg-type]
                raise _Refused(f"is damaged: the numbers {key!r} are not as many as it says")
            places[key] = (at + 8, count * itemsize)
            at += 8 + count * itemsize
            if at > size:
                raise _Refused("is cut short")

    def place(key: str, count: int, itemsize: int) -> tuple[int, int]:
        if key not in places:
            raise _Refused(f"is damaged: the numbers {key!r} are missing")
        return places[key]

    return _load(path, description, order, place)


def _next_pickle(file: io.BytesIO) -> bytes:
    """The bytes of the pickle at a file's position, and the position after it."""
    start = file.tell()
    plain_pickle.inspect(file, also=("BINPERSID",))
    end = file.tell()
    file.seek(start)
    return file.read(end - start)


def _next_value(file: io.BytesIO) -> Any:
    return _Unpickler(_next_pickle(file), lambda storage: None).load()


def _storages(description: bytes) -> dict[str, tuple[int, int]]:
    """{key: (count, itemsize)} of all numbers that a pickle refers to."""
    found: dict[str, tuple[int, int]] = {}

    def note(storage: "_Storage") -> None:
        found[storage.key] = (storage.count, storage.itemsize)

    _Unpickler(description, note).load()
    return found


# ------------------------------------------------------------------------------------ the pickle


@dataclass(frozen=True)
class _Storage:
    """Numbers of one kind beside the pickle."""

    kind: str
    key: str
    count: int
    where: Callable[[str, int, int], tuple[int, int]] | None = None
    path: Path = Path()
    order: str = "little"

    @property
    def itemsize(self) -> int:
        return 2 if self.kind == _BFLOAT else np.dtype(self.kind).itemsize

    def tensor(self, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> StoredTensor:
        """A view of the numbers; refused if it leaves them or repeats any."""
        if not len(shape) == len(strides) <= _MOST_DIMENSIONS:
            raise _Refused(f"is damaged: a tensor has the shape {shape} and the strides {strides}")
        if min((offset, *shape, *strides)) < 0 or prod(shape) > self.count:
            raise _Refused(f"is damaged: a tensor of {shape} has {self.count:,} numbers")
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        if prod(shape) and last >= self.count:
            raise _Refused(f"is damaged: a tensor of {shape} ends after its {self.count:,} numbers")
        if self.where is None:
            return StoredTensor(shape, self.itemsize, lambda: np.zeros(0, np.float32))
        start, length = self.where(self.key, self.count, self.itemsize)
        if length != self.count * self.itemsize:
            raise _Refused(
                f"is damaged: {self.key!r} has {length:,} bytes for {self.count:,} numbers"
            )

        def load() -> np.ndarray:
            first = start + offset * self.itemsize
            count = last - offset + 1 if prod(shape) else 0
            kind = np.dtype("u2" if self.kind == _BFLOAT else self.kind)
            kind = kind.newbyteorder(">" if self.order == "big" else "<")
            numbers = np.fromfile(self.path, kind, count, offset=first)
            if len(numbers) < count:
                raise InputError(f"{self.path} is cut short")
            if self.kind == _BFLOAT:
                numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
            steps = [step * numbers.itemsize for step in strides]
            view = np.lib.stride_tricks.as_strided(numbers, shape, steps)
            return view.astype(np.float32, copy=False)

        return StoredTensor(shape, self.itemsize, load)


class _Mapping(dict):
    """Stands for collections.OrderedDict; what is attached to one (`_metadata`) is dropped."""

    def __setstate__(self, state: Any) -> None:
        pass


@dataclass(frozen=True)
class _StorageKind:
    """Stands for a class of storages, such as torch.FloatStorage."""

    kind: str


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> StoredTensor:
    if not isinstance(storage, _Storage):
        raise _Refused("is damaged: a tensor has no numbers")
    return storage.tensor(int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def _rebuild_parameter(tensor: Any, *_: Any) -> StoredTensor:
    if not isinstance(tensor, StoredTensor):
        raise _Refused("is damaged: a parameter is no tensor")
    return tensor


class _Unpickler(pickle.Unpickler):
    """Builds plain values and tensors; `finish` gets each storage, and may return a better one."""

    def __init__(self, content: bytes, finish: Callable[[_Storage], _Storage | None]):
        super().__init__(io.BytesIO(content), encoding="utf-8")
        self.finish = finish

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("collections", "OrderedDict"): _Mapping,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
        }
        if (module, name) in known:
            return known[module, name]
        if module in ("torch", "torch.cuda") and name in _STORAGES:
            return _StorageKind(_STORAGES[name])
        raise _Refused(
            f"is not plain weights, it asks for {module}.{name}, and nothing in a pickle is run: "
            "save the model's state_dict() instead"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        tag, kind, key, _, count, *view = pid
        if tag not in ("storage", b"storage") or not isinstance(kind, _StorageKind):
            raise _Refused("is damaged: it refers to something that is not numbers")
        if (
            not isinstance(count, int)
            or not 0 <= count < 1 << 48
            or any(v is not None for v in view)
        ):
            raise _Refused(f"is damaged: it claims {count!r} numbers")
        storage = _Storage(kind.kind, str(key), count)
        return self.finish(storage) or storage


def _load(
    path: Path,
    description: bytes,
    order: str,
    place: Callable[[str, int, int], tuple[int, int]],
) -> Any:
    plain_pickle.inspect(io.BytesIO(description), also=("BINPERSID",))

    def finish(storage: _Storage) -> _Storage:
        return _Storage(storage.kind, storage.key, storage.count, place, path, order)

    return _Unpickler(description, finish).load()
