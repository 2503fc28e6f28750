"""classify images"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from minialex.utils.paths import expanded

if TYPE_CHECKING:
    from minialex.inference.predictions import Prediction
    from minialex.parallel import DeviceConfig

EXAMPLES = (
    "minialex predict shapes:3 --model-file runs/shapes",
    "minialex predict photo.jpg --model-file runs/shapes --crops 10",
    "minialex predict shapes:3 --model-file runs/shapes --out predictions.csv",
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
        help="the centre crop, or the average of the paper's ten crops (the five that are not "
        "mirrored, for a network trained with --no-mirror; default: 1)",
    )
    parser.add_argument(
        "--out",
        type=expanded,
        metavar="FILE",
        help="write a row for each image to this file instead: .csv or .jsonl",
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
    out: Path | None,
    json: bool,
) -> int:
    from minialex.inference.ensemble import Ensemble
    from minialex.inference.prediction_file import prediction_file, require_kind
    from minialex.inference.predictions import top_classes
    from minialex.utils.atomic import require_writable

    if out is not None:
        require_writable(require_kind(out))
    network = load_all(model_file, weights, device_config)
    ensemble = network if isinstance(network, Ensemble) else Ensemble((network,))
    given, documents = Photos(photos), []

    def answers() -> Iterator[tuple[str, "list[Prediction]"]]:
        for names, images in given.batches_at(ensemble.sizes):
            p = ensemble.probabilities_at(images, crops)
            yield from zip(names, top_classes(p, ensemble.class_names, top), strict=True)

    if out is not None:
        with prediction_file(out) as file:
            for name, predictions in answers():
                file.add(_row(name, predictions))
        if json:
            print_json({"file": str(out), "images": file.rows})
        else:
            print(f"{out}: {file.rows:,} images")
        return given.exit_code
    for name, predictions in answers():
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


def _row(name: str, predictions: "list[Prediction]") -> dict[str, Any]:
    """A row of --out: the most probable class, and the next ones in columns of their own."""
    first, *others = predictions
    row: dict[str, Any] = {
        "file": name,
        "predicted": first.name,
        "probability": round(first.probability, 6),
    }
    for number, one in enumerate(others, 2):
        row |= {f"predicted_{number}": one.name, f"probability_{number}": round(one.probability, 6)}
    return row


def _bar(share: float) -> str:
    """A bar, padded to _BAR characters; of # where the output's encoding has no block character."""
    try:
        block = "█"
        block.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        block = "#"
    return (block * round(share * _BAR)).ljust(_BAR)
