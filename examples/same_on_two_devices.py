"""Measure how much gradients computed on two devices differ from those on one device.

    python examples/same_on_two_devices.py
    python examples/same_on_two_devices.py --parallel hybrid --seeds 10

Both start from the same weights and use the same images and dropout masks, but their sums run in
different orders, so the last bits differ. In float64 there is no other difference. In float32 a
value is sometimes so close to the kink of a ReLU, or to the second largest value of a pooling
window, that rounding moves it to the other side. Its whole gradient then takes another path, and
later steps amplify the difference.
"""

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np

from minialex import models
from minialex.data.sources.open import open_data
from minialex.layers import Mode
from minialex.losses import SoftmaxCrossEntropy
from minialex.optim import SGD, Rates
from minialex.parallel import DeviceConfig
from minialex.training.step import TrainStep
from minialex.tree import leaves

BATCH = 32


def main(arguments: list[str] | None = None) -> dict[tuple[str, int], float]:
    """Print the table. Returns the largest difference for each (dtype, number of steps)."""
    parser = argparse.ArgumentParser(description="Compare two devices with one.")
    parser.add_argument("--model", default="cifar10")
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--parallel", default="data")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=6)
    options = parser.parse_args(arguments)

    print(f"{options.model}: gradients on two devices ({options.parallel}) and on one")
    print("largest difference relative to the parameter's largest gradient, over the seeds")
    largest = {}
    for dtype in ("float64", "float32"):
        found: dict[int, list[tuple[float, str]]] = {}
        for seed in range(options.seeds):
            one = gradients(options, dtype, seed, None)
            two = gradients(options, dtype, seed, [0, 1])
            for step, (a, b) in enumerate(zip(one, two, strict=True)):
                apart = ((np.abs(b[k] - a[k]).max() / np.abs(a[k]).max(), k) for k in a)
                found.setdefault(step, []).append(max(apart))
        for step in (0, options.steps):
            worst, name = max(found[step])
            median = np.median([value for value, _ in found[step]])
            largest[dtype, step] = float(worst)
            print(f"{dtype}  {step} steps  median {median:.1e}  largest {worst:.1e} ({name})")
    return largest


def gradients(options: Any, dtype: str, seed: int, devices: Any) -> Iterator[dict[str, np.ndarray]]:
    """Yield the gradients of all parameters before the first step and after each step."""
    model = models.get(options.model, 12)
    data, side = open_data("shapes:48").train, model.network.input_shape[0]
    images = np.stack([data.image(i, side) for i in range(BATCH)]).astype(np.float64)
    batch = (images - images.mean(axis=0)).astype(dtype), data.labels[:BATCH]

    where = DeviceConfig(options.backend, devices, devices and options.parallel).open(model.network)
    loss, rates = SoftmaxCrossEntropy(), Rates(0.01, 0.01, colour_noise=0.0)
    step = TrainStep(model.network, where, loss, SGD(model.recipe), seed=seed, dtype=dtype)
    state = step.init(seed)
    for number in range(options.steps + 1):
        inputs, mode = step.feed.inputs(batch, 0, 0.0), Mode(True, seed, state.step)
        _, found = where.gradients(state.params, inputs, batch[1], loss, mode)
        yield {f"{layer}.{name}": where.to_numpy(g) for layer, name, g in leaves(found)}
        if number < options.steps:
            step(state, batch, rates)


if __name__ == "__main__":
    main()
