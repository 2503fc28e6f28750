"""What every layer shares: how it runs, how it starts, and what it is without parameters."""

from dataclasses import dataclass
from math import prod
from typing import Any

from minialex.errors import InputError
from minialex.rng import InitialDraw

Shape = tuple[int, ...]
Params = dict[str, Any]


@dataclass(frozen=True)
class Mode:
    """How a pass runs: training or not, and the counters of its random numbers.

    `first_image` is the place in the whole batch of the first image of this pass, so that a batch
    in parts draws what the whole would; so is `first_channel` among the `channels` (None: all) of a
    layer of which only a part is computed; `layer` is set by the network, to the layer's position.
    `step` is a number, or for a captured step an array of one on the device.
    """

    training: bool = False
    seed: int = 0
    step: Any = 0
    first_image: int = 0
    layer: int = 0
    first_channel: int = 0
    channels: int | None = None


class Layer:
    """A layer without parameters; the ones with parameters override the last three methods."""

    def output_shape(self, input_shape: Shape) -> Shape:
        raise NotImplementedError

    def forward(self, b, params: Params, x, mode: Mode) -> tuple[Any, Any]:
        raise NotImplementedError

    def backward(self, b, params: Params, saved, dy, *, input_gradient: bool = True):
        raise NotImplementedError

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        return {}

    def init(self, b, draw: InitialDraw, input_shape: Shape, dtype: str) -> Params:
        return {}

    def connections(self, input_shape: Shape) -> int:
        """Multiply-adds of one image's forward pass, biases left out."""
        return 0


WeightStd = float | str | None  # a standard deviation, "glorot", or None for He's


def initial_params(b, draw, shapes, weight_std: WeightStd, bias: float, dtype: str) -> Params:
    """Gaussian weights and constant biases.

    std None is √(2 / inputs) (He et al., 2015), "glorot" √(2 / (inputs + outputs)) of a unit
    (Glorot & Bengio, 2010), where a map's outputs are its kernel's pixels times the maps.
    """
    if isinstance(weight_std, str):
        require(weight_std == "glorot", f'weight_std is "glorot" or a number, not {weight_std!r}')
        *window, inputs, outputs = shapes["weight"]
        weight_std = (2.0 / (prod(window) * (inputs + outputs))) ** 0.5
    elif weight_std is None:
        weight_std = (2.0 / prod(shapes["weight"][:-1])) ** 0.5
    weight = b.asarray(draw.normal(shapes["weight"], weight_std, dtype))
    return {"weight": weight, "bias": b.asarray(draw.constant(shapes["bias"], bias, dtype))}


def require(condition: bool, message: str) -> None:
    """Raise InputError(message) unless `condition` holds."""
    if not condition:
        raise InputError(message)
