"""Checks to run on the user's own machine: `minialex check`.

Random numbers are compared with published ones, each layer's gradients with central differences,
and each backend's ops and training steps of a small network with the generic ops of
`backends/generic/` in float64. Takes seconds on a CPU, and does not need the project's tests.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, NamedTuple, cast

import numpy as np

from minialex import backends, layers, rng
from minialex.backends.base import Backend
from minialex.errors import InputError
from minialex.layers import Layer
from minialex.losses import SoftmaxCrossEntropy
from minialex.models.recipe import Recipe
from minialex.network import Network
from minialex.optim import SGD
from minialex.parallel import SingleDevice
from minialex.schedules import constant
from minialex.testing.contract import compare_op
from minialex.testing.gradients import check_layer
from minialex.testing.problems import GENERIC, OPS, Problem, difference
from minialex.training.step import TrainStep
from minialex.tree import Tree


class CheckResult(NamedTuple):
    """One line of `minialex check`; `passed` is None for what this machine cannot run."""

    name: str
    passed: bool | None
    detail: str


def run_checks(backend: str | Backend | None = None) -> Iterator[CheckResult]:
    """Check random numbers, gradients, ops and training steps; None: all available backends.

    Raises InputError for a named backend that is unknown or cannot run here.
    """
    named = backends.available() if backend is None else (backends.get(backend),)
    yield philox()
    for one in named:
        try:
            b = backends.get(one)
        except InputError as error:
            yield CheckResult(f"{one}: all", None, str(error))
            continue
        for layer, input_shape in LAYERS:
            yield _checked(
                f"{b.name}: gradient of {_short(layer)}", gradient, b, layer, input_shape
            )
        for op in OPS:
            for dtype in ("float64", "float32"):
                yield _checked(f"{b.name}: {op}, {dtype}", compare_op, b, op, dtype)
        yield _checked(f"{b.name}: three training steps", steps, b)


def _short(layer: Layer) -> str:
    """The layer without default settings, and without those of its initialisation."""
    said = [
        f"{f.name}={getattr(layer, f.name)!r}"
        for f in fields(cast(Any, layer))
        if getattr(layer, f.name) != f.default and f.name not in ("weight_std", "bias")
    ]
    return f"{type(layer).__name__}({', '.join(said)})"


def _checked(name: str, check: Callable[..., tuple[bool, str]], *arguments: Any) -> CheckResult:
    """The result of `check`; an exception is a failure, and the other checks continue."""
    try:
        return CheckResult(name, *check(*arguments))
    except Exception as error:
        return CheckResult(name, False, f"raised {type(error).__name__}: {error}")


# ------------------------------------------------------------------------------------ the generator

# (counter, key) -> output: the known answers of Random123, the generator's authors' own library
KNOWN = (
    ((0x00000000,) * 4, 0x00000000_00000000, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((0xFFFFFFFF,) * 4, 0xFFFFFFFF_FFFFFFFF, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        0x299F31D0_A4093822,
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
)


def philox() -> CheckResult:
    """The generator reproduces the published test vectors."""
    for counter, key, expected in KNOWN:
        found = " ".join(f"{int(word):08x}" for word in rng.philox4x32(*counter, key))
        if found != expected:
            return CheckResult(
                "random numbers", False, f"{found} for counter {counter}, not {expected}"
            )
    return CheckResult("random numbers", True, "Philox4x32-10 gives its three published answers")


# ------------------------------------------------------------------------------------ gradients

# Stride > kernel, padding > half of it, H != W, alpha = 1: so that no mistake stays hidden.
LAYERS: tuple[tuple[Layer, tuple[int, ...]], ...] = (
    (layers.Conv2D(4, kernel=3, stride=2, pad=2, groups=2), (7, 6, 4)),
    (layers.Conv2D(3, kernel=2, stride=3, rounding="ceil"), (9, 6, 2)),
    (layers.Dense(5), (3, 2, 4)),
    (layers.ReLU(), (4, 3, 5)),
    (layers.Tanh(), (4, 3, 5)),
    (layers.Sigmoid(), (4, 3, 5)),
    (layers.Dropout(0.6), (30,)),
    (layers.Dropout(0.6, inverted=True), (30,)),
    (layers.MaxPool(3, 2, pad=1), (7, 6, 3)),
    (layers.AveragePool(3, 2, rounding="ceil"), (8, 6, 3)),
    (layers.ResponseNorm(n=3, alpha=1.0, groups=2), (3, 2, 8)),
    (layers.SpatialResponseNorm(n=3, alpha=1.0), (5, 4, 2)),
    (layers.BatchNorm(epsilon=0.1), (3, 2, 4)),
    (layers.ChannelScale((0.5, -2.0)), (5, 4, 2)),
)


def gradient(b: Backend, layer: Layer, input_shape: tuple[int, ...]) -> tuple[bool, str]:
    """A layer's backward pass against central differences, in float64."""
    try:
        return True, f"central difference {check_layer(layer, input_shape, b):.0e} apart"
    except AssertionError as error:
        return False, str(error)


# ------------------------------------------------------------------------------------ steps


NETWORK = Network(
    (
        ("conv1", layers.Conv2D(8, kernel=5, stride=2, weight_std=0.1)),
        ("relu1", layers.ReLU()),
        ("norm1", layers.ResponseNorm(n=3, alpha=1.0, groups=2)),
        ("pool1", layers.MaxPool(3, 2)),
        ("conv2", layers.Conv2D(6, kernel=3, pad=1, groups=2, weight_std=0.1, bias=1.0)),
        ("relu2", layers.ReLU()),
        ("fc3", layers.Dense(20, weight_std=0.1, bias=1.0)),
        ("drop3", layers.Dropout(0.5)),
        ("fc4", layers.Dense(5, weight_std=0.1)),
    ),
    (17, 15, 3),
)


def steps(b: Backend) -> tuple[bool, str]:
    """Three SGD steps of a small network in float64, with the losses and weights of generic ops."""
    losses, params = _train(b)
    expected_losses, expected = _train(GENERIC)
    tolerance = 1024 * float(np.finfo("float64").eps)
    for layer, of_layer in expected.items():
        for name, theirs in of_layer.items():
            error, where = difference(b.to_numpy(params[layer][name]), GENERIC.to_numpy(theirs))
            if not error <= tolerance:
                return False, f"{name} of {layer} differs after three steps: {where}"
    error, where = difference(np.array(losses), np.array(expected_losses))
    shown = ", ".join(f"{loss:.6f}" for loss in losses)
    return (True, f"losses {shown}") if error <= tolerance else (False, f"losses differ: {where}")


def _train(b: Backend) -> tuple[list[float], Tree]:
    draw, sgd = Problem(b, case=0), SGD(Recipe())
    batch = draw.normal((4, *NETWORK.input_shape)), np.arange(4) % 3
    devices, loss = SingleDevice(NETWORK, b), SoftmaxCrossEntropy()
    step = TrainStep(NETWORK, devices, loss, sgd, seed=2, dtype="float64")
    state, rates = step.init(seed=2), constant(sgd.recipe, 0.0, ())
    losses = [step(state, batch, rates) for _ in range(3)]
    return losses, state.params
