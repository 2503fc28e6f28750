"""Folds BatchNorm, Scale and Bias of a trained network into the layer with weights before them.

At test time each is a factor and a shift per channel. They pass through average pooling, and
through max pooling if no factor is negative, as in Caffe's `cifar10_full_sigmoid_train_test_bn`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minialex.exchange.caffe.layers import CaffeLayer
from minialex.exchange.tensors import BatchNorm
from minialex.layers import AveragePool, Conv2D, Dense, Layer, MaxPool
from minialex.layers.base import Params


@dataclass(frozen=True)
class Fold:
    """A layer that is folded into another; `pooled` if max pooling is between them."""

    source: CaffeLayer
    pooled: bool


def owner(source: CaffeLayer, made: Sequence[tuple[str, Layer]]) -> tuple[str, Fold]:
    """The name of the layer into which `source`, which follows those in `made`, is folded.

    ValueError if anything but pooling is between them.
    """
    pooled = False
    for name, layer in reversed(made):
        if isinstance(layer, Conv2D | Dense):
            return name, Fold(source, pooled)
        counts_pads = isinstance(layer, AveragePool) and layer.pad > 0 and layer.count_pads
        if not isinstance(layer, MaxPool | AveragePool) or counts_pads:
            raise ValueError(
                f"{source} of type {source.kind!r} follows {name[:60]!r}: it is supported "
                "only after a convolution or dense layer, into whose weights it is folded"
            )
        pooled = pooled or isinstance(layer, MaxPool)
    raise ValueError(f"{source} of type {source.kind!r} does not follow a layer with weights")


def folded(fold: Fold, blobs: Sequence[Any], params: Params) -> Params:
    """Weight (..., K) and bias (K,) with the factor and the shift of each of the K channels."""
    source, channels = fold.source, len(params["bias"])
    factor, shift = _affine(source, [np.asarray(one, np.float64) for one in blobs], channels)
    if fold.pooled and (factor < 0).any():
        raise ValueError(f"{source} has negative factors, which do not pass through max pooling")
    with np.errstate(invalid="ignore", over="ignore"):
        weight, bias = params["weight"] * factor, params["bias"] * factor + shift
        return {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}


def _affine(
    source: CaffeLayer, blobs: Sequence[np.ndarray], channels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Factor and shift (K,): y = factor x + shift."""
    ones, zeros = np.ones(channels), np.zeros(channels)
    if source.kind == "batchnorm":
        _require(source, blobs, [channels, channels, 1])
        mean, variance, [count] = (one.reshape(-1) for one in blobs)
        times = 1 / count if count else 0.0  # Caffe stores sums and their divisor
        epsilon = source.fields.sub("batch_norm_param").number("eps", 1e-5)
        return BatchNorm(ones, zeros, mean * times, variance * times, epsilon).affine()
    param = source.fields.sub("scale_param" if source.kind == "scale" else "bias_param")
    if param.integer("axis", 1) != 1:
        raise ValueError(f"{source} works along an axis other than the channels")
    _require(source, blobs, [channels] * max(1, min(len(blobs), 1 + (source.kind == "scale"))))
    first = blobs[0].reshape(-1)
    if source.kind == "bias":
        return ones, first
    return first, blobs[1].reshape(-1) if len(blobs) > 1 else zeros


def _require(source: CaffeLayer, blobs: Sequence[np.ndarray], sizes: list[int]) -> None:
    found = [one.size for one in blobs]
    if found != sizes:
        raise ValueError(
            f"{source} of type {source.kind!r} has blobs of {found} numbers but needs {sizes}"
        )
