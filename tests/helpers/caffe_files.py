"""Writes Caffe's files as Caffe does, by the field numbers of its caffe.proto."""

import struct

import numpy as np

from minialex.exchange.caffe.schema import ENUMS, SCHEMA


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


def field(number: int, content: bytes) -> bytes:
    """A field with a length."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def blob(array: np.ndarray, old: bool = False) -> bytes:
    """A BlobProto: with a shape, or with Caffe's first four sizes."""
    data = field(5, np.asarray(array, "<f4").tobytes())
    if not old:
        return field(7, field(1, b"".join(map(varint, array.shape)))) + data
    sizes = (1,) * (4 - array.ndim) + array.shape
    return b"".join(varint(i << 3) + varint(s) for i, s in enumerate(sizes, 1)) + data


def encode(kind: str, values: dict, old: bool = False) -> bytes:
    """The message {field: value or [values]} of a kind."""
    numbers = {name: (number, of) for number, (name, of) in SCHEMA[kind].items()}
    parts = []
    for name, given in values.items():
        number, of = numbers[name]
        for value in given if isinstance(given, list) else [given]:
            if of in SCHEMA:
                parts.append(field(number, encode(of, value, old)))
            elif of == "Blob":
                parts.append(field(number, blob(value, old)))
            elif of == "text":
                parts.append(field(number, value.encode()))
            elif of == "float":
                parts.append(varint(number << 3 | 5) + struct.pack("<f", value))
            else:
                if of in ENUMS:
                    value = {v: k for k, v in ENUMS[of].items()}[value]
                parts.append(varint(number << 3) + varint(value))
    return b"".join(parts)


def prototxt(values: dict, indent: str = "") -> str:
    """The same as text, without blobs."""
    lines = []
    for name, given in values.items():
        for value in given if isinstance(given, list) else [given]:
            if isinstance(value, dict):
                lines.append(f"{indent}{name} {{\n{prototxt(value, indent + '  ')}{indent}}}\n")
            elif isinstance(value, str):
                enum = any(value in of.values() for of in ENUMS.values())
                lines.append(f"{indent}{name}: " + (value if enum else f'"{value}"') + "\n")
            elif not isinstance(value, np.ndarray):
                lines.append(f"{indent}{name}: {value!r}\n")
    return "".join(lines)
