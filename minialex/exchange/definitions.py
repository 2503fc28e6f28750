"""Files that define a network without weights: to print, and to train from scratch."""

from pathlib import Path
from typing import Any

from minialex import models
from minialex.errors import InputError, nearest, reason
from minialex.exchange.caffe import model as caffe
from minialex.exchange.caffe import text
from minialex.exchange.convnet.open import Layers, open_cfg
from minialex.models import Model, layer_list
from minialex.models.summary import summary

_LARGEST = 1 << 22  # bytes of a prototxt
_CFG, _PROTOTXT = ".cfg", ".prototxt"


def is_definition(model: Any) -> bool:
    """Whether a model is given by a file of cuda-convnet (.cfg) or Caffe (.prototxt)."""
    return isinstance(model, str) and model.endswith((_CFG, _PROTOTXT))


def model_of(path: Path, classes: int | None = None, size: int | None = None) -> Model:
    """The model that a file defines; InputError for one with unsupported layers.

    `size` is the side of the images if the file does not give it, as is the case for .cfg files.
    """
    layers = open_cfg(path, size) if path.suffix == _CFG else read_prototxt(path)
    try:
        if isinstance(layers, Layers):
            return layers.model(classes)
        found = caffe.untrained(caffe.described(layers, {}, None, size))
    except ValueError as error:
        raise InputError(f"{path} cannot be trained ({reason(error)})") from None
    return found if classes is None else models.get(found.name, classes, **found.options)


def summary_of(path: Path, classes: int | None = None, size: int | None = None) -> str:
    """The network's table; for a .cfg with all of its layers, supported or not."""
    return open_cfg(path, size).summary() if path.suffix == _CFG else _titled(path, classes, size)


def _titled(path: Path, classes: int | None, size: int | None) -> str:
    model = model_of(path, classes, size)
    return f"{path.name}\n{summary(model)}" if model.name == layer_list.NAME else summary(model)


def read_prototxt(path: Path) -> text.Message:
    """A prototxt; InputError for any other file."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: {nearest(path) or 'check the path'}")
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"it has {path.stat().st_size:,} bytes")
        return text.parse(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not a prototxt ({reason(error)})") from None
