"""cuda-convnet's checkpoints: pickles of a dictionary with the layers and their weights.

Besides the layers, a checkpoint holds objects of the program's own classes: its options. Their
classes are never imported or called: anything in a pickle that plain data does not need becomes an
empty object, and the instructions are checked first (see `minialex.utils.plain_pickle`).
"""

import io
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minialex.errors import InputError, reason
from minialex.exchange.convnet.cfg import Sections
from minialex.utils import plain_pickle

_LARGEST = 4 << 30  # bytes
_SMALL, _DENSEST = 16 << 20, 20  # most growth of a zip archive, in bytes or as a factor
_OBJECTS = ("INST", "OBJ", "NEWOBJ", "POP", "POP_MARK", "DUP", "EMPTY_SET", "LONG4")
_NAME = re.compile(r"\d+\.\d+")  # a file name: epoch and batch
_ZIP = b"PK\x03\x04"


class _Nothing:
    """Stands for an object of any class: it can be created and filled, and does nothing."""

    def __new__(cls, *_: Any) -> "_Nothing":
        return object.__new__(cls)

    def __init__(self, *_: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Called by a pickle for lists."""

    def extend(self, values: Any) -> None:
        """The same for several items at a time."""


class _Reader(plain_pickle.Reader):
    def find_class(self, module: str, name: str) -> Any:
        if name == "OrderedDict":
            return _Ordered
        if module in plain_pickle.NUMPY and name == "scalar":
            return plain_pickle.Function(_scalar)
        try:
            return super().find_class(module, name)
        except ValueError:
            return _Nothing


class _Ordered(dict[Any, Any]):
    """Stands for OrderedDict, the type of all its dictionaries."""

    def __setstate__(self, state: Any) -> None:
        pass


def _scalar(kind: Any, content: Any) -> Any:
    if not isinstance(content, bytes) or len(content) != kind.dtype.itemsize:
        raise ValueError("it has a number of the wrong length")
    return np.frombuffer(content, kind.dtype)[0].item()


def newest(path: Path) -> Path | None:
    """The checkpoint at a path: the file, or the newest in a folder; None if there is none.

    Files in a folder are named epoch.batch.
    """
    if not path.is_dir():
        return path if _NAME.fullmatch(path.name) else None
    found = [one for one in path.iterdir() if _NAME.fullmatch(one.name) and one.is_file()]
    return max(found, key=lambda one: tuple(map(int, one.name.split("."))), default=None)


def layers(path: Path) -> dict[str, dict[str, Any]]:
    """The layers in a checkpoint by name, each after its inputs.

    Raises InputError for a file that is damaged or not a checkpoint.
    """
    try:
        content = _content(path)
        plain_pickle.inspect(io.BytesIO(content), _OBJECTS)
        return _sorted(_plain(_Reader(io.BytesIO(content), encoding="bytes").load()))
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise InputError(f"{path} is not a cuda-convnet checkpoint ({reason(error)})") from None


def _content(path: Path) -> bytes:
    size = path.stat().st_size
    if size > _LARGEST:
        raise ValueError(f"it has {size:,} bytes")
    with path.open("rb") as file:
        if file.read(4) != _ZIP:
            file.seek(0)
            return file.read()
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if len(entries) != 1:
            raise ValueError(f"its archive has {len(entries)} entries instead of one")
        [entry] = entries
        if entry.header_offset < 0 or entry.compress_size > size:
            raise ValueError("its archive is damaged")  # the library would allocate what it claims
        if entry.file_size > _SMALL + _DENSEST * size:
            raise ValueError(f"it claims {entry.file_size:,} bytes in an archive of {size:,}")
        return archive.read(entry)


def _plain(content: Any) -> list[dict[str, Any]]:
    """The list or dictionary of layers, with Python 2's strings in keys as text."""
    state = _texts(content).get("model_state")
    found = _texts(state).get("layers") if isinstance(state, dict) else None
    if isinstance(found, dict):
        found = list(found.values())
    if not isinstance(found, list) or not found or not all(isinstance(v, dict) for v in found):
        raise ValueError("it has no layers")
    return [_texts(values) for values in found]


def _texts(values: Any) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise ValueError("it has no dictionary")
    return {_text(key): value for key, value in values.items() if isinstance(key, bytes | str)}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, bytes):
        raise ValueError("it has a name that is not text")
    return value.decode("latin1")


def _sorted(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    names = [_text(values.get("name", "")) for values in found]
    for values in found:
        inputs = values.get("inputs", [])
        # the first versions have indices instead of names
        values["inputs"] = [
            names[one] if isinstance(one, int) else _text(one) for one in _listed(inputs)
        ]
    left, placed = dict(zip(names, found, strict=True)), {}
    while left:
        ready = [name for name, values in left.items() if not set(values["inputs"]) & set(left)]
        if not ready:
            raise ValueError("its layers form a cycle")
        for name in ready:
            placed[name] = left.pop(name)
    return placed


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


# ------------------------------------------------------------------------------- what is made of it


_KEYS = (
    *("channels", "filters", "filterSize", "padding", "stride", "groups", "sharedBiases"),
    *("sizeX", "size", "start", "outputsX", "pool", "outputs", "keep", "dataIdx", "pow", "minDiv"),
    *("randSparse", "initW", "initB", "sum", "blocked", "enable"),
)


def sections(found: Mapping[str, dict[str, Any]]) -> Sections:
    """The layers in the form of a .cfg, so that the same code builds the network."""
    return {name: _section(values) for name, values in found.items()}


def _section(values: dict[str, Any]) -> dict[str, str]:
    made = {"type": _text(values.get("type", "")), "inputs": ",".join(values["inputs"])}
    for key in _KEYS:
        if key in values:
            made[key.lower()] = ",".join(_number(one) for one in _listed(values[key]))
    if not made["inputs"]:
        del made["inputs"]
    if made["type"] in ("conv", "local"):  # padding is stored negated, filters over all groups
        made["padding"] = made.get("padding", "0").replace("-", "")
        made["filters"] = str(_whole(made, "filters") // max(1, _whole(made, "groups")))
    if made["type"] in ("cmrnorm", "rnorm", "cnorm") and "scale" in values:
        size = _whole(made, "size" if "size" in made else "sizex")
        power = 1 if made["type"] == "cmrnorm" else 2  # it is stored divided by the window
        made["scale"] = repr(float(values["scale"]) * size**power)
    neuron = values.get("neuron")
    if isinstance(neuron, dict):
        neuron = _texts(neuron).get("type", "")
    if neuron:
        made["neuron"] = _text(neuron)
    return made


def _whole(made: dict[str, str], key: str) -> int:
    """The first number in a value; 1 if there is none."""
    text = made.get(key, "1").split(",")[0]
    if not text.isdecimal() or len(text) > 9:
        raise ValueError(f"a layer has {key} = {text[:40]}")
    return int(text)


def _number(value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int | float):
        return repr(value)
    return _text(value)[:100] if isinstance(value, bytes | str) else ""


def image_side(found: Mapping[str, dict[str, Any]]) -> int:
    """The side of the images in the data layer."""
    for values in found.values():
        if _text(values.get("type", "")) == "data" and values.get("dataIdx", 0) == 0:
            side = round((int(values["outputs"]) / 3) ** 0.5)
            if 3 * side**2 == values["outputs"]:
                return side
    raise ValueError("no layer provides square images of three colours")


def array(values: dict[str, Any], key: str, number: int) -> np.ndarray:
    """Array `number` of a list, float32."""
    found = _listed(values.get(key))
    if number >= len(found) or not isinstance(found[number], plain_pickle.StoredArray):
        raise ValueError(f"layer {_text(values.get('name', ''))[:60]!r} has no {key}")
    return np.asarray(found[number].value, np.float32)
