"""A network and its weights as an ONNX file from our own export."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from minialex.bench.subject import Subject
from minialex.data.preprocessing import Preprocessing
from minialex.exchange.portable import PortableModel, colour_statistics
from minialex.exchange.write import write


@contextmanager
def exported(subject: Subject) -> Iterator[Path]:
    """The file, which exists as long as the context; nothing is subtracted from images."""
    model = subject.model
    size, channels = model.recipe.resize, model.network.input_shape[2]
    statistics = colour_statistics(size, (0.0,) * channels)
    portable = PortableModel(
        "minialex", model, subject.params, Preprocessing(model.recipe, statistics)
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        write(portable, path)
        yield path


def images(subject: Subject, batch: int) -> np.ndarray:
    """Its images, float32 N C H W."""
    return np.ascontiguousarray(subject.images(batch).transpose(0, 3, 1, 2))
