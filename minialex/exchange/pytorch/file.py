"""Reads `torch.save` files without PyTorch: zip archives since 1.6, a series of pickles before.

Both have one pickle that describes the object, and the numbers beside it.
"""

import io
import json
import reprlib
import zipfile
from pathlib import Path
from typing import Any

from minialex.errors import InputError, reason
from minialex.exchange.pytorch.pickle_reader import ALSO, Refused, Storage, Unpickler, load_object
from minialex.exchange.pytorch.writer import LARGEST_TEXTS, TEXTS
from minialex.utils import plain_pickle

ZIP_START = b"PK\x03\x04"
_MAGIC = 0x1950A86A20F9469CFC6C
# the start of a protocol-2 pickle of the magic number, the first of the older kind
LEGACY_START = b"\x80\x02\x8a\x0a" + _MAGIC.to_bytes(10, "little")

_LARGEST = 4 << 20  # bytes of pickles; AlexNet's have 3,000 bytes


def is_torch(head: bytes) -> bool:
    """Whether `torch.save` wrote a file that starts with these bytes."""
    return head.startswith(LEGACY_START) or (head.startswith(ZIP_START) and b"/data.pkl" in head)


def texts(path: Path) -> dict[str, str]:
    """The network metadata of a file that we wrote; empty for others.

    Raises InputError if it is damaged: without it, the weights would pass for another program's.
    """
    if not zipfile.is_zipfile(path):
        return {}
    try:
        with zipfile.ZipFile(path) as archive:
            name = next((n for n in archive.namelist() if n.endswith(f"/{TEXTS}")), None)
            if name is None:
                return {}
            most = min(LARGEST_TEXTS, path.stat().st_size)  # it is not compressed
            found = json.loads(_content(archive, archive.getinfo(name), most))
            if not isinstance(found, dict) or not all(isinstance(t, str) for t in found.values()):
                raise Refused(f"is damaged: {name} is not a description")
    except (OSError, MemoryError):
        raise
    except Refused as error:
        raise InputError(f"{path} {error}") from None
    except Exception as error:  # as below
        raise InputError(f"{path} is damaged ({reason(error)})") from None
    return found


def read(path: Path) -> Any:
    """The object in a `torch.save` file, with a `StoredTensor` for each tensor.

    Raises InputError for a file that is damaged, or has more than plain values and tensors.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(LEGACY_START))
        return _read_zip(path) if start.startswith(ZIP_START) else _read_legacy(path)
    except (OSError, MemoryError):
        raise
    except Refused as error:
        raise InputError(f"{path} {error}") from None
    except Exception as error:  # a damaged pickle or archive can raise nearly anything
        raise InputError(f"{path} is damaged or not a torch.save file ({reason(error)})") from None


# ------------------------------------------------------------------------------------ the two kinds


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        if any(entry.header_offset < 0 for entry in entries.values()):
            raise Refused("is damaged: an entry of the archive starts before the archive does")
        found = [name for name in entries if name.endswith("data.pkl") and name.count("/") <= 1]
        if len(found) != 1:
            inside = next(iter(entries), "nothing")
            raise Refused(f"is a zip archive, but not from torch.save (it contains {inside!r})")
        root = found[0].removesuffix("data.pkl")
        description = _content(archive, entries[found[0]], _LARGEST)
        order = "little"
        if f"{root}byteorder" in entries:
            order = _content(archive, entries[f"{root}byteorder"], 16).decode("ascii")
        size = path.stat().st_size

        def locate(key: str, count: int, itemsize: int) -> tuple[int, int]:
            name = f"{root}data/{key}"
            if name not in entries:
                raise Refused(f"is damaged: it has no {name}")
            entry = entries[name]
            start = entry.header_offset + _local_header(path, entry.header_offset)
            length = entry.file_size
            if entry.compress_type != zipfile.ZIP_STORED or start + length > size:
                raise Refused(f"is damaged: {name} is cut short or compressed")
            return start, length

        return load_object(path, description, "big" if order == "big" else "little", locate)


def _local_header(path: Path, at: int) -> int:
    """The length of the header before an entry's bytes."""
    with path.open("rb") as file:
        file.seek(at)
        header = file.read(30)
    if len(header) < 30 or not header.startswith(ZIP_START):
        raise Refused("is damaged: an entry of the archive has no header")
    return 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, largest: int) -> bytes:
    if entry.file_size > largest:
        raise Refused(f"has {entry.file_size:,} bytes in {entry.filename}, which is too many")
    with archive.open(entry) as file:
        return file.read(largest)


def _read_legacy(path: Path) -> Any:
    with path.open("rb") as file:
        head = io.BytesIO(file.read(_LARGEST))
    magic, version, system = (_next_value(head) for _ in range(3))
    if magic != _MAGIC or version != 1001:
        raise Refused(f"is a torch.save file of an unknown version ({reprlib.repr(version)})")
    order = "big" if isinstance(system, dict) and system.get("little_endian") is False else "little"
    description = _next_pickle(head)
    keys = _next_value(head)
    counts = _storages(description)
    size, at = path.stat().st_size, head.tell()
    ranges: dict[str, tuple[int, int]] = {}
    with path.open("rb") as file:
        for key in keys:
            if key not in counts:
                raise Refused(f"is damaged: the numbers {key!r} are not used")
            count, itemsize = counts[key]
            file.seek(at)
            if int.from_bytes(file.read(8), order) != count:  # type: ignore[arg-type]
                raise Refused(f"is damaged: the count of the numbers {key!r} is wrong")
            ranges[key] = (at + 8, count * itemsize)
            at += 8 + count * itemsize
            if at > size:
                raise Refused("is cut short")

    def locate(key: str, count: int, itemsize: int) -> tuple[int, int]:
        if key not in ranges:
            raise Refused(f"is damaged: the numbers {key!r} are missing")
        return ranges[key]

    return load_object(path, description, order, locate)


def _next_pickle(file: io.BytesIO) -> bytes:
    """The bytes of the pickle at the file's position, and the position after it."""
    start = file.tell()
    plain_pickle.inspect(file, also=ALSO)
    end = file.tell()
    file.seek(start)
    return file.read(end - start)


def _next_value(file: io.BytesIO) -> Any:
    return Unpickler(_next_pickle(file), lambda storage: None).load()


def _storages(description: bytes) -> dict[str, tuple[int, int]]:
    """{key: (count, itemsize)} of all numbers that a pickle refers to."""
    found: dict[str, tuple[int, int]] = {}

    def note(storage: "Storage") -> None:
        found[storage.key] = (storage.count, storage.itemsize)

    Unpickler(description, note).load()
    return found
