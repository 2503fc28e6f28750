"""The same network over several devices of one process: towers, replicas, or both.

`DeviceConfig(...).open(network)` gives a backend for one device and a `DeviceGroup` for several;
`gradients` and `infer` run a batch on either. `partition` says who computes what, `schedule` what
runs in which order, `collectives` what is sent.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minialex.backends import Backend
from minialex.layers import Mode
from minialex.network import Network
from minialex.parallel.device_group import DeviceGroup, Inputs
from minialex.parallel.devices import DeviceConfig
from minialex.tree import Tree

__all__ = [
    "DeviceConfig",
    "DeviceGroup",
    "Inputs",
    "gradients",
    "infer",
    "open_devices",
    "place",
    "whole",
]


def open_devices(
    network: Network,
    backend: str | Backend | DeviceGroup = "auto",
    devices: int | Sequence[int] | None = None,
    parallel: str | None = None,
    precision: str = "fp32",
    threads: int | None = None,
) -> Backend | DeviceGroup:
    """`DeviceConfig(...).open(network)`: a backend on one device, or the network over several."""
    return DeviceConfig(backend, devices, parallel, precision, threads).open(network)


def place(b: Backend | DeviceGroup, params: Tree) -> Tree:
    """Whole parameters on the host, to where they are computed with."""
    return {
        layer: {name: _placed(b, value, layer, name) for name, value in of_layer.items()}
        for layer, of_layer in params.items()
    }


def _placed(b: Backend | DeviceGroup, value: np.ndarray, layer: str, name: str):
    return b.parameter(value, layer, name) if isinstance(b, DeviceGroup) else b.asarray(value)


def whole(b: Backend | DeviceGroup, params: Tree) -> tuple[Backend, Tree]:
    """A single backend with all parameters on it."""
    return b.single(params) if isinstance(b, DeviceGroup) else (b, params)


def gradients(
    b: Backend | DeviceGroup,
    network: Network,
    params: Tree,
    inputs: Inputs,
    labels: np.ndarray,
    loss,
    mode: Mode,
    scale: float = 1.0,
) -> tuple[Callable[[], float], Tree]:
    """Forward and backward of one batch.

    `inputs(backend, first, end)` gives the network's input for those images of the batch. Returns
    the mean loss, as a function that waits for it, and the gradients times `scale`.
    """
    if isinstance(b, DeviceGroup):
        return b.gradients(params, inputs, labels, loss, mode, scale)
    own = b.cast_params(params)
    scores, saved = network.forward(b, own, inputs(b, 0, len(labels)), mode)
    value, dscores = loss(b, scores, b.asarray(labels), None, scale)
    grads = network.backward(b, own, saved, dscores)
    return lambda: float(b.to_numpy(value)), grads


def infer(
    b: Backend | DeviceGroup,
    network: Network,
    params: Tree,
    inputs: Inputs,
    count: int,
    stop: str | None = None,
) -> Any:
    """The network's output at test time for `count` images, on the host: (N, ...)."""
    if isinstance(b, DeviceGroup):
        return b.infer(params, inputs, count, stop)
    part = network if stop is None else network.until(stop)
    y = part.infer(b, b.cast_params(params), inputs(b, 0, count))
    return b.to_numpy(y)
