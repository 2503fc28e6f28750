"""Train the paper's full network on eight images until the loss is nearly zero.

    python examples/overfit_small.py
    python examples/overfit_small.py --model alexnet-64 --backend numpy --devices 0,1

A wrong gradient in any layer would prevent that. Dropout is turned off: it prevents memorising,
which is the goal here.
"""

import argparse

import numpy as np

from minialex import models
from minialex.data.sources.open import open_data
from minialex.losses import SoftmaxCrossEntropy
from minialex.optim import SGD, Rates
from minialex.parallel import DeviceConfig
from minialex.training.step import TrainStep
from minialex.utils.options import add_options


def main(arguments: list[str] | None = None, steps: int = 400, lr: float = 0.005) -> float:
    """Train until the loss is below 0.05; returns the last loss."""
    parser = argparse.ArgumentParser(description="Memorise eight images.")
    parser.add_argument("--model", default="alexnet")
    add_options(parser, DeviceConfig)
    given = vars(parser.parse_args(arguments))
    name, where = given.pop("model"), DeviceConfig(**given)

    data = open_data("shapes:120").train
    model = models.get(name, classes=len(data.class_ids))
    network = model.network.without_dropout()
    labels = np.arange(8)
    first_of_class = [int(np.flatnonzero(data.labels == k)[0]) for k in labels]
    images = np.stack([data.image(i, network.input_shape[0]) for i in first_of_class])
    x = images.astype("float32") - images.mean(axis=0, dtype="float32")

    step = TrainStep(network, where.open(network), SoftmaxCrossEntropy(), SGD(model.recipe))
    state, rates = step.init(seed=0), Rates(lr, lr, colour_noise=0.0)
    for number in range(steps):
        loss = step(state, (x, labels), rates)
        if number % 10 == 0 or loss < 0.05:
            print(f"step {number:4}  loss {loss:.4f}", flush=True)
        if loss < 0.05:
            print(f"{network.parameter_count:,} parameters have memorised {len(x)} images")
            break
    return loss


if __name__ == "__main__":
    raise SystemExit(main() >= 0.05)
