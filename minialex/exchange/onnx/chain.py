"""Converts an ONNX graph to a network, node by node; graphs with branches are not supported."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minialex.errors import InputError
from minialex.exchange.onnx.file import Graph
from minialex.exchange.tensors import convolution_weight, dense_weight
from minialex.layers import ChannelScale, Dense, Layer
from minialex.network import Network
from minialex.tree import Tree

_STANDARD = ("", "ai.onnx")


@dataclass
class Chain:
    """The state of reading: layers, weights as in ONNX, and the current output.

    `shape` is the current output's shape for one image, in our layout; `rows` is the shape that was
    flattened, in C H W order; `nhwc` says whether images are still N H W C. `mean` and `scale` are
    subtracted from and multiplied with the input; N C H W or N H W C.
    """

    graph: Graph
    current: str
    shape: tuple[int, ...]
    nhwc: bool = False
    rows: tuple[int, ...] | None = None
    layers: list[tuple[str, Layer]] = field(default_factory=list)
    weights: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    inputs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    mean: np.ndarray | None = None
    scale: np.ndarray | None = None
    input_shape: tuple[int, ...] = ()
    ended: str = ""  # the softmax, which must be last
    towers: int = 1  # groups of channels that are separate images at the moment
    weight_bytes: int = 0
    integer_input: bool = False

    def add(self, node: Any, layer: Layer, **weights: np.ndarray) -> None:
        """Add a layer, with its weights as in ONNX."""
        name = self._name(node)
        try:
            after = layer.output_shape(self.shape)
            expected = layer.parameter_shapes(self.shape)
        except InputError as error:
            raise self.refusal(node, str(error)) from None
        given = weights.get("weight")
        if given is not None and given.size != int(np.prod(expected["weight"])):
            raise self.refusal(node, f"its weight {given.shape} does not fit {self.shape}")
        self.weight_bytes += sum(one.nbytes for one in weights.values())
        if self.weight_bytes > self.graph.most_bytes:
            raise self.refusal(node, "reuses weights: together they are larger than the file")
        self.layers.append((name, layer))
        self.inputs[name] = self.rows or self.shape
        if weights:
            self.weights[name] = weights
        if isinstance(layer, Dense):
            self.rows = None
        self.shape = after

    def refusal(self, node: Any, reason: str) -> InputError:
        """An error that names the node."""
        name = node.name or (node.output[0] if node.output else "?")
        return InputError(f"{self.graph.path}: the node {name!r} ({node.op_type}) {reason}")

    def last_with_weights(self, node: Any) -> tuple[str, dict[str, np.ndarray]]:
        """The previous layer, which must have weights."""
        if not self.layers or self.layers[-1][0] not in self.weights:
            raise self.refusal(node, "does not follow a layer with weights")
        name = self.layers[-1][0]
        return name, self.weights[name]

    def constant(self, node: Any, i: int) -> np.ndarray | None:
        """Input `i` of a node, if it has one; InputError if it is not a constant."""
        if len(node.input) <= i or not node.input[i]:
            return None
        if node.input[i] not in self.graph.constants:
            raise self.refusal(node, f"has the input {node.input[i]!r}, which is not a constant")
        return self.graph.constant(node.input[i])

    def network(self) -> Network:
        """The network of the layers."""
        layers = list(self.layers)
        if self.scale is not None:
            factors = tuple(float(f) for f in np.broadcast_to(self.scale, self.input_shape[-1:]))
            layers.insert(0, ("input", ChannelScale(factors)))
        return Network(tuple(layers), self.input_shape)

    def params(self) -> Tree:
        """The weights in our layouts; ONNX's are released."""
        found: Tree = {}
        for name, of in self.weights.items():
            weight, bias = of["weight"], of["bias"]
            if weight.ndim == 4:
                weight = convolution_weight(weight)
            else:
                weight = dense_weight(weight, self.inputs[name])
            found[name] = {
                "weight": np.ascontiguousarray(weight, np.float32),
                "bias": np.ascontiguousarray(bias, np.float32),
            }
            of.clear()
        return found

    def _name(self, node: Any) -> str:
        """A name for a layer: the node's name, or its operator's."""
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", node.name).strip("_") or node.op_type.lower()
        taken = {one for one, _ in self.layers} | {"input"}
        unique, number = name, 1
        while unique in taken or (not node.name and number == 1):
            unique, number = f"{name}{number}", number + 1
        return unique


Attributes = dict[str, Any]
Maker = Callable[[Chain, Any, Attributes], None]
Operator = Callable[[Chain, Any, Attributes, Iterator[Any]], None]  # also the nodes after it


def read_chain(graph: Graph, shape: tuple[int, ...] | None = None) -> Chain:
    """The layers of a graph; `shape` (H, W, C) is the input's if the file leaves it open.

    Raises InputError, with the node's name, for an unknown operator or a branch.
    """
    from minialex.exchange.onnx.constants import CONSTANTS
    from minialex.exchange.onnx.operators import OPERATORS

    chain = _start(graph, shape)
    consumed: set[str] = set()
    nodes = iter(graph.nodes)
    for node in nodes:
        if node.domain not in _STANDARD:
            raise chain.refusal(node, f"is of the unknown domain {node.domain!r}")
        attributes = _attributes(chain, node)
        given = [name for name in node.input if name]
        if all(name in graph.constants for name in given):
            make = CONSTANTS.get(node.op_type)
            if make is None:
                raise chain.refusal(node, "makes a constant in an unknown way")
            make(chain, node, attributes)
            continue
        if chain.current not in given:
            if set(given) & consumed:
                other = next(name for name in given if name in consumed)
                raise chain.refusal(node, f"uses {other!r} again: only layer chains are supported")
            raise chain.refusal(node, f"needs {given[0]!r}, which no earlier node outputs")
        operator = OPERATORS.get(node.op_type)
        if operator is None:
            raise chain.refusal(node, f"is not one of {', '.join(sorted(OPERATORS))}")
        if chain.ended and node.op_type != "Identity":
            raise chain.refusal(node, f"comes after {chain.ended}")
        if chain.towers > 1 and node.op_type not in ("LRN", "Reshape", "Relu", "Identity"):
            raise chain.refusal(node, "works on groups of channels")
        consumed.add(chain.current)
        operator(chain, node, attributes, nodes)
    outputs = [one.name for one in graph.model.graph.output]
    if chain.current not in outputs:
        raise InputError(f"{graph.path} has the outputs {outputs}: the last node's is another")
    return chain


def _start(graph: Graph, given: tuple[int, ...] | None) -> Chain:
    """A chain with its input's shape; images may be N C H W or, as integers, N H W C."""
    described = graph.input.type.tensor_type
    extents = [one.dim_value for one in described.shape.dim]
    integers = described.elem_type not in (1, 10, 11)
    if len(extents) == 2 and extents[1] > 0:
        shape: tuple[int, ...] = (extents[1],)
    elif len(extents) == 4:
        nhwc = integers and extents[3] in (1, 3)
        height, width, channels = extents[1:] if nhwc else (*extents[2:], extents[1])
        shape = (height, width, channels)
        if min(shape) < 1:
            if given is None:
                raise InputError(
                    f"{graph.path} takes images of any size ({extents}): give the network (--as)"
                )
            shape = given
    else:
        raise InputError(f"{graph.path} has an input of shape {extents}: not N C H W")
    if max(shape) > 1 << 16:
        raise InputError(f"{graph.path} has an input of shape {extents}, which is too large")
    nhwc = integers and len(extents) == 4 and extents[3] in (1, 3)
    chain = Chain(graph, graph.input.name, shape, nhwc, integer_input=integers)
    chain.input_shape = shape
    return chain


def _attributes(chain: Chain, node: Any) -> dict[str, Any]:
    """A node's attributes by name; tensors are left as they are."""
    found: dict[str, Any] = {}
    for one in node.attribute:
        kinds = {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints"}
        if one.type not in kinds:
            raise chain.refusal(node, f"has an attribute {one.name!r} of an unknown kind")
        value = getattr(one, kinds[one.type])
        if one.type == 3:
            value = value.decode("utf-8", "replace")
        elif one.type in (6, 7):
            value = list(value)
        found[one.name] = value
    return found
