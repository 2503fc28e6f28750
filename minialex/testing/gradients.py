"""The gradient check: one random direction, one random weighting of the output, in float64."""

from collections.abc import Sequence

import numpy as np

from minialex import backends
from minialex.backends.base import Backend
from minialex.layers import InitialDraw, Layer, Mode
from minialex.layers.base import Saved
from minialex.testing.tolerance import require

MODE = Mode(training=True, seed=7, step=3, layer=2)
_STEP = 1e-6  # of the central difference
TOLERANCE = 1e-7


def check_layer(
    layer: Layer,
    input_shape: Sequence[int],
    b: Backend | None = None,
    *,
    batch: int = 2,
    seed: int = 0,
    mode: Mode = MODE,
) -> float:
    """Compare a layer's backward pass with central differences; returns the relative error.

    Along directions v of the input (batch, *input_shape) and of each parameter, and with weights
    dy on the outputs, d/dt Σ dy · forward(at + t v) must be dx · v plus the same for the
    parameters. `b` is the NumPy backend by default. Raises AssertionError with both numbers, or if
    shapes or names of gradients are wrong.
    """
    b = b or backends.get("numpy")
    shape = tuple(input_shape)
    x, x_way = grid((batch, *shape), seed), grid((batch, *shape), seed + 2)
    drawn = layer.init(b, InitialDraw(1), shape, "float64")
    params = {name: b.to_numpy(value) for name, value in drawn.items()}
    shapes = {name: value.shape for name, value in params.items()}
    require(shapes == layer.parameter_shapes(shape), f"{layer}: init gives parameters of {shapes}")
    ways = {
        name: grid(value.shape, seed + 1) * (name not in layer.statistics)
        for name, value in params.items()
    }

    def forward(t: float) -> tuple[np.ndarray, Saved]:
        moved = {name: b.asarray(value + t * ways[name]) for name, value in params.items()}
        y, saved = layer.forward(b, moved, b.asarray(x + t * x_way), mode)
        return b.to_numpy(y), saved

    y, saved = forward(0.0)
    wanted = (batch, *layer.output_shape(shape))
    require(y.shape == wanted, f"{layer}: y is {y.shape}, output_shape says {wanted}")
    dy = grid(y.shape, seed + 3)
    given = {name: b.asarray(value) for name, value in params.items()}
    dx, grads = layer.backward(b, given, saved, b.asarray(dy))
    require(
        set(grads) == set(params),
        f"{layer}: gradients of {sorted(grads)}, parameters {sorted(params)}",
    )
    found = getattr(dx, "shape", None)
    require(found == x.shape, f"{layer}: dx is {found}, x is {x.shape}")
    analytic = float(np.sum(b.to_numpy(dx) * x_way))
    for name, way in ways.items():
        analytic += float(np.sum(b.to_numpy(grads[name]) * way))
    up, down = forward(_STEP)[0], forward(-_STEP)[0]
    numeric = float(np.sum((up - down) * dy)) / (2 * _STEP)
    scale = max(1.0, abs(numeric), float(np.sum(np.abs(up * dy))))
    require(
        abs(analytic - numeric) <= TOLERANCE * scale,
        f"gradient of {layer} over {shape}: backward gives {analytic:.10g}, "
        f"differences give {numeric:.10g}",
    )
    return abs(analytic - numeric) / scale


def grid(shape: Sequence[int], seed: int) -> np.ndarray:
    """Distinct nonzero numbers in random order: no kinks and no ties, by construction."""
    size = int(np.prod(shape))
    values = (np.arange(size) - size // 2 + 0.5) * (4.0 / max(size, 4))
    return np.random.default_rng(seed).permutation(values).reshape(shape)
