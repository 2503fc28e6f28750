"""Where the files inside a tar archive lie, by their headers alone: nothing is ever unpacked.

Names inside an archive are labels here and never become paths, so no `..`, absolute name or link
can lead anywhere; what is no plain file is told apart and left where it is.
"""

import io
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from minialex.errors import InputError

_BLOCK = 512
_LONGEST_NOTE = 1 << 20  # bytes of a long name or of pax fields; real ones have a few hundred
_PLAIN = b"0\x007"
_EMPTY = bytes(_BLOCK)


class Member(NamedTuple):
    """One entry: its name, and where its bytes lie in the archive's file."""

    name: str
    offset: int
    size: int
    plain: bool  # a file; False for folders, links, devices and what else tar knows


def members(file: BinaryIO, name: str, start: int = 0, end: int | None = None) -> Iterator[Member]:
    """The entries of the archive that fills bytes `start` to `end` of `file`.

    `name` is for messages. Raises InputError, with the place, where the archive is damaged or ends
    too soon.
    """
    if end is None:
        end = file.seek(0, io.SEEK_END)
    position = start
    long_name: str | None = None
    fields: dict[str, str] = {}
    while position + _BLOCK <= end:
        file.seek(position)
        header = file.read(_BLOCK)
        if header == _EMPTY:
            return
        kind = header[156:157]
        size = _size(header, name, position)
        if kind not in b"xgLK" and fields.get("size", "").isdecimal():
            if len(fields["size"]) > 20:
                raise _damaged(name, position, "a size of more than 20 digits")
            size = int(fields["size"])  # pax, where a size has more than eleven octal digits
        data = position + _BLOCK
        if data + size > end:
            raise InputError(
                f"{name} ends before its member {_name(header)!r} does "
                f"({end - data:,} bytes of {size:,}): the file is incomplete, fetch it again"
            )
        position = data + -(-size // _BLOCK) * _BLOCK
        if kind in b"xgLK":
            if size > _LONGEST_NOTE:
                raise _damaged(name, data - _BLOCK, f"{size:,} bytes of notes on one member")
            note = file.read(size)
            if kind == b"L":
                long_name = _text(note)
            elif kind == b"x":
                fields = _pax(note)
            continue
        yield Member(
            fields.get("path") or long_name or _name(header),
            data,
            size,
            bool(kind) and kind in _PLAIN and "GNU.sparse.major" not in fields,
        )
        long_name, fields = None, {}
    if position == start or position < end:
        raise InputError(
            f"{name} ends in the middle of a tar header, after {end - start:,} bytes: "
            "the file is incomplete or no tar archive, fetch it again"
        )


def _size(header: bytes, name: str, position: int) -> int:
    """The size of the member, once the header's checksum is right."""
    try:
        expected = int(header[148:156].strip(b" \0") or b"0", 8)
        if sum(header) - sum(header[148:156]) + 8 * ord(" ") != expected:
            raise ValueError
        digits = header[124:136]
        if digits[0] == 0x80:  # GNU: big-endian bytes
            return int.from_bytes(digits[1:], "big")
        size = int(digits.strip(b" \0") or b"0", 8)
        if size < 0:
            raise ValueError
    except ValueError:
        raise _damaged(name, position, "its checksum or size is wrong") from None
    return size


def _damaged(name: str, position: int, reason: str) -> InputError:
    return InputError(
        f"{name} has no valid tar header at byte {position:,} ({reason}): "
        "the file is damaged or no tar archive, fetch it again"
    )


def _name(header: bytes) -> str:
    name, prefix = _text(header[:100]), _text(header[345:500])
    return f"{prefix}/{name}" if prefix and header[257:262] == b"ustar" else name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _pax(note: bytes) -> dict[str, str]:
    """Records `<length> <key>=<value>\\n`; what does not look like one ends the list."""
    fields = {}
    while note:
        digits, space, _ = note.partition(b" ")
        if not (space and digits.isdigit() and len(digits) < 8 and 0 < int(digits) <= len(note)):
            break
        record, note = note[len(digits) + 1 : int(digits) - 1], note[int(digits) :]
        key, _, value = record.partition(b"=")
        fields[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
    return fields
