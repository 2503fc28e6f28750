"""Builds our network from a layer definition: columns on several GPUs become groups.

Where the authors have layers side by side, such as conv1a and conv1b, one layer of ours computes
both: a convolution that reads only its own column gets a group per column, one that reads all
columns has no groups.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from minialex.exchange.convnet.cfg import Sections
from minialex.exchange.convnet.graph import Node
from minialex.layers import (
    AveragePool,
    Conv2D,
    Dense,
    Dropout,
    Layer,
    MaxPool,
    ReLU,
    ResponseNorm,
    Sigmoid,
    SpatialResponseNorm,
)
from minialex.network import Network

_OWN = {"filters", "inputs", "gpu", "name", "partialsum", "channels", "initw", "initb"}
_OWN |= {"initwfunc", "initbfunc", "padding", "stride", "filtersize", "groups", "randsparse"}
_OWN |= {"sharedbiases"}
_NEURONS: dict[str, Layer] = {"relu": ReLU(), "logistic": Sigmoid()}


@dataclass(frozen=True)
class Columns:
    """The source of one of our layers: layers side by side, and the columns below, in order."""

    nodes: tuple[Node, ...]
    below: tuple[Node, ...]


def network(nodes: Mapping[str, Node], parameters: Sections) -> tuple[Network, dict[str, Columns]]:
    """The network, and the sources of its layers with parameters.

    Raises ValueError with the name of a layer that is not supported.
    """
    sources: dict[str, Columns] = {}
    here = [node.name for node in nodes.values() if node.kind == "data" and node.channels == 3]
    if not here:
        raise ValueError("no layer provides images")
    image = nodes[here[0]]
    made: list[tuple[str, Layer]] = []
    left = _without_passes(nodes)
    while left:
        column = _next(left, here)
        node = column[0]
        if node.kind == "softmax" or node.kind.startswith("cost."):
            break
        named = _name([one.name for one in column], [name for name, _ in made])
        if node.kind == "neuron":
            named = f"{made[-1][0]}-{node.values.get('neuron')}" if made else named
        made += [(named, layer) for layer in _layer(column, here, nodes, parameters)]
        if node.kind in ("conv", "fc"):
            sources[named] = Columns(tuple(column), tuple(nodes[name] for name in here))
        if node.neuron:
            made.append((f"{named}-{node.neuron}", _activation(node, node.neuron)))
        here = [one.name for one in column]
        left = [one for one in left if one not in column]
    if not made or not any(isinstance(layer, Dense) for _, layer in made[-2:]):
        raise ValueError("its last layer is not dense")
    return Network(tuple(made), (image.size, image.size, 3)), sources


def recipe(nodes: Mapping[str, Node], parameters: Sections) -> dict[str, Any]:
    """Fields of a recipe: momentum and decay, and the learning rates if they are initial ones.

    Many parameter files hold the final rates of a run, with those of the biases unchanged: the
    paper's rates are used then.
    """
    weighted = [node for node in nodes.values() if node.kind in ("conv", "fc")]
    mine = [Node(node.name, "", (), 1, 0, 0, parameters.get(node.name, {})) for node in weighted]
    fields: dict[str, Any] = {"bias_rate": 2.0, "bias_decay": 0.0}
    if not all(one.values for one in mine):
        return fields
    with suppress(ValueError):  # a rate may be one of their schedules: the paper's is used then
        rates = [one.number("epsw", 0.0) for one in mine]
        biases = [one.number("epsb", 0.0) for one in mine]
        if len(set(rates)) == len(set(biases)) == 1 and 0 < rates[0] <= biases[0] <= 10 * rates[0]:
            fields |= {"lr": rates[0], "bias_rate": biases[0] / rates[0]}
    decays = {one.name: one.number("wc", 0.0) for one in mine}
    common = max(decays.values(), key=list(decays.values()).count)
    fields |= {"momentum": mine[0].number("momw", 0.9), "weight_decay": common}
    others = {name: one / common for name, one in decays.items() if one != common and common}
    return fields | ({"layer_decays": others} if others else {})


def _without_passes(nodes: Mapping[str, Node]) -> list[Node]:
    """All layers but data; layers that only pass others on are bypassed."""
    passed: dict[str, tuple[str, ...]] = {}
    found = []
    for node in nodes.values():
        inputs = tuple(one for name in node.inputs for one in passed.get(name, (name,)))
        if node.kind == "pass":
            passed[node.name] = inputs
        elif node.kind != "data":
            found.append(replace(node, inputs=inputs))
    return found


def _next(left: Sequence[Node], here: Sequence[str]) -> list[Node]:
    """The layers of one kind that read the columns `here`."""
    column = [node for node in left if set(node.inputs) & set(here)]
    first = column[0] if column else left[0]
    if first.kind == "softmax" or first.kind.startswith("cost."):
        return [first]
    for node in column or [first]:
        if not set(node.inputs) <= set(here):
            raise ValueError(f"layer {node.name!r} takes {', '.join(node.inputs)[:60]}: {_CHAIN}")
        if node.kind != first.kind or _shared(node) != _shared(first):
            raise ValueError(
                f"layers {first.name!r} and {node.name!r} read the same but differ: {_CHAIN}"
            )
    read = {name for node in column for name in node.inputs}
    if read != set(here):
        raise ValueError(f"layer {min(set(here) - read)!r} is not read by {first.name!r}: {_CHAIN}")
    return column


_CHAIN = "only identical columns can become one network"


def _shared(node: Node) -> dict[str, str]:
    """What columns have to agree in; lists with a value per input are compared by value."""
    found = {key: text for key, text in node.values.items() if key not in _OWN}
    for key in ("padding", "stride", "filtersize", "filters", "initw", "initb"):
        if key in node.values:
            found[key] = ",".join(sorted({text.strip() for text in node.values[key].split(",")}))
    return found


def _one(node: Node, key: str, default: int | None = None) -> int:
    """A value that all inputs share."""
    found = set(node.integers(key, default))
    if len(found) != 1:
        raise ValueError(f"layer {node.name!r} has {key} = {node.values[key][:40]}: {_CHAIN}")
    return found.pop()


def _layer(
    column: list[Node], here: list[str], nodes: Mapping[str, Node], parameters: Sections
) -> list[Layer]:
    node, below = column[0], [nodes[name] for name in here]
    values = {**node.values, **parameters.get(node.name, {})}
    known = Node(node.name, node.kind, node.inputs, node.channels, node.size, 0, values)
    if node.kind == "conv":
        return [_convolution(column, here)]
    if node.kind == "fc":
        if any(set(one.inputs) != set(here) for one in column):
            raise ValueError(f"layer {node.name!r} reads only its own column: {_CHAIN}")
        std, bias = known.number("initw", 0.01), known.number("initb", 0.0)
        return [Dense(sum(one.channels for one in column), weight_std=std, bias=bias)]
    own = all(one.inputs == (name,) for one, name in zip(column, here, strict=False))
    if node.kind == "concat" and node.inputs == tuple(here) and not below[0].size:
        return []
    if not own or len(column) != len(here):
        raise ValueError(f"layer {node.name!r} does not read exactly one column: {_CHAIN}")
    match node.kind:
        case "pool":
            kinds: dict[str, Any] = {"max": MaxPool, "avg": AveragePool}
            start, size = known.integer("start", 0), known.integer("outputsx", 0)
            odd = start or size not in (0, node.size) or known.flag("sum", False)
            if values.get("pool") not in kinds or odd:
                raise ValueError(
                    f"layer {node.name!r}: this pooling ({values.get('pool', '')[:40]}) is "
                    "not supported"
                )
            window, stride = known.integer("sizex"), known.integer("stride")
            return [kinds[values["pool"]](window, stride, rounding="ceil")]
        case "cmrnorm":
            if known.flag("blocked", False):
                raise ValueError(f"layer {node.name!r}: normalisation in blocks is not supported")
            n, scale = _window(known), known.number("scale", 1e-4)
            k, beta = known.number("mindiv", 1.0), known.number("pow", 0.75)
            return [ResponseNorm(n, k, scale / n, beta, groups=len(column))]
        case "rnorm":
            n, scale = _window(known), known.number("scale", 1e-3)
            k, beta = known.number("mindiv", 1.0), known.number("pow", 0.75)
            return [SpatialResponseNorm(n, k, scale / n**2, beta)]
        case "neuron":
            return [_activation(node, values.get("neuron", ""))]
        case "hs" | "dropout2":
            return [Dropout(known.number("keep", 0.5))] if known.flag("enable", True) else []
        case "dropout":  # this one divides by keep in training
            on = known.flag("enable", True)
            return [Dropout(known.number("keep", 0.5), inverted=True)] if on else []
    raise ValueError(f"layer {node.name!r}: a layer of type {node.kind[:40]!r} is not supported")


def _activation(node: Node, neuron: str) -> Layer:
    if neuron not in _NEURONS:
        raise ValueError(f"layer {node.name!r}: the neuron {neuron[:40]!r} is not supported")
    return _NEURONS[neuron]


def _convolution(column: list[Node], here: list[str]) -> Conv2D:
    node = column[0]
    if node.flag("randsparse", False) or not node.flag("sharedbiases", True):
        what = "sparse connections and unshared biases"
        raise ValueError(f"layer {node.name!r}: {what} are not supported")
    own = len(here) > 1 and all(
        one.inputs == (name,) for one, name in zip(column, here, strict=False)
    )
    if not own and any(set(one.inputs) != set(here) for one in column):
        raise ValueError(f"layer {node.name!r} reads only some of the columns: {_CHAIN}")
    groups = _one(node, "groups", 1)
    if not own and groups > 1 and (len(here) > 1 or len(column) > 1):
        raise ValueError(f"layer {node.name!r} has groups across columns: {_CHAIN}")
    geometry = (_one(node, "filtersize"), _one(node, "stride", 1), _one(node, "padding", 0))
    channels = sum(one.channels for one in column)
    std, bias = node.number("initw", 0.01), node.number("initb", 0.0)
    groups *= len(column) if own else 1
    rounding = "ceil" if geometry[1] > 1 else "floor"  # both give the same size then
    return Conv2D(channels, *geometry, groups, rounding, weight_std=std, bias=bias)


def _window(node: Node) -> int:
    """The window of a normalisation, whose key changed its name."""
    found = node.integer("size" if "size" in node.values else "sizex")
    if found < 1:
        raise ValueError(f"layer {node.name[:60]!r} has a window of {found}")
    return found


def _name(names: list[str], used: list[str]) -> str:
    """conv1 for conv1a and conv1b; the first one's own name if that is taken."""
    common = names[0]
    while common and not all(name.startswith(common) for name in names):
        common = common[:-1]
    return common if common and common not in used else names[0]
