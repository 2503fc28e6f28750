"""say what is in photographs"""

import argparse
import sys
from pathlib import Path

from minialex.commands.common import add_json, add_model_file, at_least, load, print_json
from minialex.commands.images import HELP, batches

EXAMPLES = (
    "minialex predict shapes:3 --model-file runs/shapes",
    "minialex predict photo.jpg --model-file runs/shapes --crops 10",
)
_BAR = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help=HELP)
    add_model_file(parser)
    parser.add_argument("--top", type=at_least(1), default=5, metavar="N", help="guesses each")
    parser.add_argument(
        "--crops", type=int, choices=(1, 10), default=1, help="the centre crop, or the paper's ten"
    )
    add_json(parser)


def run(
    photos: list[str],
    model_file: Path | None,
    backend: str,
    devices: list[int] | None,
    precision: str,
    threads: int | None,
    top: int,
    crops: int,
    json: bool,
) -> None:
    classifier = load(model_file, backend, devices, precision, threads)
    documents = []
    for names, squares in batches(photos, classifier.preprocessing.recipe.resize):
        for name, guesses in zip(names, classifier.predict(squares, top, crops), strict=True):
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
