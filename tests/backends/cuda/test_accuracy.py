"""16-bit arithmetic reaches float32's accuracy: a small network on new patterns in each step."""

import numpy as np
import pytest

from minialex import backends, losses
from minialex.layers import Conv2D, Dense, Dropout, MaxPool, ReLU, ResponseNorm
from minialex.models.recipe import Recipe
from minialex.network import Network
from minialex.optim import SGD, Rates
from minialex.parallel import SingleDevice
from minialex.training.step import TrainStep

pytestmark = pytest.mark.slow

STEPS, BATCH, CLASSES, SIZE = 240, 32, 8, 12
NETWORK = Network(
    (
        ("conv1", Conv2D(8, 5, stride=2, weight_std=None)),
        ("relu1", ReLU()),
        ("norm1", ResponseNorm()),
        ("pool1", MaxPool(3, 2)),
        ("conv2", Conv2D(16, 3, pad=1, groups=2, weight_std=None)),
        ("relu2", ReLU()),
        ("fc3", Dense(32, weight_std=None)),
        ("relu3", ReLU()),
        ("drop3", Dropout(0.5)),
        ("fc4", Dense(CLASSES, weight_std=None)),
    ),
    (SIZE, SIZE, 3),
)


def patterns(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A pattern of nine squares for each class, fainter or stronger, in as much noise."""
    squares = np.random.default_rng(99).standard_normal((CLASSES, 3, 3, 3))
    classes = np.kron(squares, np.ones((1, SIZE // 3, SIZE // 3, 1)))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    strength = rng.uniform(0.3, 1, (count, 1, 1, 1))
    noise = rng.standard_normal((count, SIZE, SIZE, 3))
    return (classes[labels] * strength + noise).astype(np.float32), labels


def accuracy(b) -> float:
    """On 1,000 new patterns after training, with a lower rate at the end."""
    devices = SingleDevice(NETWORK, b)
    step = TrainStep(NETWORK, devices, losses.SoftmaxCrossEntropy(), SGD(Recipe()))
    state, (x, labels) = step.init(seed=0), patterns(STEPS * BATCH, 10)
    for i in range(STEPS):
        rate, batch = (0.02 if i < 0.7 * STEPS else 0.004), slice(i * BATCH, (i + 1) * BATCH)
        step(state, (x[batch], labels[batch]), Rates(rate, rate, 0.0))
    x, labels = patterns(1000, 2)

    def inputs(b, low, high):
        return b.asarray(x[low:high], b.compute_dtype("float32"))

    scores = devices.infer(state.params, inputs, len(x)).astype(np.float32)
    return float(np.mean(np.argmax(scores, axis=1) == labels))


@pytest.fixture(scope="module")
def full():
    """NumPy's, in float32."""
    found = accuracy(backends.get("numpy"))
    assert found > 0.75  # of eight classes
    return found


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reaches_the_accuracy_of_float32(full, precision):
    found = accuracy(backends.get("cupy", 0, precision))
    print(f"{precision}: {found:.1%}, fp32: {full:.1%}")
    assert abs(found - full) < 0.02
