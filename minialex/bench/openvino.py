"""The same network in OpenVINO, to compare the speed of inference."""

from minialex.bench.exported import exported, images
from minialex.bench.program import Peer, Program
from minialex.models import Model


def peers(model: Model, batch: int, threads: int | None) -> list[Peer]:
    """Inference on random images, float32 on the CPU with `threads` threads, for one batch size."""
    import openvino

    core = openvino.Core()
    given = images(model, batch)
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = str(threads)
    with exported(model) as path:
        network = core.read_model(str(path))
        network.reshape(list(given.shape))
        request = core.compile_model(network, "CPU", options).create_infer_request()

    def infer() -> None:
        request.infer([given])

    return [Peer("OpenVINO", None, infer)]


PROGRAM = Program("openvino", "OpenVINO", ("openvino", "onnx"), False, peers)
