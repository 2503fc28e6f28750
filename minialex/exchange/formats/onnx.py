"""ONNX files with chains of layers, using the `onnx` package (`minialex[exchange]`)."""

from pathlib import Path

from minialex.exchange.formats.format import Format, Request
from minialex.exchange.portable import PortableModel


def _matches(path: Path, head: bytes) -> bool:
    return bool(head) and path.suffix.lower() == ".onnx"


def _read(request: Request) -> PortableModel:
    from minialex.exchange.onnx.graph import read

    return read(request)


def _write(portable: PortableModel, path: Path, with_preprocessing: bool) -> str:
    from minialex.exchange.onnx.writer import write

    return write(portable, path, with_preprocessing)


FORMAT = Format("ONNX", 30, _matches, _read, (".onnx",), _write)
