"""Compare how training starts with the paper's text and with its authors' code: signal and loss.

    python examples/how_training_starts.py --data PATH --steps 100

The two differ in the initial weights of convolutions 3 to 5 (standard deviation 0.01 and 0.03), in
the strength and position of the response normalisation, and in the learning rate of the biases. For
each network this prints how much the scores differ between images before training, and the loss
over the first updates.
"""

import argparse
import sys

import numpy as np

import minialex
from minialex import backends, models
from minialex.data.augment.draws import epoch_order
from minialex.data.loading.loader import Loader
from minialex.data.preprocessing import Preprocessing
from minialex.data.sources.open import open_data
from minialex.data.statistics import measure
from minialex.losses import SoftmaxCrossEntropy
from minialex.optim import SGD, Rates
from minialex.parallel import SingleDevice
from minialex.training.feed import Photographs
from minialex.training.step import TrainStep

MODELS = ("alexnet", "alexnet-2012")


def main(arguments: list[str] | None = None) -> dict[str, list[float]]:
    """Print the table; returns {model: losses}."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a folder of photographs (default: built-in images)")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--every", type=int, default=20, help="steps per printed mean")
    options = parser.parse_args(arguments)

    b = backends.get("auto")
    data = open_data(options.data).train
    loader = Loader(data, 256)
    order = epoch_order(0, 0, len(data))
    statistics = measure(data, 256, loader=loader)
    batches = []
    for batch in loader.batches(order, options.batch_size):
        batches.append(batch)
        if len(batches) == options.steps:
            break
    results, signal = {}, {}
    for name in MODELS:
        # ------------------------------------------------- the untrained network, 1000 classes
        model = models.get(name, 1000)
        preprocessing = Preprocessing(model.recipe, statistics)
        [view] = preprocessing.views(1)
        x = preprocessing.test_input(b, batches[0].images, view, "float32")
        params = model.network.init(b)
        scores = b.to_numpy(model.network.infer(b, params, x))
        signal[name] = scores.std(axis=0).mean()
        print(f"{name}: scores differ between images by {signal[name]:.4g}", flush=True)

        # ------------------------------------------------- the first updates, these classes
        model = models.get(name, len(data.class_ids))
        devices, loss = SingleDevice(model.network, b), SoftmaxCrossEntropy()
        feed = Photographs(preprocessing)
        step = TrainStep(model.network, devices, loss, SGD(model.recipe), feed=feed)
        state = step.init(seed=0)
        rates = Rates(0.01, 0.01 * model.recipe.bias_rate, model.recipe.colour_noise)
        seen = [step(state, batch, rates) for batch in batches]
        for start in range(0, len(seen), options.every):
            part = seen[start : start + options.every]
            print(f"  steps {start:4} to {start + len(part):4}: mean loss {np.mean(part):.4f}")
        results[name] = seen
    print(f"random guessing: {np.log(len(data.class_ids)):.4f}")
    ratio = signal[MODELS[-1]] / signal[MODELS[0]]
    print(f"{MODELS[-1]} starts with {ratio:.1f} times the signal of {MODELS[0]}")
    return results


if __name__ == "__main__":
    try:
        main()
    except (minialex.InputError, FileNotFoundError) as error:
        sys.exit(f"how_training_starts: {error}")
