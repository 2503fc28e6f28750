"""Reads the pickle in a `torch.save` file: plain values and tensors; nothing in it is executed.

Its instructions are checked first, and the few functions and classes that tensors need are replaced
by stand-ins defined here (see `minialex.utils.plain_pickle`).
"""

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from minialex.errors import InputError
from minialex.exchange.tensors import StoredTensor, from_bfloat16
from minialex.utils import plain_pickle
from minialex.utils.plain_pickle import Function, Sealed

ALSO = ("BINPERSID", "NEWOBJ")  # instructions that PyTorch's files need beside plain values
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


class Refused(Exception):
    """Why a file cannot be read."""


@dataclass(frozen=True)
class Storage(Sealed):
    """A typed storage, kept outside the pickle."""

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
        """A view of the numbers; Refused if it goes beyond them or repeats any."""
        if not len(shape) == len(strides) <= _MOST_DIMENSIONS:
            raise Refused(f"is damaged: a tensor has shape {shape} and strides {strides}")
        if min((offset, *shape, *strides)) < 0 or prod(shape) > self.count:
            raise Refused(f"is damaged: a tensor of {shape} has {self.count:,} numbers")
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        if prod(shape) and last >= self.count:
            raise Refused(f"is damaged: a tensor of {shape} ends after its {self.count:,} numbers")
        if self.where is None:
            return StoredTensor(shape, self.itemsize, lambda: np.zeros(0, np.float32))
        start, length = self.where(self.key, self.count, self.itemsize)
        if length != self.count * self.itemsize:
            raise Refused(
                f"is damaged: {self.key!r} has {length:,} bytes for {self.count:,} numbers"
            )

        def load() -> np.ndarray:
            count = last - offset + 1 if prod(shape) else 0
            numbers = self._numbers(start + offset * self.itemsize, count)
            steps = [step * numbers.itemsize for step in strides]
            view = np.lib.stride_tricks.as_strided(numbers, shape, steps)
            return view.astype(np.float32, copy=False)

        def rows(first: int, end: int) -> np.ndarray:
            one = prod(shape[1:])
            numbers = self._numbers(
                start + (offset + first * one) * self.itemsize, one * (end - first)
            )
            return numbers.reshape(end - first, *shape[1:]).astype(np.float32, copy=False)

        plain = strides == tuple(prod(shape[i + 1 :]) for i in range(len(shape)))
        return StoredTensor(shape, self.itemsize, load, rows if plain and shape else None)

    def _numbers(self, first: int, count: int) -> np.ndarray:
        """`count` numbers from a byte of the file on; bfloat16 as float32."""
        kind = np.dtype("u2" if self.kind == _BFLOAT else self.kind)
        kind = kind.newbyteorder(">" if self.order == "big" else "<")
        numbers = np.fromfile(self.path, kind, count, offset=first)
        if len(numbers) < count:
            raise InputError(f"{self.path} is cut short")
        if self.kind == _BFLOAT:
            return from_bfloat16(numbers)
        return numbers


class _Mapping(dict):
    """Stands for dictionaries and a training script's options; what is attached is dropped.

    Attached are a state dict's `_metadata`, and the options themselves.
    """

    def __setstate__(self, state: Any) -> None:
        pass


@dataclass(frozen=True)
class _StorageKind(Sealed):
    """Stands for a storage class, such as torch.FloatStorage."""

    kind: str


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> StoredTensor:
    if not isinstance(storage, Storage):
        raise Refused("is damaged: a tensor has no numbers")
    return storage.tensor(int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def _rebuild_parameter(tensor: Any, *_: Any) -> StoredTensor:
    if not isinstance(tensor, StoredTensor):
        raise Refused("is damaged: a parameter is not a tensor")
    return tensor


class Unpickler(pickle.Unpickler):
    """Builds plain values and tensors; `finish` gets each storage and may replace it."""

    def __init__(self, content: bytes, finish: Callable[[Storage], Storage | None]):
        super().__init__(io.BytesIO(content), encoding="utf-8")
        self.finish = finish

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("collections", "OrderedDict"): _Mapping,
            ("collections", "Counter"): _Mapping,  # in the state of MultiStepLR
            ("argparse", "Namespace"): _Mapping,  # in checkpoints of torchvision's script
            ("torch._utils", "_rebuild_tensor_v2"): Function(_rebuild_tensor),
            ("torch._utils", "_rebuild_tensor"): Function(_rebuild_tensor),
            ("torch._utils", "_rebuild_parameter"): Function(_rebuild_parameter),
        }
        if (module, name) in known:
            return known[module, name]
        if module in ("torch", "torch.cuda") and name in _STORAGES:
            return _StorageKind(_STORAGES[name])
        raise Refused(
            f"is not plain weights: it needs {module}.{name}, and code in a pickle is never run; "
            "save the model's state_dict() instead"
        )

    def persistent_load(self, pid: Any) -> Storage:
        tag, kind, key, _, count, *view = pid
        if tag not in ("storage", b"storage") or not isinstance(kind, _StorageKind):
            raise Refused("is damaged: it refers to something other than numbers")
        if (
            not isinstance(count, int)
            or not 0 <= count < 1 << 48
            or any(v is not None for v in view)
        ):
            raise Refused(f"is damaged: it claims {count!r} numbers")
        storage = Storage(kind.kind, str(key), count)
        return self.finish(storage) or storage


def load_object(
    path: Path,
    description: bytes,
    order: str,
    locate: Callable[[str, int, int], tuple[int, int]],
) -> Any:
    plain_pickle.inspect(io.BytesIO(description), also=ALSO)

    def finish(storage: Storage) -> Storage:
        return Storage(storage.kind, storage.key, storage.count, locate, path, order)

    return Unpickler(description, finish).load()
