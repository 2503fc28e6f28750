"""Proofs to run on the user's own machine: `minialex check`.

Random numbers are the documented ones; each layer's gradient is the slope of its function; each
backend's ops, and a training step of a small network on it, give what the generic ops of
`backends.base` give in float64. Under a minute, and without the project's tests.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import numpy as host

from minialex import backends, rng
from minialex import layers as kinds
from minialex.backends.base import Backend, output_shape
from minialex.errors import InputError
from minialex.layers import InitialDraw, Layer, Mode
from minialex.network import Network
from minialex.optim import SGD
from minialex.recipe import Recipe

STEP = 1e-5  # of the central difference; its error is about STEP²
GRADIENT_TOLERANCE = 1e-7
MODE = Mode(training=True, seed=11, step=3, layer=1)


class Proof(NamedTuple):
    """One line of `minialex check`; `passed` is None for what this machine cannot run."""

    name: str
    passed: bool | None
    detail: str


def run_checks(backend: str | Backend | None = None) -> Iterator[Proof]:
    """Prove random numbers, gradients, ops and a training step; None is every backend there is."""
    yield philox()
    for name in backends.available() if backend is None else [backend]:
        try:
            b = backends.get(name)
        except InputError as error:
            if backend is not None:
                raise
            yield Proof(f"{name}: backend", None, str(error))
            continue
        for layer, input_shape in LAYERS:
            yield gradient(b, layer, input_shape)
        for op, problems in OPS.items():
            for dtype in ("float64", "float32"):
                yield agreement(b, op, problems, dtype)
        yield step(b)


# ------------------------------------------------------------------------------------ random numbers

# (counter, key) -> output, from Random123's known-answer file kat_vectors, philox 4x32 10
KNOWN = (
    ((0x00000000,) * 4, 0x00000000_00000000, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((0xFFFFFFFF,) * 4, 0xFFFFFFFF_FFFFFFFF, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        0x299F31D0_A4093822,
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
)


def philox() -> Proof:
    """The generator gives its authors' published numbers."""
    for counter, seed, expected in KNOWN:
        found = " ".join(f"{int(word):08x}" for word in rng.philox4x32(*counter, seed))
        if found != expected:
            return Proof("random numbers", False, f"{found} for counter {counter}, not {expected}")
    return Proof("random numbers", True, "Philox 4x32-10 gives its three published answers")


# ------------------------------------------------------------------------------------ gradients

# Strides above the kernel, H != W, padding above half the kernel, alpha = 1: what hides no mistake.
LAYERS: tuple[tuple[Layer, tuple[int, ...]], ...] = (
    (kinds.Conv2D(4, kernel=3, stride=2, pad=2, groups=2), (7, 6, 4)),
    (kinds.Conv2D(3, kernel=2, stride=3, rounding="ceil"), (9, 6, 2)),
    (kinds.Dense(5), (3, 2, 4)),
    (kinds.ReLU(), (4, 3, 5)),
    (kinds.Tanh(), (4, 3, 5)),
    (kinds.Dropout(0.6), (30,)),
    (kinds.Dropout(0.6, inverted=True), (30,)),
    (kinds.MaxPool(3, 2, pad=1), (7, 6, 3)),
    (kinds.AveragePool(3, 2, rounding="ceil"), (8, 6, 3)),
    (kinds.ResponseNorm(n=3, alpha=1.0, groups=2), (3, 2, 8)),
    (kinds.SpatialResponseNorm(n=3, k=1.0, alpha=1.0), (5, 4, 2)),
)


def gradient(b: Backend, layer: Layer, input_shape: tuple[int, ...]) -> Proof:
    """The slope of cot · layer(x, w) along a random direction, two ways, in float64."""
    draw = _Draw(f"{layer}")
    x = draw.apart((2, *input_shape))
    params = layer.init(b, InitialDraw(1), input_shape, "float64")
    values = {"x": x, **{name: draw.normal(value.shape) for name, value in params.items()}}
    along = {name: draw.normal(value.shape) for name, value in values.items()}
    cotangent = draw.normal((2, *layer.output_shape(input_shape)))

    def forward(distance: float):
        at = {name: b.asarray(v + distance * along[name]) for name, v in values.items()}
        x = at.pop("x")
        return *layer.forward(b, at, x, MODE), at

    def product(distance: float) -> float:
        return float(np.sum(b.to_numpy(forward(distance)[0]) * cotangent))

    numeric = (product(STEP) - product(-STEP)) / (2 * STEP)
    _, saved, at = forward(0.0)
    dx, grads = layer.backward(b, at, saved, b.asarray(cotangent))
    slopes = {"x": dx, **grads}
    analytic = sum(float(np.sum(b.to_numpy(slopes[name]) * along[name])) for name in values)
    error = abs(analytic - numeric) / (abs(analytic) + abs(numeric))
    return Proof(
        f"{b.name}: gradient of {layer!r:.80}"[:80],
        error < GRADIENT_TOLERANCE,
        f"derivative {analytic:.9g}, central difference {numeric:.9g}",
    )


# ------------------------------------------------------------------------------------ ops
