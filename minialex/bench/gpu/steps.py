"""Training steps by every available path, interleaved with PyTorch's; and inference."""

from functools import lru_cache, partial
from typing import Any

import numpy as np

from minialex import backends, losses, models
from minialex.bench.gpu import pytorch
from minialex.bench.gpu.plan import Plan, Run, initial_params, timed
from minialex.bench.gpu.whole import Whole
from minialex.layers import Mode
from minialex.network import Network
from minialex.optim import SGD, VELOCITY, Rates
from minialex.parallel import DeviceConfig, Devices, SingleDevice
from minialex.tree import leaves


def steps(
    precision: str, batch: int, plan: Plan, candidates: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """Images per second of training steps on a batch that is already on the device.

    "whole" steps start from image bytes and augment them; all others, including PyTorch's, start
    from the network's input. `candidates` are more values of `convolution_by`. All keep their
    memory at the same time, so large batches are timed with the fastest steps only.
    """
    b: Any = backends.get("cupy", 0, precision)
    whole = Whole(plan.model, b, batch)
    runs: dict[str, Run] = {
        "captured, whole": whole.resident,
        "captured, whole, bytes from the host": whole.fed,
    }
    waits: dict[str, Run] = {}
    by = {way: _convolving_by(way, precision) for way in candidates}
    for way, other in by.items():
        runs[f"captured, whole, {way}"] = Whole(plan.model, other, batch).resident
    few = batch <= plan.all_up_to
    if few:
        network = models.get(plan.model).network
        towers = DeviceConfig("cupy", [0, 0], precision=precision).open(network)
        columns = _convolving_by("im2col", precision)
        runs |= {
            "captured": captured(plan.model, b, batch),
            f"op by op, {b.convolution_by}": Resident(plan.model, _on(network, b), batch).step,
            "op by op, im2col": Resident(plan.model, _on(network, columns), batch).step,
            "two towers on one device": Resident(plan.model, towers, batch).step,
        }
        for way, other in by.items():
            runs[f"captured, {way}"] = captured(plan.model, other, batch)
        waits["two towers on one device"] = towers.synchronize
    for name, (run, its_wait) in pytorch.eager(plan.model, precision, batch, few).items():
        runs[name], waits[name] = run, its_wait
    return _rows(precision, batch, timed(b, runs, plan, waits))


def _on(network: Network, b: Any) -> Devices:
    return SingleDevice(network, b)


def _convolving_by(way: str, precision: str) -> Any:
    b: Any = backends.get("cupy", 0, precision)
    b.convolution_by = way
    return b


def compiled(precision: str, batch: int, plan: Plan) -> list[dict[str, Any]]:
    """torch.compile's step in turns with ours; [] without PyTorch."""
    found = pytorch.compiled(plan.model, precision, batch)
    if not found:
        return []
    b: Any = backends.get("cupy", 0, precision)
    runs: dict[str, Run] = {"captured, whole": Whole(plan.model, b, batch).resident}
    waits = {name: its_wait for name, (_, its_wait) in found.items()}
    runs |= {name: run for name, (run, _) in found.items()}
    return _rows(precision, batch, timed(b, runs, plan, waits))


def inference(precision: str, plan: Plan) -> list[dict[str, Any]]:
    """Inference on a batch that is already on the device: ours op by op, and PyTorch's."""
    b: Any = backends.get("cupy", 0, precision)
    rows: list[dict[str, Any]] = []
    for batch in plan.views:
        r = Resident(plan.model, _on(models.get(plan.model).network, b), batch)
        own, x = b.cast_params(r.params), r.input(b, 0, batch)
        runs: dict[str, Run] = {"op by op": partial(r.network.infer, b, own, x)}
        waits = {}
        for name, (run, its_wait) in pytorch.inference(plan.model, precision, batch).items():
            runs[name], waits[name] = run, its_wait
        rows += _rows(precision, batch, timed(b, runs, plan, waits))
    return rows


def _rows(precision: str, batch: int, seconds: dict[str, float]) -> list[dict[str, Any]]:
    return [
        {
            "program": name,
            "precision": precision,
            "batch": batch,
            "milliseconds": round(1e3 * value, 3),
            "images_per_second": round(batch / value, 1),
        }
        for name, value in seconds.items()
    ]


@lru_cache(maxsize=1)
def _images(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


class Resident:
    """Parameters, velocities, a batch on the device, and a step over them."""

    def __init__(self, model: str, devices: Devices, batch: int):
        found = models.get(model)
        self.devices, self.network, self.sgd = devices, found.network, SGD(found.recipe)
        self.params = devices.to_devices(initial_params(model))
        self.slots = self.sgd.start(devices, found.network.trainable(self.params))
        self.images = _images((batch, *found.network.input_shape))
        self.labels = np.arange(batch) % found.network.classes
        self._there: dict[Any, Any] = {}

    def input(self, b, first: int, end: int):
        """Images on a device, put there once."""
        if (b, first, end) not in self._there:
            self._there[b, first, end] = b.asarray(
                self.images[first:end], b.compute_dtype("float32")
            )
        return self._there[b, first, end]

    def step(self) -> None:
        """Forward, backward, update."""
        mode, loss = Mode(training=True), losses.SoftmaxCrossEntropy()
        _, grads = self.devices.gradients(self.params, self.input, self.labels, loss, mode)
        grads = self.network.trainable(grads)
        self.sgd.update(self.devices, self.params, self.slots, grads, Rates(0.01, 0.01, 0.0))


def captured(model: str, b: Any, batch: int) -> Run:
    """The same step as one CUDA graph, with a half-precision copy that the update writes."""
    from minialex.backends.cuda.graph import Guard, Recording, Ring

    r = Resident(model, _on(models.get(model).network, b), batch)
    x, labels = r.input(b, 0, batch), b.asarray(r.labels)
    own = b.cast_params(r.params)
    names = [(layer, name) for layer, name, _ in leaves(r.network.trainable(r.params))]
    ring, step = Ring(b.stream, "float32"), b.stream.zeros((1,), np.uint32)
    rates_at = b.asarray(np.full(len(names), 0.01, "float32"))
    decays = [r.sgd.decay(*name) for name in names]

    def body() -> None:
        scores, saved = r.network.forward(b, own, x, Mode(training=True, step={b.stream: step}))
        value, dscores = b.softmax_cross_entropy(scores, labels)
        grads = r.network.backward(b, own, saved, dscores)
        b.keep_loss(value, step, ring)
        arrays = []
        for layer, name in names:
            weight, copy = r.params[layer][name], own[layer][name]
            arrays.append(
                (
                    *(weight, r.slots[VELOCITY][layer][name], grads[layer][name]),
                    None if copy is weight else copy,
                )
            )
        b.captured_updates(arrays, decays, 0.9, rates_at, Guard(ring.halted))

    return Recording(b.stream, body).run
