"""ONNX nodes that compute constants from constants."""

from typing import Any

import numpy as np

from minialex.exchange.onnx.chain import Attributes, Chain, Maker


def _constant(chain: Chain, node: Any, a: Attributes) -> None:
    if "value" in a:
        chain.graph.constants[node.output[0]] = chain.graph.array(a["value"])
        return
    kinds = {"value_float": "f4", "value_floats": "f4", "value_int": "i8", "value_ints": "i8"}
    found = [np.array(a[key], kind) for key, kind in kinds.items() if key in a]
    if not found:
        raise chain.refusal(node, "is a constant of an unknown kind")
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
