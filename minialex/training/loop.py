"""The training loop: what an epoch is, when it is saved, and how a run ends."""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from minialex import schedules
from minialex.data.augment import epoch_order
from minialex.data.dataset import Splits
from minialex.data.loading.loader import Batch, Loader
from minialex.errors import InputError, TrainingError
from minialex.inference.classifier import Classifier
from minialex.inference.evaluation import Evaluation, evaluate_model
from minialex.models.recipe import Recipe
from minialex.optim import SGD, Rates
from minialex.training import diagnostics, run_folder
from minialex.training.run_folder import resume_command
from minialex.training.state import State
from minialex.training.step import Done, TrainStep
from minialex.utils.interrupt import Interrupt, Interrupted
from minialex.utils.progress import Progress


class ReadingFailed(InputError):
    """Images could not be read; the state is that after the last step."""


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
        """Make updates from `state` on.

        Yields "step" after each but an epoch's last, then "trained" before validation, and "epoch"
        after it. Where images cannot be read, raises ReadingFailed with the state of a last step.
        """
        recipe, count = self.recipe, len(self.splits.train)
        schedule = schedules.get(recipe.schedule)
        while state.epoch < recipe.epochs:
            order = epoch_order(self.step.seed, state.epoch, count)
            # of the last step, if there are no more to make: the run was stopped in validation
            done = max(0, state.position - 1) // recipe.batch_size * recipe.batch_size
            rates = schedule(recipe, state.epoch + done / count, state.errors)
            clock, waited = time.monotonic(), self.loader.wait_seconds
            untimed = 0 if state.epoch_seconds else state.images  # older versions kept no time
            self.show.epoch(state.epoch + 1, recipe.epochs, count, state.images)

            batches = self.loader.batches(order, recipe.batch_size, first=state.position)
            for batch in _read(batches):
                rates = schedule(recipe, state.epoch + state.position / count, state.errors)
                self.step.start(state, batch, rates)
                state.position = batch.end
                state.images += len(batch)
                clock, waited = self._add_time(state, clock, waited)
                self.add_losses(state)
                if state.position < count:
                    yield "step"

            self.add_losses(state, wait=True)
            self._add_time(state, clock, waited)
            self.show.close()
            if len(self.splits.val):
                yield "trained"
            if state.epoch + 1 < recipe.epochs:  # images of the next epoch load while validating
                upcoming = epoch_order(self.step.seed, state.epoch + 1, count)
                self.loader.read_ahead(upcoming[: 2 * recipe.batch_size])
            self.end_epoch(state, rates, state.images - untimed)
            yield "epoch"

    def _add_time(self, state: State, since: float, waited: float) -> tuple[float, float]:
        """Add the time since then, and what was waited for data in it; -> the same as of now."""
        now, waited_now = time.monotonic(), self.loader.wait_seconds
        state.seconds += now - since
        state.epoch_seconds += now - since
        state.epoch_waited += waited_now - waited
        return now, waited_now

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
            b, self.step.network, params, x, done.batch, mode, self.folder, self.recipe.lr
        )

    def end_epoch(self, state: State, rates: Rates, timed: int) -> None:
        """Validate on centre crops and add the epoch's row to the history.

        `timed`: images that `epoch_seconds` were spent on; without any, the row has no speed.
        """
        start = time.monotonic()
        recipe, evaluation = self.recipe, self.validate(state)
        spent = state.epoch_seconds
        rate = timed / spent if timed and spent else None
        waited = state.epoch_waited / spent if timed and spent else None
        state.seconds += time.monotonic() - start
        state.epoch += 1
        row: dict[str, Any] = {
            "epoch": state.epoch,
            "step": state.step,
            "seconds": round(state.seconds, 3),
            "images_per_second": rate and round(rate, 2),
            "learning_rate": rates.weight,
            "train_loss": state.loss_sum / max(1, state.images),
            "l2_loss": SGD(recipe).penalty(self.initial.devices, state.params),
            "val_loss": evaluation and evaluation.loss,
            "val_top1_error": evaluation and evaluation.top1_error,
            "val_top5_error": evaluation and evaluation.top5_error,
            "load_share": waited if waited is None else round(waited, 4),
            "validation_seconds": round(time.monotonic() - start, 3),
        }
        left_out = len(self.splits.train) - state.images
        if left_out:
            row["left_out"] = left_out
        if state.changed:
            row["changed"], state.changed = state.changed, ""
        state.history.append(row)
        state.position, state.images, state.loss_sum = 0, 0, 0.0
        state.epoch_seconds = state.epoch_waited = 0.0
        judged = "not validated"
        if evaluation is not None:
            judged = (
                f"val loss {evaluation.loss:.4f}  top-1 error {evaluation.top1_error:.2%}  "
                f"top-5 {evaluation.top5_error:.2%}"
            )
        missing = f", {left_out:,} unreadable images left out" if left_out else ""
        if evaluation is not None and (unread := len(self.splits.val) - evaluation.images):
            missing += f", {unread:,} in validation"
        speed = f"{rate:.0f} images/s ({waited:.0%} waiting for data)" if rate else "speed unknown"
        self.show.say(
            f"epoch {row['epoch']:3}/{recipe.epochs}  train loss {row['train_loss']:.4f} "
            f"+ L2 {row['l2_loss']:.4f}  {judged}  rate {row['learning_rate']:.2g}  "
            f"{speed}{missing}"
        )

    def validate(self, state: State) -> Evaluation | None:
        """Errors on the validation images, and the loss that is trained; None if there are none."""
        if not len(self.splits.val):
            return None
        check = self.val_loader.on_wait or (lambda: None)
        try:
            return evaluate_model(
                self.classifier(state).trained,
                self.splits.val,
                batch_size=self.recipe.batch_size,
                loader=self.val_loader,
                on_batch=lambda images: check(),
                loss=self.step.loss,
            )
        except (InputError, OSError) as error:
            raise ReadingFailed(str(error)) from error

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


def _read(batches: Iterator[Batch]) -> Iterator[Batch]:
    try:
        yield from batches
    except (InputError, OSError) as error:
        raise ReadingFailed(str(error)) from error


def run_to_end(
    trainer: Trainer, state: State, checkpoint_every: float, max_steps: int | None
) -> Result:
    """Train to the end, a signal or `max_steps`, saving on the way."""
    folder, show = trainer.folder, trainer.show
    last, advised = folder / "last.safetensors", False
    saved, saved_step = time.monotonic(), -1

    def save() -> None:
        nonlocal saved, saved_step
        trainer.add_losses(state, wait=True)
        state.save(last, trainer.initial)
        saved, saved_step = time.monotonic(), state.step

    with Interrupt() as interrupt:
        trainer.loader.on_wait = trainer.val_loader.on_wait = interrupt.check
        enough = max_steps is not None and state.step >= max_steps
        try:
            for event in () if enough else trainer.run(state):
                stop = interrupt.requested or (
                    event != "trained" and max_steps is not None and state.step >= max_steps
                )
                due = time.monotonic() - saved > checkpoint_every
                if event == "epoch":
                    # before the state: a run killed in between does this epoch's end again
                    state.require_finite(last, trainer.initial)
                    run_folder.write_history(folder, state.history)
                    if _is_best(state):
                        trainer.classifier(state).save(folder / "best.safetensors")
                    if not advised:
                        advised = _advise(trainer, state)
                if event != "step" or stop or due:
                    save()
                if stop:
                    break
        except Interrupted:  # while images were read
            if saved_step != state.step:
                save()
        except ReadingFailed as error:
            if saved_step != state.step:
                save()
            raise InputError(
                f"{error}; the state after step {state.step} is saved, continue with: "
                f"{resume_command(folder)}"
            ) from error
        interrupted = interrupt.requested  # also one that came while the last state was saved
    show.close()
    show.say(_closing_line(state, folder, trainer.initial.devices.peak_memory()))
    skipped = {**trainer.loader.skipped, **trainer.val_loader.skipped}
    if skipped:
        show.say(f"skipped {len(skipped)} unreadable images:")
        for name, reason in sorted(skipped.items()):
            show.say(f"  {reason if name in reason else f'{name}: {reason}'}")
    if interrupted:
        show.say(f"stopped by {interrupted}, state saved; continue with: {resume_command(folder)}")
    elif max_steps is not None and state.epoch < trainer.recipe.epochs:
        show.say(f"stopped after {state.step} steps; continue with: {resume_command(folder)}")
    return Result(state.history, trainer.classifier(state), folder, interrupted, skipped)


def _is_best(state: State) -> bool:
    """Whether no earlier epoch was as good; without validation the last is taken for the best."""
    if state.history[-1]["val_top1_error"] is None:
        return True
    return state.errors[-1] < min(state.errors[:-1], default=2.0)


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
