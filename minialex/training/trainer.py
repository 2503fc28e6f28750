"""`Trainer`: the updates and the end of an epoch, and recovery from failed training."""

import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from minialex import backends, schedules
from minialex.backends.base import Array, Backend
from minialex.data.augment.draws import epoch_order
from minialex.data.dataset import Splits
from minialex.data.loading.loader import Batch, Loader
from minialex.errors import InputError
from minialex.inference.classifier import Classifier, load
from minialex.inference.evaluation import Evaluation, evaluate_model
from minialex.losses import SoftmaxCrossEntropy
from minialex.models.recipe import Recipe
from minialex.optim import Rates
from minialex.parallel.world import World
from minialex.training import announce, diagnostics, micro_batches, recovery, run_folder
from minialex.training.averaging import Average
from minialex.training.diagnostics import NotFinite
from minialex.training.length import Length
from minialex.training.micro_batches import MicroBatches
from minialex.training.recovery import NeverLearnt, NotLearning
from minialex.training.state import State
from minialex.training.step import Done, TrainStep
from minialex.training.watch import Watch
from minialex.tree import Tree, map_tree
from minialex.utils import checkpoint
from minialex.utils.progress import Progress

INITIAL = "the initial weights"
_VALIDATED = 128  # at most so many images at once, unless the training batches are larger ...
_PIXELS = _VALIDATED * 64 * 64  # ... and no more than so many pixels, for the memory


class ReadingFailed(InputError):
    """Images could not be read; the state is that after the last step."""


@dataclass(frozen=True)
class Trainer:
    """The constant parts of a run; `initial` is the classifier before the first step."""

    step: TrainStep
    initial: Classifier
    loader: Loader
    val_loader: Loader
    splits: Splits
    folder: Path
    show: Progress
    length: Length
    recovers: bool = False  # a run that stops learning restarts with a lower rate
    first: Callable[[], Tree] = dict  # the initial parameters, on the host
    watch: Watch = field(default_factory=Watch)
    half: bool = False  # whether the best weights are stored in float16
    keep_every: int | None = None  # epochs between weights that are kept in checkpoints/
    own_code: str = ""  # options that name the user's code, for the command that resumes
    part_of: Path | None = None  # the folder of several runs that resume together

    @property
    def recipe(self) -> Recipe:
        return self.initial.model.recipe

    @property
    def image_loaders(self) -> tuple[Loader, Loader]:
        """The loaders of the training and validation images (not of features)."""
        return self.loader, self.val_loader

    @property
    def chance(self) -> float:
        """The loss of random guessing."""
        return self.step.loss.chance(self.step.network.classes)

    @property
    def guessing(self) -> float:
        """The loss of guessing by the classes' frequencies, if these show in the training loss."""
        recipe, loss = self.recipe, self.step.loss
        if recipe.class_weights or not isinstance(loss, SoftmaxCrossEntropy):
            return self.chance
        labels, classes = self.splits.train.labels, self.step.network.classes
        return recovery.guessing_frequencies(labels, classes, recipe.label_smoothing)

    def rates(self, state: State, position: int) -> Rates:
        """The rates of the step that starts at `position` of the order: the next, or the last."""
        step = state.step - state.since - (position < state.position)
        if self.length.minutes is None:
            at = state.epoch + position / len(self.splits.train)
        else:
            at = self.recipe.epochs * self.length.share(state)
        found = schedules.rates(self.recipe, at, state.errors, max(0, step))
        return found if state.rate_factor == 1 else found.scaled(state.rate_factor)

    def classifier(self, state: State) -> Classifier:
        """The classifier with a state's parameters."""
        return replace(self.initial, params=state.params)

    def judged(self, state: State) -> Classifier:
        """The classifier to validate and save: with averaged weights, if there are any."""
        if not state.average:
            return self.classifier(state)
        return replace(self.initial, params=self.initial.devices.to_devices(state.average.params))

    def keep_checkpoint(self, state: State) -> None:
        """Keep the weights of this epoch in checkpoints/, if it is one whose weights are kept."""
        if self.keep_every is None or state.epoch % self.keep_every:
            return
        path = run_folder.checkpoint_path(self.folder, state.epoch)
        path.parent.mkdir(exist_ok=True)
        self.judged(state).save(path, half=self.half)

    def _average(self, state: State) -> Average:
        """The average of the weights at the end of an epoch."""
        last = self.recipe.average_epochs
        if last < 2:
            return Average()
        params = map_tree(self.initial.devices.to_numpy, state.params)
        left, exact = self.length.epochs_left(state), self.length.minutes is None
        return state.average.after(params, left, last, exact)

    def order(self, epoch: int) -> np.ndarray:
        """The order of the training images in an epoch."""
        first = epoch if self.recipe.reshuffle else 0
        return epoch_order(self.step.seed, first, len(self.splits.train))

    def run(self, state: State) -> Iterator[str]:
        """Train from `state` on.

        Yields "step" after each update but an epoch's last, "trained" before validation, and
        "epoch" after it. Raises ReadingFailed, with the state of the last step, if images cannot
        be read.
        """
        recipe, count = self.recipe, len(self.splits.train)
        while not self.length.ended(state):
            order = self.order(state.epoch)
            # of the last step, if no steps are left: the run was stopped during validation
            done = max(0, state.position - 1) // recipe.batch_size * recipe.batch_size
            rates = self.rates(state, done)
            clock, waited = time.monotonic(), self.loader.wait_seconds
            untimed = 0 if state.epoch_seconds else state.images  # older versions kept no time
            epochs = self.length.known_epochs
            self.show.epoch(state.epoch + 1, epochs, count, state.images)
            self.watch.begin()

            batches = self.batches(order, state.position)
            for batch in batches if not self.length.out_of_time(state) else ():
                rates = self.rates(state, state.position)
                self.step.start(state, batch, rates)
                state.position = batch.end
                state.images += len(batch)
                clock, waited = self._add_time(state, clock, waited)
                self.add_losses(state)
                if state.step % recovery.CHECK_EVERY == 0:
                    self.require_learning(state)
                if self.length.out_of_time(state):
                    break
                if state.position < count:
                    yield "step"

            self.add_losses(state, wait=True)
            self._add_time(state, clock, waited)
            self.require_learning(state)
            self.show.close()
            if len(self.splits.val):
                yield "trained"
            if epochs is None or state.epoch + 1 < epochs:
                # images of the next epoch load while validating
                self.loader.read_ahead(self._first_of(self.order(state.epoch + 1)))
            self.end_epoch(state, rates, state.images - untimed)
            yield "epoch"

    @property
    def world(self) -> World:
        """The processes that train together."""
        return self.step.world

    @property
    def at_once(self) -> int:
        """How many images are computed together."""
        return self.step.micro_batch or self.recipe.batch_size

    @property
    def validated_at_once(self) -> int:
        """How many images are validated together: more of the small ones, which is faster."""
        if self.step.micro_batch is not None:
            return self.at_once
        return max(self.at_once, min(_VALIDATED, _PIXELS // self.recipe.crop**2))

    def batches(self, order: np.ndarray, first: int = 0) -> Iterator[Batch | MicroBatches]:
        """The batches of an epoch's order from position `first` on; ReadingFailed may come up."""
        if self.step.micro_batch is None:
            return _read(self.loader.batches(order, self.recipe.batch_size, first))

        def spans(wanted: list[tuple[int, int]]) -> Iterator[Batch]:
            return _read(self.loader.batches(order, self.at_once, first, wanted))

        how = self.recipe.batch_size, self.at_once, first, self.world
        return micro_batches.read(spans, len(order), *how)

    def _first_of(self, order: np.ndarray) -> np.ndarray:
        """The images of an epoch's order that this rank needs first."""
        if self.step.micro_batch is None:
            return order[: 2 * self.at_once]
        how = self.recipe.batch_size, self.at_once, 0, self.world
        cuts = islice(micro_batches.spans(len(order), *how), 2)
        return np.concatenate([order[:0], *(order[low:high] for low, high in cuts)])

    def _add_time(self, state: State, since: float, waited: float) -> tuple[float, float]:
        """Add the elapsed time and the time spent waiting for data; -> both clocks as of now."""
        now, waited_now = time.monotonic(), self.loader.wait_seconds
        state.seconds += now - since
        state.epoch_seconds += now - since
        state.epoch_waited += waited_now - waited
        if self.length.minutes is not None:
            self._share_clocks(state)
        return now, waited_now

    def _share_clocks(self, state: State) -> None:
        """Let all ranks have the first one's clocks, by which they decide."""
        clocks = [state.seconds, state.epoch_seconds, state.epoch_waited]
        first, *_ = self.world.gather_numbers(np.array(clocks)).tolist()
        state.seconds, state.epoch_seconds, state.epoch_waited = first

    def add_losses(self, state: State, wait: bool = False) -> None:
        """Add the losses that are ready to the state; with `wait`, all (used before saving)."""
        for done in self.step.finished(wait):
            if not done.finite:
                raise self._non_finite(state, done)
            state.loss_sum += done.loss * len(done.batch)
            state.trend = recovery.Trend(*state.trend).add(done.loss).as_tuple()
            self.show.step(len(done.batch), done.loss, self.length.share(state))
            rate = done.rates.weight
            self.watch.made(done.step + 1, state.epoch + 1, done.loss, rate, len(done.batch))

    def require_learning(self, state: State) -> None:
        """Raise `NotLearning` if the run has finished without learning."""
        if not self.recovers:
            return
        self.add_losses(state, wait=True)
        trend, chance = recovery.Trend(*state.trend), self.chance
        if trend.collapsed(chance):
            raise NotLearning(f"the loss is back at random guessing ({chance:.3f})")
        if trend.exploded(chance):
            raise NotLearning(
                f"the loss is {trend.recent:.3g}, far above random guessing ({chance:.3f})"
            )
        if trend.stuck(chance, self.total_steps):
            raise NeverLearnt(
                f"the loss is still at random guessing ({chance:.3f}) after {trend.steps:,} steps"
            )
        if trend.suspicious(self.guessing) and (symptom := self._dead(state)):
            raise NotLearning(symptom)

    @property
    def total_steps(self) -> int:
        """The number of updates in the whole run, if its number of epochs is known."""
        return self.recipe.epochs * -(-len(self.splits.train) // self.recipe.batch_size)

    def _dead(self, state: State) -> str | None:
        classifier = self.classifier(state)
        b, params = classifier.devices.whole(state.params)
        x, _ = self._few_images(b, classifier)
        return recovery.dead(b, classifier.model.network, b.cast_params(params), x)

    def _few_images(self, b: Backend, classifier: Classifier) -> tuple[Array, Array]:
        """Some training images as the network sees them in evaluation, and their labels."""
        count = min(16, len(self.splits.train))
        [view] = classifier.preprocessing.views(1)
        order = epoch_order(self.step.seed, 0, len(self.splits.train))
        batch = next(_read(self.image_loaders[0].batches(order, count)))
        dtype = b.compute_dtype(classifier.dtype)
        x = classifier.preprocessing.test_input(b, batch.images, view, dtype)
        return x, b.asarray(batch.labels)

    def _non_finite(self, state: State, done: Done) -> NotFinite:
        # steps started after it changed nothing: the state is that after the failing step
        state.images -= self.step.forget()
        state.dropped += len(done.batch)
        state.step, state.position = done.step + 1, done.batch.end
        b, params = self.step.devices.whole(state.params)
        batch, mode = done.batch, self.step.mode(done.step)
        if isinstance(batch, MicroBatches):
            index, batch = batch.suspect or (0, None)  # of this rank; another may have one
            mode = replace(mode, first_image=index * done.batch.size)
        found: NotFinite | None = None
        if batch is not None:
            inputs = self.step.feed.inputs(batch, state.epoch, done.rates.colour_noise)
            x = inputs(b, 0, len(batch))
            found = diagnostics.non_finite(
                b, self.step.network, params, x, batch, mode, self.folder
            )
        [first, *_] = filter(None, self.world.gather(found))
        return first

    def end_epoch(self, state: State, rates: Rates, timed: int) -> None:
        """Average the weights, validate on centre crops and add the epoch's row to the history.

        `timed`: images that `epoch_seconds` were spent on; without any, the row has no speed.
        """
        start = time.monotonic()
        average = self._average(state)
        # the state has it after the validation, in which the run may be stopped and saved
        evaluation = self.validate(replace(state, average=average))
        spent = state.epoch_seconds
        rate = timed / spent if timed and spent else None
        waited = state.epoch_waited / spent if timed and spent else None
        state.seconds += time.monotonic() - start
        validation_seconds = time.monotonic() - start
        self._share_clocks(state)
        state.epoch += 1
        state.average = average
        trained = self.initial.model.network.trainable(state.params)
        row: dict[str, Any] = {
            "epoch": state.epoch,
            "step": state.step,
            "seconds": round(state.seconds, 3),
            "images_per_second": rate and round(rate, 2),
            "learning_rate": rates.weight,
            "train_loss": state.loss_sum / max(1, state.images - state.dropped),
            "l2_loss": self.step.optimizer.penalty(self.initial.devices, trained),
            "val_loss": evaluation and evaluation.loss,
            "val_top1_error": evaluation and evaluation.top1_error,
            "val_top5_error": evaluation and evaluation.top5_error,
            "load_share": waited if waited is None else round(waited, 4),
            "validation_seconds": round(validation_seconds, 3),
        }
        seen = state.position if self.length.out_of_time(state) else len(self.splits.train)
        left_out = seen - state.images
        if left_out:
            row["left_out"] = left_out
        if state.changed:
            row["changed"], state.changed = state.changed, ""
        if average:
            row["averaged"] = average.epochs
        if self.world.size > 1:
            row["exchange_seconds"] = round(self.step.take_exchange_seconds(), 3)
            row = self.world.first_does(lambda: row)  # with its clocks
        state.history.append(row)
        state.start_epoch()
        unread = 0 if evaluation is None else len(self.splits.val) - evaluation.images
        self.show.say(announce.epoch(row, self.length.known_epochs, evaluation, left_out, unread))
        if waited and waited > 0.25:
            self.show.once(
                f"{waited:.0%} of the time is spent waiting for images: `minialex prepare` decodes "
                "them once, --workers reads more of them at a time"
            )

    def validate(self, state: State) -> Evaluation | None:
        """Errors and training loss on the validation images; None if there are none."""
        if not len(self.splits.val):
            return None
        check = self.val_loader.on_wait or (lambda: None)
        try:
            return self.world.together(
                lambda: evaluate_model(
                    self.judged(state).trained,
                    self.splits.val,
                    batch_size=self.validated_at_once,
                    loader=self.val_loader,
                    on_batch=lambda images: check(),
                    loss=self.step.loss,
                    world=self.world,
                )
            )
        except (InputError, OSError) as error:
            raise ReadingFailed(str(error)) from error

    def go_back(self, state: State, error: NotFinite | NotLearning) -> None:
        """Restart a failed run from its best weights with a lower rate, or raise `error`."""
        rate = self.recipe.lr * state.rate_factor
        if not self.recovers or state.attempts >= error.attempts or self.length.ended(state):
            if isinstance(error, NotFinite):
                error.args = (f"{error}; {self.world.first_does(lambda: self._cure(state))}",)
                raise error
            raise NotLearning(f"{error}, also with learning rate {rate:.2g}: {self.advice(state)}")
        params, source = self.world.first_does(self._good_params)
        if (
            source == INITIAL
            and (state.position == len(self.splits.train) or self.length.out_of_time(state))
            and self.length.share(state) >= 1
        ):
            raise NotLearning(f"{error}, and the run is over: {self.advice(state)}")
        devices, dtype = self.initial.devices, np.dtype(self.initial.dtype)
        # which may have been stored in float16
        state.params = devices.to_devices(map_tree(lambda x: x.astype(dtype, copy=False), params))
        trained = self.initial.model.network.trainable(state.params)
        state.slots = self.step.optimizer.start(devices, trained)
        state.since, state.skipped = state.step, 0
        state.average = Average()
        state.attempts, state.trend = state.attempts + 1, recovery.Trend().as_tuple()
        state.rate_factor *= recovery.FACTOR
        said = f"back to {source}, learning rate times {state.rate_factor:.2g}"
        state.changed = "; ".join(filter(None, (state.changed, f"step {state.step}: {said}")))
        self.show.say(f"{str(error).split('; ')[0]}: {said}")

    def _cure(self, state: State) -> str:
        """How to go on after a NaN or Inf; no lower rate makes up for a state that diverged."""
        last, folder = self.folder / "last.safetensors", shlex.quote(str(self.folder))
        saved = checkpoint.load_metadata(last)["state"]
        rate = self.recipe.lr * state.rate_factor / 10
        trend = recovery.Trend(*saved.get("trend", ()))
        # of the saved weights themselves, if none were changed since
        failed_at_once = 0 < saved["step"] == state.step - 1
        if not failed_at_once and not trend.exploded(self.chance):
            resume = f"{run_folder.resume_command(self.folder)} --lr {rate:.3g}{self.own_code}"
            return f"the last good state is in {last}: resume with a lower learning rate: {resume}"
        options = recovery.rate_options(self.recipe.optimizer, rate)
        losses = [row["val_loss"] for row in state.history]
        learnt = any(loss is not None and loss < self.chance for loss in losses)
        weights, start = ("best weights", f"--from {folder} ") if learnt else ("beginning", "")
        return (
            f"the state in {last} has diverged too: start a new run from the {weights} with a "
            f"lower learning rate ({start}{options})"
        )

    def advice(self, state: State) -> str:
        """What to try if the run does not learn, as the end of a sentence."""
        rate = self.recipe.lr * state.rate_factor
        return recovery.advice(self.initial.model.name, self.recipe.optimizer, rate, state.attempts)

    def _good_params(self) -> tuple[Tree, str]:
        """The best weights so far unless they are dead, else the initial ones."""
        best = self.folder / "best.safetensors"
        if best.exists():
            classifier = load(best, "numpy")
            x, _ = self._few_images(classifier.devices.whole({})[0], classifier)
            network = classifier.model.network
            if recovery.dead(backends.get("numpy"), network, classifier.params, x) is None:
                return classifier.params, "the best weights"
        return self.first(), INITIAL

    def log_layer_statistics(self, state: State, pretrained: bool = False) -> None:
        """Print layer statistics for a few images; a `pretrained` network may start at any loss."""
        classifier = self.classifier(state)
        b, params = classifier.devices.whole(state.params)
        x, labels = self._few_images(b, classifier)
        network, params = classifier.model.network, b.cast_params(params)
        table, value = diagnostics.layer_statistics(b, network, params, self.step.loss, x, labels)
        verdict = diagnostics.start_verdict(value, self.chance, pretrained)
        if self.show.verbose:
            self.show.say(f"{table}\n{verdict}")
        elif not verdict.endswith(": ok") and not pretrained:
            self.show.say(verdict)


def _read(batches: Iterator[Batch]) -> Iterator[Batch]:
    try:
        yield from batches
    except (InputError, OSError) as error:
        raise ReadingFailed(str(error)) from error
