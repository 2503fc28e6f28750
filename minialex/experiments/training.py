"""Training one variant of an experiment, and the finished run: its errors and predictions."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minialex.data.dataset import Dataset, Splits
from minialex.errors import InputError, TrainingError
from minialex.experiments.cache import CachedResult
from minialex.experiments.data import Data, balanced_subset
from minialex.training import run_folder

if TYPE_CHECKING:
    from minialex.experiments.context import Context
    from minialex.inference.classifier import Classifier
    from minialex.training.result import Result

EPOCH_VAL_IMAGES = 300  # validation images after each epoch, when all are evaluated at the end


class Diverged(Exception):
    """A run's loss became NaN or infinite; `args[0]` says which run and where."""


class Stopped(Exception):
    """A signal ended the work; `args[0]` is its name."""


@dataclass(frozen=True)
class Run:
    """A finished training run."""

    context: Context
    entry: CachedResult
    data: Data
    history: list[dict[str, Any]]

    @property
    def settings(self) -> dict[str, Any]:
        """Everything the run depends on: part of the key of whatever is computed from it."""
        return self.entry.settings

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.entry.folder / "run"

    @property
    def has_weights(self) -> bool:
        """Whether the weights are here too: --keep takes only the results to other machines."""
        return (self.folder / "last.safetensors").exists()

    @property
    def weights(self) -> Path:
        """The weights after the last epoch: the best epoch was chosen by the validation errors."""
        path = self.folder / "last.safetensors"
        if not self.has_weights:
            raise InputError(
                f"{self.entry.name}: the weights are not in {self.folder}, only the result is; to "
                f"train again, delete {self.entry.folder.name} there and in the folder of --keep"
            )
        return path

    def classifier(self) -> Classifier:
        """The network after its last epoch, on the device of --backend and --devices."""
        import minialex

        return minialex.load(self.weights, **self.context.options.device)

    def numpy_classifier(self) -> Classifier:
        """The same on NumPy, for pictures: the report may be made on a machine without a GPU."""
        import minialex

        return minialex.load(self.weights, "numpy")

    def predictions(self, crops: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """-> probabilities (N, K) and labels (N,) of the readable validation images."""

        def compute(folder: Path) -> str:
            p, labels = predictions(self.classifier(), self.data.splits.val, crops)
            path = folder / "predictions.npz"
            temporary = folder / f"predictions.{os.getpid()}.npz"
            np.savez(temporary, probabilities=p.astype(np.float32), labels=labels)
            os.replace(temporary, path)
            return path.name

        name = f"{self.entry.name}, {crops} crop{'s' * (crops > 1)}"
        key = {"predictions": crops, "of": self.settings}
        file = self.context.cached(name, key, compute)
        with np.load(self.context.entry(name, key).folder / file) as stored:
            return stored["probabilities"], stored["labels"]

    def errors(self, crops: int = 1, keep_predictions: bool = True) -> tuple[float, float]:
        """Top-1 and top-5 error on the validation images, in percent.

        Predictions are kept for experiments that also need them, such as ensembles. Those of 10,000
        images take 480 kB, ten times as much as all else that --keep takes of a run.
        """
        if keep_predictions:
            return errors(*self.predictions(crops))
        top1, top5 = self.context.cached(
            f"{self.entry.name}, errors on {crops} crop{'s' * (crops > 1)}",
            {"errors": crops, "of": self.settings},
            lambda _folder: errors(*predictions(self.classifier(), self.data.splits.val, crops)),
        )
        return top1, top5

    def training_error(self, images: int) -> float:
        """Top-1 error on so many training images, without augmentation or dropout, in percent."""
        some = balanced_subset(self.data.splits.train, images)
        key = {"training error": len(some), "of": self.settings}
        return self.context.cached(
            f"{self.entry.name}, training error",
            key,
            lambda _folder: errors(*predictions(self.classifier(), some, 1))[0],
        )

    @property
    def seconds(self) -> float:
        """The time that training took."""
        stored = self.entry.load()
        assert stored is not None
        return stored["seconds"]

    def recipe_line(self) -> str:
        """The network, its preprocessing and its training in one line."""
        from minialex import models

        settings = self.settings["train"]
        classes = len(self.data.splits.train.class_ids)
        options = settings.get("model_options") or {}
        recipe = models.get(settings["model"], classes, **options).recipe

        def value(name: str) -> Any:
            given = settings.get(name)
            return getattr(recipe, name) if given is None else given

        rate = f"{value('lr'):g} ({value('schedule')})"
        return (
            f"{settings['model']}, {recipe.line()}; batch size {value('batch_size')}, "
            f"learning rate {rate}, momentum {value('momentum'):g}, "
            f"weight decay {value('weight_decay'):g}, colour noise {value('colour_noise'):g}, "
            f"{len(self.history)} epoch{'s' * (len(self.history) != 1)}"
        )


def train_in(
    context: Context, folder: Path, data: Data, settings: dict[str, Any], until: float | None
) -> list[dict[str, Any]]:
    """Train in `folder`, or resume there; -> the history. Raises Stopped on a signal.

    With `until`, stop as `Context.train` says. Otherwise raise TrainingError if the loss becomes
    NaN or infinite.
    """
    if until is not None:
        return _train_until(context, folder, data, settings, until)
    splits = data.splits
    if context.options.scale != "full":  # all validation images are evaluated once, at the end
        splits = Splits(splits.train, balanced_subset(splits.val, EPOCH_VAL_IMAGES))
    return _train(context, folder, splits, settings).history


def _train_until(
    context: Context, folder: Path, data: Data, settings: dict[str, Any], until: float
) -> list[dict[str, Any]]:
    """Train epoch by epoch until the validation error is at most `until`."""
    splits = data.in_memory()
    steps_per_epoch = -(-len(splits.train) // settings["batch_size"])
    done = _finished_epochs(folder)
    history: list[dict[str, Any]] = []
    while True:
        context.check()
        try:
            history = _train(
                context, folder, splits, settings, (done + 1) * steps_per_epoch
            ).history
        except TrainingError:  # the learning rate is too high
            return history
        reached = [i for i, row in enumerate(history) if row["val_top1_error"] <= until]
        if reached:
            return history[: reached[0] + 1]
        if len(history) >= settings["epochs"]:
            return history
        done = len(history)


def _train(
    context: Context,
    folder: Path,
    splits: Splits,
    settings: dict[str, Any],
    max_steps: int | None = None,
) -> Result:
    import minialex

    result = minialex.train(
        splits,
        **settings,
        recipe="published",
        report=False,
        **context.options.device,
        out=folder,
        resume=(folder / "config.json").exists(),
        max_steps=max_steps,
        progress=context.options.scale == "full",
    )
    if result.interrupted:
        raise Stopped(result.interrupted)
    return result


def predictions(
    classifier: Classifier, dataset: Dataset, crops: int
) -> tuple[np.ndarray, np.ndarray]:
    """-> probabilities (N, K) and labels (N,) of every readable image, in order."""
    from minialex.data.loading.loader import Loader

    loader = Loader(dataset, classifier.preprocessing.recipe.image_size, cache_bytes=0)
    rows, labels = [], []
    for batch in loader.batches(np.arange(len(dataset)), 128):
        rows.append(classifier.trained.probabilities(batch.images, crops))
        labels.append(batch.labels)
    return np.concatenate(rows), np.concatenate(labels)


def errors(p: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Top-1 and top-5 error in percent, from probabilities (N, K) and labels (N,)."""
    from minialex.inference.evaluation import ranks

    rank = ranks(p, labels)
    return 100 * float(np.mean(rank >= 1)), 100 * float(np.mean(rank >= 5))


def _finished_epochs(folder: Path) -> int:
    """Epochs in the history of a run; 0 if it has none."""
    return len(run_folder.read_history(folder))
