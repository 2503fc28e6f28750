"""Converters of ONNX operators: each function adds layers to a `Chain`."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from minialex.exchange.onnx.arithmetic import arithmetic, multiplication, short
from minialex.exchange.onnx.chain import Attributes, Chain, Maker, Operator
from minialex.exchange.onnx.windows import average_pool, conv, global_pool, max_pool
from minialex.exchange.tensors import BatchNorm
from minialex.layers import Dense, Dropout, ReLU, ResponseNorm, Sigmoid, Tanh

# ------------------------------------------------------------------------------------ each number


def _relu(chain: Chain, node: Any, a: Attributes) -> None:
    chain.add(node, ReLU())


def _tanh(chain: Chain, node: Any, a: Attributes) -> None:
    chain.add(node, Tanh())


def _sigmoid(chain: Chain, node: Any, a: Attributes) -> None:
    chain.add(node, Sigmoid())


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
        raise chain.refusal(node, f"outputs {name!r}, which is used")


def _response_norm(chain: Chain, node: Any, a: Attributes) -> None:
    n = int(a.get("size", 0))
    if n < 1 or n % 2 == 0 or len(chain.shape) != 3 or chain.rows is not None:
        raise chain.refusal(node, f"normalises over {n} channels: the number must be odd")
    constants = (
        short(a.get("bias", 1.0)),
        short(a.get("alpha", 1e-4)) / n,
        short(a.get("beta", 0.75)),
    )
    chain.add(node, ResponseNorm(n, *constants, groups=chain.towers))


def _softmax(chain: Chain, node: Any, a: Attributes) -> None:
    """Scores are enough: the classifier computes probabilities itself."""
    axis = int(a.get("axis", 1 if chain.graph.opset < 13 else -1))
    flat = len(chain.shape) == 1 or chain.shape[:2] == (1, 1)
    if not flat or axis not in (1, -1) or (axis == -1 and len(chain.shape) == 3 and not chain.rows):
        raise chain.refusal(node, f"is along axis {axis} of {chain.shape}")
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
        raise chain.refusal(node, "uses batch statistics: export the network for inference")
    name, of = chain.last_with_weights(node)
    given = [chain.constant(node, i) for i in range(1, 5)]
    channels = of["bias"].shape
    if any(one is None or one.shape != channels for one in given):
        raise chain.refusal(node, f"does not normalise the {channels[0]} channels of {name}")
    scale, shift, mean, variance = (one for one in given if one is not None)
    norm = BatchNorm(scale, shift, mean, variance, float(a.get("epsilon", 1e-5)))
    of["weight"], of["bias"] = norm.folded(of["weight"], of["bias"])


# ------------------------------------------------------------------------------------ shapes


def _flatten(chain: Chain, node: Any, a: Attributes) -> None:
    axis = int(a.get("axis", 1))
    if axis not in (1, 1 - 4 if len(chain.shape) == 3 else 1) or chain.nhwc:
        raise chain.refusal(node, f"flattens from axis {axis}")
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
        raise chain.refusal(node, f"transposes by {a.get('perm')}, not from N H W C to N C H W")
    chain.nhwc = False


def _cast(chain: Chain, node: Any, a: Attributes) -> None:
    if a.get("to") not in (1, 10, 11):
        raise chain.refusal(node, "casts to a type that is not a float")


def _identity(chain: Chain, node: Any, a: Attributes) -> None:
    pass


# ------------------------------------------------------------------------------------ all of them


def _plain(function: Maker) -> Operator:
    """An operator of a single node, whose first output is used."""

    def operator(chain: Chain, node: Any, a: Attributes, following: Iterator[Any]) -> None:
        function(chain, node, a)
        chain.current = node.output[0]

    return operator


_PLAIN: dict[str, Maker] = {
    "Add": arithmetic,
    "AveragePool": average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Conv": conv,
    "Div": arithmetic,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": global_pool,
    "GlobalMaxPool": global_pool,
    "Identity": _identity,
    "LRN": _response_norm,
    "LogSoftmax": _softmax,
    "MatMul": _matmul,
    "MaxPool": max_pool,
    "Relu": _relu,
    "Reshape": _reshape,
    "Sigmoid": _sigmoid,
    "Softmax": _softmax,
    "Squeeze": _squeeze,
    "Sub": arithmetic,
    "Tanh": _tanh,
    "Transpose": _transpose,
}
OPERATORS: dict[str, Operator] = {name: _plain(function) for name, function in _PLAIN.items()}
OPERATORS["Mul"] = multiplication
