"""Base class of all layers, the mode of a pass, and weight initialisation."""

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

from minialex.backends.base import Array, Backend
from minialex.errors import InputError
from minialex.rng import InitialDraw

Shape = tuple[int, ...]
Params = dict[str, Array]
Saved = Any  # what a layer's forward pass keeps for its backward pass
WeightStd = float | str | None  # a standard deviation, "glorot", or None for He's


@dataclass(frozen=True)
class Mode:
    """How a pass runs: training or not, and the counters of its random numbers.

    `step` is the training step: a number, or in a compiled step an array of one on each stream.
    `layer` is the layer's position in the network, which the network sets. `first_image` is the
    index of this pass's first image in the whole batch, so that a split batch draws the same
    numbers as the whole one; `first_channel` is the same for channels, where only part of a layer
    with `channels` channels (None: all are computed) is computed. Layers named in `fixed` use their
    running statistics in training, too.
    """

    training: bool = False
    seed: int = 0
    step: Any = 0
    first_image: int = 0
    layer: int = 0
    first_channel: int = 0
    channels: int | None = None
    fixed: tuple[str, ...] = ()


class Layer:
    """A layer without parameters; layers with parameters override the last three methods too.

    Shapes omit the batch dimension: (H, W, C), or (units,) after a dense layer.
    """

    saves_input: ClassVar[bool] = True  # whether `saved` holds x,
    saves_output: ClassVar[bool] = True  # or y: what training needs memory for
    # parameters that are running averages of a statistic of the data; no gradient changes them
    statistics: ClassVar[tuple[str, ...]] = ()
    keep: float  # the share of these averages that each step keeps; the new images make the rest

    def output_shape(self, input_shape: Shape) -> Shape:
        """The shape of y for one image; raises InputError if the layer cannot take the input."""
        raise NotImplementedError

    def forward(self, b: Backend, params: Params, x: Array, mode: Mode) -> tuple[Array, Saved]:
        """-> y, and the tensors saved for `backward`."""
        raise NotImplementedError

    def backward(
        self, b: Backend, params: Params, saved: Saved, dy: Array, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
        """-> dx, gradients structured like `params`; without `input_gradient`, dx may be None.

        Instead of the gradient of a parameter in `statistics`, it returns the statistic of these
        images times their number: such products sum up over parts of a batch, like gradients.
        """
        raise NotImplementedError

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        """{"weight": shape, "bias": shape}, or {}."""
        return {}

    def init(self, b: Backend, draw: InitialDraw, input_shape: Shape, dtype: str) -> Params:
        """Initial parameters; they depend on the draw alone."""
        return {}

    def connections(self, input_shape: Shape) -> int:
        """Multiply-adds in the forward pass of one image, without biases."""
        return 0


def initial_params(
    b: Backend,
    draw: InitialDraw,
    shapes: dict[str, Shape],
    weight_std: WeightStd,
    bias: float,
    dtype: str,
) -> Params:
    """Gaussian weights and constant biases.

    A `weight_std` of None is √(2 / inputs) (He et al., 2015), "glorot" √(2 / (inputs + outputs))
    of a unit (Glorot & Bengio, 2010), where a convolution's outputs are its channels times the
    pixels of its kernel.
    """
    if isinstance(weight_std, str):
        require(
            weight_std == "glorot", f'weight_std must be "glorot" or a number, not {weight_std!r}'
        )
        *window, inputs, outputs = shapes["weight"]
        std = (2.0 / (prod(window) * (inputs + outputs))) ** 0.5
    elif weight_std is None:
        std = (2.0 / prod(shapes["weight"][:-1])) ** 0.5
    else:
        std = weight_std
    weight = b.asarray(draw.normal(shapes["weight"], std, dtype))
    return {"weight": weight, "bias": b.asarray(draw.constant(shapes["bias"], bias, dtype))}


def require(condition: bool, message: str) -> None:
    """Raise InputError(message) unless `condition` holds."""
    if not condition:
        raise InputError(message)
