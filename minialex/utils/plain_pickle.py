"""A restricted unpickler for plain values and numeric arrays; everything else is refused.

A pickle is a program. This reader first scans its instructions and stops at the first that plain
data does not need; the few classes that NumPy's arrays refer to are stand-ins defined here, so that
nothing in the file decides what is called.
"""

import io
import pickle
import pickletools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from minialex.errors import InputError, reason

_LARGEST = 1 << 30  # bytes; a CIFAR-10 batch has 31 million
_PLAIN = """
    PROTO FRAME STOP MARK EMPTY_DICT DICT SETITEM SETITEMS EMPTY_LIST LIST APPEND APPENDS
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG
    LONG1 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE
    BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 PUT BINPUT LONG_BINPUT MEMOIZE GET
    BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD
"""
_BY_CODE = {op.code.encode("latin1"): op for op in pickletools.opcodes}
_PLAIN_CODES = {code for code, op in _BY_CODE.items() if op.name in _PLAIN.split()}
NUMPY = {f"numpy.{core}.{of}" for core in ("core", "_core") for of in ("multiarray", "numeric")}
_KINDS = {"u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "b1"}


def load(path: Path) -> Any:
    """The value in `path`: dicts, lists, tuples, numbers, bytes for Python 2's strings, arrays.

    Raises InputError for a file that is damaged or holds anything else.
    """
    if path.stat().st_size > _LARGEST:
        raise InputError(
            f"{str(path)!r} has {path.stat().st_size:,} bytes, too many for a batch of images"
        )
    content = path.read_bytes()
    try:
        inspect(io.BytesIO(content))
        return _arrays(Reader(io.BytesIO(content), encoding="bytes").load())
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise InputError(
            f"{str(path)!r} is not a plain pickle of images and labels ({reason(error)}): "
            "download it again, or use CIFAR-10's binary version"
        ) from None


def inspect(file: BinaryIO, also: Iterable[str] = ()) -> None:
    """Read one pickle up to its end; ValueError for instructions that plain data does not need.

    Memo indices that would exhaust the memory are refused too. `also` allows more instructions.
    """
    number, name = 0, ""
    while name != "STOP":
        number, code = number + 1, file.read(1)
        if code not in _PLAIN_CODES and (code not in _BY_CODE or _BY_CODE[code].name not in also):
            raise ValueError(f"it uses the instruction {code!r}" if code else "it is cut short")
        opcode = _BY_CODE[code]
        name, argument = opcode.name, 0
        if name == "STRING":  # pickletools takes ASCII only
            file.readline()
        elif opcode.arg is not None:
            argument = opcode.arg.reader(file)  # type: ignore[assignment, call-arg]
        if name in ("PUT", "LONG_BINPUT") and not 0 <= argument <= number:
            raise ValueError(f"it has a memo index of {argument:,}")


class Sealed:
    """A stand-in that is complete once made.

    Without `__setstate__`, the instruction BUILD would write into `__dict__`, which even a frozen
    dataclass cannot prevent: a file could then replace the path that its numbers are read from.
    """

    def __setstate__(self, state: Any) -> None:
        raise ValueError(f"it changes a {type(self).__name__.strip('_')} that is complete")


class Function(Sealed):
    """A function that a file may call but not change: functions have a `__dict__` too."""

    def __init__(self, call: Callable[..., Any]):
        self.call = call

    def __call__(self, *given: Any) -> Any:
        return self.call(*given)


class Reader(pickle.Unpickler):
    """Unpickles what `inspect` has accepted; classes become stand-ins, or are refused."""

    def find_class(self, module: str, name: str) -> Any:
        if module in NUMPY:
            module = "numpy"
        known = {
            ("numpy", "_reconstruct"): Function(_reconstruct),
            ("numpy", "_frombuffer"): Function(_from_buffer),
            ("numpy", "ndarray"): StoredArray,
            ("numpy", "dtype"): _Kind,
            ("_codecs", "encode"): Function(_encode),
        }
        if (module, name) not in known:
            raise ValueError(f"it asks for {module}.{name}")
        return known[module, name]


class _Kind:
    """Stands for numpy.dtype: a kind of number and its byte order."""

    def __init__(self, code: Any, *_: Any):
        code = code.decode("ascii") if isinstance(code, bytes) else code
        if code not in _KINDS:
            raise ValueError(f"it holds an array of {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise ValueError(f"it holds an array of byte order {order!r}")
        self.dtype = self.dtype.newbyteorder(order)


class StoredArray:
    """Stands for numpy.ndarray until all of the file is read."""

    value = np.zeros(0)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, content = state
        if not isinstance(kind, _Kind) or not isinstance(content, bytes | bytearray):
            raise ValueError("it holds an array of objects")
        flat = np.frombuffer(content, kind.dtype)
        self.value = flat.reshape(tuple(map(int, shape)), order="F" if fortran else "C")


def _reconstruct(*_: Any) -> StoredArray:
    return StoredArray()


def _from_buffer(
    content: object, kind: object, shape: object, order: object, *_: Any
) -> "StoredArray":
    """How protocol 5 writes an array."""
    array = StoredArray()
    array.__setstate__((1, shape, kind, order == "F", content))
    return array


def _encode(text: str, encoding: str | bytes) -> bytes:
    """How Python 3 writes bytes for Python 2."""
    if encoding not in ("latin1", b"latin1"):
        raise ValueError(f"it holds bytes encoded as {encoding!r}")
    return text.encode("latin1")


def _arrays(value: Any) -> Any:
    """Arrays in place of their stand-ins, in a dict or on its own."""
    if isinstance(value, dict):
        return {k: v.value if isinstance(v, StoredArray) else v for k, v in value.items()}
    return value.value if isinstance(value, StoredArray) else value
