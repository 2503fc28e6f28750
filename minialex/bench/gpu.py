"""What a CUDA device does with the paper's network: every kernel beside its floor, whole steps.

`run_suite(out)` checks the kernels against the generic backend first, times nothing that is wrong,
and writes gpu.json after each part, so that a run cut short leaves what it has measured.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from minialex import backends, checkpoint, losses, models, parallel
from minialex.backends.base import output_shape
from minialex.layers import Conv2D, Dense, Mode
from minialex.network import Network
from minialex.optim import SGD, Rates

Run = Callable[[], Any]


@dataclass(frozen=True)
class Plan:
    """What is timed; the defaults are the whole suite, a test takes less."""

    model: str = "alexnet"
    precisions: tuple[str, ...] = ("tf32", "bf16")
    batches: tuple[int, ...] = (128, 512, 2048)
    kernel_batch: int = 128
    rounds: int = 5
    steps: int = 10  # a round
    product: int = 8192  # rows and columns of the product that the rate is measured with
    copy_bytes: int = 4 << 30


def run_suite(out: Path | str, plan: Plan | None = None) -> dict[str, Any]:
    """Everything, as {part: result}; also written to `out` as JSON.

    A part that raises is {"failed": sentence}, and the others go on.
    """
    plan = plan or Plan()
    found: dict[str, Any] = {"suite": "gpu", "device": _device()}

    def keep(name: str, measure: Callable[[], Any]) -> None:
        start = time.monotonic()
        try:
            found[name] = measure()
        except Exception as error:  # the other parts are worth having all the same
            found[name] = {"failed": f"{type(error).__name__}: {error}"[:500]}
        found.setdefault("seconds", {})[name] = round(time.monotonic() - start, 1)
        checkpoint.write_json(Path(out), found)

    for precision in plan.precisions:
        keep(f"correct {precision}", lambda p=precision: correctness(p))  # type: ignore[misc]
        keep(f"rates {precision}", lambda p=precision: rates(p, plan))  # type: ignore[misc]
        measured = found[f"rates {precision}"]
        keep(f"kernels {precision}", lambda p=precision, m=measured: kernels(p, m, plan))  # type: ignore[misc]
        for batch in plan.batches:
            keep(f"steps {precision} {batch}", lambda p=precision, n=batch: steps(p, n, plan))  # type: ignore[misc]
    return found


def _device() -> dict[str, Any]:
    import cupy

    from minialex.backends.cuda import device

    return {**device.describe(0), "cupy": cupy.__version__}


# ------------------------------------------------------------------------------ correct first


def correctness(precision: str) -> dict[str, str]:
    """Every layer's three products on drawn numbers, against float64: the relative error.

    Raises AssertionError for one that is larger than the precision explains.
    """
    b, generic = backends.get("cupy", 0, precision), backends.get("numpy")
    draw, dtype, found = np.random.default_rng(0), b.storage("float32"), {}
    limit = {"fp32": 1e-5, "tf32": 2e-3, "fp16": 4e-3, "bf16": 2e-2}[precision]
    for name, c, k, kernel, stride, pad, groups in _SMALL:
        place = ((stride, stride), ((pad, pad), (pad, pad)), groups)
        x = draw.normal(size=(2, 15, 14, c))
        weight = draw.normal(size=(kernel, kernel, c // groups, k))
        y = generic.convolution(x, weight, None, *place)
        dy = draw.normal(size=y.shape)
        ours = [b.asarray(a, dtype) for a in (x, weight, dy)]
        pairs = {
            "forward": (b.convolution(ours[0], ours[1], None, *place), y),
            "input gradient": (
                b.convolution_input_gradient(ours[2], ours[1], x.shape, *place),
                generic.convolution_input_gradient(dy, weight, x.shape, *place),
            ),
            "weight gradient": (
                b.convolution_weight_gradient(ours[0], ours[2], (kernel, kernel), *place),
                generic.convolution_weight_gradient(x, dy, (kernel, kernel), *place),
            ),
        }
        for what, (found_array, wanted) in pairs.items():
            error = np.linalg.norm(b.to_numpy(found_array).astype(float) - wanted)
            error /= np.linalg.norm(wanted)
            assert error < limit, f"{name} {what}: off by {error:.2e}, allowed {limit:.0e}"
            found[f"{name} {what}"] = f"{error:.1e}"
    return found


# like the paper's layers, small: (name, C, K, kernel, stride, pad, groups)
_SMALL = (
    ("conv1", 3, 96, 11, 4, 0, 1),
    ("conv2", 96, 256, 5, 1, 2, 2),
    ("conv3", 64, 384, 3, 1, 1, 1),
    ("odd", 10, 6, 3, 2, 1, 2),
)


# ------------------------------------------------------------------------------ two ceilings


def rates(precision: str, plan: Plan) -> dict[str, float]:
    """Operations a second of a large product, bytes a second (read and written) of a copy."""
    b: Any = backends.get("cupy", 0, precision)
    n, draw, dtype = plan.product, np.random.default_rng(0), b.storage("float32")
    x, w = (b.asarray(draw.normal(size=(n, n)).astype("float32"), dtype) for _ in range(2))
    seconds = timed(b, {"product": lambda: b.dense(x, w, None)}, plan)["product"]
    one, other = (b.queue.empty((plan.copy_bytes,), np.uint8) for _ in range(2))

    def copy() -> None:
        other.data.copy_from_device_async(one.data, one.nbytes)

    return {
        "operations_per_second": 2.0 * n**3 / seconds,
        "bytes_per_second": 2.0 * plan.copy_bytes / timed(b, {"copy": copy}, plan)["copy"],
    }


def timed(b, runs: dict[str, Run], plan: Plan, waits: dict[str, Run] | None = None):
    """{name: median seconds of one call}, the runs taking turns.

    The device is waited for at the end of a round, by `waits` where b does not know of the work.
    """
    waits = waits or {}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():  # compiles, fills pools, captures
        run()
        run()
    for wait in (b.synchronize, *waits.values()):
        wait()
    for _ in range(plan.rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            for _ in range(plan.steps):
                run()
            waits.get(name, b.synchronize)()
            seconds[name].append((time.perf_counter() - start) / plan.steps)
    return {name: statistics.median(values) for name, values in seconds.items()}


# ------------------------------------------------------------------------------ kernel by kernel


def floors(network: Network, batch: int, itemsize: int) -> Iterator[tuple[str, str, int, int]]:
    """(layer, op, operations, fewest bytes) of the products of a training step."""
    shapes = network.shapes()
    for i, (name, layer) in enumerate(network.layers):
        if not isinstance(layer, (Conv2D, Dense)):
            continue
        x, y = (batch * prod(shapes[j]) * itemsize for j in (i, i + 1))
        weights = prod(layer.parameter_shapes(shapes[i])["weight"])
        operations = 2 * batch * layer.connections(shapes[i])
        yield name, "forward", operations, x + y + weights * itemsize
        if i:
            yield name, "input gradient", operations, x + y + weights * itemsize
        yield name, "weight gradient", operations, x + y + weights * 4


def predictions(
    operations_per_second: float, bytes_per_second: float, batch: int = 128, itemsize: int = 2
) -> str:
    """The floors of the paper's network in microseconds, as a table with columns to fill."""
    lines = ["| layer | op | 10⁹ operations | 10⁶ bytes | floor, µs | implicit | im2col |"]
    lines += ["|---|---|---|---|---|---|---|"]
    whole = 0.0
    for name, op, operations, least in floors(models.get("alexnet").network, batch, itemsize):
        floor = 1e6 * max(operations / operations_per_second, least / bytes_per_second)
        whole += floor
        counts = f"{operations / 1e9:.1f} | {least / 1e6:.1f} | {floor:.1f}"
        lines.append(f"| {name} | {op} | {counts} | | |")
    lines.append(f"| all products | | | | {whole:.0f} | | |")
    return "\n".join(lines)


def kernels(precision: str, measured: dict[str, float], plan: Plan) -> list[dict[str, Any]]:
    """Each product of a step: its time each way there is, its floor at the measured rates."""
    b: Any = backends.get("cupy", 0, precision)
    network, n, dtype = models.get(plan.model).network, plan.kernel_batch, b.storage("float32")
    shapes, layers = network.shapes(), dict(network.layers)
    position = {name: i for i, (name, _) in enumerate(network.layers)}
    draw, rows = np.random.default_rng(0), []

    def device(shape, kind=dtype):
        return b.asarray(draw.normal(size=shape).astype("float32"), kind)

    for name, op, operations, least in floors(network, n, np.dtype(_bytes(dtype)).itemsize):
        layer, at = layers[name], position[name]
        x, dy = device((n, *shapes[at])), device((n, *shapes[at + 1]))
        sizes = layer.parameter_shapes(shapes[at])
        weight, bias = device(sizes["weight"]), device(sizes["bias"], "float32")
        runs: dict[str, Run] = {}
        for way in ("implicit", "im2col") if isinstance(layer, Conv2D) else ("cublas",):
            runs[way] = _call(precision, way, op, layer, x, weight, bias, dy)
        floor = max(
            operations / measured["operations_per_second"], least / measured["bytes_per_second"]
        )
        seconds = timed(b, runs, plan)
        rows.append(
            {
                "layer": name,
                "op": op,
                "operations": operations,
                "bytes": least,
                "floor_us": 1e6 * floor,
                **{f"{way}_us": 1e6 * value for way, value in seconds.items()},
            }
        )
    return rows


def _bytes(dtype: str) -> str:
    return "float16" if dtype == "bfloat16" else dtype


def _call(precision: str, way: str, op: str, layer, x, weight, bias, dy) -> Run:
    b: Any = backends.get("cupy", 0, precision)
    if isinstance(layer, Dense):
        return {
            "forward": lambda: b.dense(x, weight, bias, True),
            "input gradient": lambda: b.dense_input_gradient(dy, weight, x.shape),
            "weight gradient": lambda: b.dense_weight_gradient(x, dy),
        }[op]
    b.convolution_by = way
    pads = layer._pads(x.shape[1:])
    size = (layer.kernel, layer.kernel)
    place = ((layer.stride, layer.stride), pads, layer.groups)
    assert output_shape(x.shape[1:3], size, place[0], pads) == dy.shape[1:3]
    return {
        "forward": lambda: b.convolution(x, weight, bias, *place, relu=True),
        "input gradient": lambda: b.convolution_input_gradient(dy, weight, x.shape, *place),
        "weight gradient": lambda: b.convolution_weight_gradient(x, dy, size, *place),
    }[op]


# ------------------------------------------------------------------------------ whole steps


def steps(precision: str, batch: int, plan: Plan) -> list[dict[str, Any]]:
    """Images a second of training steps, augmentation left out, the programs taking turns."""
    b: Any = backends.get("cupy", 0, precision)
    network = models.get(plan.model).network
    towers: Any = parallel.open_devices(network, "cupy", [0, 0], precision=precision)
    columns: Any = backends.get("cupy", 0, precision)
    columns.convolution_by = "im2col"
    runs: dict[str, Run] = {
        f"op by op, {b.convolution_by}": _Resident(plan.model, b, batch).step,
        "op by op, im2col": _Resident(plan.model, columns, batch).step,
        "captured": _captured(plan.model, b, batch),
        "two towers on one device": _Resident(plan.model, towers, batch).step,
    }

    def wait() -> None:
        for one in towers.backends:
            one.synchronize()

    waits = {"two towers on one device": wait}
    for name, (run, its_wait) in _peers(plan.model, precision, batch).items():
        runs[name], waits[name] = run, its_wait
    return [
        {
            "program": name,
            "precision": precision,
            "batch": batch,
            "milliseconds": round(1e3 * value, 3),
            "images_per_second": round(batch / value, 1),
        }
        for name, value in timed(b, runs, plan, waits).items()
    ]


@lru_cache(maxsize=1)
def _images(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


class _Resident:
    """Parameters, velocities, a batch on the device, and a step over them."""

    def __init__(self, model: str, b: Any, batch: int):
        found = models.get(model)
        self.b, self.network, self.sgd = b, found.network, SGD(found.recipe)
        self.params = parallel.place(b, found.network.init(backends.get("numpy"), 0))
        self.velocities = self.sgd.start(b, self.params)
        self.images = _images((batch, *found.network.input_shape))
        self.labels = np.arange(batch) % found.network.classes
        self._there: dict[Any, Any] = {}

    def input(self, b, first: int, end: int):
        if (b, first, end) not in self._there:
            self._there[b, first, end] = b.asarray(self.images[first:end], b.storage("float32"))
        return self._there[b, first, end]

    def step(self) -> None:
        mode, loss = Mode(training=True), losses.SoftmaxCrossEntropy()
        of = (self.params, self.input, self.labels, loss, mode)
        _, grads = parallel.gradients(self.b, self.network, *of)
        self.sgd.update(self.b, self.params, self.velocities, grads, Rates(0.01, 0.01, 0.0))


def _captured(model: str, b: Any, batch: int) -> Run:
    """The same step as one CUDA graph, with a working copy that the update writes."""
    from minialex.backends.cuda.graph import Recording, Ring

    r = _Resident(model, b, batch)
    x, labels = r.input(b, 0, batch), b.asarray(r.labels)
    own = b.working_copy(r.params)
    places = [(layer, name) for layer, of in r.params.items() for name in of]
    ring, step = Ring(b.queue, "float32"), b.queue.zeros((1,), np.uint32)
    rates_at = b.asarray(np.full(len(places), 0.01, "float32"))
    decays = [r.sgd.decay(*place) for place in places]

    def body() -> None:
        scores, saved = r.network.forward(b, own, x, Mode(training=True, step=step))
        value, dscores = b.softmax_cross_entropy(scores, labels)
        grads = r.network.backward(b, own, saved, dscores)
        b.keep_loss(value, step, ring)
        arrays = []
        for layer, name in places:
            weight, copy = r.params[layer][name], own[layer][name]
            arrays.append(
                (
                    *(weight, r.velocities[layer][name], grads[layer][name]),
                    None if copy is weight else copy,
                )
            )
        b.captured_updates(arrays, decays, 0.9, rates_at, ring.halted)

    return Recording(b.queue, body).run


def _peers(model: str, precision: str, batch: int) -> dict[str, tuple[Run, Run]]:
    """PyTorch eager and compiled, channels last, cuDNN's own choice; {} where there is none."""
    try:
        import torch

        from minialex.bench.peer import network_in_torch
    except ImportError:
        return {}
    if not torch.cuda.is_available():
        return {}
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "fp32"
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    size = models.get(model).network.input_shape[0]
    x = torch.randn(batch, 3, size, size, device="cuda").to(memory_format=torch.channels_last)
    labels = torch.arange(batch, device="cuda") % 1000

    def stepper(compiled: bool) -> Run:
        network = (
            network_in_torch(models.get(model).network).cuda().to(memory_format=torch.channels_last)
        )
        sgd = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, weight_decay=5e-4)
        run = torch.compile(network, mode="reduce-overhead") if compiled else network

        def step() -> None:
            sgd.zero_grad(set_to_none=True)
            with torch.autocast("cuda", kind, enabled=kind is not None):
                loss = torch.nn.functional.cross_entropy(run(x).float(), labels)
            loss.backward()
            sgd.step()

        return step

    wait = torch.cuda.synchronize
    return {
        "PyTorch, eager": (stepper(False), wait),
        "PyTorch, compiled": (stepper(True), wait),
    }
