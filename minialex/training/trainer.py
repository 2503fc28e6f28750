"""The training loop: what an epoch is, when it is saved, and how a run starts and ends."""

import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from minialex import backends, losses, schedules
from minialex.data.augment import epoch_order
from minialex.data.dataset import Splits
from minialex.data.loading.loader import Loader
from minialex.data.preprocessing import Preprocessing
from minialex.data.sources.open import open_data
from minialex.data.statistics import Statistics, measure, supplied
from minialex.errors import TrainingError
from minialex.inference.classifier import Classifier, load
from minialex.inference.evaluation import evaluate_model
from minialex.models import Model
from minialex.models.recipe import Recipe
from minialex.models.vgg import deepen
from minialex.optim import SGD, Rates
from minialex.parallel import DeviceConfig, Devices
from minialex.training import diagnostics, memory_estimate, run_folder
from minialex.training.config import (
    TrainConfig,
    parse,
    require_resumable,
    resolve_model,
    signature,
    stored_config,
)
from minialex.training.feed import Photographs
from minialex.training.state import State, restore
from minialex.training.step import Done, TrainStep
from minialex.training.transfer import Start, choose_model, start_from
from minialex.utils.interrupt import Interrupt
from minialex.utils.options import documented
from minialex.utils.progress import Progress


@dataclass(frozen=True)
class Result:
    """What `train` returns.

    `interrupted` names the signal that ended training, if one did; `skipped` gives the reason for
    each image that could not be read.
    """

    history: list[dict[str, Any]]
    classifier: Classifier
    run_dir: Path
    interrupted: str | None = None
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Trainer:
    """What stays the same while a run lasts; `initial` is the classifier before the first step."""

    step: TrainStep
    initial: Classifier
    loader: Loader
    val_loader: Loader
    splits: Splits
    folder: Path
    show: Progress

    @property
    def recipe(self) -> Recipe:
        return self.initial.model.recipe

    def classifier(self, state: State) -> Classifier:
        """The classifier that a state's parameters make."""
        return replace(self.initial, params=state.params)

    def run(self, state: State) -> Iterator[str]:
        """Make updates from `state` on; yields "step" after each, "epoch" after an epoch's last."""
        recipe, count = self.recipe, len(self.splits.train)
        schedule = schedules.get(recipe.schedule)
        while state.epoch < recipe.epochs:
            order = epoch_order(self.step.seed, state.epoch, count)
            rates = schedule(recipe, state.epoch, state.errors)
            clock = start = time.monotonic()
            waited, images = self.loader.wait_seconds, state.images
            self.show.epoch(state.epoch + 1, recipe.epochs, count, state.images)

            for batch in self.loader.batches(order, recipe.batch_size, first=state.position):
                rates = schedule(recipe, state.epoch + state.position / count, state.errors)
                self.step.start(state, batch, rates)
                state.position = batch.end
                state.images += len(batch)
                state.seconds, clock = state.seconds + time.monotonic() - clock, time.monotonic()
                self.add_losses(state)
                if state.position < count:
                    yield "step"

            self.add_losses(state, wait=True)
            trained = time.monotonic() - start
            images = state.images - images
            waited = self.loader.wait_seconds - waited
            self.show.close()
            if state.epoch + 1 < recipe.epochs:  # images of the next epoch load while validating
                upcoming = epoch_order(self.step.seed, state.epoch + 1, count)
                self.loader.read_ahead(upcoming[: 2 * recipe.batch_size])
            self.end_epoch(state, rates, images / trained, waited / trained)
            yield "epoch"

    def add_losses(self, state: State, wait: bool = False) -> None:
        """Add the losses that are there to the state; with `wait` all, as before saving."""
        for done in self.step.finished(wait):
            if not done.finite:
                raise self._non_finite(state, done)
            state.loss_sum += done.loss * len(done.batch)
            self.show.step(len(done.batch), done.loss)

    def _non_finite(self, state: State, done: Done) -> TrainingError:
        b, params = self.step.devices.whole(state.params)
        inputs = self.step.feed.inputs(done.batch, state.epoch, done.rates.colour_noise)
        x, mode = inputs(b, 0, len(done.batch)), self.step.mode(done.step)
        return diagnostics.non_finite(
            b, self.step.network, params, x, done.batch, mode, self.folder
        )

    def end_epoch(self, state: State, rates: Rates, rate: float, waited: float) -> None:
        """Validate on centre crops and add the epoch's row to the history."""
        start = time.monotonic()
        classifier, recipe = self.classifier(state), self.recipe
        evaluation = evaluate_model(
            classifier.trained,
            self.splits.val,
            batch_size=recipe.batch_size,
            loader=self.val_loader,
        )
        state.seconds += time.monotonic() - start
        state.epoch += 1
        row = {
            "epoch": state.epoch,
            "step": state.step,
            "seconds": round(state.seconds, 3),
            "images_per_second": round(rate, 2),
            "learning_rate": rates.weight,
            "train_loss": state.loss_sum / max(1, state.images),
            "l2_loss": SGD(recipe).penalty(classifier.devices, state.params),
            "val_loss": evaluation.loss,
            "val_top1_error": evaluation.top1_error,
            "val_top5_error": evaluation.top5_error,
            "load_share": round(waited, 4),
            "validation_seconds": round(time.monotonic() - start, 3),
        }
        state.history.append(row)
        state.position, state.images, state.loss_sum = 0, 0, 0.0
        self.show.say(
            f"epoch {row['epoch']:3}/{recipe.epochs}  train loss {row['train_loss']:.4f} "
            f"+ L2 {row['l2_loss']:.4f}  val loss {row['val_loss']:.4f}  "
            f"top-1 error {row['val_top1_error']:.2%}  top-5 {row['val_top5_error']:.2%}  "
            f"rate {row['learning_rate']:.2g}  {rate:.0f} images/s ({waited:.0%} waiting for data)"
        )

    def log_layer_statistics(self, state: State, pretrained: bool = False) -> None:
        """Say what the network makes of a few images; a `pretrained` one may know them."""
        classifier, count = self.classifier(state), min(16, len(self.splits.train))
        b, params = classifier.devices.whole(state.params)
        [view] = classifier.preprocessing.views(1)
        order = epoch_order(self.step.seed, 0, len(self.splits.train))
        batch = next(self.loader.batches(order, count))
        dtype = b.compute_dtype(classifier.dtype)
        x = classifier.preprocessing.test_input(b, batch.images, view, dtype)
        network, labels = classifier.model.network, b.asarray(batch.labels)
        params = b.cast_params(params)
        table, value = diagnostics.layer_statistics(b, network, params, self.step.loss, x, labels)
        chance = self.step.loss.chance(network.classes)
        self.show.say(f"{table}\n{diagnostics.start_verdict(value, chance, pretrained)}")


def train(
    data: str | Path | Splits | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    **arguments: Any,
) -> Result:
    config, where = parse({"data": data, **arguments})
    show = Progress(progress)
    config, source = choose_model(config, Path(str(out)) if resume else None)
    if resume:
        require_resumable(out, config)
    splits = data if isinstance(data, Splits) else _open_data(config)
    for line in splits.remarks():
        show.say(line)
    model = resolve_model(config, splits)
    start = None if source is None else _transfer(config, source, model, splits)
    devices = where.open(model.network)
    name = f"{model.name}-{splits.train.name}"
    folder = Path(str(out)) if resume else run_folder.new_folder(out, name)
    stored = stored_config(config, where, splits, folder)
    run_folder.write_config(folder, stored, splits.train.class_names)

    recipe, last = model.recipe, folder / "last.safetensors"
    loader = Loader(splits.train, recipe.resize, workers=config.workers)
    val_loader = Loader(splits.val, recipe.resize, workers=config.workers)
    fresh = not (resume and last.exists())
    if fresh:
        statistics = _statistics(splits, loader, recipe, folder, show)
        params = _initial_params(config, model, devices, start, show)
        state = State(params, SGD(recipe).start(devices, params))
    else:
        state, before = restore(last, devices)
        statistics = before.preprocessing.statistics
        if state.epoch >= recipe.epochs:
            show.say(
                f"{folder} has all its {recipe.epochs} epochs: for more, ask for more --epochs"
            )
        else:
            show.say(f"resuming {folder} in epoch {state.epoch + 1}, after step {state.step}")
    preprocessing = Preprocessing(recipe, statistics)
    classifier = Classifier(
        model,
        state.params,
        preprocessing,
        splits.train.class_names,
        splits.train.class_ids,
        devices,
        config.trained_on,
        config.dtype,
    )
    for sentence in devices.describe():
        show.say(sentence)
    try:
        step = _step(config, classifier)
        trainer = Trainer(step, classifier, loader, val_loader, splits, folder, show)
        if fresh:
            trainer.log_layer_statistics(state, pretrained=start is not None)
            state.save(last, classifier)
        return _run(trainer, state, config.checkpoint_every, config.max_steps)
    except MemoryError:
        raise TrainingError(
            memory_estimate.too_little(model.network, recipe.batch_size, devices)
        ) from None


train.__signature__ = signature(train)  # type: ignore[attr-defined]
train.__doc__ = f"""Train a network and keep the run in a folder.

    out                 run folder, a new one under runs/ by default
    resume              go on from the newest state in `out`, to the same bits as if the run had
                        never stopped
    progress            print what happens, with a progress bar
{documented(TrainConfig, DeviceConfig)}

    `data` may be `Splits` made in Python. SIGINT and SIGTERM save the state and end training.
    Raises InputError or FileNotFoundError for what cannot be used, and TrainingError for a loss
    that is not finite.
    """


# ------------------------------------------------------------------------------------ the start


def _open_data(config: TrainConfig) -> Splits:
    return open_data(config.data, seed=config.seed, val_fraction=config.val_fraction)


def _transfer(config: TrainConfig, source: Classifier, model: Model, splits: Splits) -> Start:
    return start_from(
        source,
        model.network,
        class_names=splits.train.class_names,
        replace_classifier=config.replace_classifier,
        seed=config.seed,
        dtype=config.dtype,
    )


def _statistics(
    splits: Splits, loader: Loader, recipe: Recipe, folder: Path, show: Progress
) -> Statistics:
    """The training images' mean and colour axes, as the data set has them or measured."""
    found = supplied(splits.train, recipe.resize)
    if found is not None:
        return found
    try:
        with show.bar("mean image", len(splits.train)) as bar:
            return measure(splits.train, recipe.resize, progress=bar.update, loader=loader)
    except KeyboardInterrupt:
        show.say(f"stopped before the first step; continue with: {_resume_command(folder)}")
        raise


def _initial_params(
    config: TrainConfig, model: Model, devices: Devices, start: Start | None, show: Progress
) -> Any:
    if start is not None:
        show.say(f"starting from {config.initial}: {start.said}")
        return devices.place(start.params)
    drawn = model.network.init(backends.get("numpy"), config.seed, config.dtype)
    if config.shallow is not None:
        drawn = deepen(load(config.shallow, "numpy").params, drawn)
    return devices.place(drawn)


def _step(config: TrainConfig, classifier: Classifier) -> TrainStep:
    model, loss = classifier.model, losses.get(config.loss, config.margin)
    return TrainStep(
        model.network,
        classifier.devices,
        loss,
        SGD(model.recipe),
        feed=Photographs(classifier.preprocessing, config.seed, config.dtype),
        batch_size=model.recipe.batch_size,
        seed=config.seed,
        dtype=config.dtype,
    )


# ------------------------------------------------------------------------------------ the run


def _run(trainer: Trainer, state: State, checkpoint_every: float, max_steps: int | None) -> Result:
    """Train to the end, a signal or `max_steps`, saving on the way."""
    folder, show = trainer.folder, trainer.show
    last, advised = folder / "last.safetensors", False
    with Interrupt() as interrupt:
        saved = time.monotonic()
        enough = max_steps is not None and state.step >= max_steps
        for event in () if enough else trainer.run(state):
            stop = interrupt.requested or (max_steps is not None and state.step >= max_steps)
            due = time.monotonic() - saved > checkpoint_every
            if event == "epoch":
                # before the state: a run killed in between does this epoch's end again
                state.require_finite(last, trainer.initial)
                run_folder.write_history(folder, state.history)
                if state.errors[-1] < min(state.errors[:-1], default=2.0):
                    trainer.classifier(state).save(folder / "best.safetensors")
                if not advised:
                    advised = _advise(trainer, state)
            if event == "epoch" or stop or due:
                trainer.add_losses(state, wait=True)
                state.save(last, trainer.initial)
                saved = time.monotonic()
            if stop:
                break
        interrupted = interrupt.requested  # also one that came while the last state was saved
    show.close()
    show.say(_closing_line(state, folder, trainer.initial.devices.peak_memory()))
    skipped = {**trainer.loader.skipped, **trainer.val_loader.skipped}
    if skipped:
        show.say(f"skipped {len(skipped)} unreadable images:")
        for name, reason in sorted(skipped.items()):
            show.say(f"  {reason if name in reason else f'{name}: {reason}'}")
    if interrupted:
        show.say(f"stopped by {interrupted}, state saved; continue with: {_resume_command(folder)}")
    elif max_steps is not None and state.epoch < trainer.recipe.epochs:
        show.say(f"stopped after {state.step} steps; continue with: {_resume_command(folder)}")
    return Result(state.history, trainer.classifier(state), folder, interrupted, skipped)


def _resume_command(folder: Path) -> str:
    return f"minialex train --resume {shlex.quote(str(folder))}"


def _closing_line(state: State, folder: Path, on_device: int | None) -> str:
    """How long it took, and how much memory at the most, where the system tells."""
    memory = ""
    if sys.platform != "win32":
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        memory = f", peak memory {peak * (1 if sys.platform == 'darwin' else 1024) / 1e9:.2f} GB"
    if on_device is not None:
        memory += f", on the device {on_device / 1e9:.2f} GB"
    return f"{folder}: {state.step} steps in {state.seconds / 60:.1f} minutes{memory}"


def _advise(trainer: Trainer, state: State) -> bool:
    """Name a plateau, once; True if it was named."""
    losses_so_far = [row["train_loss"] for row in state.history]
    chance = trainer.step.loss.chance(trainer.step.network.classes)
    advice = diagnostics.plateau_advice(losses_so_far, chance, state.step, trainer.recipe.lr)
    if advice:
        trainer.show.say(advice)
    return advice is not None
