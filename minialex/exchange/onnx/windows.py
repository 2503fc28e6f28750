"""Convolution and pooling in ONNX: their meaning of padding, and what of it is supported."""

from typing import Any

import numpy as np

from minialex.errors import InputError
from minialex.exchange.onnx.chain import Attributes, Chain
from minialex.layers import AveragePool, Conv2D, MaxPool, output_size

_MOST = 1 << 16  # most pixels of a window, stride or padding


def _window(chain: Chain, node: Any, a: Attributes, kernel: list[int]) -> dict[str, Any]:
    """window, stride, pad and rounding for Conv2D or MaxPool, from a convolution or pooling.

    ONNX has separate padding for each side; here it is equal on all sides, except that the ceil
    rule may add some at the right and bottom. Padding there that no window reaches is ignored.
    """
    strides = a.get("strides") or [1] * len(kernel)
    if len(kernel) != 2 or len(strides) != 2 or len(chain.shape) != 3:
        raise chain.refusal(node, f"is not of two dimensions (kernel {kernel})")
    if any(d != 1 for d in a.get("dilations", [])):
        raise chain.refusal(node, f"has dilations {a['dilations']}, which are not supported")
    if kernel[0] != kernel[1] or strides[0] != strides[1]:
        raise chain.refusal(node, f"is not square (kernel {kernel}, strides {strides})")
    if not (1 <= kernel[0] <= _MOST and 1 <= strides[0] <= _MOST):
        raise chain.refusal(node, f"has kernel {kernel} and strides {strides}")
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
        raise chain.refusal(node, f"has padding {pads}: top and left must be equal")
    for rounding in ("floor", "ceil"):
        try:
            ours = output_size.pads(chain.shape, size, step, pads[0], rounding)
            windows = output_size.windows(chain.shape, size, step, ours)
        except InputError as error:
            raise chain.refusal(node, f"does not fit: {error}") from None
        if list(windows) == outputs:
            return {"window": size, "stride": step, "pad": pads[0], "rounding": rounding}
    raise chain.refusal(node, f"has padding {pads}, which is not supported")


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
    """Windows along one side, by ONNX's rule: none starts in the padding at the end."""
    room = extent + before + after - size
    if room < 0:
        return 0
    count = (-(-room // step) if ceil else room // step) + 1
    if ceil and (count - 1) * step >= extent + before:
        count -= 1
    return count


def conv(chain: Chain, node: Any, a: Attributes) -> None:
    weight, bias = chain.constant(node, 1), chain.constant(node, 2)
    if weight is None or weight.ndim != 4 or chain.rows is not None or chain.nhwc:
        raise chain.refusal(node, "is not a convolution of images")
    kernel = list(weight.shape[2:])
    if list(a.get("kernel_shape") or kernel) != kernel:
        raise chain.refusal(node, f"has kernel {a['kernel_shape']} but a weight of {weight.shape}")
    geometry = _window(chain, node, a, kernel)
    groups = int(a.get("group", 1))
    if groups < 1 or weight.shape[1] * groups != chain.shape[2] or weight.shape[0] % groups:
        raise chain.refusal(node, f"has {groups} groups but a weight of {weight.shape}")
    bias = np.zeros(len(weight), np.float32) if bias is None else bias
    if bias.shape != weight.shape[:1]:
        raise chain.refusal(node, f"has a bias of {bias.shape}")
    size = geometry.pop("window")
    layer = Conv2D(len(weight), size, groups=groups, **geometry)
    chain.add(node, layer, weight=weight, bias=bias)


def max_pool(chain: Chain, node: Any, a: Attributes) -> None:
    if len(node.output) > 1 and node.output[1]:
        raise chain.refusal(node, "also outputs indices")
    require_images(chain, node)
    chain.add(node, MaxPool(**_pooling(chain, node, a)))


def average_pool(chain: Chain, node: Any, a: Attributes) -> None:
    require_images(chain, node)
    geometry = _pooling(chain, node, a)
    counted = bool(a.get("count_include_pad", 0))
    pads = _pads(chain, node, a, geometry["window"], geometry["stride"])
    size, step = geometry["window"], geometry["stride"]
    for i, extent in enumerate(chain.shape[:2]):
        windows = _count(extent, size, step, pads[i], pads[i + 2], bool(a.get("ceil_mode", 0)))
        behind = (windows - 1) * step + size - extent - pads[i]  # past the image
        if counted and min(behind, pads[i + 2]) != min(behind, pads[i]):
            raise chain.refusal(node, f"counts padding {pads}, which is not equal on all sides")
    chain.add(node, AveragePool(**geometry, count_pads=counted and pads[0] > 0))


def _pooling(chain: Chain, node: Any, a: Attributes) -> dict[str, Any]:
    geometry = _window(chain, node, a, list(a.get("kernel_shape") or []))
    if geometry["pad"] >= geometry["window"]:
        raise chain.refusal(node, f"has padding {a.get('pads')} around {a['kernel_shape']}")
    return geometry


def global_pool(chain: Chain, node: Any, a: Attributes) -> None:
    require_images(chain, node)
    if chain.shape[0] != chain.shape[1]:
        raise chain.refusal(node, f"pools images that are not square, {chain.shape}")
    kind = MaxPool if node.op_type == "GlobalMaxPool" else AveragePool
    chain.add(node, kind(chain.shape[0], 1))


def require_images(chain: Chain, node: Any) -> None:
    if len(chain.shape) != 3 or chain.rows is not None or chain.nhwc:
        raise chain.refusal(node, "does not take images in N C H W")
