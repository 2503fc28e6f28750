"""The gradient check: one random direction, one random weighting of the output, float64."""

import numpy as np

from helpers.strategies import grid
from minialex.layers import InitialDraw, Mode

MODE = Mode(training=True, seed=7, step=3, layer=2)


def check_layer(b, layer, shape, batch: int = 2, seed: int = 0, mode: Mode = MODE) -> None:
    """Compare backward with central differences; raises AssertionError with both numbers.

    Along directions v of the input and of each parameter, with weights dy on the outputs,
    d/dt Σ dy · forward(at + t v) must be dx · v plus the same for the parameters.
    """
    x = grid((batch, *shape), seed)
    params = {k: b.to_numpy(v) for k, v in layer.init(b, InitialDraw(1), shape, "float64").items()}
    ways = {k: grid(v.shape, seed + 1) for k, v in params.items()}
    x_way = grid(x.shape, seed + 2)

    def forward(t):
        moved = {k: b.asarray(v + t * ways[k]) for k, v in params.items()}
        return layer.forward(b, moved, b.asarray(x + t * x_way), mode)

    y, saved = forward(0.0)
    dy = grid(y.shape, seed + 3)
    given = {k: b.asarray(v) for k, v in params.items()}
    dx, grads = layer.backward(b, given, saved, b.asarray(dy))
    assert set(grads) == set(params), f"{layer}: gradients of {set(grads)}, not of {set(params)}"
    assert b.to_numpy(dx).shape == x.shape, f"{layer}: dx is {dx.shape}, x is {x.shape}"
    analytic = np.sum(b.to_numpy(dx) * x_way)
    for name, way in ways.items():
        analytic += np.sum(b.to_numpy(grads[name]) * way)
    step = 1e-6
    up, down = b.to_numpy(forward(step)[0]), b.to_numpy(forward(-step)[0])
    numeric = np.sum((up - down) * dy) / (2 * step)
    limit = 1e-7 * max(1.0, abs(numeric), np.sum(np.abs(up * dy)))
    assert abs(analytic - numeric) <= limit, (
        f"gradient of {layer} over {shape}: backward says {analytic:.10g}, "
        f"differences say {numeric:.10g}"
    )
