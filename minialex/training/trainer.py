"""Training: the only place that knows what an epoch is."""

import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from minialex import backends, losses, parallel
from minialex.data.augment import epoch_order
from minialex.data.dataset import Splits
from minialex.data.loading.loader import Batch, Loader
from minialex.data.preprocessing import Preprocessing
from minialex.data.sources.open import open_data
from minialex.data.statistics import measure, supplied
from minialex.errors import TrainingError
from minialex.inference.classifier import Classifier, data_key, load
from minialex.inference.evaluation import evaluate_model
from minialex.layers import Mode
from minialex.models.recipe import Recipe
from minialex.models.vgg import deepen
from minialex.optim import SGD, LossScale, Rates
from minialex.optim import schedule as get_schedule
from minialex.parallel import DeviceConfig, DeviceGroup, place
from minialex.training import captured, diagnostics, run_folder
from minialex.training import memory_estimate as memory
from minialex.training.captured import CapturedSteps
from minialex.training.config import check_same, config, plan
from minialex.training.state import State, restore
from minialex.training.transfer import choose_model, start_from
from minialex.utils.interrupt import Interrupt
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
    """What stays the same while a run lasts."""

    classifier: Classifier
    loss: losses.SoftmaxCrossEntropy | losses.Hinge
    loader: Loader
    val_loader: Loader
    splits: Splits
    seed: int
    folder: Path
    show: Progress
    captured: CapturedSteps | None = None

    @property
    def recipe(self) -> Recipe:
        return self.classifier.model.recipe

    def steps(self, state: State) -> Iterator[str]:
        """Run updates from `state` on; yields "step" after each, "epoch" after an epoch's last."""
        recipe, count = self.recipe, len(self.splits.train)
        schedule = get_schedule(recipe.schedule)
        while state.epoch < recipe.epochs:
            order = epoch_order(self.seed, state.epoch, count)
            rates = schedule(recipe, state.epoch, state.errors)
            clock = start = time.monotonic()
            waited, images = self.loader.wait_seconds, state.images
            self.show.epoch(state.epoch + 1, recipe.epochs, count, state.images)

            for batch in self.loader.batches(order, recipe.batch_size, first=state.position):
                rates = schedule(recipe, state.epoch + state.position / count, state.errors)
                if self.captured is not None and self.captured.takes(batch):
                    self.captured.start(state, batch, rates)
                    self.settle(state, wait=False)
                else:
                    self.settle(state)
                    self._learned(state, batch, self.update(state, batch, rates))
                state.step += 1
                state.position = batch.end
                state.images += len(batch)
                state.seconds, clock = state.seconds + time.monotonic() - clock, time.monotonic()
                if state.position < count:
                    yield "step"

            self.settle(state)
            trained = time.monotonic() - start
            images = state.images - images
            waited = self.loader.wait_seconds - waited
            self.show.close()
            if state.epoch + 1 < recipe.epochs:  # images of the next epoch load while validating
                upcoming = epoch_order(self.seed, state.epoch + 1, count)
                self.loader.read_ahead(upcoming[: 2 * recipe.batch_size])
            self.end_epoch(state, rates, images / trained, waited / trained)
            yield "epoch"

    def settle(self, state: State, wait: bool = True) -> None:
        """Add the losses of captured steps to the state; with `wait` of all, as before saving."""
        if self.captured is None:
            return
        for done in self.captured.finished(all_of_them=wait):
            loss = done.loss()
            if not np.isfinite(loss):  # no update was made since
                mode = Mode(training=True, seed=self.seed, step=done.step)
                raise self._non_finite(state, done.batch, done.rates, mode)
            self._learned(state, done.batch, loss)

    def _learned(self, state: State, batch: Batch, loss: float) -> None:
        state.loss_sum += loss * len(batch)
        self.show.step(len(batch), loss)

    def _non_finite(self, state: State, batch: Batch, rates: Rates, mode: Mode) -> TrainingError:
        one, params = parallel.whole(self.classifier.backend, state.params)
        x = self.inputs(state, batch, rates)(one, 0, len(batch))
        network = self.classifier.model.network
        return diagnostics.non_finite(one, network, params, x, batch, mode, self.folder)

    def update(self, state: State, batch: Batch, rates: Rates) -> float:
        """Forward, backward and SGD for one batch; returns the loss before the update."""
        classifier = self.classifier
        b, network = classifier.backend, classifier.model.network
        mode = Mode(training=True, seed=self.seed, step=state.step)
        inputs = self.inputs(state, batch, rates)
        scale = LossScale(state.loss_scale, state.good_steps) if b.precision == "fp16" else None
        factor = 1.0 if scale is None else scale.value
        with np.errstate(all="ignore"):  # a number that is not finite ends the run by name instead
            loss, grads = parallel.gradients(
                b, network, state.params, inputs, batch.labels, self.loss, mode, factor
            )
            overflow = scale is not None and not b.all_finite(
                *(x for of_layer in grads.values() for x in of_layer.values())
            )
            if scale is not None:
                scale = scale.after(overflow)
                state.loss_scale, state.good_steps = scale.value, scale.good_steps
            value = loss()
            if not np.isfinite(value):
                raise self._non_finite(state, batch, rates, mode)
            if not overflow:
                SGD(self.recipe).update(b, state.params, state.velocities, grads, rates, factor)
        if self.captured is not None:
            self.captured.outdated()
        return value

    def inputs(self, state: State, batch: Batch, rates: Rates) -> parallel.Inputs:
        """The network's input for images first … end - 1 of a batch, on any device."""

        def of(b, first: int, end: int):
            return self.classifier.preprocessing.training_input(
                b,
                batch.images[first:end],
                batch.positions[first:end],
                seed=self.seed,
                epoch=state.epoch,
                noise=rates.colour_noise,
                dtype=b.compute_dtype(self.classifier.dtype),
            )

        return of

    def end_epoch(self, state: State, rates: Rates, rate: float, waited: float) -> None:
        """Validate on centre crops and add the epoch's row to the history."""
        start = time.monotonic()
        classifier, recipe = self.classifier, self.recipe
        evaluation = evaluate_model(
            replace(classifier.trained, params=state.params),
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
            "l2_loss": SGD(recipe).penalty(classifier.backend, state.params),
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

    def first_look(self, state: State, learnt: bool = False) -> None:
        """Say what the network makes of a few images; one that has `learnt` may know them."""
        classifier, count = self.classifier, min(16, len(self.splits.train))
        b, params = parallel.whole(classifier.backend, state.params)
        [view] = classifier.preprocessing.views(1)
        order = epoch_order(self.seed, 0, len(self.splits.train))
        batch = next(self.loader.batches(order, count))
        x = classifier.preprocessing.test_input(
            b, batch.images, view, b.compute_dtype(classifier.dtype)
        )
        network, labels = classifier.model.network, b.asarray(batch.labels)
        params = b.cast_params(params)
        table, value = diagnostics.first_look(b, network, params, self.loss, x, labels)
        chance = self.loss.chance(network.classes)
        verdict = f"first loss {value:.3f}, chance {chance:.3f}"
        self.show.say(f"{table}\n{verdict if learnt else diagnostics.start_verdict(value, chance)}")


def train(
    data: str | Path | Splits | None = None,
    *,
    model: str | None = None,
    model_options: dict[str, Any] | None = None,
    initial: str | Path | None = None,
    replace_classifier: bool = False,
    backend: str = "auto",
    devices=None,
    parallel: str | None = None,
    precision: str = "fp32",
    threads: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    schedule: str | None = None,
    momentum: float | None = None,
    weight_decay: float | None = None,
    loss: str = "softmax",
    margin: float = 1.0,
    mirror: bool | None = None,
    crops: bool | None = None,
    colour_noise: float | None = None,
    dropout: bool = True,
    shallow: str | Path | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    seed: int = 0,
    workers: int | None = None,
    val_fraction: float = 0.1,
    checkpoint_every: float = 300.0,
    max_steps: int | None = None,
    allow_upscaling: bool = False,
    dtype: str = "float32",
    progress: bool = True,
) -> Result:
    """Train a network and keep the run in a folder.

    data         a folder that `open_data` knows: photographs, ILSVRC's archives, CIFAR-10, a packed
                 set; "shapes" or "shapes:N" for built-in images (also the default); or `Splits`
    model        a name of `minialex.models.names()` (None: "alexnet", or the network of `initial`);
                 `model_options` go to its function
    initial      a weight file or run folder whose weights to start from, layer by layer up to where
                 the two networks differ; `replace_classifier=True` draws the last layer anew, for
                 other classes; statistics of the images are the new data's (see `starting`)
    backend      "auto" (the fastest here), "numpy", "cupy" ...; `devices` numbers its devices, one
                 or several, such as [0, 1]
    parallel     over several devices: "towers", the paper's way, "data", or "hybrid" (dense layers
                 divided, convolutions by images); None: towers where the network has as many
    precision    "fp32"; with CUDA also "tf32", "bf16" or "fp16"
    epochs, batch_size, lr, schedule, momentum, weight_decay, mirror, crops, colour_noise
                 None is what the model's recipe says; `batch_size` and `lr` mean the whole batch on
                 any number of devices; `crops=False` takes centre crops only
    out          the run folder, a new one under runs/ by default; `resume=True` goes on from the
                 newest state in it, to the same bits as if it had never stopped
    shallow      a weight file or run folder of a trained vgg-11 (or vgg-11-64): a deeper VGG starts
                 from its first four convolutions and its dense layers
    threads      of the CPU for the network itself, None: the cores this process may use
    workers      decoding threads; checkpoint_every: seconds between saved states
    max_steps    stop, resumable, after so many updates in all

    SIGINT and SIGTERM save the state and end training. Raises InputError or FileNotFoundError for
    what cannot be used and TrainingError for a loss that is not finite.
    """
    settings = {k: v for k, v in locals().items() if k not in ("out", "resume", "progress")}
    settings["data"] = data_key(data)
    settings["initial"] = None if initial is None else str(Path(initial).resolve())
    settings["shallow"] = None if shallow is None else str(shallow)
    source = choose_model(settings, Path(str(out)) if resume else None)
    show = Progress(progress)
    device_config = DeviceConfig(backend, devices, parallel, precision, threads)
    loss_function = losses.get(loss, margin)
    if resume:
        check_same(out, settings)
    if isinstance(data, Splits):
        splits = data
    else:
        splits = open_data(data, seed=seed, val_fraction=val_fraction)
    planned = plan(settings, splits)
    start = None
    if source is not None:
        start = start_from(
            source,
            planned.network,
            class_names=splits.train.class_names,
            replace_classifier=replace_classifier,
            seed=seed,
            dtype=dtype,
        )
    b = device_config.open(planned.network)
    folder = (
        Path(str(out))
        if resume
        else run_folder.new_folder(out, f"{planned.name}-{splits.train.name}")
    )
    run_folder.write_config(folder, config(settings, splits, folder), splits.train.class_names)

    recipe, last = planned.recipe, folder / "last.safetensors"
    loader = Loader(splits.train, recipe.resize, workers=workers)
    val_loader = Loader(splits.val, recipe.resize, workers=workers)
    fresh = not (resume and last.exists())
    if fresh:
        statistics = supplied(splits.train, recipe.resize)
        try:
            if statistics is None:
                with show.bar("mean image", len(splits.train)) as bar:
                    statistics = measure(
                        splits.train, recipe.resize, progress=bar.update, loader=loader
                    )
        except KeyboardInterrupt:
            show.say(f"stopped before the first step; go on with: {_resume_command(folder)}")
            raise
        if start is None:
            drawn = planned.network.init(backends.get("numpy"), seed, dtype)
            if shallow is not None:
                drawn = deepen(load(shallow, "numpy").params, drawn)
            params = place(b, drawn)
        else:
            params = place(b, start.params)
            show.say(f"starting from {initial}: {start.said}")
        state = State(params, SGD(recipe).start(b, params))
        preprocessing = Preprocessing(recipe, statistics)
    else:
        state, stored = restore(last, DeviceConfig(b))
        preprocessing = Preprocessing(recipe, stored.preprocessing.statistics)
        if state.epoch >= recipe.epochs:
            show.say(
                f"{folder} has all its {recipe.epochs} epochs: for more, ask for more --epochs"
            )
        else:
            show.say(f"resuming {folder} in epoch {state.epoch + 1}, after step {state.step}")
    classifier = Classifier(
        planned,
        state.params,
        preprocessing,
        splits.train.class_names,
        splits.train.class_ids,
        b,
        {k: settings[k] for k in ("data", "seed", "val_fraction")},
        dtype,
    )
    steps = captured.possible(classifier, loss_function, seed)
    trainer = Trainer(
        *(classifier, loss_function, loader, val_loader, splits, seed, folder, show, steps)
    )
    for sentence in (
        [b.describe()] if isinstance(b, DeviceGroup) else [_where(b), *b.remarks([b.device])]
    ):
        show.say(sentence)
    try:
        if fresh:
            trainer.first_look(state, learnt=start is not None)
            state.save(last, classifier)
        return _run(trainer, state, checkpoint_every, max_steps)
    except MemoryError:
        count = len(b.backends) if isinstance(b, DeviceGroup) else 1
        place_of = (b.memory(), count, b.precision)
        sentence = memory.too_little(planned.network, recipe.batch_size, *place_of)
        raise TrainingError(sentence) from None


def _run(trainer: Trainer, state: State, checkpoint_every: float, max_steps: int | None) -> Result:
    """Train to the end, a signal or `max_steps`, saving on the way."""
    classifier, folder, show = trainer.classifier, trainer.folder, trainer.show
    last, advised = folder / "last.safetensors", False
    with Interrupt() as interrupt:
        saved = time.monotonic()
        enough = max_steps is not None and state.step >= max_steps
        for event in () if enough else trainer.steps(state):
            stop = interrupt.requested or (max_steps is not None and state.step >= max_steps)
            due = time.monotonic() - saved > checkpoint_every
            if event == "epoch":
                # before the state: a run killed in between does this epoch's end again
                state.require_finite(last, classifier)
                run_folder.write_history(folder, state.history)
                if state.errors[-1] < min(state.errors[:-1], default=2.0):
                    classifier.save(folder / "best.safetensors")
                if not advised:
                    advised = _advise(trainer, state)
            if event == "epoch" or stop or due:
                trainer.settle(state)
                state.save(last, classifier)
                saved = time.monotonic()
            if stop:
                break
        interrupted = interrupt.requested  # also one that came while the last state was saved
    show.close()
    show.say(_closing_line(state, folder, classifier.backend.peak_memory()))
    skipped = {**trainer.loader.skipped, **trainer.val_loader.skipped}
    if skipped:
        show.say(f"left out, because unreadable: {len(skipped)} of the images")
        for name, reason in sorted(skipped.items()):
            show.say(f"  {reason if name in reason else f'{name}: {reason}'}")
    if interrupted:
        show.say(f"stopped by {interrupted}, state saved; go on with: {_resume_command(folder)}")
    elif max_steps is not None and state.epoch < trainer.recipe.epochs:
        show.say(f"{state.step} steps are done; go on with: {_resume_command(folder)}")
    return Result(state.history, classifier, folder, interrupted, skipped)


def _where(b) -> str:
    """What the network runs on, in words."""
    threads = getattr(b, "threads", None)
    if threads is not None:
        return f"on the {b.name} backend, {threads} thread{'s' * (threads > 1)}"
    device = "" if b.device is None else f", device {b.device}, {b.precision}"
    return f"on the {b.name} backend{device}"


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
    chance = trainer.loss.chance(trainer.classifier.model.network.classes)
    advice = diagnostics.plateau_advice(losses_so_far, chance, state.step, trainer.recipe.lr)
    if advice:
        trainer.show.say(advice)
    return advice is not None
