"""classify images"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from minialex.cli.common import (
    PHOTOS,
    add_device_options,
    add_json,
    add_model_files,
    at_least,
    load_all,
    print_json,
)
from minialex.cli.images import Photos

if TYPE_CHECKING:
    from minialex.parallel import DeviceConfig

EXAMPLES = (
    "minialex predict shapes:3 --model-file runs/shapes",
    "minialex predict photo.jpg --model-file runs/shapes --crops 10",
    "minialex predict photo.jpg --model-file runs/shapes --model-file runs/tuned",
)
_BAR = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help=PHOTOS)
    add_model_files(parser)
    parser.add_argument(
        "--top",
        type=at_least(1),
        default=5,
        metavar="N",
        help="classes to list per image (default: 5)",
    )
    parser.add_argument(
        "--crops",
        type=int,
        choices=(1, 10),
        default=1,
        help="the centre crop, or the average of the paper's ten crops (default: 1)",
    )
    add_device_options(parser)
    add_json(parser)


def run(
    photos: list[str],
    model_file: list[Path] | None,
    weights: list[float] | None,
    device_config: "DeviceConfig",
    top: int,
    crops: int,
    json: bool,
) -> int:
    from minialex.inference.classifier import top_classes
    from minialex.inference.ensemble import Ensemble

    network = load_all(model_file, weights, device_config)
    ensemble = network if isinstance(network, Ensemble) else Ensemble((network,))
    given, documents = Photos(photos), []
    for names, images in given.batches_at(ensemble.sizes):
        found = top_classes(ensemble.probabilities_at(images, crops), ensemble.class_names, top)
        for name, predictions in zip(names, found, strict=True):
            if json:
                rows = [{"class": p.name, "probability": p.probability} for p in predictions]
                documents.append({"image": name, "predictions": rows})
                continue
            print(name)
            for one in predictions:
                print(f"  {one.probability:6.1%}  {_bar(one.probability)}  {one.name}")
    if json:
        print_json(documents)
    return given.exit_code


def _bar(share: float) -> str:
    """A bar, padded to _BAR characters; of # where the output's encoding has no block character."""
    try:
        block = "█"
        block.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        block = "#"
    return (block * round(share * _BAR)).ljust(_BAR)
