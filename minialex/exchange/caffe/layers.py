"""Converts Caffe's layers to ours: a chain from the images to the scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from minialex.exchange.caffe.message import Message
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
)
from minialex.layers.base import Shape, WeightStd

_WIDEST = 1024  # a kernel, a stride, a padding
_DATA = {"data", "input", "imagedata", "hdf5data", "memorydata", "windowdata", "dummydata"}
_ASIDE = {"accuracy", "silence", "argmax", "hdf5output"}  # they only report on the scores
FOLDED = {"batchnorm", "scale", "bias"}  # into the weights before them
_LAST = {"softmax", "softmaxloss", "softmaxwithloss", "hingeloss", "multinomiallogisticloss"}
_LAST |= {"infogainloss", "sigmoidcrossentropyloss", "euclideanloss"}


@dataclass(frozen=True)
class CaffeLayer:
    """A layer in a file: its name, its kind ("convolution", "innerproduct", ...), its fields."""

    name: str
    kind: str
    fields: Message

    def __str__(self) -> str:
        return f"layer {self.name[:60]!r}"


def layers_of(net: Message) -> list[CaffeLayer]:
    """The layers of a NetParameter, in Caffe's first format or today's."""
    found = []
    for fields in [*net.subs("layers"), *net.subs("layer")]:
        if "layer" in fields:
            raise ValueError(
                "its layers have Caffe's oldest format: run Caffe's upgrade_net_proto_binary on it"
            )
        kind = fields.text("type").lower().replace("_", "")
        found.append(CaffeLayer(fields.text("name"), kind, fields))
    if not found:
        raise ValueError("it has no layers")
    return found


def data_layers(layers: Sequence[CaffeLayer]) -> list[CaffeLayer]:
    """The layers that provide images."""
    return [layer for layer in layers if layer.kind in _DATA]


def chain(layers: Sequence[CaffeLayer], inputs: Sequence[str]) -> list[CaffeLayer]:
    """The layers between the images and the scores, in order.

    Raises ValueError with the name of the first that takes anything but the output of the previous
    one.
    """
    here = {*inputs, *(top for layer in data_layers(layers) for top in layer.fields.texts("top"))}
    found: list[CaffeLayer] = []
    ended = ""
    for layer in layers:
        if layer.kind in _DATA | _ASIDE | _LAST:
            ended = ended or (layer.name if layer.kind in _LAST else "")
            continue
        if ended and layer.kind != "split":
            raise ValueError(f"{layer} comes after {ended[:60]!r}, with which a classifier ends")
        bottoms, tops = layer.fields.texts("bottom"), layer.fields.texts("top")
        if here and (len(bottoms) != 1 or bottoms[0] not in here):
            took = ", ".join(bottoms)[:60] or "nothing"
            raise ValueError(
                f"{layer} takes {took}, not the output of the previous layer: only layer "
                "chains are supported"
            )
        if layer.kind == "split":
            here |= set(tops)
            continue
        if len(tops) != 1:
            raise ValueError(f"{layer} has {len(tops)} outputs: only layer chains are supported")
        here = set(tops)
        if layer.kind != "flatten":  # our dense layers take images directly
            found.append(layer)
    if not any(layer.kind in ("convolution", "innerproduct") for layer in found):
        raise ValueError("it has no convolutional or dense layer")
    return found


def has_bias(layer: CaffeLayer) -> bool:
    """Whether a convolution or a dense layer has a bias in Caffe; ours always have one."""
    names = {"convolution": "convolution_param", "innerproduct": "inner_product_param"}
    return layer.fields.sub(names[layer.kind]).flag("bias_term", True)


def ours(layer: CaffeLayer, input_shape: Shape) -> Layer:
    """Our layer for one of Caffe's; ValueError if it is not supported."""
    fields = layer.fields
    match layer.kind:
        case "convolution":
            return _convolution(fields.sub("convolution_param"), input_shape)
        case "innerproduct":
            return _dense(fields.sub("inner_product_param"), input_shape)
        case "relu":
            if slope := fields.sub("relu_param").number("negative_slope", 0.0):
                raise ValueError(f"a ReLU with a slope of {slope:g} below zero is not supported")
            return ReLU()
        case "tanh":
            return Tanh()
        case "sigmoid":
            return Sigmoid()
        case "dropout":
            ratio = fields.sub("dropout_param").number("dropout_ratio", 0.5)
            return Dropout(1 - ratio, inverted=True)
        case "lrn":
            return _norm(fields.sub("lrn_param"))
        case "pooling":
            return _pooling(fields.sub("pooling_param"), input_shape)
    raise ValueError(f"a layer of type {layer.kind[:40]!r} is not supported")


def _convolution(of: Message, input_shape: Shape) -> Conv2D:
    kernel, stride, pad = _window(of)
    if any(one != 1 for one in of.integers("dilation")):
        raise ValueError("a dilated convolution is not supported")
    outputs, groups = of.integer("num_output"), of.integer("group", 1)
    std, bias = _fillers(of, kernel**2 * input_shape[-1] // max(1, groups))
    return Conv2D(outputs, kernel, stride, pad, groups, weight_std=std, bias=bias)


def _dense(of: Message, input_shape: Shape) -> Dense:
    if of.integer("axis", 1) != 1:
        raise ValueError("a dense layer along an axis other than the first is not supported")
    std, bias = _fillers(of, prod(input_shape))
    return Dense(of.integer("num_output"), weight_std=std, bias=bias)


def _norm(of: Message) -> Layer:
    """Caffe divides alpha by the number of values under the window."""
    n = of.integer("local_size", 5, most=_WIDEST)
    alpha, beta = of.number("alpha", 1.0), of.number("beta", 0.75)
    region = of.text("norm_region", "ACROSS_CHANNELS")
    if region == "WITHIN_CHANNEL":
        return SpatialResponseNorm(n, 1.0, alpha / n**2, beta)  # Caffe's has no k
    if region != "ACROSS_CHANNELS":
        raise ValueError(f"a normalisation over {region} is not supported")
    return ResponseNorm(n, of.number("k", 1.0), alpha / n, beta)


def _pooling(of: Message, input_shape: Shape) -> Layer:
    method = of.text("pool", "MAX")
    if method not in ("MAX", "AVE"):
        raise ValueError(f"pooling of the kind {method} is not supported")
    if of.flag("global_pooling", False):
        if len(input_shape) != 3 or input_shape[0] != input_shape[1]:
            raise ValueError(f"pooling over all of {input_shape} is not supported")
        kernel, stride, pad = input_shape[0], 1, 0
    else:
        kernel, stride, pad = _window(of)
    rounding = of.text("round_mode", "CEIL").lower()
    if method == "MAX":
        return MaxPool(kernel, stride, pad, rounding)
    return AveragePool(kernel, stride, pad, rounding, count_pads=pad > 0)


def _window(of: Message) -> tuple[int, int, int]:
    """Kernel, stride and padding, each the same in both directions."""
    kernel = _both(of, "kernel_size", "kernel", None)
    return kernel, _both(of, "stride", "stride", 1), _both(of, "pad", "pad", 0)


def _both(of: Message, name: str, prefix: str, default: int | None) -> int:
    given = of.integers(name, most=_WIDEST)
    sides = [key for key in (f"{prefix}_h", f"{prefix}_w") if key in of]
    for key in sides:
        given += of.integers(key, most=_WIDEST)
    if len(sides) == 1:  # Caffe's default for the other one
        given += [0]
    if not given:
        if default is None:
            raise ValueError(f"{name} is missing")
        return default
    if len(set(given)) > 1:
        raise ValueError(f"{name} differs between height and width, which is not supported")
    return given[0]


def _fillers(of: Message, inputs: int) -> tuple[WeightStd, float]:
    """Initial weights and biases of a unit with so many inputs, for layers that start anew."""
    weight, bias = of.sub("weight_filler"), of.sub("bias_filler")
    kind = weight.text("type", "msra")
    xavier = max(1, inputs) ** -0.5  # Caffe's counts the inputs only
    stds: dict[str, WeightStd] = {"gaussian": weight.number("std", 1.0), "xavier": xavier}
    filled = of.flag("bias_term", True)
    return stds.get(kind), bias.number("value", 0.0) if filled else 0.0
