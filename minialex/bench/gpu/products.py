"""The matrix products of a training step, each compared with its roofline."""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np

from minialex import backends, models
from minialex.bench.gpu.plan import Plan, Run, copies, on_device
from minialex.layers import Conv2D, Dense
from minialex.network import Network
from minialex.training.feed import input_layout


def costs(network: Network, batch: int, itemsize: int) -> Iterator[tuple[str, str, int, int]]:
    """(layer, op, operations, minimum memory traffic in bytes) of a training step's products."""
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
    """Rooflines of the paper's network in microseconds, as a table with columns to fill in."""
    ways = "implicit | wgmma | tma | im2col"
    lines = [f"| layer | op | 10⁹ operations | 10⁶ bytes | roofline, µs | {ways} |"]
    lines += ["|---|---|---|---|---|---|---|---|---|"]
    total = 0.0
    for name, op, operations, least in costs(models.get("alexnet").network, batch, itemsize):
        roofline = 1e6 * max(operations / operations_per_second, least / bytes_per_second)
        total += roofline
        counts = f"{operations / 1e9:.1f} | {least / 1e6:.1f} | {roofline:.1f}"
        lines.append(f"| {name} | {op} | {counts} | | | | |")
    lines.append(f"| all products | | | | {total:.0f} | | | | |")
    return "\n".join(lines)


def products(
    precision: str, measured: dict[str, float], plan: Plan, candidates: tuple[str, ...] = ()
) -> Iterator[dict[str, Any]]:
    """A row for each product of a step: its time with each kernel, and its roofline.

    The roofline is at the measured rates, None without any; `copies` of the arrays take turns.
    The weight gradient of a convolution includes that of its bias. `candidates` are more values of
    `convolution_by`; "fastest" names the kernel that took the least time.
    """
    convolutions = ("implicit", "im2col", *candidates)
    b: Any = backends.get("cupy", 0, precision)
    network, n, dtype = (
        models.get(plan.model).network,
        plan.kernel_batch,
        b.compute_dtype("float32"),
    )
    shapes, layers = network.shapes(), dict(network.layers)
    position = {name: i for i, (name, _) in enumerate(network.layers)}
    draw, rates = np.random.default_rng(0), ("operations_per_second", "bytes_per_second")

    def device(shape, kind=dtype):
        return b.asarray(draw.normal(size=shape).astype("float32"), kind)

    for name, op, operations, least in costs(network, n, np.dtype(_bytes(dtype)).itemsize):
        layer, at = layers[name], position[name]
        x, dy = device((n, *shapes[at])), device((n, *shapes[at + 1]))
        sizes = layer.parameter_shapes(shapes[at])
        weight, bias = device(sizes["weight"]), device(sizes["bias"], "float32")
        count, first = copies(b, least), None if at else network
        sets = [[b.scale(array, 1.0) for array in (x, weight, bias, dy)] for _ in range(count)]
        runs: dict[str, Sequence[Run]] = {
            way: [_call(precision, way, op, layer, arrays, first) for arrays in sets]
            for way in (convolutions if isinstance(layer, Conv2D) else ("cublas",))
        }
        at_rates = [
            1e6 * amount / measured[rate]
            for amount, rate in zip((operations, least), rates, strict=True)
            if rate in measured
        ]
        seconds = on_device(b, runs, plan)
        yield {
            "layer": name,
            "op": op,
            "operations": operations,
            "bytes": least,
            "copies": count,
            "roofline_us": max(at_rates, default=None),
            **{f"{way}_us": 1e6 * value for way, value in seconds.items()},
            "fastest": min(seconds, key=lambda way: seconds[way]),
        }


def _bytes(dtype: str) -> str:
    return "float16" if dtype == "bfloat16" else dtype


def _call(
    precision: str, way: str, op: str, layer, arrays: Sequence[Any], first: Network | None
) -> Run:
    b: Any = backends.get("cupy", 0, precision)
    x, weight, bias, dy = arrays
    if isinstance(layer, Dense):
        return {
            "forward": lambda: b.dense(x, weight, bias, True),
            "input gradient": lambda: b.dense_input_gradient(dy, weight, x.shape),
            "weight gradient": lambda: b.dense_weight_gradient(x, dy),
        }[op]
    b.convolution_by = way
    if first is not None:
        x = _cropped(b, first, x.shape[0])
    _, pads, _ = layer.geometry(x.shape[1:])
    geometry = ((layer.stride, layer.stride), pads, layer.groups)
    return {
        "forward": lambda: b.convolution(x, weight, bias, *geometry, relu=True),
        "input gradient": lambda: b.convolution_input_gradient(dy, weight, x.shape, *geometry),
        "weight gradient": lambda: b.convolution_parameter_gradients(
            x, dy, weight.shape, *geometry
        ),
    }[op]


def _cropped(b: Any, network: Network, batch: int) -> Any:
    """Input as captured steps crop it, perhaps in blocks or with a fourth channel of zeros."""
    size, _, channels = network.input_shape
    images = np.random.default_rng(0).integers(0, 256, (batch, size, size, channels), np.uint8)
    offsets, mean = np.zeros((batch, 3), "int32"), np.zeros((size, size, channels), "float32")
    view = (b.asarray(offsets, "int32"), size, b.asarray(mean), (-1, -1), None, 1 / 128)
    layout = input_layout(b, network, "float32")
    return b.crops_at(b.asarray(images), *view, b.compute_dtype("float32"), *layout)
