"""The checked graph and constants of an ONNX file; nothing outside its folder is read."""

from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from minialex.errors import InputError

_LARGEST = 1 << 31  # bytes in a protobuf
_LARGEST_MADE = 1 << 30  # bytes of constants that a graph only describes; VGG's are 0.58 GB
_FLOATS = {1: "f4", 10: "f2", 11: "f8"}  # TensorProto's numbers for its types
_INTEGERS = {2: "u1", 3: "i1", 4: "u2", 5: "i2", 6: "i4", 7: "i8", 9: "b1", 12: "u4", 13: "u8"}
_KINDS = _FLOATS | _INTEGERS
_EXTERNAL = 1  # TensorProto.EXTERNAL

INSTALL = "ONNX files need the onnx package: pip install 'minialex[exchange]'"


def package() -> Any:
    """The `onnx` package; InputError if it is not installed."""
    try:
        import onnx
    except ImportError:
        raise InputError(INSTALL) from None
    return onnx


@dataclass
class Graph:
    """The nodes in order, the one input, and the constants by name."""

    path: Path
    model: Any
    constants: dict[str, Any] = field(default_factory=dict)
    made: int = 0  # bytes of constants that nodes make
    external: dict[tuple[Path, int], int] = field(default_factory=dict)  # bytes in other files

    @property
    def nodes(self) -> list[Any]:
        return list(self.model.graph.node)

    @cached_property
    def input(self) -> Any:
        """The one input that is not a constant."""
        given = [one for one in self.model.graph.input if one.name not in self.constants]
        if len(given) != 1:
            names = ", ".join(one.name for one in given) or "none"
            raise InputError(f"{self.path} has the inputs {names}: a classifier has one: images")
        return given[0]

    @property
    def opset(self) -> int:
        """The version of the standard operators."""
        versions = [one.version for one in self.model.opset_import if one.domain in ("", "ai.onnx")]
        return versions[0] if versions else 1

    @property
    def texts(self) -> dict[str, str]:
        """The metadata."""
        return {one.key: one.value for one in self.model.metadata_props}

    @property
    def most_bytes(self) -> int:
        """The most bytes of all weights together: twice the files, because of float16."""
        return 2 * (self.path.stat().st_size + sum(self.external.values())) + self.made

    def constant(self, name: str) -> np.ndarray:
        """A constant as an array; float16 and float64 become float32."""
        value = self.constants[name]
        if not isinstance(value, np.ndarray):
            value = self.array(value)  # not kept: a network's weights are converted and released
        return value.astype(np.float32, copy=False) if value.dtype.kind == "f" else value

    def array(self, tensor: Any) -> np.ndarray:
        """A TensorProto as an array; InputError if it claims more than the file has."""
        shape, what = tuple(tensor.dims), f"{self.path}: the tensor {tensor.name!r}"
        kind = _KINDS.get(tensor.data_type)
        if kind is None:
            names = {number: name for name, number in package().TensorProto.DataType.items()}
            found = names.get(tensor.data_type, tensor.data_type)
            raise InputError(f"{what} is of type {found}: save the weights as float32")
        if any(extent < 0 for extent in shape) or prod(shape) > _LARGEST:
            raise InputError(f"{what} is damaged: it has the shape {shape}")
        dtype, count = np.dtype(kind).newbyteorder("<"), prod(shape)
        if tensor.data_location == _EXTERNAL:
            return self._external(tensor, dtype, count).reshape(shape)
        if tensor.HasField("raw_data"):
            if len(tensor.raw_data) != count * dtype.itemsize:
                raise InputError(
                    f"{what} is damaged: {shape} of {dtype.itemsize} bytes each, but there are "
                    f"{len(tensor.raw_data):,}"
                )
            return np.frombuffer(tensor.raw_data, dtype).reshape(shape)
        fields = {"f4": "float_data", "f8": "double_data", "i8": "int64_data", "u8": "uint64_data"}
        values = getattr(tensor, fields.get(kind, "int32_data"))
        if len(values) != count:
            raise InputError(f"{what} is damaged: {shape}, but there are {len(values):,} numbers")
        if kind == "f2":
            return np.array(values, np.uint16).view(np.float16).reshape(shape)
        return np.array(values, dtype).reshape(shape)

    def _external(self, tensor: Any, dtype: np.dtype, count: int) -> np.ndarray:
        """A tensor stored in a separate file in the same folder."""
        about = {one.key: one.value for one in tensor.external_data}
        folder = self.path.parent.resolve()
        data_file = (folder / about.get("location", "")).resolve()
        if not data_file.is_relative_to(folder):
            raise InputError(
                f"{self.path}: the tensor {tensor.name!r} is in {about['location']!r}, outside the "
                "file's folder: it is not read"
            )
        if not data_file.is_file():
            raise InputError(f"{self.path}: its data file {about.get('location')!r} is missing")
        try:
            offset = int(about.get("offset", 0))
        except ValueError:
            raise InputError(f"{self.path} is damaged: {tensor.name!r} has no offset") from None
        if not 0 <= offset <= data_file.stat().st_size - count * dtype.itemsize:
            raise InputError(f"{self.path}: {data_file.name} is too short for {tensor.name!r}")
        self.external[data_file, offset] = count * dtype.itemsize
        return np.fromfile(data_file, dtype, count, offset=offset)

    def make(self, name: str, shape: tuple[int, ...], value: np.ndarray) -> None:
        """A constant filled with one number."""
        if any(extent < 0 for extent in shape):
            raise InputError(f"{self.path}: {name!r} has shape {shape}")
        self.made += prod(shape) * value.itemsize
        if self.made > _LARGEST_MADE:
            raise InputError(f"{self.path} describes constants of {self.made:,} bytes: too many")
        self.constants[name] = np.broadcast_to(value.reshape(()), shape)


def read(path: Path) -> Graph:
    """The graph in a file; raises InputError if it is damaged."""
    onnx = package()
    from google.protobuf.message import DecodeError

    size = path.stat().st_size
    if size >= _LARGEST:
        raise InputError(f"{path} has {size:,} bytes, but a protobuf has at most 2 GiB")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError:
        raise InputError(f"{path} is damaged or not an ONNX file") from None
    graph = Graph(path, model)
    if not model.graph.node:
        raise InputError(f"{path} is damaged or not an ONNX file: it has no nodes")
    if model.graph.sparse_initializer:
        raise InputError(f"{path} has sparse weights, which are not supported")
    graph.constants.update({one.name: one for one in model.graph.initializer})
    return graph
