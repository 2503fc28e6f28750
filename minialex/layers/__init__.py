"""The layers: one a file, forward above backward, no backend named.

A layer is a frozen dataclass that holds hyper-parameters only; parameters come from outside, and
nothing is remembered between passes. `base.Layer` says what each method takes and gives back:
`output_shape`, `parameter_shapes`, `init`, `forward` -> y, saved, and `backward` -> dx, gradients.
"""

from minialex.layers.activations import ReLU, Tanh
from minialex.layers.base import Layer, Mode
from minialex.layers.conv import Conv2D
from minialex.layers.dense import Dense
from minialex.layers.dropout import Dropout
from minialex.layers.pooling import AveragePool, MaxPool
from minialex.layers.response_norm import ResponseNorm, SpatialResponseNorm
from minialex.layers.scale import ChannelScale
from minialex.rng import InitialDraw

__all__ = [
    "AveragePool",
    "ChannelScale",
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
