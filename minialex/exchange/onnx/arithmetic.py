"""ONNX's Add, Sub, Mul and Div: preprocessing, biases, and normalisation spelt out in nodes."""

from collections.abc import Iterator
from itertools import islice, pairwise
from typing import Any

import numpy as np

from minialex.exchange.onnx.chain import Attributes, Chain
from minialex.exchange.onnx.windows import require_images
from minialex.layers import SpatialResponseNorm


def short(value: float) -> float:
    """The decimal that a float32 was written as: 9.999999747378752e-05 is 0.0001."""
    return float(str(np.float32(value)))


def arithmetic(chain: Chain, node: Any, a: Attributes) -> None:
    """The input's mean and scale, or a separate bias."""
    first = chain.current == node.input[0]
    other = node.input[1] if first else node.input[0]
    if other not in chain.graph.constants:
        raise chain.refusal(node, "joins two branches: only layer chains are supported")
    value = chain.graph.constant(other)
    if not first and node.op_type in ("Sub", "Div"):
        raise chain.refusal(node, "has its input in the second place")
    if chain.layers:
        _bias(chain, node, value)
    elif node.op_type in ("Sub", "Add"):
        _subtract(chain, node, value if node.op_type == "Sub" else -value)
    else:
        _multiply(chain, node, value, node.op_type == "Div")


def _bias(chain: Chain, node: Any, value: np.ndarray) -> None:
    name, of = chain.last_with_weights(node)
    units = len(of["bias"])
    shapes = [(units,), (1, units)] if len(chain.shape) == 1 else []
    images = len(chain.shape) == 3 and chain.rows is None  # not flattened
    shapes += [(units, 1, 1), (1, units, 1, 1)] if images else []
    if node.op_type != "Add" or value.shape not in [*shapes, (), (1,)]:
        raise chain.refusal(node, f"is not the bias of {name} ({value.shape})")
    of["bias"] = of["bias"] + value.reshape(-1)


def _last_axis(chain: Chain, node: Any, value: np.ndarray) -> np.ndarray:
    """A constant of the input in our layout: (C,) or (H, W, C)."""
    if len(chain.shape) != 3:
        raise chain.refusal(node, "changes an input that has no images")
    if value.ndim == 4 and len(value) == 1:
        value = value[0]
    if value.ndim > 3:
        raise chain.refusal(node, f"has a constant of {value.shape}")
    if not chain.nhwc:
        value = value.reshape((1,) * (3 - value.ndim) + value.shape).transpose(1, 2, 0)
    if value.shape[:-1] in ((), (1, 1)):
        return np.broadcast_to(value.reshape(-1), chain.shape[2:])
    if value.shape != chain.shape:
        raise chain.refusal(node, f"has a constant of {value.shape}")
    return value


def _subtract(chain: Chain, node: Any, value: np.ndarray) -> None:
    value = _last_axis(chain, node, value)
    scale = 1 if chain.scale is None else chain.scale
    chain.mean = value / scale if chain.mean is None else chain.mean + value / scale


def _multiply(chain: Chain, node: Any, value: np.ndarray, divide: bool) -> None:
    value = _last_axis(chain, node, value)
    if value.ndim != 1:
        raise chain.refusal(node, "scales each pixel differently")
    with np.errstate(divide="ignore"):
        value = 1 / value.astype(np.float64) if divide else value
    if not np.all(np.isfinite(value)) or not np.all(value):
        raise chain.refusal(node, "scales by an empty array")
    chain.scale = value if chain.scale is None else chain.scale * value


def multiplication(chain: Chain, node: Any, a: Attributes, following: Iterator[Any]) -> None:
    """A product with a constant; or x·x, which starts a normalisation within channels.

    That is Mul, AveragePool, Mul, Add, Pow, Div: x / (k + α n² mean(x²))^β.
    """
    if list(node.input) != [chain.current] * 2:
        arithmetic(chain, node, a)
        chain.current = node.output[0]
        return
    require_images(chain, node)
    steps = [node, *islice(following, 5)]
    kinds = ["Mul", "AveragePool", "Mul", "Add", "Pow", "Div"]
    joined = all(
        before.output[0] == after.input[int(after.op_type == "Div")]
        for before, after in pairwise(steps)
    )
    if [one.op_type for one in steps] != kinds or not joined:
        raise chain.refusal(node, "multiplies a branch by itself: only layer chains are supported")
    pooling = {one.name: list(one.ints) or one.i for one in steps[1].attribute}
    n = (pooling.get("kernel_shape") or [0])[0]
    same = {
        "kernel_shape": [n, n],
        "pads": [n // 2] * 4,
        "strides": [1, 1],
        "count_include_pad": 1,
    }
    values = [chain.constant(one, 1) for one in steps[2:5]]
    if (
        pooling != same
        or n % 2 == 0
        or steps[5].input[0] != chain.current
        or any(value is None or value.size != 1 for value in values)
    ):
        raise chain.refusal(node, "does not start a known normalisation")
    alpha, k, beta = (short(float(value.reshape(()))) for value in values if value is not None)
    chain.add(steps[5], SpatialResponseNorm(n, k, alpha / n**2, beta))
    chain.current = steps[5].output[0]
