"""The same network in OpenVINO, to compare the speed of inference."""

from minialex.bench.exported import exported, images
from minialex.bench.program import Peer, Program
from minialex.bench.subject import Subject


def peers(subject: Subject, batch: int, threads: int | None) -> list[Peer]:
    """Inference, float32 on the CPU with `threads` threads, for one batch size."""
    import openvino

    core = openvino.Core()
    given = images(subject, batch)
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = str(threads)
    with exported(subject) as path:
        network = core.read_model(str(path))
        network.reshape(list(given.shape))
        request = core.compile_model(network, "CPU", options).create_infer_request()

    def infer() -> None:
        request.infer([given])

    return [Peer("OpenVINO", None, infer)]


PROGRAM = Program("openvino", "OpenVINO", ("openvino", "onnx"), False, peers)
