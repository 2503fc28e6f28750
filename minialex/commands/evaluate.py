"""measure the errors of a trained network"""

import argparse
from dataclasses import asdict
from pathlib import Path

from minialex.commands.common import add_json, add_model_file, at_least, load, print_json

EXAMPLES = (
    "minialex evaluate --model-file runs/shapes --crops both",
    "minialex evaluate --model-file runs/shapes/last.safetensors --data shapes:80 --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_file(parser)
    parser.add_argument(
        "--data", help="judge on these images (default: the validation images of its training)"
    )
    parser.add_argument(
        "--crops",
        choices=("1", "10", "both"),
        default="1",
        help="the centre crop, the average of the paper's ten, or one after the other",
    )
    parser.add_argument("--batch-size", type=at_least(1), default=128, metavar="N")
    parser.add_argument("--workers", type=at_least(1), help="threads that read images", metavar="N")
    add_json(parser)


def run(
    model_file: Path | None,
    backend: str,
    devices: list[int] | None,
    precision: str,
    threads: int | None,
    data: str | None,
    crops: str,
    batch_size: int,
    workers: int | None,
    json: bool,
) -> None:
    classifier = load(model_file, backend, devices, precision, threads)
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
