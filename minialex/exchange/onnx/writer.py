"""Writes a portable model as an ONNX graph.

The weights are written from our arrays, not through the onnx package, which copies them four times.
"""

from pathlib import Path
from typing import Any

import numpy as np

from minialex import __version__
from minialex.data.preprocessing import Preprocessing
from minialex.errors import InputError
from minialex.exchange import metadata
from minialex.exchange.inference_form import split_scale
from minialex.exchange.onnx.file import package
from minialex.exchange.portable import PortableModel
from minialex.exchange.tensors import stored_convolution_weight, stored_dense_weight
from minialex.layers import (
    AveragePool,
    ChannelScale,
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
from minialex.layers.base import Shape
from minialex.utils import atomic

OPSET, IR = 13, 8  # of 2020: every runtime today reads them
_SCORES = "scores"
_TAKEN = {_SCORES, "images", "input", "values", "mean", "centred", "scale", "scaled"}
_GRAPH, _INITIALIZER, _RAW = 7, 5, 9  # fields of a model, a graph and a tensor


class _Builder:
    """A chain of nodes, and constants."""

    def __init__(self, onnx: Any, start: str):
        self.helper, self.tensor = onnx.helper, onnx.TensorProto
        self.nodes: list[Any] = []
        self.constants: list[tuple[Any, np.ndarray]] = []
        self.current = start

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        """A constant's name."""
        array = np.asarray(value, dtype, order="C")
        kind = self.helper.np_dtype_to_tensor_dtype(array.dtype)
        about = self.tensor(dims=array.shape, data_type=kind, name=name)
        self.constants.append((about, array.astype(array.dtype.newbyteorder("<"), copy=False)))
        return name

    def node(self, kind: str, name: str, *more: str, first: str = "", **attributes: Any) -> str:
        """Add a node on the current output (or `first`); its output becomes the current one."""
        inputs = [first or self.current, *more]
        self.nodes.append(self.helper.make_node(kind, inputs, [name], name=name, **attributes))
        self.current = name
        return name


def write(portable: PortableModel, path: Path, with_preprocessing: bool) -> str:
    """Write the file; returns a description of its input and output."""
    onnx = package()
    scale, network = split_scale(portable.model.network)
    height, width, channels = network.input_shape
    float32, uint8 = onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8
    if with_preprocessing:
        start, shape, kind = "images", ["N", height, width, channels], uint8
        said = f"input: uint8 N {height} {width} {channels}, RGB, resized and cropped"
    else:
        start, shape, kind = "input", ["N", channels, height, width], float32
        colour = metadata.mean_colour(portable)
        mean = "the mean image" if colour is None else str(colour.tolist())
        said = f"input: float32 N {channels} {height} {width}, RGB from 0 to 255 minus {mean}"
        said += f", times {list(scale)}" if scale else ""
    builder = _Builder(onnx, start)
    if with_preprocessing:
        _prepare(builder, portable.preprocessing, scale)
    for (name, layer), here in zip(network.layers, network.shapes(), strict=False):
        own = f"layer_{name}" if name in _TAKEN else name
        _add(builder, own, layer, here, portable.params.get(name, {}))
    builder.nodes[-1].output[0] = _SCORES
    h = onnx.helper
    inputs = [h.make_tensor_value_info(start, kind, shape)]
    outputs = [h.make_tensor_value_info(_SCORES, float32, ["N", network.classes])]
    graph = h.make_graph(builder.nodes, portable.model.name, inputs, outputs)
    model = h.make_model(
        graph,
        opset_imports=[h.make_opsetid("", OPSET)],
        ir_version=IR,
        producer_name="minialex",
        producer_version=__version__,
    )
    texts = metadata.described(portable)
    texts["input"] = said
    h.set_model_props(model, texts)
    atomic.write_blocks(path, _blocks(model, builder.constants))
    return f"{said}\noutput: {_SCORES}, N {network.classes}, before the softmax"


def _blocks(model: Any, constants: list[tuple[Any, np.ndarray]]) -> list[bytes | memoryview]:
    """The bytes of a model with these constants in its graph."""
    blocks: list[bytes | memoryview] = [model.graph.SerializeToString()]
    for about, array in constants:
        content = array.reshape(-1).view(np.uint8).data
        described = about.SerializeToString() + _start(_RAW, len(content))
        blocks += [_start(_INITIALIZER, len(described) + len(content)) + described, content]
    model.ClearField("graph")
    return [model.SerializeToString() + _start(_GRAPH, sum(map(len, blocks))), *blocks]


def _start(field: int, length: int) -> bytes:
    """What comes before the bytes of a field in protobuf's encoding."""
    made, left = bytearray([field << 3 | 2]), length
    while left > 127:
        made.append(left & 127 | 128)
        left >>= 7
    return bytes((*made, left))


def _prepare(b: _Builder, preprocessing: Preprocessing, scale: tuple[float, ...] | None) -> None:
    """uint8 N H W C to the network's input; the mean image is cropped like the centre crop."""
    mean, crop = preprocessing.mean, preprocessing.recipe.crop
    if not np.any(mean != mean[0, 0]):
        mean = mean[0, 0]
    else:
        [(top, left, _)] = preprocessing.views(1)
        mean = mean[top : top + crop, left : left + crop]
    b.node("Cast", "values", to=1)
    b.node("Sub", "centred", b.constant("mean", mean))
    if scale is not None:
        b.node("Mul", "scaled", b.constant("scale", scale))
    b.node("Transpose", "input", perm=[0, 3, 1, 2])


def _add(b: _Builder, name: str, layer: Layer, shape: Shape, params: dict[str, Any]) -> None:
    """The nodes of one layer, with images in N C H W."""
    window: dict[str, Any]
    match layer:
        case Conv2D(kernel=r, stride=s, groups=g):
            weight = b.constant(f"{name}.weight", stored_convolution_weight(params["weight"]))
            bias = b.constant(f"{name}.bias", params["bias"])
            _, pads, _ = layer.geometry(shape)
            window = {"kernel_shape": [r, r], "strides": [s, s], "pads": _pads(pads)}
            b.node("Conv", name, weight, bias, group=g, **window)
        case Dense():
            if len(shape) == 3:
                b.node("Flatten", f"{name}_flat", axis=1)
            weight = b.constant(f"{name}.weight", stored_dense_weight(params["weight"], shape))
            b.node("Gemm", name, weight, b.constant(f"{name}.bias", params["bias"]), transB=1)
        case ReLU():
            b.node("Relu", name)
        case Tanh():
            b.node("Tanh", name)
        case Sigmoid():
            b.node("Sigmoid", name)
        case Dropout(keep=keep, inverted=True):
            b.node("Dropout", name, b.constant(f"{name}.ratio", 1 - keep))
        case ResponseNorm(n=n, k=k, alpha=alpha, beta=beta, groups=groups):
            height, width, channels = shape
            if groups > 1:
                apart = [-1, channels // groups, height, width]
                b.node("Reshape", f"{name}_apart", b.constant(f"{name}.apart", apart, np.int64))
            b.node("LRN", name, size=n, alpha=alpha * n, beta=beta, bias=float(k))
            if groups > 1:
                whole = [-1, channels, height, width]
                b.node("Reshape", f"{name}_whole", b.constant(f"{name}.whole", whole, np.int64))
        case SpatialResponseNorm(n=n, k=k, alpha=alpha, beta=beta):
            x = b.current
            b.node("Mul", f"{name}_squares", x)
            window = {"kernel_shape": [n, n], "strides": [1, 1], "pads": [n // 2] * 4}
            b.node("AveragePool", f"{name}_means", count_include_pad=1, **window)
            b.node("Mul", f"{name}_alpha", b.constant(f"{name}.alpha", alpha * n * n))
            b.node("Add", f"{name}_k", b.constant(f"{name}.k", k))
            power = b.node("Pow", f"{name}_power", b.constant(f"{name}.beta", beta))
            b.node("Div", name, power, first=x)
        case MaxPool(window=z, stride=s):
            _, _, pads = layer.geometry(shape)
            window = {"kernel_shape": [z, z], "strides": [s, s], "pads": _pads(pads)}
            b.node("MaxPool", name, **window)
        case AveragePool(window=z, stride=s, pad=p):
            _, _, pads = layer.geometry(shape)
            window = {"kernel_shape": [z, z], "strides": [s, s]}
            counted = layer.count_pads and p > 0
            ceil = counted and _pads(pads) != [p] * 4
            window |= {"pads": [p] * 4, "ceil_mode": 1} if ceil else {"pads": _pads(pads)}
            b.node("AveragePool", name, count_include_pad=int(counted), **window)
        case ChannelScale(factors=factors):
            value = np.array(factors).reshape(-1, 1, 1)
            b.node("Mul", name, b.constant(f"{name}.factors", value))
        case _:
            raise InputError(f"ONNX has no node for {name} ({type(layer).__name__})")


def _pads(pads: Any) -> list[int]:
    """[top, left, bottom, right]."""
    (top, bottom), (left, right) = pads
    return [top, left, bottom, right]
