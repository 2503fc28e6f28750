"""Writes a file that `torch.load` reads, without PyTorch: a state dict of float32 arrays.

The pickle in it is written instruction by instruction, like PyTorch's since version 1.6.
"""

import io
import json
import struct
import zipfile
from pathlib import Path

import numpy as np

from minialex.errors import InputError
from minialex.utils import atomic

TEXTS = "minialex.json"
LARGEST_TEXTS = 256 << 20  # bytes; a list of a million images has 100 MB
_ROOT = "archive"
TEXTS_ENTRY = f"{_ROOT}/{TEXTS}"


def write(path: Path, tensors: dict[str, np.ndarray], texts: dict[str, str] | None = None) -> None:
    """Write the arrays by name, in this order; raises OSError with a sentence if that fails.

    `texts` go into a separate entry, which PyTorch ignores.
    """
    sink = _Blocks()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        _add(archive, "data.pkl", memoryview(_pickle(tensors)))
        _add(archive, "byteorder", memoryview(b"little"))
        for number, array in enumerate(tensors.values()):
            flat = np.ascontiguousarray(array, "<f4").reshape(-1)
            _add(archive, f"data/{number}", flat.view(np.uint8).data)
        _add(archive, "version", memoryview(b"3\n"))
        if texts:
            described = json.dumps(texts).encode()
            if len(described) > LARGEST_TEXTS:
                raise InputError(
                    f"{path} would have a description of {len(described):,} bytes, more than is "
                    "read again: export to .onnx"
                )
            _add(archive, TEXTS, memoryview(described))
    atomic.write_blocks(path, sink.blocks)


def _add(archive: zipfile.ZipFile, name: str, content: memoryview) -> None:
    """An entry whose bytes are not copied."""
    entry = zipfile.ZipInfo(f"{_ROOT}/{name}", (1980, 1, 1, 0, 0, 0))  # the same bytes every time
    entry.file_size = len(content)
    with archive.open(entry, "w") as file:
        file.write(content)  # type: ignore[arg-type]


class _Blocks(io.RawIOBase):
    """A file object that keeps the blocks written to it."""

    def __init__(self) -> None:
        self.blocks: list[bytes | memoryview] = []

    def writable(self) -> bool:
        return True

    def write(self, block: bytes | memoryview) -> int:  # type: ignore[override]
        self.blocks.append(block)
        return len(block)


# ------------------------------------------------------------------------------------ the pickle


def _pickle(tensors: dict[str, np.ndarray]) -> bytes:
    """OrderedDict({name: _rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())})."""
    made = [b"\x80\x02", b"ccollections\nOrderedDict\n", b")R("]  # PROTO, GLOBAL, (), REDUCE, MARK
    for number, (name, array) in enumerate(tensors.items()):
        steps = [int(np.prod(array.shape[i + 1 :])) for i in range(array.ndim)]
        made += [
            _text(name),
            b"ctorch._utils\n_rebuild_tensor_v2\n((",
            *(_text("storage"), b"ctorch\nFloatStorage\n", _text(str(number)), _text("cpu")),
            *(_number(array.size), b"tQ"),  # TUPLE, BINPERSID
            *(_number(0), _tuple(array.shape), _tuple(steps)),
            b"\x89ccollections\nOrderedDict\n)RtR",  # NEWFALSE, an empty OrderedDict, REDUCE
        ]
    made.append(b"u.")  # SETITEMS, STOP
    return b"".join(made)


def _text(text: str) -> bytes:
    content = text.encode()
    return b"X" + struct.pack("<I", len(content)) + content


def _number(value: int) -> bytes:
    if value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x08" + value.to_bytes(8, "little")  # LONG1


def _tuple(values: tuple[int, ...] | list[int]) -> bytes:
    return b"(" + b"".join(map(_number, values)) + b"t"
