"""Write a backend, check it against the generic one, and train a network with it.

    python examples/write_a_backend.py

Any array library that follows the Python array API standard is a backend: `GenericBackend("mine",
xp)`. A tuned backend overrides only the ops that it can do faster. Here SciPy's BLAS computes the
product and the bias of a dense layer in one call.
"""

import numpy as np
from scipy.linalg.blas import dgemm, sgemm

from minialex import backends
from minialex.backends import GenericBackend
from minialex.layers import Conv2D, Dense, MaxPool, ReLU
from minialex.losses import SoftmaxCrossEntropy
from minialex.models.recipe import Recipe
from minialex.network import Network
from minialex.optim import SGD, Rates
from minialex.parallel import DeviceConfig
from minialex.testing import check_backend
from minialex.training.step import TrainStep


class BlasBackend(GenericBackend):
    """NumPy, with the product and bias of dense layers in one BLAS call."""

    def __init__(self, device=None):
        super().__init__("blas", np)

    def dense(self, x, weight, bias, relu=False):
        rows = np.ascontiguousarray(x.reshape(len(x), -1))  # (N, I)
        gemm = sgemm if x.dtype == np.float32 else dgemm
        y = np.zeros((len(x), weight.shape[1]), x.dtype)
        if bias is not None:
            y += bias
        # BLAS stores columns: yᵀ += Wᵀ xᵀ, each transpose matches the array's layout in memory
        gemm(1.0, np.ascontiguousarray(weight).T, rows.T, 1.0, y.T, overwrite_c=True)
        return self.relu(y) if relu else y


def main() -> float:
    """Check the backend, then train with it. Returns the last loss."""
    check_backend(BlasBackend())
    print("every op agrees with the generic backend, in float64 and float32")

    backends.register("blas", BlasBackend)
    layers = (
        ("conv1", Conv2D(8, kernel=5, stride=2, weight_std=None)),
        ("relu1", ReLU()),
        ("pool1", MaxPool(3, 2)),
        ("fc2", Dense(16, weight_std=None)),
        ("relu2", ReLU()),
        ("fc3", Dense(4, weight_std=None)),
    )
    network = Network(layers, (16, 16, 3))
    draw = np.random.default_rng(0)
    batch = draw.normal(size=(8, 16, 16, 3)).astype("float32"), np.arange(8) % 4

    devices, sgd = DeviceConfig("blas").open(network), SGD(Recipe())
    step = TrainStep(network, devices, SoftmaxCrossEntropy(), sgd)
    state, rates = step.init(seed=0), Rates(0.01, 0.01, colour_noise=0.0)
    losses = [step(state, batch, rates) for _ in range(100)]
    print(f"{devices.describe()[0]}: loss {losses[0]:.3f}, after 100 steps {losses[-1]:.3f}")
    return losses[-1]


if __name__ == "__main__":
    raise SystemExit(main() > 0.1)
