"""safetensors files with PyTorch's key names, as opposed to minialex's own weight files."""

import json
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from minialex.errors import InputError, reason
from minialex.exchange import metadata
from minialex.exchange.formats.format import Format, Request
from minialex.exchange.portable import PortableModel
from minialex.exchange.pytorch import state_dict
from minialex.exchange.tensors import StoredTensor, from_bfloat16
from minialex.utils import checkpoint

_ITEMSIZES = {"F64": 8, "F32": 4, "F16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1}
_ITEMSIZES |= {"BF16": 2, "BOOL": 1}


def _matches(path: Path, head: bytes) -> bool:
    """Whether another program wrote the file; a damaged one is left to our own reader."""
    from safetensors import SafetensorError, safe_open

    size = int.from_bytes(head[:8], "little")
    if head[8:9] != b"{" or size > checkpoint.LARGEST_HEADER:
        return False
    try:
        with safe_open(path, framework="numpy") as file:
            return checkpoint.KEY not in (file.metadata() or {})
    except SafetensorError:
        return False


def _read(request: Request) -> PortableModel:
    from safetensors import SafetensorError, safe_open

    path = request.path
    try:
        with safe_open(path, framework="numpy") as file:
            about = file.metadata() or {}
            tensors = {name: _tensor(path, file, name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{path} is damaged ({reason(error)})") from None
    if metadata.NETWORK in about:
        found = metadata.read(path, about)
        metadata.require_named(path, found.model, request.as_model)
        return state_dict.described(path, tensors, "safetensors", found)
    return state_dict.portable(path, tensors, "safetensors", request.as_model)


def _tensor(path: Path, file: Any, name: str) -> StoredTensor:
    described = file.get_slice(name)
    kind = described.get_dtype()
    itemsize = _ITEMSIZES.get(kind)
    if itemsize is None:
        raise InputError(f"{path}: {name} is of type {kind}: save the weights as float32")
    load = partial(_load, path, name, kind)
    shape = tuple(described.get_shape())
    return StoredTensor(shape, itemsize, load, load if shape else None)


def _load(path: Path, name: str, kind: str, first: int = 0, end: int | None = None) -> np.ndarray:
    """Rows first … end - 1 of a tensor; without `end`, all of it."""
    from safetensors import safe_open

    if kind == "BF16":
        return _brain_floats(path, name, first, end)
    with safe_open(path, framework="numpy") as file:
        found = file.get_tensor(name) if end is None else file.get_slice(name)[first:end]
        return found.astype(np.float32, copy=False)


def _brain_floats(path: Path, name: str, first: int, end: int | None) -> np.ndarray:
    """The same for bfloat16, which NumPy does not have; the library has checked the file."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        described = json.loads(file.read(size))[name]
    length, *rest = described["shape"] or [1]
    rows, one = (length if end is None else end) - first, prod(rest)
    start = 8 + size + described["data_offsets"][0] + 2 * first * one
    numbers = np.fromfile(path, "<u2", rows * one, offset=start)
    return from_bfloat16(numbers).reshape((rows, *rest) if described["shape"] else ())


def _write(portable: PortableModel, path: Path, with_preprocessing: bool) -> str:
    tensors, said = state_dict.exported(portable, str(path), with_preprocessing)
    checkpoint.write(path, tensors, {"format": "pt", **metadata.described(portable)})
    return said


FORMAT = Format("safetensors", 10, _matches, _read, (".safetensors",), _write)
