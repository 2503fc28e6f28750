"""The same network in ONNX Runtime, to compare the speed of inference."""

from pathlib import Path
from typing import Any

import numpy as np

from minialex.bench.exported import exported, images
from minialex.bench.program import Peer, Program
from minialex.bench.subject import CALIBRATION, Subject


def peers(subject: Subject, batch: int, threads: int | None) -> list[Peer]:
    """Inference, float32 on the CPU with `threads` threads."""
    with exported(subject) as path:
        return [_peer(_session(path, threads), subject, batch)]


def int8(subject: Subject, batch: int, threads: int | None) -> list[Peer]:
    """The same, quantized: weights per channel, activations calibrated on its images."""
    from onnxruntime import quantization

    class Calibration(quantization.CalibrationDataReader):
        def __init__(self, name: str):
            self._left = [{name: images(subject, subject.at_most(CALIBRATION))}]

        def get_next(self) -> dict[str, np.ndarray] | None:
            return self._left.pop() if self._left else None

    with exported(subject) as path:
        given = Calibration(_input(_session(path, threads)))
        quantized = path.with_name("int8.onnx")
        quantization.quantize_static(path, quantized, given, per_channel=True)
        return [_peer(_session(quantized, threads), subject, batch)]


def _session(path: Path, threads: int | None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _input(session: Any) -> str:
    [one] = session.get_inputs()
    return one.name


def _peer(session: Any, subject: Subject, batch: int) -> Peer:
    given = {_input(session): images(subject, batch)}

    def infer() -> None:
        session.run(None, given)

    return Peer("ONNX Runtime", None, infer)


PROGRAM = Program("onnxruntime", "ONNX Runtime", ("onnxruntime", "onnx"), False, peers, int8)
