"""Training steps to observe: what they compute, copy and allocate."""

import gc

import cuda_on_cpu
import numpy as np

from minialex import backends, losses, parallel
from minialex.backends.cuda import cublas
from minialex.layers import Mode
from minialex.models.recipe import Recipe
from minialex.optim import SGD, Rates
from minialex.tree import map_tree

reference = backends.get("numpy")


def here(devices):
    """These devices of the stand-in, which has two; on a machine with fewer, some are repeated."""
    if cuda_on_cpu.installed() or devices is None:
        return devices
    import cupy

    count = cupy.cuda.runtime.getDeviceCount()
    return devices % count if isinstance(devices, int) else [d % count for d in devices]


def step_of(network, devices, batch, dtype="float32", seed=0, params=None):
    """A function that runs training steps on raw images of random bytes, and its parameters."""
    rng = np.random.default_rng(seed)
    size = network.input_shape[0]
    images = rng.integers(0, 256, (batch, size + 9, size + 9, 3), np.uint8)
    mean = rng.uniform(90, 150, images.shape[1:]).astype("float32")
    labels = rng.integers(0, network.classes, batch)
    params = devices.to_devices(network.init(reference, 1, dtype) if params is None else params)
    sgd = SGD(Recipe())
    velocities = sgd.start(devices, network.trainable(params))

    def inputs(b, first, end):
        drawn = rng.integers(0, 10, (3, end - first))
        draws = (drawn[0], drawn[1], drawn[2] > 4, size, mean, None, None, None, 1.0)
        return b.crops(b.asarray(images[first:end]), *draws, b.compute_dtype(dtype))

    def step(number):
        mode = Mode(training=True, seed=seed, step=number)
        loss, grads = devices.gradients(params, inputs, labels, losses.SoftmaxCrossEntropy(), mode)
        own = network.trainable(grads)
        sgd.update(devices, params, velocities, own, Rates(0.01, 0.02, 0.0))
        return loss

    return step, params


def step_peak(network, devices, precision: str, batch: int, dtype: str = "float32") -> int:
    """Peak bytes of the arrays in a training step, on the device with the highest peak."""
    machine = cuda_on_cpu.machine
    cublas._scratch.clear()  # so that it is counted
    gc.collect()
    before = dict(machine.used)
    machine.peak.clear()
    with cuda_on_cpu.dry_run():  # nothing is computed, only allocated
        opened = parallel.open_devices(network, "cupy", devices, precision=precision)
        shapes = network.parameter_shapes()
        zeros = map_tree(lambda shape: np.zeros(shape, dtype), shapes)
        step, _ = step_of(network, opened, batch, dtype, params=zeros)
        step(0)
        step(1)
        return max(peak - before.get(d, 0) for d, peak in machine.peak.items())
