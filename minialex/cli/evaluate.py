"""measure the top-1 and top-5 error of a trained network, or of several averaged"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
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
from minialex.utils.paths import expanded

if TYPE_CHECKING:
    import numpy as np

    from minialex.inference.by_class import ClassResult
    from minialex.inference.evaluation import Evaluation
    from minialex.inference.prediction_file import PredictionFile
    from minialex.parallel import DeviceConfig

EXAMPLES = (
    "minialex evaluate --model-file runs/shapes --crops both",
    "minialex evaluate --model-file runs/shapes/last.safetensors --data shapes:80 --json",
    "minialex evaluate --model-file runs/shapes --by-class --predictions shapes.csv",
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
        help="the centre crop, the average of the paper's ten crops (the five that are not "
        "mirrored, for a network trained with --no-mirror), or both (default: 1)",
    )
    parser.add_argument(
        "--find-weights",
        metavar="DATA",
        help="find the weight of each model that minimises the top-5 error on these images; "
        "then evaluate on different ones",
    )
    parser.add_argument(
        "--batch-size",
        type=at_least(1),
        default=128,
        metavar="N",
        help="images per batch (default: 128)",
    )
    parser.add_argument(
        "--by-class",
        action="store_true",
        help="also print the accuracy of each class, lowest first",
    )
    parser.add_argument(
        "--predictions",
        type=expanded,
        metavar="FILE",
        help="write a row for each image, with its label and predicted class: .csv or .jsonl",
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
    by_class: bool,
    predictions: Path | None,
    workers: int | None,
    json: bool,
) -> None:
    from minialex.inference.ensemble import Ensemble
    from minialex.inference.prediction_file import prediction_file, require_kind
    from minialex.utils.atomic import require_writable

    if predictions is not None:
        require_writable(require_kind(predictions))
        if crops == "both":
            raise InputError("--predictions has one row per image: choose --crops 1 or --crops 10")
    classifier = load_all(model_file, weights, device_config)
    if find_weights is not None:
        if not isinstance(classifier, Ensemble) or weights is not None:
            raise InputError(
                "--find-weights needs several --model-file, and no --weights: it finds them"
            )
        options = {"batch_size": batch_size, "workers": workers, "progress": not json}
        search_crops = 10 if crops == "10" else 1
        classifier = classifier.with_found_weights(find_weights, search_crops, **options)
        print(f"weights found on {classifier.note}", file=sys.stderr if json else sys.stdout)
    results: list[Evaluation] = []
    of_classes: list[list[ClassResult]] = []
    for count in (1, 10) if crops == "both" else (int(crops),):
        with nullcontext() if predictions is None else prediction_file(predictions) as file:
            watch = _Watch(classifier.class_names, file)
            result = classifier.evaluate(
                data,
                crops=count,
                batch_size=batch_size,
                workers=workers,
                progress=not json,
                on_images=watch if by_class or file else None,
            )
        results.append(result)
        if by_class:
            of_classes.append(watch.by_class())
    if json:
        documents = [
            {**asdict(result), "accuracy": result.accuracy, "interval": result.interval}
            for result in results
        ]
        for document, found in zip(documents, of_classes, strict=False):
            document["by_class"] = [one.as_dict() for one in found]
        print_json(documents)
        return
    _print(results, of_classes)
    if predictions is not None:
        print(f"{predictions}: {results[0].images:,} images")


def _print(results: "list[Evaluation]", of_classes: "list[list[ClassResult]]") -> None:
    """A row for each number of crops, then the classes, and what was left out."""
    from minialex.inference.evaluation import FEW_CLASSES

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
    for result, found in zip(results, of_classes, strict=False):
        print(_class_table(found, result.crops))
    last = results[-1]  # its note also says how several crops are used
    for line in filter(None, (last.note, *last.remarks)):
        print(line)
    if last.skipped:
        print(f"skipped {last.unreadable()}:")
    for name, reason in sorted(last.skipped.items()):
        print(f"  {reason if name in reason else f'{name}: {reason}'}")


class _Watch:
    """Called with the results of each batch: writes a row per image and counts them by class."""

    def __init__(self, class_names: Sequence[str], file: "PredictionFile | None"):
        import numpy as np

        self._names, self._file = class_names, file
        self._labels, self._right = [np.zeros(0, np.int64)], [np.zeros(0, bool)]

    def __call__(self, names: Sequence[str], labels: "np.ndarray", p: "np.ndarray") -> None:
        from minialex.inference.evaluation import ranks
        from minialex.inference.prediction_file import judged_rows

        right, said = ranks(p, labels) == 0, p.argmax(axis=1)
        self._labels.append(labels)
        self._right.append(right)
        if self._file is None:
            return
        for row in judged_rows(names, self._names, labels, said, p.max(axis=1), right):
            self._file.add(row)

    def by_class(self) -> "list[ClassResult]":
        """A result for each class, the lowest accuracy first."""
        import numpy as np

        from minialex.inference.by_class import by_class

        return by_class(self._names, np.concatenate(self._labels), np.concatenate(self._right))


def _class_table(found: "list[ClassResult]", crops: int) -> str:
    from minialex.utils.table import plain

    rows = [
        (
            one.name,
            f"{one.images:,}",
            f"{one.accuracy:.1%}",
            "{:.1%} to {:.1%}".format(*one.interval),
        )
        for one in found
    ]
    header = ("class" if crops == 1 else f"class, {crops} crops", "images", "accuracy")
    return "\n" + plain((*header, "95% interval"), rows, "<>>>")
