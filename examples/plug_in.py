"""Use your own network, schedule, loss and optimiser without changing minialex.

    python examples/plug_in.py

Each is a function or class in a file. On the command line, pass the same file:

    minialex train --model examples/plug_in.py:build --optimizer examples/plug_in.py:Adam

A weight file records where its network's code is but never runs it: to load the weights, you name
the code yourself.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import minialex
from minialex.backends import Backend
from minialex.layers import Conv2D, Dense, MaxPool, ReLU
from minialex.models import Recipe
from minialex.network import Network


def build(classes: int, channels: int = 8) -> Network:
    """The network for `classes` classes; the other arguments are options, `--option channels=16`.

    To give it its own recipe, pass `models.Variant(build, Recipe(...))` instead of `build`.
    """
    layers = (
        ("conv1", Conv2D(channels, kernel=5, stride=2, weight_std=0.01)),
        ("relu1", ReLU()),
        ("pool1", MaxPool(3, 2)),
        ("fc2", Dense(classes, weight_std=0.001)),
    )
    return Network(layers, (32, 32, 3))


def down(recipe: Recipe, epoch: float, errors: Sequence[float]) -> float:
    """Linear decay: a factor of the learning rate, from 1 to 0."""
    return 1 - epoch / recipe.epochs


def at_temperature(b: Backend, scores, labels, count=None, dloss=1.0):
    """Cross-entropy at temperature 2, and its gradient: softer probabilities."""
    loss, dscores = b.softmax_cross_entropy(scores / 2, labels, count, dloss)
    return loss, dscores / 2


class Adam:
    """Adam (Kingma & Ba, 2015). Called once per parameter array in each step.

    For each parameter there is one array for each name in `slots`, zero before the first step. They
    are saved with the checkpoint, so a resumed run gives the same bits.
    """

    slots = ("mean", "square")

    def __call__(self, b: Backend, weight, gradient, slots, rate, decay, step):
        """The new weight and its slots; `step` counts from 0, `decay` is the L2 weight decay."""
        gradient = gradient + decay * weight
        mean = 0.9 * slots["mean"] + 0.1 * gradient
        square = 0.999 * slots["square"] + 0.001 * gradient**2
        size = rate * (1 - 0.999 ** (step + 1)) ** 0.5 / (1 - 0.9 ** (step + 1))
        weight = weight - size * mean / (b.xp.sqrt(square) + 1e-8)
        return weight, {"mean": mean, "square": square}


def main() -> list[float]:
    """Train for three epochs and load the weights again. Returns the loss of each epoch."""
    with tempfile.TemporaryDirectory() as folder:
        result = minialex.train(
            "shapes:96",
            model=build,
            schedule=down,
            loss=at_temperature,
            optimizer=Adam,
            lr=0.003,
            epochs=3,
            batch_size=16,
            backend="numpy",
            out=Path(folder, "run"),
            progress=False,
        )
        again = minialex.load(result.run_dir, "numpy", model=build)
    losses = [float(row["train_loss"]) for row in result.history]
    print(f"{again.model.name}: loss {losses[0]:.2f}, then {losses[-1]:.2f}")
    return losses


if __name__ == "__main__":
    losses = main()
    raise SystemExit(losses[-1] >= losses[0])
