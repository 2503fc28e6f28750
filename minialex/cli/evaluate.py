"""measure the errors of a trained network"""

import argparse
from dataclasses import asdict
from pathlib import Path

from minialex.cli.common import add_json, add_model_files, at_least, load_all, print_json
from minialex.errors import InputError

EXAMPLES = (
    "minialex evaluate --model-file runs/shapes --crops both",
    "minialex evaluate --model-file runs/shapes/last.safetensors --data shapes:80 --json",
    "minialex evaluate --model-file runs/shapes --model-file runs/tuned --weights 0.4,0.6",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_files(parser)
    parser.add_argument(
        "--data", help="judge on these images (default: the validation images of its training)"
    )
    parser.add_argument(
        "--crops",
        choices=("1", "10", "both"),
        default="1",
        help="the centre crop, the average of the paper's ten, or one after the other",
    )
    parser.add_argument(
        "--find-weights",
        metavar="DATA",
        help="search the weights of several networks for the least top-5 error on these images, "
        "which should be others than the ones to judge on (the original did)",
    )
    parser.add_argument("--batch-size", type=at_least(1), default=128, metavar="N")
    parser.add_argument("--workers", type=at_least(1), help="threads that read images", metavar="N")
    add_json(parser)


def run(
    model_file: list[Path] | None,
    weights: list[float] | None,
    backend: str,
    devices: list[int] | None,
    precision: str,
    threads: int | None,
    data: str | None,
    crops: str,
    find_weights: str | None,
    batch_size: int,
    workers: int | None,
    json: bool,
) -> None:
    from minialex.inference.ensemble import Ensemble

    classifier = load_all(model_file, weights, backend, devices, precision, threads)
    if find_weights is not None:
        if not isinstance(classifier, Ensemble) or weights is not None:
            raise InputError(
                "--find-weights goes with several --model-file and without --weights: it finds them"
            )
        searching = {"batch_size": batch_size, "workers": workers, "progress": not json}
        one = 10 if crops == "10" else 1
        classifier = classifier.with_found_weights(find_weights, one, **searching)
    results = []
    for count in (1, 10) if crops == "both" else (int(crops),):
        result = classifier.evaluate(
            data, crops=count, batch_size=batch_size, workers=workers, progress=not json
        )
        results.append(result)
    if json:
        print_json([asdict(result) for result in results])
        return
    print(f"{'crops':>5} {'images':>9} {'top-1 error':>12} {'top-5 error':>12} {'loss':>9}  recipe")
    for result in results:
        print(
            f"{result.crops:5} {result.images:9,} {result.top1_error:12.2%} "
            f"{result.top5_error:12.2%} {result.loss:9.4f}  {result.recipe_line}"
        )
    skipped = results[0].skipped
    if skipped:
        print(f"left out, because unreadable: {len(skipped)} of the images")
    for name, reason in sorted(skipped.items()):
        print(f"  {name}: {reason}")
