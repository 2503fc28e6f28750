"""The same network in ONNX Runtime, to compare the speed of inference."""

from minialex.bench.exported import exported, images
from minialex.bench.program import Peer, Program
from minialex.models import Model


def peers(model: Model, batch: int, threads: int | None) -> list[Peer]:
    """Inference on random images, float32 on the CPU with `threads` threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    with exported(model) as path:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    [name] = [one.name for one in session.get_inputs()]
    given = {name: images(model, batch)}

    def infer() -> None:
        session.run(None, given)

    return [Peer("ONNX Runtime", None, infer)]


PROGRAM = Program("onnxruntime", "ONNX Runtime", ("onnxruntime", "onnx"), False, peers)
