"""A network as PyTorch modules: their names in a state dict, and the code that builds them."""

from dataclasses import dataclass, field, replace

from minialex.errors import InputError
from minialex.exchange import metadata
from minialex.exchange.pytorch import writer
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
    Tanh,
    output_size,
)
from minialex.layers.base import Shape
from minialex.network import Network

# PyTorch has no normalisation within a channel: these lines are printed with networks that do
_WITHIN_CHANNEL = """\
class NormWithinChannel(nn.Module):
    def __init__(self, *constants):
        super().__init__()
        self.constants = constants
    def forward(self, x):
        n, k, alpha, beta = self.constants
        sums = nn.functional.avg_pool2d(x * x, n, 1, n // 2, divisor_override=1)
        return x / (k + alpha * sums) ** beta
"""


@dataclass
class Modules:
    """`nn.Sequential`s called "features" and "classifier", as in torchvision.

    keys     {our layer: the name of its module}, such as {"conv1": "features.0"}
    code     the constructor calls of each part
    """

    keys: dict[str, str] = field(default_factory=dict)
    code: dict[str, list[str]] = field(default_factory=lambda: {"features": [], "classifier": []})


def modules(network: Network) -> Modules:
    """The modules that compute `network`, whose dropout must be inverted.

    Raises InputError for a layer that PyTorch does not have.
    """
    found = Modules()
    first_dense = next(
        (i for i, (_, layer) in enumerate(network.layers) if isinstance(layer, Dense)),
        len(network.layers),
    )
    while first_dense and isinstance(network.layers[first_dense - 1][1], Dropout):
        first_dense -= 1  # in torchvision's alexnet it is in the classifier
    shapes = network.shapes()
    for i, ((name, layer), shape) in enumerate(zip(network.layers, shapes, strict=False)):
        part = "features" if i < first_dense else "classifier"
        code = found.code[part]
        code += _before(layer, shape)
        if isinstance(layer, (Conv2D, Dense)):
            found.keys[name] = f"{part}.{len(code)}"
        code += _calls(name, layer, shape)
    return found


def program(
    network: Network,
    file: str,
    *,
    mean: str,
    scale: tuple[float, ...] | None,
    mean_image: tuple[int, ...] | None,
) -> str:
    """The Python lines that build the network in PyTorch and load its weights from `file`.

    `mean` describes what is subtracted from an image, before it is multiplied by `scale`; for an
    image of the shape `mean_image`, there are lines that read it.
    """
    parts = modules(network).code
    features, classifier = (f"nn.Sequential({', '.join(parts[part])})" for part in parts)
    height, width, channels = network.input_shape
    zipped = not file.endswith(".safetensors")
    load = "torch.load" if zipped else "load_file"
    more = "" if zipped else "; from safetensors.torch import load_file"
    within = any(isinstance(layer, SpatialResponseNorm) for _, layer in network.layers)
    lines = [
        f"import torch; from collections import OrderedDict; from torch import nn{more}",
        *[_WITHIN_CHANNEL] * within,
        f"features, classifier = {features}, {classifier}",
        "net = nn.Sequential(OrderedDict(features=features, flat=nn.Flatten(), "
        "classifier=classifier)).eval()",
        f"net.load_state_dict({load}({file!r}))",
        *(_mean_image(file, mean_image) if mean_image else ()),
        f"# net(x): x is float32 (N, {channels}, {height}, {width}), RGB from 0 to 255 minus "
        f"{mean}" + (f", times {list(scale)}" if scale else ""),
    ]
    return "\n".join(lines)


def _mean_image(file: str, shape: tuple[int, ...]) -> list[str]:
    """The lines that read it from the texts beside the weights."""
    if file.endswith(".safetensors"):
        start = f"from safetensors import safe_open; texts = safe_open({file!r}, 'pt').metadata()"
    else:
        entry = f"zipfile.ZipFile({file!r}).read({writer.TEXTS_ENTRY!r})"
        start = f"import json, zipfile; texts = json.loads({entry})"
    return [
        start,
        f"import base64; content = base64.b64decode(texts[{metadata.MEAN_IMAGE!r}])",
        f"mean_image = torch.frombuffer(bytearray(content), dtype=torch.float32).view({shape})",
    ]


def _pads(layer: Conv2D | MaxPool | AveragePool, shape: Shape, window: int) -> list[int]:
    """The padding that the ceil rule adds at the right and bottom."""
    rows, columns = output_size.pads(shape, window, layer.stride, layer.pad, layer.rounding)
    return [columns[1] - layer.pad, rows[1] - layer.pad]


def _before(layer: Layer, shape: Shape) -> list[str]:
    """The ceil rule of a convolution as padding; PyTorch has a ceil mode only for pooling."""
    if isinstance(layer, Conv2D) and any(more := _pads(layer, shape, layer.kernel)):
        return [f"nn.ZeroPad2d((0, {more[0]}, 0, {more[1]}))"]
    return []


def _calls(name: str, layer: Layer, shape: Shape) -> list[str]:
    """The constructor calls of a layer: one, except for normalisation within towers."""
    if isinstance(layer, ResponseNorm) and layer.groups > 1:  # the towers as separate images
        towers, channels = layer.groups, shape[-1] // layer.groups
        apart = [f"nn.Unflatten(1, ({towers}, {channels}))", "nn.Flatten(0, 1)"]
        together = [f"nn.Unflatten(0, (-1, {towers}))", "nn.Flatten(1, 2)"]
        return [*apart, _call(name, replace(layer, groups=1), shape), *together]
    return [_call(name, layer, shape)]


def _call(name: str, layer: Layer, shape: Shape) -> str:
    match layer:
        case Conv2D(channels=k, kernel=r, stride=s, pad=p, groups=g):
            more = f", groups={g}" * (g > 1)
            return f"nn.Conv2d({shape[2]}, {k}, {r}, {s}, {p}{more})"
        case Dense(units=units):
            inputs = 1
            for extent in shape:
                inputs *= extent
            return f"nn.Linear({inputs}, {units})"
        case ReLU():
            return "nn.ReLU()"
        case Tanh():
            return "nn.Tanh()"
        case Sigmoid():
            return "nn.Sigmoid()"
        case Dropout(keep=keep, inverted=True):
            return f"nn.Dropout({1 - keep!r})"
        case ResponseNorm(n=n, k=k, alpha=alpha, beta=beta, groups=1):
            return f"nn.LocalResponseNorm({n}, {alpha * n!r}, {beta!r}, {k!r})"
        case SpatialResponseNorm(n=n, k=k, alpha=alpha, beta=beta):
            return f"NormWithinChannel({n}, {k!r}, {alpha!r}, {beta!r})"
        case MaxPool(window=z, stride=s, pad=p) | AveragePool(window=z, stride=s, pad=p):
            if 2 * p > z:
                raise InputError(f"PyTorch cannot pad pooling by more than half a window ({name})")
            kind = "Max" if isinstance(layer, MaxPool) else "Avg"
            more = ", ceil_mode=True" * (layer.rounding == "ceil")
            if isinstance(layer, AveragePool) and p and not layer.count_pads:
                more += ", count_include_pad=False"
            return f"nn.{kind}Pool2d({z}, {s}, {p}{more})"
    kind = type(layer).__name__
    raise InputError(f"PyTorch has no layer like {name} ({kind}): export to ONNX instead")
