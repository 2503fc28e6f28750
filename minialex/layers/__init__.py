"""What is computed: one layer a file, forward above backward, no backend named.

A layer is a frozen dataclass that holds hyper-parameters only. Shapes in its methods leave the
batch out: `input_shape` is (H, W, C), or (units,) after a dense layer.

    output_shape(input_shape) -> shape
    parameter_shapes(input_shape) -> {"weight": shape, "bias": shape} or {}
    init(b, draw, input_shape, dtype) -> params         (draw: an `InitialDraw`)
    forward(b, params, x, mode) -> y, saved
    backward(b, params, saved, dy, *, input_gradient=True) -> dx, grads

`grads` mirrors `params`. With `input_gradient=False` (the network's first layer) dx may be None.
"""

from minialex.layers.activations import ReLU, Tanh
from minialex.layers.base import Layer, Mode
from minialex.layers.conv import Conv2D
from minialex.layers.dense import Dense
from minialex.layers.dropout import Dropout
from minialex.layers.pooling import AveragePool, MaxPool
from minialex.layers.response_norm import ResponseNorm, SpatialResponseNorm
from minialex.rng import InitialDraw

__all__ = [
    "AveragePool",
    "Conv2D",
    "Dense",
    "Dropout",
    "InitialDraw",
    "Layer",
    "MaxPool",
    "Mode",
    "ReLU",
    "ResponseNorm",
    "SpatialResponseNorm",
    "Tanh",
]
