"""One unit's arithmetic: the inputs it reads, their weights, the products, and the sum."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from minialex.errors import InputError
from minialex.inference.trained_model import TrainedModel
from minialex.layers import (
    AveragePool,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    MaxPool,
    ReLU,
    ResponseNorm,
    Sigmoid,
    SpatialResponseNorm,
    Tanh,
)
from minialex.layers.base import Params, Shape
from minialex.saliency.backward import one_unit
from minialex.saliency.forward import View, activations, forward, host, require_layers


class NotKnown(InputError):
    """The arithmetic of a user's own layer is not known."""


@dataclass(frozen=True)
class Arithmetic:
    """How a unit's value is computed, in float64.

    `formula` describes it. `inputs` are the numbers that the unit reads: (R, S, C/G) for a
    convolution, those inside the image for pooling (as (R', S')), (I,) for a dense layer, the
    channels for a normalisation, one number for any other layer. `weights` has their shape, or is
    None for a layer without weights; `bias` is 0 without one. `value` is the formula's result and
    `computed` that of the network's own pass.
    """

    formula: str
    inputs: np.ndarray
    weights: np.ndarray | None
    bias: float
    value: float
    computed: float

    @property
    def products(self) -> np.ndarray:
        """Inputs times weights; the inputs themselves if there are no weights."""
        return self.inputs if self.weights is None else self.inputs * self.weights


def arithmetic(
    model: TrainedModel,
    image: np.ndarray,
    layer: str,
    channel: int,
    pixel: tuple[int, int] | None = None,
    view: View | None = None,
) -> Arithmetic:
    """The arithmetic behind one unit of `layer`, for one image, uint8 (S, S, C).

    Without a `pixel` (row, column), it is that of the channel's largest output. Raises InputError
    for a unit that does not exist, and for a user's own layer.
    """
    require_layers(model, [layer])
    names = [name for name, _ in model.network.layers]
    i = names.index(layer)
    needed = [layer, *names[max(0, i - 1) : i]]
    found = activations(model, image[None], needed, view)
    y = found[layer]
    unit = tuple(int(k) for k in np.argwhere(one_unit(y, channel, pixel, layer))[0][1:])
    if i == 0:
        run = forward(model, image[None], view, layer)
        x = host(run.b, run.x)[0]
    else:
        x = found[names[i - 1]][0]
    own = {
        name: np.asarray(model.devices.to_numpy(value), np.float64)
        for name, value in model.params.get(layer, {}).items()
        if value is not None
    }
    formula, inputs, weights, bias, value = _behind(
        model.network.layers[i][1], own, x.astype(np.float64), unit
    )
    return Arithmetic(formula, inputs, weights, bias, value, float(y[0][unit]))


_Parts = tuple[str, np.ndarray, np.ndarray | None, float, float]


def _behind(layer: object, own: Params, x: np.ndarray, unit: tuple[int, ...]) -> _Parts:
    """Formula, inputs, weights, bias and value of a unit of the layer on x (H, W, C) or (I,)."""
    if isinstance(layer, Conv2D):
        return _convolution(layer, own, x, unit)
    if isinstance(layer, Dense):
        k = unit[0]
        inputs, weights = x.reshape(-1), own["weight"][:, k]
        bias = float(own["bias"][k]) if "bias" in own else 0.0
        return "Σ inputs · weights + bias", inputs, weights, bias, float(inputs @ weights + bias)
    if isinstance(layer, MaxPool | AveragePool):
        return _pooling(layer, x, unit)
    if isinstance(layer, ResponseNorm):
        return _normalisation(layer, x, unit)
    if isinstance(layer, SpatialResponseNorm):
        p, q, k = unit
        around = layer.n // 2
        seen = x[max(0, p - around) : p + around + 1, max(0, q - around) : q + around + 1, k]
        scale = layer.k + layer.alpha * float(np.sum(seen**2))
        said = f"x / ({layer.k:g} + {layer.alpha:g} · Σ inputs²)^{layer.beta:g}"
        return said, seen, None, 0.0, float(x[unit] * scale**-layer.beta)
    if isinstance(layer, BatchNorm):
        return _batch_normalisation(layer, own, x, unit)
    value = float(x[unit])
    one = np.array([value])
    if isinstance(layer, ReLU):
        return "max(0, input)", one, None, 0.0, max(0.0, value)
    if isinstance(layer, Tanh):
        return "tanh(input)", one, None, 0.0, float(np.tanh(value))
    if isinstance(layer, Sigmoid):
        return "1 / (1 + exp(-input))", one, None, 0.0, float(expit(value))
    if isinstance(layer, Dropout):
        factor = 1.0 if layer.inverted else layer.keep
        return f"{factor:g} · input (at test time)", one, None, 0.0, factor * value
    factors = getattr(layer, "factors", None)
    if factors is not None:
        return "factor · input", one, np.array([factors[unit[-1]]]), 0.0, factors[unit[-1]] * value
    raise NotKnown(f"the arithmetic of a {type(layer).__name__}, a user's own layer, is not known")


def _window(
    shape: Shape, at: tuple[int, int], size: int, stride: int, pads: tuple
) -> tuple[int, int, slice, slice]:
    """The window's first row and column, and its rows and columns inside the image."""
    top, left = at[0] * stride - pads[0][0], at[1] * stride - pads[1][0]
    rows = slice(max(0, top), min(shape[0], top + size))
    columns = slice(max(0, left), min(shape[1], left + size))
    return top, left, rows, columns


def _convolution(layer: Conv2D, own: Params, x: np.ndarray, unit: tuple[int, ...]) -> _Parts:
    p, q, k = unit
    (stride, _), pads, groups = layer.geometry(x.shape)
    weights = own["weight"][..., k]  # (R, S, C/G)
    per_group = weights.shape[2]
    first = k // (layer.channels // groups) * per_group
    top, left, rows, columns = _window(x.shape, (p, q), layer.kernel, stride, pads)
    inputs = np.zeros(weights.shape)  # zeros beyond the edge
    inside = x[rows, columns, first : first + per_group]
    r, s = rows.start - top, columns.start - left
    inputs[r : r + inside.shape[0], s : s + inside.shape[1]] = inside
    bias = float(own["bias"][k]) if "bias" in own else 0.0
    value = float(np.sum(inputs * weights) + bias)
    return "Σ inputs · weights + bias", inputs, weights, bias, value


def _pooling(layer: MaxPool | AveragePool, x: np.ndarray, unit: tuple[int, ...]) -> _Parts:
    p, q, k = unit
    (size, _), (stride, _), pads = layer.geometry(x.shape)
    top, left, rows, columns = _window(x.shape, (p, q), size, stride, pads)
    inputs = x[rows, columns, k]
    if isinstance(layer, MaxPool):
        return "the largest input", inputs, None, 0.0, float(inputs.max())
    (before, after), _ = layer.counted
    high = min(x.shape[0] + after, top + size) - max(-before, top)
    wide = min(x.shape[1] + after, left + size) - max(-before, left)
    return f"Σ inputs / {high * wide}", inputs, None, 0.0, float(inputs.sum() / (high * wide))


def _normalisation(layer: ResponseNorm, x: np.ndarray, unit: tuple[int, ...]) -> _Parts:
    k, pixel = unit[-1], unit[:-1]
    group = x.shape[-1] // layer.groups
    first = k // group * group
    low, high = max(first, k - layer.n // 2), min(first + group, k + layer.n // 2 + 1)
    inputs = x[pixel][low:high]
    scale = layer.k + layer.alpha * float(np.sum(inputs**2))
    said = f"{x[unit]:.4g} / ({layer.k:g} + {layer.alpha:g} · Σ inputs²)^{layer.beta:g}"
    return said, inputs, None, 0.0, float(x[unit] * scale**-layer.beta)


def _batch_normalisation(
    layer: BatchNorm, own: Params, x: np.ndarray, unit: tuple[int, ...]
) -> _Parts:
    weight, bias, mean, variance = (
        float(own[name][unit[-1]])
        for name in ("weight", "bias", "running_mean", "running_variance")
    )
    deviation = float(np.sqrt(variance + layer.epsilon))
    said = f"{weight:.4g} · (input - {mean:.4g}) / {deviation:.4g} + {bias:.4g}"
    value = float(weight * (x[unit] - mean) / deviation + bias)
    return said, np.array([x[unit]]), None, 0.0, value
