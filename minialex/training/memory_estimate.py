"""How much memory a training step takes on a GPU, and which batch would fit.

Of the CUDA backend only: host memory, in which the other backends compute, is not estimated. The
estimate is 0.9 to 1.4 times what a step of the built-in networks takes.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

from minialex.backends import Backend
from minialex.layers import (
    Conv2D,
    MaxPool,
    SpatialResponseNorm,
)
from minialex.network import Network
from minialex.parallel import Devices

_WORKSPACE = 32 << 20  # bytes, of cuBLAS
_SMALL = 8 << 20  # numbers in small arrays
_MARGIN = 0.8  # of the memory: this is an estimate, and the pool rounds block sizes up


@dataclass(frozen=True)
class _Step:
    """Memory of one step of the network in bytes: fixed, and per image."""

    output: int
    kept: int  # from forward to backward
    scratch: int  # of the whole batch: columns, or a weight gradient's partial sums
    gradient: int  # of its parameters


def step_bytes(
    network: Network, batch: int, b: Backend, slots: int = 1, dtype: str = "float32"
) -> int:
    """Peak memory of a training step on `b` in bytes, from a forward and a backward pass.

    The optimiser keeps `slots` arrays for each parameter, of the network's `dtype`.
    """
    whole, compute = np.dtype(dtype).itemsize, b.precision.compute_dtype(dtype)
    size = whole if compute == dtype else 2
    steps = _steps(network, size, whole, batch, b)
    # weights and slots as they are stored, and the weights once more in half precision
    copies = size if size < whole else 0
    held = network.parameter_count * (whole + whole * slots + copies)
    held += _WORKSPACE + _SMALL * whole
    # the batch as numbers, and as bytes: being read, ready, and in transfer
    held += batch * prod(network.input_shape) * (size + 3)
    peak, before = held, 0
    for step in steps:
        peak = max(peak, held + (before + step.output) * batch + step.scratch)
        held, before = held + step.kept * batch, step.output
    for i, step in reversed(list(enumerate(steps))):
        held += step.gradient
        arriving, leaving = step.output, steps[i - 1].output if i else 0
        peak = max(peak, held + (arriving + leaving) * batch + step.scratch)
        held -= step.kept * batch
    return peak


def fitting_batch(
    network: Network,
    memory: int,
    b: Backend,
    devices: int = 1,
    slots: int = 1,
    dtype: str = "float32",
) -> int:
    """The largest batch that fits in `memory` bytes on each of `devices` devices, or 0."""
    low, high = 0, 1 << 20
    while high - low > 1:
        middle = (low + high) // 2
        fits = step_bytes(network, -(-middle // devices), b, slots, dtype) <= _MARGIN * memory
        low, high = (middle, high) if fits else (low, middle)
    return low


def _steps(network: Network, size: int, whole: int, batch: int, b: Backend) -> list[_Step]:
    """With `size` bytes for an activation and `whole` for a parameter."""
    stages, shapes, found = network.stages(training=True), network.shapes(), list[_Step]()
    for i, stage in enumerate(stages):
        end = stage.index + len(stage.names)
        (_, first), (_, last) = network.layers[stage.index], network.layers[end - 1]
        shape, output = shapes[stage.index], prod(shapes[end])
        follower = network.layers[end][1] if i + 1 < len(stages) else None
        # an output is kept once, by the stage that made it or the one that reads it
        read_again = follower is not None and follower.saves_input
        kept = size * output * (last.saves_output or read_again)
        if isinstance(last, MaxPool):
            kept += 2 * output
        if isinstance(last, SpatialResponseNorm):
            kept += whole * output
        parameters, scratch = first.parameter_shapes(shape), 0
        if isinstance(first, Conv2D):
            x_shape, geometry = (max(1, batch), *shape), first.geometry(shape)
            scratch = b.convolution_workspace(x_shape, parameters["weight"], *geometry)
            scratch *= whole // 4  # which the backend takes for float32
        gradient = sum(whole * prod(one) for one in parameters.values())
        found.append(_Step(output * size, kept, scratch, gradient))
    return found


def too_little(
    network: Network,
    batch: int,
    devices: Devices,
    slots: int,
    micro_batch: int | None = None,
    dtype: str = "float32",
) -> str:
    """The error message for a step that ran out of memory."""
    memory, option = devices.memory(), "batch_size" if micro_batch is None else "micro_batch"
    kind, batch = ("batch", batch) if micro_batch is None else ("micro-batch", micro_batch)
    text = f"the memory of the device is too small for a {kind} of {batch}"
    if memory is None:
        return f"{text}: choose a smaller {option}"
    count = len(devices.backends)
    fits = fitting_batch(network, memory, devices.backends[0], count, slots, dtype)
    fits = min(fits, batch - 1)
    text += f" ({memory / 2**30:.2f} GiB can be used)"
    if fits < 1:
        return f"{text}, and for any other: use a smaller network, more devices, or the CPU"
    return f"{text}: a {kind} of about {fits} fits, so start again with {option}={fits}"
