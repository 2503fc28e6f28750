"""Write a layer, check its gradient, and train a network that uses it.

    python examples/write_a_layer.py

The layer is the leaky ReLU: y = x if x > 0, else slope · x. A layer is a frozen dataclass with its
hyper-parameters, a forward pass and, directly under it, a backward pass. It does not depend on an
array library and runs on every backend that has the array API functions.
"""

from dataclasses import dataclass

import numpy as np

from minialex import backends
from minialex.backends import Backend
from minialex.layers import Conv2D, Dense, Layer, MaxPool, Mode
from minialex.layers.base import Params, Shape
from minialex.losses import SoftmaxCrossEntropy
from minialex.models.recipe import Recipe
from minialex.network import Network
from minialex.optim import SGD, Rates
from minialex.parallel import DeviceConfig
from minialex.testing import check_layer
from minialex.training.step import TrainStep


@dataclass(frozen=True)
class LeakyReLU(Layer):
    """y = max(x, slope · x), any shape (Maas, Hannun & Ng, 2013)."""

    slope: float = 0.01

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def forward(self, b: Backend, params: Params, x, mode: Mode):
        return b.xp.where(x > 0, x, self.slope * x), x

    def backward(self, b: Backend, params: Params, saved, dy, *, input_gradient: bool = True):
        x = saved
        return b.xp.where(x > 0, dy, self.slope * dy), {}


def main() -> float:
    """Check the layer, then train with it. Returns the last loss."""
    for name in ("numpy", "numba"):
        error = check_layer(LeakyReLU(), (4, 3, 5), backends.get(name))
        print(f"{name}: the gradient is correct, {error:.0e} from the central difference")

    layers = (
        ("conv1", Conv2D(8, kernel=5, stride=2, weight_std=None)),
        ("leaky1", LeakyReLU()),
        ("pool1", MaxPool(3, 2)),
        ("fc2", Dense(4, weight_std=None)),
    )
    network = Network(layers, (16, 16, 3))
    draw = np.random.default_rng(0)
    batch = draw.normal(size=(8, 16, 16, 3)).astype("float32"), np.arange(8) % 4

    devices, sgd = DeviceConfig("numpy").open(network), SGD(Recipe())
    step = TrainStep(network, devices, SoftmaxCrossEntropy(), sgd)
    state, rates = step.init(seed=0), Rates(0.01, 0.01, colour_noise=0.0)
    losses = [step(state, batch, rates) for _ in range(100)]
    print(f"loss {losses[0]:.3f} before, {losses[-1]:.3f} after 100 steps")
    return losses[-1]


if __name__ == "__main__":
    raise SystemExit(main() > 0.1)
