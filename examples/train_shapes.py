"""Train a small network on the built-in images, and classify three validation images with it.

    python examples/train_shapes.py

This takes about two minutes on two CPU cores. The drawings have twelve classes that differ in
colour, shape and texture; the network needs all three to distinguish them.
"""

import argparse

import minialex
from minialex.data.sources.open import open_data


def main(arguments: list[str] | None = None) -> float:
    """Train, evaluate and predict. Returns the top-1 error on the validation images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="shapes", help="shapes, shapes:N or a folder")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", help="the run folder (default: a new one under runs/)")
    options = parser.parse_args(arguments)

    result = minialex.train(
        options.data, model="alexnet-64", epochs=options.epochs, batch_size=32, out=options.out
    )
    print(result.classifier.evaluate(crops=1))
    evaluation = result.classifier.evaluate(crops=10)
    print(evaluation)

    val = open_data(options.data).val
    for i in (0, len(val) // 2, len(val) - 1):
        [best] = result.classifier.predict(val.image(i, 72), top=1)
        truth = val.class_names[val.labels[i]]
        print(f"{truth:24} predicted: {best[0].name} ({best[0].probability:.0%})")
    return evaluation.top1_error


if __name__ == "__main__":
    main()
