"""measure the top-1 and top-5 error of a trained network, or of several averaged"""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from minialex.cli.common import (
    add_device_options,
    add_json,
    add_model_files,
    add_workers,
    at_least,
    load_all,
    print_json,
)
from minialex.errors import InputError

if TYPE_CHECKING:
    from minialex.parallel import DeviceConfig

EXAMPLES = (
    "minialex evaluate --model-file runs/shapes --crops both",
    "minialex evaluate --model-file runs/shapes/last.safetensors --data shapes:80 --json",
    "minialex evaluate --model-file runs/shapes --model-file runs/tuned --weights 0.4,0.6",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_files(parser)
    parser.add_argument(
        "--data",
        metavar="DATA",
        help="images to evaluate on (default: the validation images of the training run)",
    )
    parser.add_argument(
        "--crops",
        choices=("1", "10", "both"),
        default="1",
        help="the centre crop, the average of the paper's ten crops, or both (default: 1)",
    )
    parser.add_argument(
        "--find-weights",
        metavar="DATA",
        help="find the weights of several models that minimise the top-5 error on these images; "
        "evaluate on other images",
    )
    parser.add_argument(
        "--batch-size",
        type=at_least(1),
        default=128,
        metavar="N",
        help="images at a time (default: 128)",
    )
    add_workers(parser)
    add_device_options(parser)
    add_json(parser)


def run(
    model_file: list[Path] | None,
    weights: list[float] | None,
    device_config: "DeviceConfig",
    data: str | None,
    crops: str,
    find_weights: str | None,
    batch_size: int,
    workers: int | None,
    json: bool,
) -> None:
    from minialex.inference.ensemble import Ensemble
    from minialex.inference.evaluation import FEW_CLASSES

    classifier = load_all(model_file, weights, device_config)
    if find_weights is not None:
        if not isinstance(classifier, Ensemble) or weights is not None:
            raise InputError(
                "--find-weights needs several --model-file, and no --weights: it finds them"
            )
        options = {"batch_size": batch_size, "workers": workers, "progress": not json}
        search_crops = 10 if crops == "10" else 1
        classifier = classifier.with_found_weights(find_weights, search_crops, **options)
    results = []
    for count in (1, 10) if crops == "both" else (int(crops),):
        result = classifier.evaluate(
            data, crops=count, batch_size=batch_size, workers=workers, progress=not json
        )
        results.append(result)
    if json:
        print_json(
            [
                {**asdict(result), "accuracy": result.accuracy, "interval": result.interval}
                for result in results
            ]
        )
        return
    print(results[0].recipe_line.rpartition(", ")[0])
    top5 = results[0].classes >= FEW_CLASSES
    head = f"{'crops':>5} {'images':>9} {'accuracy':>9} {'95% interval':>15} {'top-1 error':>12}"
    print(f"{head} {'top-5 error' if top5 else '':>12} {'loss':>8}".rstrip())
    for result in results:
        interval = "{:.1%} to {:.1%}".format(*result.interval)
        print(
            f"{result.crops:5} {result.images:9,} {result.accuracy:9.2%} {interval:>15} "
            f"{result.top1_error:12.2%} {f'{result.top5_error:.2%}' if top5 else '':>12} "
            f"{result.loss:8.4f}"
        )
    first = results[0]
    for line in filter(None, (first.note, *first.remarks)):
        print(line)
    if first.skipped:
        print(f"skipped {first.unreadable()}:")
    for name, reason in sorted(first.skipped.items()):
        print(f"  {reason if name in reason else f'{name}: {reason}'}")
