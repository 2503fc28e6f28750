"""Drive the paper's full network to almost zero training loss on eight images.

    python examples/overfit_small.py
    python examples/overfit_small.py --model alexnet-2012 --images 16

A network that cannot learn eight images by heart has a defect: a wrong sign in one backward pass, a
mirrored kernel, a rate in the wrong place. One that can has a working path from pixels to loss and
back to all of its 61 million parameters. It says nothing about images it has not seen.

Dropout is off: it is there to prevent exactly this.
"""

import argparse
import sys
import time

import numpy as np

from minialex import backends, losses, models, parallel
from minialex.cli.common import devices
from minialex.data.sources.open import open_data
from minialex.errors import InputError
from minialex.layers import Mode
from minialex.optim import SGD, Rates


def main(arguments: list[str] | None = None) -> float:
    """Train until the loss is below 0.05; returns the last loss."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="alexnet", help="a network by name")
    parser.add_argument("--images", type=int, default=8, help="how many images to learn by heart")
    parser.add_argument("--lr", type=float, default=0.005, help="the learning rate")
    parser.add_argument("--steps", type=int, default=400, help="give up after so many updates")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", default="auto", help="numpy, cupy, ...")
    parser.add_argument("--devices", type=devices, help="device numbers, as 0 or 0,1")
    parser.add_argument("--parallel", help="several devices as towers, data or hybrid")
    parser.add_argument("--precision", default="fp32", help="fp32; on cupy tf32, bf16 or fp16")
    options = parser.parse_args(arguments)

    # ------------------------------------------------------------------------ images
    data = open_data("shapes:120").train
    model = models.get(options.model, classes=len(data.class_ids))
    size = model.network.input_shape[0]
    labels = np.arange(options.images) % len(data.class_ids)
    chosen = [np.flatnonzero(data.labels == k)[i // 12] for i, k in enumerate(labels)]
    images = np.stack([data.image(i, size) for i in chosen]).astype(np.float32)
    images -= images.mean(axis=0)

    # ------------------------------------------------------------------------ network
    network = model.network.without_dropout()
    b = parallel.open_devices(
        network, options.backend, options.devices, options.parallel, options.precision
    )
    params = parallel.place(b, network.init(backends.get("numpy"), options.seed))
    optimiser = SGD(model.recipe)
    velocities = optimiser.start(b, params)
    rates = Rates(options.lr, options.lr * model.recipe.bias_rate, colour_noise=0.0)
    loss = losses.SoftmaxCrossEntropy()
    # half precision would lose gradients below 6e-8: they are computed larger, and divided again
    scale = 1024.0 if options.precision == "fp16" else 1.0
    print(f"{options.model}: {network.parameter_count:,} parameters, {options.images} images")

    def inputs(b, first, end):
        """Images first … end - 1 on the device that asks for them."""
        return b.asarray(images[first:end], b.compute_dtype("float32"))

    # ------------------------------------------------------------------------ training
    start, value = time.monotonic(), float("inf")
    for step in range(options.steps):
        mode = Mode(training=True, step=step)
        number, grads = parallel.gradients(b, network, params, inputs, labels, loss, mode, scale)
        value = number()
        if step % 10 == 0 or value < 0.05:
            print(
                f"step {step:4}  loss {value:7.4f}  {time.monotonic() - start:6.1f} s", flush=True
            )
        if value < 0.05 or not np.isfinite(value):
            break
        optimiser.update(b, params, velocities, grads, rates, scale)

    if value < 0.05:
        print("learnt by heart: forward, backward and update work together in every layer")
    elif np.isfinite(value):
        print(f"not learnt in {options.steps} steps: try another --lr or more --steps")
    else:
        print("the loss is not finite any more: try a smaller --lr")
    return value


if __name__ == "__main__":
    try:
        sys.exit(0 if main() < 0.05 else 1)
    except InputError as error:
        sys.exit(f"overfit_small: {error}")
