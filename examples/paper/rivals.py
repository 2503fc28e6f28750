"""The rivals of tables 1 and 2, and a small AlexNet, on the same images.

    python examples/paper/rivals.py
    python examples/paper/rivals.py --data FOLDER --images 2000

Needs `pip install 'minialex[baselines]'`. On the built-in drawings it takes a few minutes on two
CPU cores.
"""

import argparse

import minialex
from minialex.baselines import sift_fisher, sparse_coding
from minialex.data.base import Splits, subset
from minialex.data.open import open_data
from minialex.rng import Purpose, permutation


def some(splits: Splits, count: int, seed: int) -> Splits:
    """At most `count` training and `count` validation images, drawn by `seed`."""
    parts = []
    for step, part in enumerate((splits.train, splits.val)):
        order = permutation(seed, Purpose.SPLIT, step, len(part))[:count]
        parts.append(subset(part, sorted(order.tolist())))
    return Splits(*parts)


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Top-1 errors on the validation images, by method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="shapes:1200", help="shapes:N or a folder")
    parser.add_argument("--images", type=int, default=2000, help="of each part, at most")
    parser.add_argument("--epochs", type=int, default=8, help="of the network; 0 leaves it out")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    splits = some(open_data(options.data), options.images, options.seed)

    errors = {}
    for name, method in (("SIFT + FVs", sift_fisher), ("Sparse coding", sparse_coding)):
        outcome = method.run(splits, seed=options.seed)
        print(f"{name:14} {outcome}")
        errors[name] = outcome.top1_error
    if options.epochs:
        result = minialex.train(
            splits, model="alexnet-64", epochs=options.epochs, batch_size=32, seed=options.seed
        )
        evaluation = result.classifier.evaluate(splits, crops=10)
        print(f"{'CNN':14} {evaluation}")
        errors["CNN"] = evaluation.top1_error
    return errors


if __name__ == "__main__":
    main()
