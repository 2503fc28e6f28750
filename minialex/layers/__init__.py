"""The layers: one per file, forward above backward, independent of the backend.

A layer is a frozen dataclass that holds only hyper-parameters; parameters are passed in, and no
state is kept between passes. `base.Layer` documents what each method takes and returns:
`output_shape`, `parameter_shapes`, `init`, `forward` -> y, saved, and `backward` -> dx, gradients.
"""

from minialex.layers.activations import ReLU, Sigmoid, Tanh
from minialex.layers.base import Layer, Mode
from minialex.layers.batch_norm import BatchNorm
from minialex.layers.conv import Conv2D
from minialex.layers.dense import Dense
from minialex.layers.dropout import Dropout
from minialex.layers.pooling import AveragePool, MaxPool
from minialex.layers.response_norm import ResponseNorm, SpatialResponseNorm
from minialex.layers.scale import ChannelScale
from minialex.rng import InitialDraw

__all__ = [
    "AveragePool",
    "BatchNorm",
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
    "Sigmoid",
    "SpatialResponseNorm",
    "Tanh",
]
