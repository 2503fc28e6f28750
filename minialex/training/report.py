"""results.html and predictions.csv of a run, at its end or later: `minialex report RUN`."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minialex import optim
from minialex.data import own_augmentation
from minialex.data.augment.draws import epoch_order
from minialex.data.dataset import Splits
from minialex.data.loading.loader import Loader
from minialex.errors import InputError
from minialex.inference.classifier import Classifier, from_checkpoint, weight_file
from minialex.models import Model
from minialex.models.registry import PLUGINS
from minialex.parallel import DeviceConfig, Devices
from minialex.results import outcomes
from minialex.results.against import compare
from minialex.results.folds import Fold, joined
from minialex.results.page import Picture, Run, write
from minialex.results.published_curve import Curve
from minialex.training import announce, held_out, preview, run_folder
from minialex.training.config import TrainConfig
from minialex.training.feed import Photographs
from minialex.training.resume import given_before
from minialex.training.state import State
from minialex.training.targets import soft_targets
from minialex.training.trainer import Trainer
from minialex.utils import checkpoint
from minialex.utils.arguments import FilePath, integer
from minialex.utils.composed import all_composed
from minialex.utils.interrupt import Interrupt, Interrupted
from minialex.utils.progress import Progress

TILES = 16  # images of a batch that are shown


def leave(trainer: Trainer, state: State, curve: Curve | None = None) -> str | None:
    """Write both files at the end of a run; -> the signal that arrived meanwhile, if any.

    `curve` is a published one that the page shows beside the run's.

    Errors are printed as one sentence and do not fail the run, which is trained and saved.
    """
    folder, show, model = trainer.folder, trainer.show, trainer.initial.model
    code = PLUGINS.again(model.name) + own_augmentation.PLUGINS.again(model.recipe.augment)
    again = f"minialex report {shlex.quote(str(folder))}{code}"
    with Interrupt() as interrupt:
        try:
            loaders = trainer.image_loaders
            for loader in loaders:
                loader.on_wait = interrupt.check
            path = _write(
                folder,
                _best(folder, trainer.initial.devices),
                trainer.splits,
                loaders,
                trainer.step.feed,
                trainer.at_once,
                trainer.length.minutes,
                state.history,
                outcomes.MOST,
                lambda images: interrupt.check(),
                curve,
            )
            show.say(f"results: {path}")
        except Interrupted as signal:
            show.say(f"stopped by {signal} before results.html was written: {again} writes it")
        except Exception as error:  # no error here may fail a run that is trained and saved
            reason = str(error) or type(error).__name__
            show.say(f"results.html was not written ({reason}); {again} tries again")
    return interrupt.requested


def leave_folds(folder: Path, name: str, folds: Sequence[Fold], show: Progress) -> None:
    """Write the results.html of a cross-validation on the data set `name`.

    As for a run, errors are printed: everything else is trained and saved.
    """
    try:
        whole = joined(folds)
        about = {
            "images": f"{len(whole.labels):,}, each held out once",
            "classes": f"{len(whole.dataset.class_names):,}",
            "networks": f"{len(folds)}: {folds[0].line}",
            "folder": str(folder),
        }
        parts = [one.outcomes() for one in folds]
        counted = [(len(one), int(np.sum(one.right))) for one in parts]
        title = f"{len(folds)}-fold cross-validation on {name}"
        page = Run(title, about, (), None, whole.outcomes(), folds=counted)
        show.say(f"results: {write(folder, page)}")
    except Exception as error:
        show.say(f"results.html was not written ({str(error) or type(error).__name__})")


def report(
    run: str | Path,
    data: Any = None,
    *,
    images: int | None = outcomes.MOST,
    workers: int | None = None,
    devices: DeviceConfig = DeviceConfig(),  # noqa: B008  frozen
    progress: bool = False,
) -> Path:
    """Write results.html and predictions.csv of the run in the folder `run`; -> the page's path.

    `data` is the images' new path if they were moved, or the data that was passed from Python; at
    most `images` validation images are evaluated (None: all). Raises InputError for a folder
    without a run.
    """
    folder = Path(FilePath().check("run", run))
    images = None if images is None else integer(1).check("images", images)
    given = given_before(folder, data)
    # which may be code, and nothing is trained here
    given |= {"schedule": None, "loss": "softmax", "margin": 1.0, "optimizer": optim.DEFAULT}
    lost = [Path(path).name for path in given.get("against") or () if not Path(path).is_file()]
    if lost:
        given |= {"against": None, "against_batch": None}
    config = TrainConfig(**given)
    classifier = _best(folder, devices)
    splits = held_out.drawn_anew(config, folder)
    if splits is not config.data:
        splits = held_out.as_before(splits, classifier.data, config)
    _require_classes(folder, classifier, splits)
    size = classifier.preprocessing.recipe.image_size
    loaders = tuple(
        Loader(part, size, workers=workers, cache_bytes=0) for part in (splits.train, splits.val)
    )
    soft = soft_targets(classifier.model.recipe, splits.train.labels, classifier.model.classes)
    feed = Photographs(classifier.preprocessing, config.seed, config.dtype, soft)
    most = len(splits.val) if images is None else min(images, len(splits.val))
    with Progress(progress).bar("judging", most) as bar:
        return _write(
            folder,
            classifier,
            splits,
            loaders,
            feed,
            config.micro_batch or classifier.model.recipe.batch_size,
            config.minutes,
            run_folder.read_history(folder),
            images,
            bar.update,
            Curve(" and ".join(lost), {}) if lost else config.curve(len(splits.train)),
        )


def _write(
    folder: Path,
    classifier: Classifier,
    splits: Splits,
    loaders: Sequence[Loader],
    feed: Any,
    at_once: int,
    minutes: float | None,
    history: Sequence[dict[str, Any]],
    most: int | None,
    on_batch: Callable[[int], object],
    curve: Curve | None,
) -> Path:
    found = None
    if len(splits.val):
        found = outcomes.judge(
            classifier.trained, loaders[1], most=most, batch_size=at_once, on_batch=on_batch
        )
        found.write(folder / "predictions.csv")
    model: Model = classifier.model
    about = announce.table_rows(model, splits, classifier.devices, folder, minutes)
    title = f"{model.name} on {splits.train.name}"
    pictures = _batch(loaders[0], feed, at_once, splits)
    beside = compare(history, curve, len(splits.train)) if curve is not None else ()
    name = "" if curve is None else curve.name
    run = Run(title, about, history, classifier, found, pictures, beside, name)
    return write(folder, run)


def _best(folder: Path, devices: DeviceConfig | Devices) -> Classifier:
    path = weight_file(folder)
    tensors, described = checkpoint.load(path)
    return from_checkpoint(path, tensors, described, devices)


def _batch(loader: Loader, feed: Any, at_once: int, splits: Splits) -> list[Picture]:
    """The first images of the first epoch as training made them, with their classes."""
    train = splits.train
    if not isinstance(feed, Photographs) or train.channels != 3 or not len(train):
        return []
    recipe = feed.preprocessing.recipe
    count = at_once if recipe.mixup else TILES  # MixUp needs all that are computed together
    batch = next(loader.batches(epoch_order(feed.seed, 0, len(train)), count))
    pixels = preview.augmented(feed, batch)[:TILES]
    below = preview.names(feed, batch, train.class_names, epoch=0)
    return [(np.asarray(p), ", ".join(said)) for p, said in zip(pixels, below, strict=False)]


def _require_classes(folder: Path, classifier: Classifier, splits: Splits) -> None:
    if all_composed(splits.train.class_ids) != all_composed(classifier.class_ids):
        raise InputError(
            f"{splits.train.name} has other classes than the run in {folder}: give the run's "
            "own images with `data`"
        )
