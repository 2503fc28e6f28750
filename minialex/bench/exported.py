"""A network as an ONNX file from our own export, with its initial weights."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from minialex import backends
from minialex.data.preprocessing import Preprocessing
from minialex.exchange.portable import PortableModel, colour_statistics
from minialex.exchange.write import write
from minialex.models import Model


@contextmanager
def exported(model: Model) -> Iterator[Path]:
    """The file, which exists as long as the context; nothing is subtracted from images."""
    params = model.network.init(backends.get("numpy"))
    size, channels = model.recipe.resize, model.network.input_shape[2]
    statistics = colour_statistics(size, (0.0,) * channels)
    portable = PortableModel("minialex", model, params, Preprocessing(model.recipe, statistics))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        write(portable, path)
        yield path


def images(model: Model, batch: int) -> np.ndarray:
    """Random images, float32 N C H W."""
    h, w, c = model.network.input_shape
    return np.random.default_rng(0).standard_normal((batch, c, h, w), np.float32)
