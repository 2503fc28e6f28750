"""Finds the files in a tar archive, so that they can be read in place without unpacking.

Names in an archive are only labels here and never become paths, so no `..`, absolute name or link
can lead outside; entries that are not plain files are reported as such and not read.

Headers are parsed by `tarfile`. What it tolerates is checked here: it takes a damaged header, or
zeros in the middle, for the end of the archive, and does not notice a truncated file.
"""

import io
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from minialex.errors import InputError

_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 1 << 20
_LONGEST_HEADER = 1 << 20  # bytes of one entry's headers, pax fields included; usually 512


class Member(NamedTuple):
    """One entry: its name, and where its bytes are in the archive's file."""

    name: str
    offset: int
    size: int
    plain: bool  # a file; False for folders, links, devices and sparse files


def members(file: BinaryIO, name: str, start: int = 0, end: int | None = None) -> Iterator[Member]:
    """The entries of the archive that fills bytes `start` to `end` of `file`.

    `name` is for messages. Raises InputError, with the offset, if the archive is damaged or
    truncated.
    """
    if end is None:
        end = file.seek(0, io.SEEK_END)
    headers = _Headers(file, name, start, end)
    archive: tarfile.TarFile | None = None
    position = start
    while True:
        headers.start_entry(position)
        try:
            if archive is None:
                archive = tarfile.TarFile(
                    fileobj=headers,  # type: ignore[arg-type]
                    encoding="utf-8",
                    errors="surrogateescape",
                )
            entry = archive.next()
        except (InputError, OSError, MemoryError):
            raise
        except Exception:  # tarfile raises half a dozen types on damaged headers
            break
        if entry is None:
            break
        archive.members.clear()  # type: ignore[attr-defined]  # or it would keep every entry
        position = archive.offset
        yield _member(entry, position, name, end)
    if position < end or position == start:
        headers.require_end(position)
        headers.require_zeros(position)


class _Headers:
    """A file for `tarfile` that is limited to one archive and to headers of a sensible length."""

    def __init__(self, file: BinaryIO, name: str, start: int, end: int):
        self.file, self.name, self.start, self.end = file, name, start, end
        self.start_entry(start)

    def start_entry(self, position: int) -> None:
        """Go to an entry's first header."""
        self.entry = self.position = position
        self.left = _LONGEST_HEADER

    def tell(self) -> int:
        return self.position

    def seek(self, position: int) -> None:
        self.position = position

    def read(self, count: int) -> bytes:
        if not 0 <= count <= self.left:
            raise _damaged(self.name, self.entry, "the length of its headers is over 1 MiB")
        self.left -= count
        self.file.seek(self.position)
        content = self.file.read(max(0, min(count, self.end - self.position)))
        self.position += len(content)
        return content

    def require_end(self, position: int) -> None:
        """Raise InputError unless the archive's end is marked at `position`, by zeros."""
        self.file.seek(position)
        block = self.file.read(max(0, min(_BLOCK, self.end - position)))
        if len(block) < _BLOCK:
            raise InputError(
                f"{self.name} ends in the middle of a tar header, after "
                f"{self.end - self.start:,} bytes: the file is incomplete or not a tar archive, "
                "download it again"
            )
        if block.strip(b"\0"):
            raise _damaged(self.name, position, "its checksum or a number in it is wrong")

    def require_zeros(self, position: int) -> None:
        """Raise InputError unless only zeros follow the end mark at `position`."""
        self.file.seek(position)
        while content := self.file.read(max(0, min(_CHUNK, self.end - position))):
            if content.count(0) < len(content):
                other = position + len(content) - len(content.lstrip(b"\0"))
                raise InputError(
                    f"{self.name} has its end mark at byte {self.entry:,} but more data at byte "
                    f"{other:,}: part of it is missing (zeros in its place), or several archives "
                    "were joined; download it again, or repack them as one"
                )
            position += len(content)


def _member(entry: tarfile.TarInfo, following: int, name: str, end: int) -> Member:
    """`entry`, whose successor is at `following`; raises InputError if its size is wrong."""
    size = entry.pax_headers.get("size", "0")
    if entry.size < 0 or not size.isdecimal() or len(size) > 20:
        raise _damaged(name, entry.offset, "its size is not a number, or has more than 20 digits")
    plain = entry.isreg() and not entry.issparse() and "GNU.sparse.major" not in entry.pax_headers
    if following - _BLOCK >= end or (plain and entry.offset_data + entry.size > end):
        raise InputError(
            f"{name} ends before its member {entry.name!r} does "
            f"({end - entry.offset_data:,} bytes of {entry.size:,}): the file is incomplete, "
            "download it again"
        )
    label = f"{entry.name}/" if entry.isdir() else entry.name
    return Member(label, entry.offset_data, entry.size if plain else 0, plain)


def _damaged(name: str, position: int, reason: str) -> InputError:
    return InputError(
        f"{name} has no valid tar header at byte {position:,} ({reason}): "
        "the file is damaged or not a tar archive, download it again"
    )
