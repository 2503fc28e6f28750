"""Converts Caffe's blobs to our parameters, and its per-layer learning rates and decays."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from minialex.exchange.caffe.layers import CaffeLayer, has_bias
from minialex.exchange.tensors import convolution_weight, dense_weight
from minialex.layers import Conv2D, Dense, Layer
from minialex.layers.base import Params, Shape


def parameters(source: CaffeLayer, blobs: Sequence[Any], layer: Layer, shape: Shape) -> Params:
    """Weight and bias of `layer`, with input `shape`, from its blobs in Caffe.

    Convolutions are K C/G R S there; a dense layer's inputs are in C H W order.
    """
    wanted = layer.parameter_shapes(shape)
    if not 1 <= len(blobs) <= 2:
        raise ValueError(f"{source} has {len(blobs)} blobs: expected a weight and a bias")
    weight = np.asarray(blobs[0])
    if isinstance(layer, Conv2D):
        r, s, c, k = wanted["weight"]
        weight = convolution_weight(_shaped(source, weight, (k, c, r, s)))
    elif isinstance(layer, Dense):
        inputs, outputs = wanted["weight"]
        if source.fields.sub("inner_product_param").flag("transpose", False):
            weight = _shaped(source, weight, (inputs, outputs)).T
        weight = dense_weight(_shaped(source, weight, (outputs, inputs)), shape)
    bias = np.asarray(blobs[1]) if len(blobs) == 2 else np.zeros(wanted["bias"])
    return {
        "weight": np.ascontiguousarray(weight, np.float32),
        "bias": np.array(_shaped(source, bias, wanted["bias"]), np.float32),
    }


def _shaped(source: CaffeLayer, blob: np.ndarray, wanted: Shape) -> np.ndarray:
    """The blob as `wanted`; Caffe's first format writes (1, 1, O, I) for (O, I)."""
    sizes = list(blob.shape)
    while len(sizes) > len(wanted) and sizes[0] == 1:
        sizes.pop(0)
    if tuple(sizes) != tuple(wanted):
        raise ValueError(f"{source} has a blob of {blob.shape}: expected {tuple(wanted)}")
    return blob.reshape(wanted)


def for_rgb(source: CaffeLayer, params: Params, reverse: bool) -> Params:
    """A first layer for RGB images, in which those for BGR images have to be reversed.

    Raises ValueError for a dense layer or a convolution in groups, which cannot be reversed.
    """
    if not reverse:
        return params
    if params["weight"].ndim != 4 or params["weight"].shape[2] != 3:
        raise ValueError(
            f"{source}, the first with weights, is not a convolution of whole images, whose "
            "colours could be reversed: if it takes RGB images, give --colours RGB"
        )
    return {**params, "weight": np.ascontiguousarray(params["weight"][:, :, ::-1])}


def rates(sources: Sequence[CaffeLayer], folded: Collection[str] = ()) -> dict[str, Any]:
    """The fields of a recipe for Caffe's multipliers of learning rate and decay.

    Biases get the rate and decay that most layers give them; exceptions are in `layer_rates` and
    `layer_decays` as "layer.parameter". The bias of a layer that has none in Caffe stays 0, unless
    something was `folded` into it. A file without any, such as a definition for deployment, says
    nothing about the others.
    """
    unbiased = [one.name for one in sources if not has_bias(one) and one.name not in folded]
    if not any(
        key in one.fields for one in sources for key in ("blobs_lr", "weight_decay", "param")
    ):
        still = {f"{name}.bias": 0.0 for name in unbiased}
        return {"layer_rates": still} if still else {}
    multipliers = {
        source.name: (
            _multipliers(source, "blobs_lr", "lr_mult"),
            _multipliers(source, "weight_decay", "decay_mult"),
        )
        for source in sources
    }
    found: dict[str, Any] = {}
    fields = (("bias_rate", "layer_rates"), ("bias_decay", "layer_decays"))
    for i, (common, of_layers) in enumerate(fields):
        biases = [pair[i][1] for name, pair in multipliers.items() if name not in unbiased] or [1.0]
        usual = Counter(biases).most_common(1)[0][0] or (1.0 if any(biases) else 0.0)
        found[common] = usual
        other = {}
        for name, pair in multipliers.items():
            weight, bias = pair[i]
            if weight != 1.0:
                other[f"{name}.weight"] = weight
            if name in unbiased:
                bias = 0.0
            if bias != usual:
                other[f"{name}.bias"] = bias / usual
        if other:
            found[of_layers] = other
    return found


def _multipliers(source: CaffeLayer, old: str, new: str) -> tuple[float, float]:
    """Multipliers of weight and bias; 1 if the file gives none."""
    given = source.fields.numbers(old)
    given += [one.number(new, 1.0) for one in source.fields.subs("param")]
    weight, bias = (*given, 1.0, 1.0)[:2]
    return weight, bias
