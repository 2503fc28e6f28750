"""The same network in ONNX Runtime, to compare the speed of inference."""

from pathlib import Path
from typing import Any

import numpy as np

from minialex.bench.exported import exported, images
from minialex.bench.program import Peer, Program
from minialex.models import Model


def peers(model: Model, batch: int, threads: int | None) -> list[Peer]:
    """Inference on random images, float32 on the CPU with `threads` threads."""
    with exported(model) as path:
        return [_peer(_session(path, threads), model, batch)]


def int8(model: Model, batch: int, threads: int | None) -> list[Peer]:
    """The same, quantized: weights per channel, activations calibrated on random images."""
    from onnxruntime import quantization

    class Random(quantization.CalibrationDataReader):
        def __init__(self, name: str):
            self._left = [{name: images(model, 4)}]

        def get_next(self) -> dict[str, np.ndarray] | None:
            return self._left.pop() if self._left else None

    with exported(model) as path:
        given = Random(_input(_session(path, threads)))
        quantized = path.with_name("int8.onnx")
        quantization.quantize_static(path, quantized, given, per_channel=True)
        return [_peer(_session(quantized, threads), model, batch)]


def _session(path: Path, threads: int | None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _input(session: Any) -> str:
    [one] = session.get_inputs()
    return one.name


def _peer(session: Any, model: Model, batch: int) -> Peer:
    given = {_input(session): images(model, batch)}

    def infer() -> None:
        session.run(None, given)

    return Peer("ONNX Runtime", None, infer)


PROGRAM = Program("onnxruntime", "ONNX Runtime", ("onnxruntime", "onnx"), False, peers, int8)
