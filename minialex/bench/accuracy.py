"""Accuracy in equal training time: `minialex.train` with its defaults, and other methods."""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from minialex.baselines import common, hog
from minialex.bench import pytorch, torch_training
from minialex.bench.torch_training import decoded
from minialex.data.sources.open import open_data
from minialex.errors import InputError
from minialex.inference.classifier import load
from minialex.training.config import TrainConfig
from minialex.training.model_and_recipe import resolve_model
from minialex.training.train import train as train_ours
from minialex.utils.table import plain

Say = Callable[[str], None]


@dataclass(frozen=True)
class Method:
    """The accuracies of a method, one per seed, in 0 … 1 over the validation images.

    `minutes` is the time it had, or took if it was not `limited`.
    """

    name: str
    accuracies: list[float]
    minutes: float
    limited: bool = True

    def __str__(self) -> str:
        if len(self.accuracies) == 1:
            return f"{self.accuracies[0]:.1%}"
        return f"{mean(self.accuracies):.1%} ± {100 * stdev(self.accuracies):.1f}"


@dataclass(frozen=True)
class Comparison:
    """One data set, all methods."""

    data: str
    classes: int
    train: int
    val: int
    methods: list[Method]


def compare(
    data: str | os.PathLike[str],
    *,
    minutes: float = 2.0,
    seeds: Sequence[int] = (0, 1, 2),
    initial: str | None = None,
    threads: int | None = None,
    say: Say = lambda text: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """Train each method on `data` for `minutes` with each seed; evaluate its last weights.

    The methods are `minialex.train` with its defaults (with `initial` also from those weights), the
    same network and a ResNet-18 of half width in PyTorch, and HOG with an SVM, whose time has no
    limit and is measured by `clock`. PyTorch trains the same network as minialex does on few
    images: by Adam, without dropout, from He's initial weights. Needs PyTorch, scikit-image and
    scikit-learn.
    """
    pytorch.require()
    common.require("skimage", "sklearn")
    splits = open_data(data)
    if splits.val is None or not len(splits.val):
        raise InputError(f"{data} has no validation images to compare methods on")
    classes = len(splits.train.class_names)
    model = resolve_model(TrainConfig(minutes=minutes), splits)
    recipe = model.recipe
    train, val = (decoded(part, recipe.resize) for part in (splits.train, splits.val))

    def ours(seed: int, start: str | None = None) -> float:
        return _ours(data, minutes, seed, threads, start)

    def same(seed: int) -> float:
        network = model.network.without_dropout()

        def made() -> Any:
            return torch_training.he_initialised(pytorch.network_in_torch(network))

        rate = recipe.lr * (torch_training.BATCH / recipe.batch_size) ** 0.5
        return _theirs(made, rate, seed, adam=True)

    def resnet(seed: int) -> float:
        return _theirs(lambda: torch_training.half_resnet18(classes, recipe.crop), 0.05, seed)

    def _theirs(made: Callable[[], Any], lr: float, seed: int, adam: bool = False) -> float:
        import torch

        torch.manual_seed(seed)
        found, updates = torch_training.accuracy_after(
            made(),
            train,
            val,
            minutes=minutes,
            crop=recipe.crop,
            lr=lr,
            adam=adam,
            seed=seed,
            threads=threads,
        )
        say(f"  {updates:,} updates")
        return found

    runs: dict[str, Callable[[int], float]] = {"minialex, from scratch": ours}
    if initial is not None:
        runs[f"minialex, from {initial}"] = lambda seed: ours(seed, initial)
    runs["the same network in PyTorch"] = same
    runs["ResNet-18 of half width in PyTorch"] = resnet
    _ours(data, min(0.05, minutes), 0, threads, initial)  # compiles what is not in the cache yet
    found: dict[str, list[float]] = {name: [] for name in runs}
    for seed in seeds:
        for name, run in runs.items():
            say(f"{name}, seed {seed}")
            found[name].append(run(seed))
            say(f"  {found[name][-1]:.1%}")
    methods = [Method(name, accuracies, minutes) for name, accuracies in found.items()]
    started = clock()
    outcome = hog.run(splits, progress=False)
    took = (clock() - started) / 60
    methods.append(
        Method("HOG, colour histograms and SVM", [1 - outcome.top1_error], took, limited=False)
    )
    return Comparison(splits.train.name, classes, len(splits.train), len(splits.val), methods)


def text(found: Comparison) -> str:
    """A table: a row for each method."""
    rows = [
        (m.name, str(m), f"{m.minutes:g}" if m.limited else f"took {m.minutes:.1f}")
        for m in found.methods
    ]
    head = (
        f"{found.data}: {found.classes} classes, {found.train:,} training images, evaluated on "
        f"{found.val:,} others"
    )
    return f"{head}\n{plain(('method', 'accuracy', 'minutes'), rows, '<>>')}"


def document(found: Comparison) -> dict[str, Any]:
    """The comparison as JSON."""
    return asdict(found)


def _ours(
    data: str | os.PathLike[str],
    minutes: float,
    seed: int,
    threads: int | None,
    initial: str | None,
) -> float:
    """The accuracy of `minialex.train`'s last weights on the centre crops, in 0 … 1."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        train_ours(
            str(data),
            out=out,
            minutes=minutes,
            seed=seed,
            threads=threads,
            initial=initial,
            replace_classifier=initial is not None,
            report=False,
            progress=False,
        )
        return load(out / "last.safetensors").evaluate().accuracy
