"""`run_to_end`: the training loop around epochs, with saving, signals and the closing line."""

import shlex
import signal
import sys
import time
from math import inf, isfinite
from pathlib import Path

import numpy as np

from minialex.errors import InputError
from minialex.parallel.world import World
from minialex.training import announce, diagnostics
from minialex.training.diagnostics import NotFinite
from minialex.training.history_file import HistoryFile
from minialex.training.recovery import NotLearning
from minialex.training.result import Result
from minialex.training.run_folder import resume_command
from minialex.training.state import State
from minialex.training.trainer import ReadingFailed, Trainer
from minialex.training.watch import CallbackFailed
from minialex.utils.interrupt import Interrupt, Interrupted

SAVING = 0.05  # an epoch's end is saved unless that would take a larger share of the time


def run_to_end(
    trainer: Trainer, state: State, checkpoint_every: float, max_steps: int | None
) -> Result:
    """Train to the end, a signal or `max_steps`, saving on the way."""
    folder, show = trainer.folder, trainer.show
    last, advised = folder / "last.safetensors", False
    saved, saved_step, saving, unsaved = time.monotonic(), -1, 0.0, False
    rows = HistoryFile(folder)
    trainer.world.first_does(lambda: rows.begin(state.history))

    def save(together: bool = True) -> None:
        """On all ranks, so that all end if the first cannot; or only on this one, which failed."""
        nonlocal saved, saved_step, saving, unsaved
        started = time.monotonic()
        trainer.add_losses(state, wait=True)
        if trainer.world.size > 1 and together:
            state.require_finite(trainer.initial)

        def write() -> None:
            trainer.watch.flush()  # first: a resumed run removes the rows that it repeats
            state.save(last, trainer.initial)

        if together:
            trainer.world.first_does(write)
        elif trainer.world.first:
            write()
        trainer.watch.flush()
        saved, saved_step, unsaved = time.monotonic(), state.step, False
        saving = saved - started

    def go_on() -> None:
        nonlocal advised, unsaved
        for event in trainer.run(state):
            unsaved = True
            wait = checkpoint_every if event == "step" else min(checkpoint_every, saving / SAVING)
            due = time.monotonic() - saved > wait
            due = due or (event == "epoch" and trainer.watch.tells_epochs)  # of saved epochs
            came, due = _agreed(trainer.world, interrupt, due)
            stop = came or (
                event != "trained" and max_steps is not None and state.step >= max_steps
            )
            if event == "epoch":
                # before the state: a run killed in between does this epoch's end again
                state.require_finite(trainer.initial)
                trainer.world.first_does(lambda: _write_epoch(trainer, state, rows))
                if not advised:
                    advised = _advise(trainer, state)
            if stop or due:
                trainer.add_losses(state, wait=True)
                # what is not finite is found at the end of the epoch, whenever states are saved: if
                # this run stops, by the one that goes on from the state before
                if event == "epoch" or state.is_finite(trainer.initial):
                    save()
                else:
                    unsaved = not stop
            trainer.watch.tell()
            if event == "epoch":
                trainer.watch.epoch(state.history[-1])
            if stop:
                break
        if unsaved:
            save()

    with Interrupt(quiet=not trainer.world.first) as interrupt:
        if trainer.world.size == 1:  # several stop together, between steps
            trainer.loader.on_wait = trainer.val_loader.on_wait = interrupt.check
        enough = max_steps is not None and state.step >= max_steps
        try:
            while not enough:
                try:
                    go_on()
                    break
                except (NotFinite, NotLearning) as error:
                    trainer.go_back(state, error)
        except Interrupted:  # while images were read
            if unsaved or saved_step != state.step:
                save()
        except CallbackFailed as failed:
            show.close()
            if unsaved or saved_step != state.step:
                save(together=False)
            raise failed.error from failed.error.__cause__
        except ReadingFailed as error:
            if unsaved or saved_step != state.step:
                save(together=False)
            which = f"the state after step {state.step} is saved"
            if not trainer.world.first:  # which alone writes, and does not know of this yet
                which = "the state that was saved last is kept"
            raise InputError(f"{error}; {which}, {_go_on(trainer)}") from error
        finally:
            trainer.watch.close()
        interrupted = interrupt.requested  # also one that came while the last state was saved
    every = trainer.world.gather({**trainer.loader.skipped, **trainer.val_loader.skipped})
    skipped = {name: reason for one in every for name, reason in one.items()}
    show.close()
    _say_the_end(trainer, state, skipped, interrupted)
    return Result(state.history, trainer.judged(state), folder, interrupted, skipped)


def _write_epoch(trainer: Trainer, state: State, rows: HistoryFile) -> None:
    rows.add(state.history)
    if _is_best(state):
        trainer.judged(state).save(trainer.folder / "best.safetensors", half=trainer.half)
    trainer.keep_checkpoint(state)


def _agreed(world: World, interrupt: Interrupt, due: bool) -> tuple[str | None, bool]:
    """The signal that came to any rank, if one came, and whether the first rank wants to save."""
    if world.size == 1:
        return interrupt.requested, due
    number = 0 if interrupt.requested is None else signal.Signals[interrupt.requested]
    numbers, first_due = world.gather_numbers(np.array([number, due])).T
    if came := int(next((one for one in numbers if one), 0)):
        interrupt.requested = signal.Signals(came).name
    return (interrupt.requested if came else None), bool(first_due[0])


def _say_the_end(
    trainer: Trainer, state: State, skipped: dict[str, str], interrupted: str | None
) -> None:
    """Print the duration, the unreadable images, and why the run ended."""
    folder, show, length = trainer.folder, trainer.show, trainer.length
    show.say(_closing_line(state, folder, trainer.initial.devices.peak_memory()))
    if skipped:
        show.say(f"skipped {len(skipped)} unreadable image{'s' * (len(skipped) != 1)}:")
        for name, reason in sorted(skipped.items()):
            show.say(f"  {reason if name in reason else f'{name}: {reason}'}")
    if interrupted:
        show.say(f"stopped by {interrupted}, state saved; {_go_on(trainer)}")
    elif not length.ended(state):
        more = f"; {_go_on(trainer)}" if trainer.part_of is None else ""  # the next part follows
        show.say(f"stopped after {_steps(state)}{more}")
    elif not length.complete(state):
        plural = "s" * (length.stop_early != 1)
        show.say(f"stopped early: no lower validation loss for {length.stop_early} epoch{plural}")
    if length.ended(state) and (said := _nothing_learnt(trainer, state)):
        show.say(said)


def _go_on(trainer: Trainer) -> str:
    """How to resume the run, or the group of runs it belongs to."""
    if trainer.part_of is None:
        return f"continue with: {resume_command(trainer.folder)}{trainer.own_code}"
    return f"continue with the same command and --out {shlex.quote(str(trainer.part_of))}"


def _is_best(state: State) -> bool:
    """Whether the validation loss is the lowest so far; without one the last weights are best.

    The loss, because on few images the lowest of many error rates is largely luck.
    """
    if state.history[-1]["val_loss"] is None:
        return True
    *before, now = (row["val_loss"] for row in state.history)
    known = (loss for loss in before if loss is not None and isfinite(loss))
    return now < min(known, default=inf)


def _closing_line(state: State, folder: Path, on_device: int | None) -> str:
    """The duration, and the peak memory if the system reports it."""
    memory = ""
    if sys.platform != "win32":
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        memory = f", peak memory {peak * (1 if sys.platform == 'darwin' else 1024) / 1e9:.2f} GB"
    if on_device is not None:
        memory += f", on the device {on_device / 1e9:.2f} GB"
    return f"{folder}: {_steps(state)} in {state.seconds / 60:.1f} minutes{memory}"


def _nothing_learnt(trainer: Trainer, state: State) -> str | None:
    losses = [row[name] for row in state.history for name in ("train_loss", "val_loss")]
    failed = state.attempts or state.step >= diagnostics.SOON
    what = trainer.advice(state) if failed else None
    return announce.nothing_learnt(losses, trainer.chance, state.step, what)


def _steps(state: State) -> str:
    return f"{state.step} step{'s' * (state.step != 1)}"


def _advise(trainer: Trainer, state: State) -> bool:
    """Report a plateau once; True if it was reported."""
    losses_so_far = [row["train_loss"] for row in state.history]
    what = trainer.advice(state)
    advice = diagnostics.plateau_advice(losses_so_far, trainer.chance, state.step, what)
    if advice:
        trainer.show.say(advice)
    return advice is not None
