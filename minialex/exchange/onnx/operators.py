"""What each ONNX operator is here; an operator's function adds layers to a `Chain`."""

from collections.abc import Iterator
from itertools import islice, pairwise
from typing import Any

import numpy as np

from minialex.errors import InputError
from minialex.exchange.onnx.chain import Chain, Maker, Operator
from minialex.exchange.tensors import BatchNorm
from minialex.layers import (
    AveragePool,
    Conv2D,
    Dense,
    Dropout,
    MaxPool,
    ReLU,
    ResponseNorm,
    SpatialResponseNorm,
    Tanh,
    output_size,
)

Attributes = dict[str, Any]
_MOST = 1 << 16  # of a window, a stride or a padding


# ------------------------------------------------------------------------------------ windows


def _window(chain: Chain, node: Any, a: Attributes, kernel: list[int]) -> dict[str, Any]:
    """window, stride, pad and rounding of a convolution or pooling that Conv2D or MaxPool can say.

    ONNX has padding on each side; here it is equal on all, and the ceil rule may add some at the
    right and at the bottom. Padding there that no window reaches does not count.
    """
    strides = a.get("strides") or [1] * len(kernel)
    if len(kernel) != 2 or len(strides) != 2 or len(chain.shape) != 3:
        raise chain.refusal(node, f"is not of two dimensions (kernel {kernel})")
    if any(d != 1 for d in a.get("dilations", [])):
        raise chain.refusal(node, f"has dilations {a['dilations']}, which do not exist here")
    if kernel[0] != kernel[1] or strides[0] != strides[1]:
        raise chain.refusal(node, f"is not square (kernel {kernel}, strides {strides})")
    if not (1 <= kernel[0] <= _MOST and 1 <= strides[0] <= _MOST):
        raise chain.refusal(node, f"has the kernel {kernel} and the strides {strides}")
    size, step = kernel[0], strides[0]
    pads = _pads(chain, node, a, size, step)
    if any(not 0 <= p <= _MOST for p in pads):
        raise chain.refusal(node, f"has the padding {pads}")
    ceil = bool(a.get("ceil_mode", 0))
    outputs = [
        _count(extent, size, step, pads[i], pads[i + 2], ceil)
        for i, extent in enumerate(chain.shape[:2])
    ]
    if pads[0] != pads[1]:
        raise chain.refusal(node, f"has the padding {pads}: at the top and left it must be equal")
    for rounding in ("floor", "ceil"):
        try:
            ours = output_size.pads(chain.shape, size, step, pads[0], rounding)
            windows = output_size.windows(chain.shape, size, step, ours)
        except InputError as error:
            raise chain.refusal(node, f"does not fit: {error}") from None
        if list(windows) == outputs:
            return {"window": size, "stride": step, "pad": pads[0], "rounding": rounding}
    raise chain.refusal(node, f"has the padding {pads}, which no rule here gives")


def _pads(chain: Chain, node: Any, a: Attributes, size: int, step: int) -> list[int]:
    """[top, left, bottom, right]."""
    auto = a.get("auto_pad", "NOTSET")
    if auto == "NOTSET":
        pads = a.get("pads") or [0, 0, 0, 0]
        if len(pads) != 4:
            raise chain.refusal(node, f"has the padding {pads}")
        return list(pads)
    if auto == "VALID":
        return [0, 0, 0, 0]
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise chain.refusal(node, f"has auto_pad {auto!r}")
    totals = [max((-(-e // step) - 1) * step + size - e, 0) for e in chain.shape[:2]]
    less, more = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return [*less, *more] if auto == "SAME_UPPER" else [*more, *less]


def _count(extent: int, size: int, step: int, before: int, after: int, ceil: bool) -> int:
    """Windows along one side, by ONNX's rule: none begins in the padding behind."""
    room = extent + before + after - size
    if room < 0:
        return 0
    count = (-(-room // step) if ceil else room // step) + 1
    if ceil and (count - 1) * step >= extent + before:
        count -= 1
    return count


def _conv(chain: Chain, node: Any, a: Attributes) -> None:
    weight, bias = chain.constant(node, 1), chain.constant(node, 2)
    if weight is None or weight.ndim != 4 or chain.rows is not None or chain.nhwc:
        raise chain.refusal(node, "is not a convolution of images")
    kernel = list(weight.shape[2:])
    if list(a.get("kernel_shape") or kernel) != kernel:
        raise chain.refusal(node, f"says {a['kernel_shape']} and has a weight of {weight.shape}")
    geometry = _window(chain, node, a, kernel)
    groups = int(a.get("group", 1))
    if groups < 1 or weight.shape[1] * groups != chain.shape[2] or weight.shape[0] % groups:
        raise chain.refusal(node, f"has {groups} groups and a weight of {weight.shape}")
    bias = np.zeros(len(weight), np.float32) if bias is None else bias
    if bias.shape != weight.shape[:1]:
        raise chain.refusal(node, f"has a bias of {bias.shape}")
    size = geometry.pop("window")
    layer = Conv2D(len(weight), size, groups=groups, **geometry)
    chain.add(node, layer, weight=weight, bias=bias)


def _max_pool(chain: Chain, node: Any, a: Attributes) -> None:
    if len(node.output) > 1 and node.output[1]:
        raise chain.refusal(node, "gives indices too")
    _require_images(chain, node)
    chain.add(node, MaxPool(**_pooling(chain, node, a)))


def _average_pool(chain: Chain, node: Any, a: Attributes) -> None:
    _require_images(chain, node)
    geometry = _pooling(chain, node, a)
    counted = bool(a.get("count_include_pad", 0))
    pads = _pads(chain, node, a, geometry["window"], geometry["stride"])
    size, step = geometry["window"], geometry["stride"]
    for i, extent in enumerate(chain.shape[:2]):
        windows = _count(extent, size, step, pads[i], pads[i + 2], bool(a.get("ceil_mode", 0)))
        behind = (windows - 1) * step + size - extent - pads[i]  # of the image, the last window
        if counted and min(behind, pads[i + 2]) != min(behind, pads[i]):
            raise chain.refusal(node, f"counts the padding {pads}, which is not equal on all sides")
    chain.add(node, AveragePool(**geometry, count_pads=counted and pads[0] > 0))


def _pooling(chain: Chain, node: Any, a: Attributes) -> dict[str, Any]:
    geometry = _window(chain, node, a, list(a.get("kernel_shape") or []))
    if geometry["pad"] >= geometry["window"]:
        raise chain.refusal(node, f"has the padding {a.get('pads')} around {a['kernel_shape']}")
    return geometry


def _global_pool(chain: Chain, node: Any, a: Attributes) -> None:
    _require_images(chain, node)
    if chain.shape[0] != chain.shape[1]:
        raise chain.refusal(node, f"pools images that are not square, {chain.shape}")
    kind = MaxPool if node.op_type == "GlobalMaxPool" else AveragePool
    chain.add(node, kind(chain.shape[0], 1))


def _require_images(chain: Chain, node: Any) -> None:
    if len(chain.shape) != 3 or chain.rows is not None or chain.nhwc:
        raise chain.refusal(node, "does not take images N C H W here")


# ------------------------------------------------------------------------------------ each number


def _relu(chain: Chain, node: Any, a: Attributes) -> None:
    chain.add(node, ReLU())


def _tanh(chain: Chain, node: Any, a: Attributes) -> None:
    chain.add(node, Tanh())


def _dropout(chain: Chain, node: Any, a: Attributes) -> None:
    if len(node.output) > 1 and node.output[1]:
        _require_unused(chain, node, node.output[1])
    training, given = chain.constant(node, 2), chain.constant(node, 1)
    if training is not None and np.any(training):
        raise chain.refusal(node, "drops units at test time")
    if given is not None and given.size != 1:
        raise chain.refusal(node, f"has {given.size} ratios")
    ratio = float(a.get("ratio", 0.5)) if given is None else float(given.reshape(()))
    if not 0 <= ratio < 1:
        raise chain.refusal(node, f"drops {ratio:g} of the units")
    chain.add(node, Dropout(round(1 - ratio, 6), inverted=True))


def _require_unused(chain: Chain, node: Any, name: str) -> None:
    used = [name in other.input for other in chain.graph.nodes]
    if any(used) or name in [one.name for one in chain.graph.model.graph.output]:
        raise chain.refusal(node, f"gives {name!r}, which is used")


def _response_norm(chain: Chain, node: Any, a: Attributes) -> None:
    n = int(a.get("size", 0))
    if n < 1 or n % 2 == 0 or len(chain.shape) != 3 or chain.rows is not None:
        raise chain.refusal(node, f"normalises over {n} channels: the number must be odd")
    constants = (
        _short(a.get("bias", 1.0)),
        _short(a.get("alpha", 1e-4)) / n,
        _short(a.get("beta", 0.75)),
    )
    chain.add(node, ResponseNorm(n, *constants, groups=chain.towers))


def _short(value: float) -> float:
    """The decimal that a float32 was written as: 9.999999747378752e-05 is 0.0001."""
    return float(str(np.float32(value)))


def _softmax(chain: Chain, node: Any, a: Attributes) -> None:
    """Scores are enough: probabilities are the classifier's own."""
    axis = int(a.get("axis", 1 if chain.graph.opset < 13 else -1))
    flat = len(chain.shape) == 1 or chain.shape[:2] == (1, 1)
    if not flat or axis not in (1, -1) or (axis == -1 and len(chain.shape) == 3 and not chain.rows):
        raise chain.refusal(node, f"is along the axis {axis} of {chain.shape}")
    chain.ended = f"{node.op_type}, which ends a classifier"


# ------------------------------------------------------------------------------------ dense layers


def _gemm(chain: Chain, node: Any, a: Attributes) -> None:
    if chain.current != node.input[0] or a.get("transA", 0):
        raise chain.refusal(node, "does not multiply its input by a constant")
    weight = _matrix(chain, node)
    if not a.get("transB", 0):
        weight = weight.T
    alpha, beta = float(a.get("alpha", 1.0)), float(a.get("beta", 1.0))
    bias = chain.constant(node, 2)
    bias = np.zeros(1, np.float32) if bias is None else bias
    if bias.size not in (1, len(weight)) or bias.ndim > 2 or bias.shape[:-1] not in ((), (1,)):
        raise chain.refusal(node, f"has a bias of {bias.shape}")
    whole = np.broadcast_to(bias.reshape(-1), len(weight))
    weight = weight if alpha == 1 else weight * np.float32(alpha)
    whole = whole if beta == 1 else whole * np.float32(beta)
    chain.add(node, Dense(len(weight)), weight=weight, bias=whole)


def _matmul(chain: Chain, node: Any, a: Attributes) -> None:
    if chain.current != node.input[0]:
        raise chain.refusal(node, "multiplies a constant by its input")
    weight = _matrix(chain, node).T
    chain.add(node, Dense(len(weight)), weight=weight, bias=np.zeros(len(weight), np.float32))


def _matrix(chain: Chain, node: Any) -> np.ndarray:
    weight = chain.constant(node, 1)
    if weight is None or weight.ndim != 2:
        raise chain.refusal(node, "does not multiply by a matrix")
    if len(chain.shape) == 3 and chain.rows is None:
        raise chain.refusal(node, "multiplies images: a Flatten must come before it")
    return weight


def _batch_norm(chain: Chain, node: Any, a: Attributes) -> None:
    if a.get("training_mode", 0) or len([one for one in node.output if one]) > 1:
        raise chain.refusal(node, "measures its batch: export the network for inference")
    name, of = chain.last_with_weights(node)
    given = [chain.constant(node, i) for i in range(1, 5)]
    channels = of["bias"].shape
    if any(one is None or one.shape != channels for one in given):
        raise chain.refusal(node, f"does not normalise the {channels[0]} channels of {name}")
    scale, shift, mean, variance = (one for one in given if one is not None)
    norm = BatchNorm(scale, shift, mean, variance, float(a.get("epsilon", 1e-5)))
    of["weight"], of["bias"] = norm.folded(of["weight"], of["bias"])


# ------------------------------------------------------------------------------------ arithmetic


def _arithmetic(chain: Chain, node: Any, a: Attributes) -> None:
    """The input's mean and scale, or a bias on its own."""
    first = chain.current == node.input[0]
    other = node.input[1] if first else node.input[0]
    if other not in chain.graph.constants:
        raise chain.refusal(node, "joins two branches: only chains of layers are read")
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
    shapes += [(units, 1, 1), (1, units, 1, 1)] if len(chain.shape) == 3 else []
    if node.op_type != "Add" or value.shape not in [*shapes, (), (1,)]:
        raise chain.refusal(node, f"is not the bias of {name} ({value.shape})")
    of["bias"] = of["bias"] + value.reshape(-1)


def _last_axis(chain: Chain, node: Any, value: np.ndarray) -> np.ndarray:
    """A constant of the input in our layout: (C,) or (H, W, C)."""
    if len(chain.shape) != 3:
        raise chain.refusal(node, "changes an input that is not images")
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
        raise chain.refusal(node, "scales every pixel on its own")
    with np.errstate(divide="ignore"):
        value = 1 / value.astype(np.float64) if divide else value
    if not np.all(np.isfinite(value)) or not np.all(value):
        raise chain.refusal(node, "scales by nothing")
    chain.scale = value if chain.scale is None else chain.scale * value


def _multiplication(chain: Chain, node: Any, a: Attributes, following: Iterator[Any]) -> None:
    """A product with a constant; or x·x, which begins a normalisation within channels.

    That is written as Mul, AveragePool, Mul, Add, Pow, Div: x / (k + α n² mean(x²))^β.
    """
    if list(node.input) != [chain.current] * 2:
        _arithmetic(chain, node, a)
        chain.current = node.output[0]
        return
    _require_images(chain, node)
    steps = [node, *islice(following, 5)]
    kinds = ["Mul", "AveragePool", "Mul", "Add", "Pow", "Div"]
    joined = all(
        before.output[0] == after.input[int(after.op_type == "Div")]
        for before, after in pairwise(steps)
    )
    if [one.op_type for one in steps] != kinds or not joined:
        raise chain.refusal(node, "multiplies a branch by itself: only chains of layers are read")
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
        raise chain.refusal(node, "begins no normalisation that is known here")
    alpha, k, beta = (_short(float(value.reshape(()))) for value in values if value is not None)
    chain.add(steps[5], SpatialResponseNorm(n, k, alpha / n**2, beta))
    chain.current = steps[5].output[0]


# ------------------------------------------------------------------------------------ shapes


def _flatten(chain: Chain, node: Any, a: Attributes) -> None:
    axis = int(a.get("axis", 1))
    if axis not in (1, 1 - 4 if len(chain.shape) == 3 else 1) or chain.nhwc:
        raise chain.refusal(node, f"flattens from the axis {axis}")
    if len(chain.shape) == 3:
        chain.rows = chain.shape


def _reshape(chain: Chain, node: Any, a: Attributes) -> None:
    given = chain.constant(node, 1)
    target = [int(one) for one in (given.reshape(-1) if given is not None else a.get("shape", []))]
    size = int(np.prod(chain.shape))
    if len(target) == 4 and len(chain.shape) == 3 and not chain.nhwc and chain.rows is None:
        height, width, channels = chain.shape
        if target[0] == -1 and target[2:] == [height, width] and channels % max(1, target[1]) == 0:
            chain.towers = channels // max(1, target[1])
            return
    fits = len(target) == 2 and target[1] in (-1, size) and target.count(-1) < 2
    if not fits or chain.nhwc or chain.towers > 1:
        raise chain.refusal(node, f"reshapes {chain.shape} to {target}, which is not flattening")
    if len(chain.shape) == 3:
        chain.rows = chain.shape


def _squeeze(chain: Chain, node: Any, a: Attributes) -> None:
    given = chain.constant(node, 1)
    axes = [int(one) % 4 for one in (a.get("axes") or (given if given is not None else [2, 3]))]
    if chain.shape[:2] != (1, 1) or sorted(axes) != [2, 3] or chain.nhwc:
        raise chain.refusal(node, f"squeezes the axes {axes} of {chain.shape}")
    chain.rows = chain.shape


def _transpose(chain: Chain, node: Any, a: Attributes) -> None:
    if not chain.nhwc or list(a.get("perm", [])) != [0, 3, 1, 2]:
        raise chain.refusal(node, f"transposes by {a.get('perm')}: only N H W C to N C H W is read")
    chain.nhwc = False


def _cast(chain: Chain, node: Any, a: Attributes) -> None:
    if a.get("to") not in (1, 10, 11):
        raise chain.refusal(node, "casts to a type that is not a float")


def _identity(chain: Chain, node: Any, a: Attributes) -> None:
    pass


def _plain(function: Maker) -> Operator:
    """An operator of one node, whose first output goes on."""

    def operator(chain: Chain, node: Any, a: Attributes, following: Iterator[Any]) -> None:
        function(chain, node, a)
        chain.current = node.output[0]

    return operator


_PLAIN: dict[str, Maker] = {
    "Add": _arithmetic,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Conv": _conv,
    "Div": _arithmetic,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "Identity": _identity,
    "LRN": _response_norm,
    "LogSoftmax": _softmax,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Relu": _relu,
    "Reshape": _reshape,
    "Softmax": _softmax,
    "Squeeze": _squeeze,
    "Sub": _arithmetic,
    "Tanh": _tanh,
    "Transpose": _transpose,
}
OPERATORS: dict[str, Operator] = {name: _plain(function) for name, function in _PLAIN.items()}
OPERATORS["Mul"] = _multiplication


# ------------------------------------------------------------------------------------ constants


def _constant(chain: Chain, node: Any, a: Attributes) -> None:
    if "value" in a:
        chain.graph.constants[node.output[0]] = chain.graph.array(a["value"])
        return
    kinds = {"value_float": "f4", "value_floats": "f4", "value_int": "i8", "value_ints": "i8"}
    found = [np.array(a[key], kind) for key, kind in kinds.items() if key in a]
    if not found:
        raise chain.refusal(node, "is a constant of a kind that is not known")
    chain.graph.constants[node.output[0]] = found[0]


def _constant_of_shape(chain: Chain, node: Any, a: Attributes) -> None:
    shape = chain.constant(node, 0)
    value = chain.graph.array(a["value"]) if "value" in a else np.zeros(1, np.float32)
    if shape is None or shape.dtype.kind != "i" or value.size != 1 or shape.size > 8:
        raise chain.refusal(node, "has no shape, or no value")
    chain.graph.make(node.output[0], tuple(map(int, shape.reshape(-1))), value)


def _constant_reshape(chain: Chain, node: Any, a: Attributes) -> None:
    value, shape = chain.constant(node, 0), chain.constant(node, 1)
    try:
        made = np.reshape(value, tuple(map(int, shape)))  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise chain.refusal(node, f"cannot be computed ({error})") from None
    chain.graph.constants[node.output[0]] = made


def _constant_transpose(chain: Chain, node: Any, a: Attributes) -> None:
    value = chain.constant(node, 0)
    try:
        chain.graph.constants[node.output[0]] = np.transpose(value, a.get("perm"))  # type: ignore
    except (TypeError, ValueError) as error:
        raise chain.refusal(node, f"cannot be computed ({error})") from None


def _constant_same(chain: Chain, node: Any, a: Attributes) -> None:
    chain.graph.constants[node.output[0]] = chain.graph.constants[node.input[0]]


CONSTANTS: dict[str, Maker] = {
    "Cast": _constant_same,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Identity": _constant_same,
    "Reshape": _constant_reshape,
    "Transpose": _constant_transpose,
}
