"""Protobuf's binary encoding, as far as Caffe's files use it.

This replaces the library: the encoding fits on a page, no generated code has to agree with an
installed version, blobs of hundreds of megabytes stay views of the file, and a length that a file
claims is compared with what is there before it is used.
"""

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from minialex.exchange.caffe.message import Message
from minialex.exchange.caffe.schema import ENUMS, SCHEMA

_VARINT, _EIGHT, _LENGTH, _FOUR = 0, 1, 2, 5  # how a field is encoded
_SIGN = 1 << 63
_MOST_FIELDS = 1 << 22  # in one message


def parse(data: memoryview, kind: str) -> Message:
    """The message of a kind in `SCHEMA`; fields that are not in the schema are skipped.

    Raises ValueError for invalid bytes. Arrays in it are views of `data`.
    """
    message, fields = Message(), SCHEMA[kind]
    for number, encoding, value in _fields(data):
        if number in fields:
            name, of = fields[number]
            for one in _values(encoding, value, of, name):
                message.add(name, one)
    return message


def _fields(data: memoryview) -> Iterator[tuple[int, int, Any]]:
    """(number, encoding, value) of each field; the value is an int, or bytes."""
    at = count = 0
    while at < len(data):
        count += 1
        if count > _MOST_FIELDS:
            raise ValueError(f"it has more than {_MOST_FIELDS:,} fields")
        key, at = _varint(data, at)
        number, encoding = key >> 3, key & 7
        if encoding == _VARINT:
            value, at = _varint(data, at)
            yield number, encoding, value
            continue
        if encoding == _LENGTH:
            length, at = _varint(data, at)
        elif encoding in (_EIGHT, _FOUR):
            length = 8 if encoding == _EIGHT else 4
        else:
            raise ValueError(f"it has a field of encoding {encoding}")
        if length > len(data) - at:
            raise ValueError(f"it claims {length:,} bytes, but only {len(data) - at:,} are left")
        yield number, encoding, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number stored in seven bits per byte, lowest first, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("it is cut short")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("it has a number of more than 64 bits")


def _values(encoding: int, value: Any, of: str, name: str) -> Iterator[Any]:
    """The values in one field; numbers may be packed, many in one field."""
    if of in SCHEMA or of in ("text", "Blob"):
        if encoding != _LENGTH:
            raise ValueError(f"{name} is not a message")
        if of == "Blob":
            yield blob(value)
        elif of == "text":
            yield bytes(value[:4096]).decode("utf-8", "replace")
        else:
            yield parse(value, of)
    elif of == "float":
        if encoding == _VARINT:
            raise ValueError(f"{name} is not a float")
        # the shortest decimal of this float32: 5e-05, not 4.9999998736893758e-05
        yield from (float(str(one)) for one in _floats(value, "<f4"))
    else:
        for number in [value] if encoding == _VARINT else _packed(value, name):
            signed = number - 2 * _SIGN if number & _SIGN else number
            yield ENUMS[of].get(signed, f"number {signed}") if of in ENUMS else signed


def _packed(data: Any, name: str) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _floats(data: memoryview, dtype: str) -> np.ndarray:
    if len(data) % np.dtype(dtype).itemsize:
        raise ValueError("it has an incomplete number")
    return np.frombuffer(data, dtype)


def blob(data: memoryview) -> np.ndarray:
    """Caffe's BlobProto as a float32 array of its shape, if possible a view."""
    old = dict.fromkeys((1, 2, 3, 4), 0)  # num, channels, height, width
    shape: list[int] | None = None
    parts: list[np.ndarray] = []
    single = bytearray()  # floats that are not packed: one field each
    for number, encoding, value in _fields(data):
        if number in old and encoding == _VARINT:
            old[number] = value
        elif number == 7 and encoding == _LENGTH:
            shape = parse(value, "BlobShape").integers("dim", most=1 << 40)
        elif number == 5 and encoding == _FOUR:
            single += value
        elif number == 5 and encoding == _LENGTH:
            parts.append(_floats(value, "<f4"))
        elif number == 8 and encoding == _LENGTH:
            parts.append(_floats(value, "<f8").astype(np.float32))
    if single:
        parts.append(np.frombuffer(bytes(single), "<f4"))
    flat = parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.float32), *parts])
    sizes = tuple(old.values()) if shape is None else tuple(shape)
    if prod(sizes) != len(flat):
        raise ValueError(f"it has a blob of shape {sizes} with {len(flat):,} numbers")
    return flat.reshape(sizes)
