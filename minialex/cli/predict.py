"""say what is in photographs"""

import argparse
import sys
from pathlib import Path

from minialex.cli.common import add_json, add_model_files, at_least, load_all, print_json
from minialex.cli.images import HELP, batches_at

EXAMPLES = (
    "minialex predict shapes:3 --model-file runs/shapes",
    "minialex predict photo.jpg --model-file runs/shapes --crops 10",
    "minialex predict photo.jpg --model-file runs/shapes --model-file runs/tuned",
)
_BAR = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help=HELP)
    add_model_files(parser)
    parser.add_argument("--top", type=at_least(1), default=5, metavar="N", help="guesses each")
    parser.add_argument(
        "--crops", type=int, choices=(1, 10), default=1, help="the centre crop, or the paper's ten"
    )
    add_json(parser)


def run(
    photos: list[str],
    model_file: list[Path] | None,
    weights: list[float] | None,
    backend: str,
    devices: list[int] | None,
    precision: str,
    threads: int | None,
    top: int,
    crops: int,
    json: bool,
) -> None:
    from minialex.inference.classifier import best_guesses
    from minialex.inference.ensemble import Ensemble

    network = load_all(model_file, weights, backend, devices, precision, threads)
    ensemble = network if isinstance(network, Ensemble) else Ensemble((network,))
    documents = []
    for names, resized in batches_at(photos, ensemble.sizes):
        p = ensemble.probabilities_at(resized, crops)
        for name, guesses in zip(names, best_guesses(p, ensemble.class_names, top), strict=True):
            if json:
                rows = [{"class": g.name, "probability": g.probability} for g in guesses]
                documents.append({"image": name, "predictions": rows})
                continue
            print(name)
            for guess in guesses:
                print(f"  {guess.probability:6.1%}  {_bar(guess.probability)}  {guess.name}")
    if json:
        print_json(documents)


def _bar(share: float) -> str:
    """A bar of at most _BAR blocks, padded; of # where the output has no blocks."""
    try:
        block = "█"
        block.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        block = "#"
    return (block * round(share * _BAR)).ljust(_BAR)
