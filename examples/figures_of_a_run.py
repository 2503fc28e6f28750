"""Draw a run's training curves, first-layer kernels and predictions for some validation images.

    minialex train --model alexnet-64 --out runs/shapes
    python examples/figures_of_a_run.py runs/shapes --out figures

The curves need Matplotlib: pip install -e '.[figures]'.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np

import minialex
from minialex import plots
from minialex.data.sources.open import open_data


def main(arguments: list[str] | None = None) -> list[Path]:
    """Write curves.png, kernels.png and predictions.png; returns their paths."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="the run folder")
    parser.add_argument("--out", type=Path, default=Path("figures"), help="folder for the figures")
    parser.add_argument("--images", type=int, default=8, help="number of validation images")
    options = parser.parse_args(arguments)

    classifier = minialex.load(options.run)
    with (options.run / "history.csv").open(encoding="utf-8") as file:
        history = list(csv.DictReader(file))
    written = [
        plots.curves(history, options.out / "curves.png", classifier.recipe_line),
        plots.kernels(classifier, options.out / "kernels.png"),
    ]
    # The run's own validation images, evenly spaced over the classes.
    val = open_data(
        classifier.data["data"],
        seed=classifier.data["seed"],
        val_fraction=classifier.data["val_fraction"],
    ).val
    chosen = np.linspace(0, len(val) - 1, options.images).astype(int)
    images = [val.image(int(i), 256) for i in chosen]
    titles = [val.class_names[val.labels[i]] for i in chosen]
    written.append(plots.predictions(classifier, images, options.out / "predictions.png", titles))
    for path in written:
        print(path)
    return written


if __name__ == "__main__":
    try:
        main()
    except (minialex.InputError, FileNotFoundError) as error:
        sys.exit(f"figures_of_a_run: {error}")
