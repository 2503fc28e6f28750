"""`train`: how a run starts, or starts again."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from minialex import backends, losses, schedules
from minialex.data.dataset import Dataset, Splits
from minialex.data.loading.loader import Loader
from minialex.data.preprocessing import Preprocessing
from minialex.data.remarks import every_line
from minialex.data.statistics import Statistics, measure, supplied
from minialex.errors import TrainingError
from minialex.inference.classifier import Classifier, load
from minialex.models import Model
from minialex.models.recipe import Recipe
from minialex.models.vgg import deepen
from minialex.optim import SGD
from minialex.parallel import DeviceConfig, Devices
from minialex.training import announce, fit, held_out, memory_estimate, run_folder
from minialex.training.config import TrainConfig, parse, resolve_model, signature
from minialex.training.feed import Photographs
from minialex.training.loop import Result, Trainer, run_to_end
from minialex.training.resume import (
    changes,
    inherited,
    rate_jump,
    require_resumable,
    require_unfinished,
    stored_config,
    stored_recipe,
)
from minialex.training.state import State, restore
from minialex.training.step import TrainStep
from minialex.training.targets import require_softmax, soft_targets
from minialex.training.transfer import Source, Start, choose_model, start_from
from minialex.tree import Tree
from minialex.utils.arguments import FilePath, Flag
from minialex.utils.options import documented
from minialex.utils.progress import Progress


def train(
    data: str | Path | Splits | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    verbose: bool = False,
    **arguments: Any,
) -> Result:
    out = None if out is None else FilePath().check("out", out)
    resume, progress = Flag().check("resume", resume), Flag().check("progress", progress)
    given = inherited(out, data, arguments) if resume else {"data": data, **arguments}
    config, where = parse(given)
    show = Progress(progress, verbose)
    resumed = Path(str(out)) if resume else None
    config, origin = choose_model(config, resumed)
    source = None if origin is None else origin.classifier
    if resumed is not None:
        require_resumable(resumed, config)
    held = held_out.open_splits(config, source, resumed)
    splits = held.splits
    for line in every_line(splits.remarks):
        show.say(line)
    model = resolve_model(config, splits, None if resumed is None else stored_recipe(resumed))
    config = replace(config, model=model.name)
    require_softmax(model.recipe, losses.get(config.loss, config.margin))
    if resumed is not None:
        require_unfinished(resumed, model.recipe.epochs)
    held_out.require_validation(config, splits, model.recipe.schedule)
    start = None if origin is None else _transfer(config, origin, model, splits)
    devices = where.open(model.network)
    loaders = (_loader(config, model, splits.train), _loader(config, model, splits.val))
    name = f"{model.name}-{splits.train.name}"
    with run_folder.claimed(out, name, resume=resume) as folder:
        stored = stored_config(config, where, splits, folder)
        run_folder.write_config(folder, stored, splits.train.class_names)
        about = held_out.remembered(config, held, source)
        held_out.write_list(folder, about)
        if held.said:
            show.say(held.said)
        run = _Start(config, model, devices, splits, loaders, folder, about, show)
        try:
            trainer, state = run.resumed() if held.about is not None else run.fresh(start)
            return run_to_end(trainer, state, config.checkpoint_every, config.max_steps)
        except MemoryError:
            raise TrainingError(
                memory_estimate.too_little(model.network, model.recipe.batch_size, devices)
            ) from None


train.__signature__ = signature(train)  # type: ignore[attr-defined]
train.__doc__ = f"""Train a network and keep the run in a folder.

    out                 run folder, a new one under runs/ by default
    resume              go on from the newest state in `out`, to the same bits as if the run had
                        never stopped
    progress            print what happens, with a progress bar
    verbose             print each layer's statistics at the start, too
{documented(TrainConfig, DeviceConfig)}

    `data` may be `Splits` made in Python. SIGINT, SIGTERM, SIGUSR1 and SIGHUP save the state and
    end training. A resumed run takes every argument that is not given from its folder; `data` may
    be where its images lie now, and `epochs`, `lr`, `schedule` and all that says where and how to
    run may change.
    Raises InputError or FileNotFoundError for what cannot be used, and TrainingError for a loss
    that is not finite.
    """


# ------------------------------------------------------------------------------------ the start


def _transfer(config: TrainConfig, source: Source, model: Model, splits: Splits) -> Start:
    return start_from(
        source.classifier,
        model.network,
        class_names=splits.train.class_names,
        replace_classifier=config.replace_classifier,
        seed=config.seed,
        dtype=config.dtype,
        momentum=source.momentum,
    )


@dataclass(frozen=True)
class _Start:
    """What a run is started with, and how it becomes a trainer with a state."""

    config: TrainConfig
    model: Model
    devices: Devices
    splits: Splits
    loaders: tuple[Loader, Loader]
    folder: Path
    about: dict[str, Any]
    show: Progress

    def fresh(self, start: Start | None) -> tuple[Trainer, State]:
        """Measure the mean image, draw the weights or take `start`'s, and save the first state."""
        statistics = self._statistics()
        params = self._initial_params(start)
        momentum = None if start is None else start.momentum
        if momentum is None:
            state = State(params, SGD(self.model.recipe).start(self.devices, params))
        else:
            state = State(params, self.devices.place(momentum.velocities), momentum.step)
        trainer = self._trainer(state, statistics, start)
        trainer.log_layer_statistics(state, pretrained=start is not None)
        state.save(self.folder / "last.safetensors", trainer.initial)
        return trainer, state

    def resumed(self) -> tuple[Trainer, State]:
        """Take up the newest state."""
        state, before = restore(self.folder / "last.safetensors", self.devices)
        recipe = self.model.recipe
        if state.epoch >= recipe.epochs:
            self.show.say(
                f"{self.folder} has all its {recipe.epochs} epochs: for more, ask for more "
                f"--epochs{schedules.extension(recipe.schedule)}"
            )
        else:
            self.show.say(
                f"resuming {self.folder} in epoch {state.epoch + 1}, after step {state.step}"
            )
        _note_changes(state, before.model.recipe, recipe, len(self.splits.train), self.show)
        return self._trainer(state, before.preprocessing.statistics), state

    def _trainer(self, state: State, statistics: Statistics, start: Start | None = None) -> Trainer:
        train, show = self.splits.train, self.show
        classifier = Classifier(
            self.model,
            state.params,
            Preprocessing(self.model.recipe, statistics),
            train.class_names,
            train.class_ids,
            self.devices,
            self.about,
            self.config.dtype,
        )
        show.say(
            announce.table(self.model, self.splits, self.devices, self.folder, self.config.minutes)
        )
        for sentence in (*self.devices.describe()[1:], *announce.remarks(self.splits)):
            show.say(sentence)
        step = _step(self.config, classifier, train.labels)
        return Trainer(
            step,
            classifier,
            *self.loaders,
            self.splits,
            self.folder,
            show,
            self.config.minutes,
            self.config.stop_early,
            recovers=self.config.recipe == fit.FITTED,
            first=partial(self._drawn_params, start),
        )

    def _statistics(self) -> Statistics:
        """The training images' mean and colour axes, as the data set has them or measured."""
        train, loader, size = self.splits.train, self.loaders[0], self.model.recipe.image_size
        found = supplied(train, size)
        if found is not None:
            return found
        with self.show.bar("mean image", len(train)) as bar:
            return measure(train, size, progress=bar.update, loader=loader)

    def _initial_params(self, start: Start | None) -> Tree:
        if start is not None:
            self.show.say(f"starting from {self.config.initial}: {start.said}")
        return self.devices.place(self._drawn_params(start))

    def _drawn_params(self, start: Start | None) -> Tree:
        """The parameters that the run starts with, on the host."""
        if start is not None:
            return start.params
        drawn = self.model.network.init(backends.get("numpy"), self.config.seed, self.config.dtype)
        if self.config.shallow is not None:
            drawn = deepen(load(self.config.shallow, "numpy").params, drawn)
        return drawn


def _note_changes(state: State, before: Recipe, now: Recipe, images: int, show: Progress) -> None:
    """Say what a resumed run changes, and keep it for the history's next row."""
    changed = changes(before, now)
    if not changed:
        return
    if before.lr != now.lr:  # chosen anew: what earlier ways back took from the rate is over
        state.rate_factor, state.attempts = 1.0, 0
    show.say(f"changed after step {state.step}: {changed}")
    state.changed = "; ".join(filter(None, (state.changed, f"step {state.step}: {changed}")))
    if jump := rate_jump(before, now, state, images):
        show.say(jump)


def _loader(config: TrainConfig, model: Model, part: Dataset) -> Loader:
    size = model.recipe.image_size
    return Loader(part, size, workers=config.workers, timeout=config.read_timeout)


def _step(config: TrainConfig, classifier: Classifier, labels: np.ndarray) -> TrainStep:
    model, loss = classifier.model, losses.get(config.loss, config.margin)
    soft = soft_targets(model.recipe, labels, model.network.classes)
    return TrainStep(
        model.network,
        classifier.devices,
        loss,
        SGD(model.recipe),
        feed=Photographs(classifier.preprocessing, config.seed, config.dtype, soft),
        batch_size=model.recipe.batch_size,
        seed=config.seed,
        dtype=config.dtype,
    )
