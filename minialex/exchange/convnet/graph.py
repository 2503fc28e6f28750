"""The layers of a definition with input and output shapes, by cuda-convnet's own arithmetic.

Images are square there. Convolution and pooling round up, so the last window may extend beyond
the image.
"""

from dataclasses import dataclass, field

from minialex.exchange.convnet.cfg import Sections

_LARGEST = 1 << 16  # pixels on a side, channels, units
_SAME: tuple[str, ...] = (
    *("hs", "dropout", "dropout2", "neuron", "softmax", "pass", "href", "blur", "rgb2yuv"),
    *("rgb2lab", "eltsum", "eltmax", "sum"),
)
_NORMS = ("rnorm", "cnorm", "cmrnorm", "crmnorm")


@dataclass(frozen=True)
class Node:
    """A layer: outputs are `channels` maps of `size` x `size`, or units if `size` is 0.

    `values` are the keys of its section; `parameters` counts its weights and biases.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    channels: int
    size: int
    parameters: int = 0
    values: dict[str, str] = field(default_factory=dict)

    @property
    def outputs(self) -> int:
        return self.channels * max(1, self.size) ** 2

    @property
    def neuron(self) -> str:
        """The layer's activation function, "" for none."""
        found = "" if self.kind == "neuron" else self.values.get("neuron", "")
        return "" if found == "ident" else found

    def integers(self, key: str, default: int | None = None) -> list[int]:
        """A value for each input; ValueError for anything but whole numbers in range."""
        if key not in self.values:
            if default is None:
                raise ValueError(f"layer {self.name!r} has no {key}")
            return [default] * max(1, len(self.inputs))
        try:
            found = [int(text) for text in self.values[key].split(",")]
        except ValueError:
            found = [-1]
        if not all(0 <= one <= _LARGEST for one in found):
            raise ValueError(f"layer {self.name!r} has {key} = {self.values[key][:40]}")
        return found

    def integer(self, key: str, default: int | None = None) -> int:
        return self.integers(key, default)[0]

    def number(self, key: str, default: float) -> float:
        """The first number in a value."""
        text = self.values.get(key, str(default)).split(",")[0]
        try:
            return float(text)
        except ValueError:
            raise ValueError(f"layer {self.name!r} has {key} = {text[:40]}") from None

    def flag(self, key: str, default: bool) -> bool:
        text = self.values.get(key, str(int(default))).split(",")[0].strip().lower()
        return text in ("1", "true", "yes", "on")


def graph(sections: Sections, size: int, classes: int = 1000) -> dict[str, Node]:
    """All layers by name, in order, for images of `size` pixels on a side.

    `classes` is the number of classes in a class tree, which no definition gives. Raises
    ValueError, with a layer's name, for layers that do not fit together.
    """
    nodes: dict[str, Node] = {}
    for name, values in sections.items():
        kind = values.get("type", "")
        inputs = tuple(text.strip() for text in values.get("inputs", "").split(",") if text.strip())
        for source in inputs:
            if source not in nodes:
                raise ValueError(
                    f"layer {name[:60]!r} takes {source[:60]!r}, which does not come before it"
                )
        node = Node(name, kind, inputs, 0, 0, 0, values)
        below = [nodes[source] for source in inputs]
        if kind != "data" and not below:
            raise ValueError(f"layer {name[:60]!r} of type {kind[:40]!r} has no inputs")
        channels, extent, parameters = _outputs(node, below, size, classes)
        if not (0 < channels <= 1 << 24 and 0 <= extent <= _LARGEST):
            raise ValueError(f"layer {name[:60]!r} has {channels} x {extent} x {extent} outputs")
        nodes[name] = Node(name, kind, inputs, channels, extent, parameters, values)
    if not nodes:
        raise ValueError("it defines no layers")
    return nodes


def image_size(sections: Sections) -> int:
    """The side of the images, which no definition gives: that of ILSVRC's or of CIFAR-10's crops.

    A first layer with a stride above 1, or after downsampling, is for large images; networks with
    layers of unshared weights took CIFAR-10's images in crops of 24.
    """
    kinds = {values.get("type") for values in sections.values()}
    first = next((v for v in sections.values() if v.get("type") in ("conv", "local")), {})
    stride = first.get("stride", "1").split(",")[0].strip()
    if kinds & {"nailbed", "blur", "href"} or stride != "1":
        return 224
    return 24 if "local" in kinds else 32


def _outputs(node: Node, below: list[Node], size: int, classes: int) -> tuple[int, int, int]:
    """(channels, size, parameters)."""
    kind = node.kind
    if kind == "data":
        return (3, size, 0) if node.integer("dataidx", 0) == 0 else (1, 0, 0)
    if kind.startswith("cost."):
        return 1, 0, 0
    if kind in ("conv", "local"):
        return _windows(node, below)
    if kind in ("fc", "treefc"):
        units = node.integer("outputs") if kind == "fc" else classes
        return units, 0, sum(one.outputs for one in below) * units + units
    if kind == "concat" or (kind == "pass" and len(below) > 1):
        return sum(one.outputs for one in below), 0, 0
    if kind in _SAME:
        return below[0].channels, below[0].size, 0
    if kind in _NORMS:
        channels, extent = _image(node, below[0], node.integer("channels"))
        return channels, extent, 0
    if kind == "nailbed":
        channels, extent = _image(node, below[0], node.integer("channels"))
        return channels, -(-extent // _positive(node, "stride")), 0
    if kind == "pool":
        channels, extent = _image(node, below[0], node.integer("channels"))
        outputs = node.integer("outputsx", 0)
        room = extent - node.integer("start", 0) - _positive(node, "sizex")
        return channels, outputs or -(-room // _positive(node, "stride")) + 1, 0
    if kind in ("resize", "rscale"):
        channels, extent = _image(node, below[0], node.integer("channels"))
        scaled = int(extent / max(node.number("scale", 1.0), 1e-3))
        return channels, node.integer("tgtsize", scaled), 0
    raise ValueError(f"layer {node.name[:60]!r} is of an unknown type: {kind[:40]!r}")


def _positive(node: Node, key: str) -> int:
    if (found := node.integer(key)) < 1:
        raise ValueError(f"layer {node.name[:60]!r} has {key} = 0")
    return found


def _image(node: Node, below: Node, channels: int) -> tuple[int, int]:
    """An input as images of so many channels; units can be read as images, too."""
    extent = round((below.outputs / channels) ** 0.5) if channels else 0
    if channels * extent**2 != below.outputs:
        raise ValueError(
            f"layer {node.name[:60]!r} takes {below.outputs:,} numbers for square images of "
            f"{channels} channels"
        )
    return channels, extent


def _windows(node: Node, below: list[Node]) -> tuple[int, int, int]:
    """A convolution, or a layer of the same windows with unshared weights ("local")."""
    per_input: list[tuple[int, int]] = []
    weights = 0

    def many(key: str, default: int | None) -> list[int]:
        return _many(node, key, default)

    for i, source in enumerate(below):
        channels, extent = _image(node, source, many("channels", None)[i])
        groups, kernel = many("groups", 1)[i], many("filtersize", None)[i]
        stride, pad = many("stride", 1)[i], many("padding", 0)[i]
        if groups < 1 or stride < 1 or channels % groups:
            raise ValueError(f"layer {node.name[:60]!r}: {channels} channels in {groups} groups")
        filters = many("filters", None)[i] * groups
        outputs = -(-(2 * pad + extent - kernel) // stride) + 1
        if kernel < 1 or outputs < 1:
            raise ValueError(
                f"layer {node.name[:60]!r}: a window of {kernel} pixels does not fit into {extent}"
            )
        own = many("filterchannels", channels // groups)[i] * kernel**2 * filters
        weights += own * (outputs**2 if node.kind == "local" else 1)
        per_input.append((filters, outputs))
    if len(set(per_input)) > 1:
        raise ValueError(f"layer {node.name[:60]!r}: its inputs give outputs of different sizes")
    filters, outputs = per_input[0]
    shared = node.kind == "conv" and node.flag("sharedbiases", True)
    return filters, outputs, weights + filters * (1 if shared else outputs**2)


def _many(node: Node, key: str, default: int | None) -> list[int]:
    found = node.integers(key, default)
    if len(found) < len(node.inputs):
        if len(found) > 1:
            raise ValueError(f"layer {node.name[:60]!r} has {key} for {len(found)} inputs")
        found = found * len(node.inputs)
    return found
