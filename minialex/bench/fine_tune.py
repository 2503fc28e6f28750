"""Fine-tuning weights on photographs, compared with PyTorch.

In two ways: all layers for some epochs, and only the last layer on the outputs of the layers before
it, computed once for ten crops of each image. PyTorch gets its images from minialex's reader and
uses its faster memory format; both read, train, and evaluate the centre crops.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from minialex.bench import pytorch, torch_fine_tuning, torch_training
from minialex.data.sources.open import open_data
from minialex.errors import InputError
from minialex.inference.classifier import Classifier, load
from minialex.training.train import train
from minialex.utils.table import plain

_BATCH = 32
_LR, _HEAD_LR = 1e-3, 1e-2
_ALL, _HEAD = "all layers", "last layer on stored outputs"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """One way of fine-tuning: median seconds with everything, and the last accuracy in 0 … 1."""

    what: str
    epochs: int
    ours: float
    theirs: float
    our_accuracy: float
    their_accuracy: float


@dataclass(frozen=True)
class Comparison:
    """One data set, both ways."""

    data: str
    weights: str
    classes: int
    train: int
    val: int
    rows: list[Row]


def compare(
    data: str | Path,
    initial: str | Path,
    *,
    epochs: int = 1,
    head_epochs: int = 20,
    rounds: int = 1,
    threads: int | None = None,
    say: Say = lambda text: None,
) -> Comparison:
    """Fine-tune the weights in `initial` on `data` in both ways, ours and PyTorch's in turns."""
    pytorch.require()
    splits = open_data(data)
    if splits.val is None or not len(splits.val):
        raise InputError(f"{data} has no validation images to compare on")
    source, classes = load(initial, "numpy"), len(splits.train.class_names)
    frozen = list(source.model.network.parameter_shapes())[-2]
    ways = ((_ALL, epochs, None), (_HEAD, head_epochs, frozen))
    layout = torch_fine_tuning.Tuner(source, classes, threads).layout  # tried before the clock
    rows = []
    for what, count, freeze in ways:
        taken: dict[str, list[float]] = {"minialex": [], "PyTorch": []}
        accuracy = dict.fromkeys(taken, 0.0)
        runs = {
            "minialex": lambda count=count, freeze=freeze: _ours(
                data, initial, count, freeze, threads
            ),
            "PyTorch": lambda count=count, freeze=freeze: _theirs(
                splits, source, classes, count, freeze is not None, threads, layout
            ),
        }
        for _ in range(rounds):
            for name, run in runs.items():
                say(f"{what}, {count} epochs, {name}")
                start = time.perf_counter()
                accuracy[name] = run()
                taken[name].append(time.perf_counter() - start)
                say(f"  {taken[name][-1]:.1f} s, {accuracy[name]:.1%}")
        seconds = [median(of) for of in taken.values()]
        rows.append(Row(what, count, *seconds, *accuracy.values()))
    weights = Path(initial).name
    return Comparison(splits.train.name, weights, classes, len(splits.train), len(splits.val), rows)


def text(found: Comparison) -> str:
    """A table: a row for each way."""
    rows = [
        (
            row.what,
            str(row.epochs),
            f"{row.ours:.1f}",
            f"{row.theirs:.1f}",
            f"{row.theirs / row.ours:.2f}",
            f"{row.our_accuracy:.1%}",
            f"{row.their_accuracy:.1%}",
        )
        for row in found.rows
    ]
    head = (
        f"{found.weights} on {found.data}: {found.classes} classes, {found.train:,} training "
        f"images, {found.val:,} others; seconds with reading and evaluation"
    )
    header = ("trained", "epochs", "minialex", "PyTorch", "ratio", "accuracy", "PyTorch's")
    return f"{head}\n{plain(header, rows, '<>>>>>>')}"


def document(found: Comparison) -> dict[str, Any]:
    """The comparison as JSON."""
    return asdict(found)


def _ours(
    data: str | Path,
    initial: str | Path,
    epochs: int,
    freeze: str | None,
    threads: int | None,
) -> float:
    with tempfile.TemporaryDirectory() as folder:
        run = train(
            data,
            out=Path(folder) / "run",
            initial=str(initial),
            replace_classifier=True,
            freeze=freeze,
            recipe="published",
            schedule="constant",
            lr=_HEAD_LR if freeze else _LR,
            colour_noise=0.0,
            batch_size=_BATCH,
            epochs=epochs,
            threads=threads,
            report=False,
            progress=False,
        )
        return 1 - float(run.history[-1]["val_top1_error"])


def _theirs(
    splits: Any,
    source: Classifier,
    classes: int,
    epochs: int,
    frozen: bool,
    threads: int | None,
    layout: Any,
) -> float:
    size = source.model.recipe.resize
    train, val = (torch_training.decoded(part, size) for part in (splits.train, splits.val))
    tuner = torch_fine_tuning.Tuner(source, classes, threads, layout)
    if frozen:
        return tuner.last_layer(train, val, epochs, _HEAD_LR, _BATCH)
    return tuner.all_layers(train, val, epochs, _LR, _BATCH)
