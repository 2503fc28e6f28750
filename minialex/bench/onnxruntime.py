"""The same network in ONNX Runtime, from our own export, to compare the speed of inference."""

import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from minialex import backends
from minialex.bench.pytorch import Peer
from minialex.data.preprocessing import Preprocessing
from minialex.errors import InputError
from minialex.exchange.portable import PortableModel, colour_statistics
from minialex.exchange.write import write
from minialex.models import Model


def require() -> None:
    """Raise InputError if ONNX Runtime, or onnx to export to it, is not installed."""
    for package in ("onnxruntime", "onnx"):
        if find_spec(package) is None:
            raise InputError(f"{package} is missing: `pip install {package}`, or omit --compare")


def version() -> str:
    """The version of ONNX Runtime, which must be installed."""
    import onnxruntime

    return str(onnxruntime.__version__)


def peer(model: Model, batch: int, threads: int | None) -> Peer:
    """Inference on random images, float32 on the CPU with `threads` threads; it cannot train."""
    require()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        write(_random(model), path)
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    h, w, c = model.network.input_shape
    images = np.random.default_rng(0).standard_normal((batch, c, h, w), np.float32)
    [name] = [one.name for one in session.get_inputs()]

    def infer() -> None:
        session.run(None, {name: images})

    return Peer("ONNX Runtime", _cannot_train, infer)


def _random(model: Model) -> PortableModel:
    """The model with its initial weights; nothing is subtracted from images."""
    params = model.network.init(backends.get("numpy"))
    size, channels = model.recipe.resize, model.network.input_shape[2]
    statistics = colour_statistics(size, (0.0,) * channels)
    return PortableModel("minialex", model, params, Preprocessing(model.recipe, statistics))


def _cannot_train() -> None:
    raise InputError("ONNX Runtime cannot train networks: add --inference")
