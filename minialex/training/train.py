"""`train`: starts or resumes a run."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minialex import schedules
from minialex.data.dataset import Splits
from minialex.data.sources.open import is_builtin
from minialex.data.statistics import Statistics
from minialex.errors import InputError, TrainingError
from minialex.models.recipe import Recipe
from minialex.parallel import DeviceConfig
from minialex.parallel.world import World, open_world
from minialex.results.against import compare
from minialex.training import announce, held_out, memory_estimate, ranks, report, run_folder
from minialex.training.config import TrainConfig, parse, plug_in, signature
from minialex.training.kept import keep
from minialex.training.loop import run_to_end
from minialex.training.result import Result
from minialex.training.resume import changes, inherited, rate_jump, stored_config
from minialex.training.setup import Setup, set_up
from minialex.training.state import State, restore
from minialex.training.trainer import Trainer
from minialex.training.watch import OnEpoch, OnStep, Watch
from minialex.utils.arguments import FilePath, Flag
from minialex.utils.options import documented
from minialex.utils.paths import expanded
from minialex.utils.progress import Progress


def train(
    data: str | Path | Splits | None = None,
    *,
    out: str | Path | None = None,
    resume: bool | str | Path = False,
    progress: bool = True,
    verbose: bool = False,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
    **arguments: Any,
) -> Result:
    show = Progress(Flag().check("progress", progress), verbose)
    return train_shown(
        show, data, out=out, resume=resume, on_step=on_step, on_epoch=on_epoch, **arguments
    )


def train_shown(
    show: Progress,
    data: str | Path | Splits | None = None,
    *,
    out: str | Path | None = None,
    resume: bool | str | Path = False,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
    part_of: Path | None = None,
    **arguments: Any,
) -> Result:
    """`train`, printing with `show`; `part_of` is the folder of runs that resume together."""
    world = open_world()
    enabled, show.enabled = show.enabled, show.enabled and world.first

    def tell(change: str) -> None:
        show.enabled = enabled and world.first
        show.say(change)

    with ExitStack() as stack:
        with world.telling(tell), world.ending_together():
            trained = _train(
                world,
                stack,
                show,
                data,
                out=out,
                resume=resume,
                on_step=on_step,
                on_epoch=on_epoch,
                part_of=part_of,
                **arguments,
            )
        return trained.finished()  # on the first rank; the others have ended


def _train(
    world: World,
    stack: ExitStack,
    show: Progress,
    data: str | Path | Splits | None,
    *,
    out: str | Path | None,
    resume: bool | str | Path,
    on_step: OnStep | None,
    on_epoch: OnEpoch | None,
    part_of: Path | None,
    **arguments: Any,
) -> "_Trained":
    """`train` on one of the ranks of `world`; `stack` keeps the run's folder locked."""
    out = None if out is None else FilePath().check("out", out)
    if isinstance(resume, str | Path):  # the folder, as on the command line
        if out is not None:
            raise InputError(f"resume={str(resume)!r} continues in that folder: leave out `out`")
        out, resume = FilePath().check("resume", resume), True
    resume = Flag().check("resume", resume)
    arguments = plug_in(arguments)
    given = inherited(out, data, arguments) if resume else {"data": data, **arguments}
    config, where = parse(given)
    if config.allow_changed_data and not resume:
        raise InputError(
            "`allow_changed_data` needs `resume`: a new run always uses the data as it is"
        )
    if out is not None and not resume:
        _require_outside(Path(out), config.data)
    setup = set_up(config, where, show, Path(str(out)) if resume else None, world)
    model, config, held = setup.model, setup.config, setup.held
    claimed = run_folder.claimed(out, setup.name, resume=resume)
    folder = world.first_does(lambda: stack.enter_context(claimed))
    stack.enter_context(world.telling(_LockKeeper(world, stack, folder, show).after_a_loss))
    names = setup.splits.train.class_names

    def written() -> tuple[dict[str, Any], str, dict[str, Any]]:
        stored, changed = stored_config(config, where, setup.splits, folder)
        if not changed:
            run_folder.write_config(folder, stored, names)
        about = held_out.remembered(config, held, setup.source, anew=bool(changed))
        held_out.write_list(folder, about)
        return stored, changed, about

    stored, changed, about = world.first_does(written)
    if held.said:
        show.say(held.said)
    run = _Start(setup, folder, about, on_step, on_epoch, part_of)
    try:
        trainer, state = run.resumed(changed) if held.about is not None else run.fresh()
        ranks.require_same_start(world, state, setup.devices)
        if changed:

            def write_changed() -> None:
                # the weights first: they say which images were trained on
                state.save(folder / "last.safetensors", trainer.initial)
                run_folder.write_config(folder, stored, names)

            world.first_does(write_changed)
        result = run_to_end(trainer, state, config.checkpoint_every, config.max_steps)
    except MemoryError:
        batch = model.recipe.batch_size
        raise TrainingError(
            memory_estimate.too_little(
                model.network,
                batch,
                setup.devices,
                len(setup.optimizer.slots),
                config.micro_batch,
                config.dtype,
            )
        ) from None
    return _Trained(setup, trainer, state, result)


class _LockKeeper:
    """Locks the run's folder if the rank that did so is lost, and this is the one that writes."""

    def __init__(self, world: World, stack: ExitStack, folder: Path, show: Progress):
        self._world, self._stack, self._folder, self._show = world, stack, folder, show
        self._locked = world.first

    def after_a_loss(self, said: str) -> None:
        """Called when ranks were lost; failing to lock does not end the others' run."""
        if self._locked or not self._world.first:
            return
        self._locked = True
        try:
            self._stack.enter_context(run_folder.locked(self._folder, self._world.lost))
        except (InputError, OSError) as error:  # over NFS, a lost machine may still hold it
            self._show.say(f"going on without a lock of the folder ({error})")


@dataclass(frozen=True)
class _Trained:
    """A run whose training has ended."""

    setup: Setup
    trainer: Trainer
    state: State
    result: Result

    def finished(self) -> Result:
        """Keep the weights and leave the report, on the first rank alone."""
        setup, result, config = self.setup, self.result, self.setup.config
        if setup.curve is not None:
            for one in compare(result.history, setup.curve, len(setup.splits.train)):
                setup.show.say(one.sentence)
        ended = not result.interrupted and self.trainer.length.ended(self.state)
        if not ended or not setup.world.first:
            return result
        if config.keep is not None:
            setup.show.say(keep(result.run_dir, config.keep))
        if config.report:
            left = report.leave(self.trainer, self.state, setup.curve)
            result = replace(result, interrupted=left)
        return result


train.__signature__ = signature(train)  # type: ignore[attr-defined]
train.__doc__ = f"""Train a network and keep the run in a folder.

    out                 run folder, a new one under runs/ by default
    resume              continue from the newest state in `out`, with the same bits as a run that
                        never stopped; or the folder itself, without `out`
    progress            print progress, with a bar
    verbose             print each layer's statistics at the start, too
    on_step             called after each update with a `minialex.training.watch.StepInfo`: step,
                        epoch, loss, learning_rate, images_per_second
    on_epoch            called after each epoch, once its state is saved, with an `EpochInfo`:
                        epoch, step, train_loss, val_loss, val_accuracy, learning_rate, seconds,
                        run_dir
{documented(TrainConfig, DeviceConfig)}

    `data` may be `Splits` made in Python. SIGINT, SIGTERM, SIGUSR1 and SIGHUP save the state and
    end training. A resumed run takes all arguments that are not given from its folder. You may
    change `epochs`, `minutes`, `stop_early`, `lr`, `schedule`, devices and output options, and
    `data` if the images have moved.
    Raises InputError or FileNotFoundError for unusable arguments, and TrainingError if the loss
    stays NaN or infinite, nothing is learnt, or memory does not suffice. Exceptions
    from `on_step` and `on_epoch` end training and are raised again; the state is saved first, so
    that the run can be resumed.
    """


@dataclass(frozen=True)
class _Start:
    """Makes a trainer and a state from a setup, in the run's folder."""

    setup: Setup
    folder: Path
    about: dict[str, Any]
    on_step: OnStep | None = None
    on_epoch: OnEpoch | None = None
    part_of: Path | None = None

    def fresh(self) -> tuple[Trainer, State]:
        """Measure the mean image, initialise the weights, and save the first state."""
        statistics, start = self.setup.statistics(), self.setup.start
        if start is not None:
            self.setup.show.say(f"starting from {self.setup.config.initial}: {start.said}")
        state = self.setup.first_state()
        trainer = self._trainer(state, statistics)

        def write() -> None:
            trainer.log_layer_statistics(state, pretrained=start is not None)
            state.save(self.folder / "last.safetensors", trainer.initial)
            trainer.keep_checkpoint(state)

        self.setup.world.first_does(write)
        return trainer, state

    def resumed(self, changed: str = "") -> tuple[Trainer, State]:
        """Load the newest state; `changed` says how the data has changed."""
        setup, show = self.setup, self.setup.show
        state, before = restore(self.folder / "last.safetensors", setup.devices, setup.optimizer)
        recipe, length = setup.model.recipe, setup.length
        if not length.complete(state):
            show.say(f"resuming {self.folder} in epoch {state.epoch + 1}, after step {state.step}")
        elif length.minutes is not None:
            plural = "s" * (length.minutes != 1)
            show.say(
                f"{self.folder} has finished its {length.minutes:g} minute{plural}: to train "
                f"longer, set a larger --minutes{schedules.extension(recipe.schedule)}"
            )
        else:
            plural = "s" * (recipe.epochs != 1)
            show.say(
                f"{self.folder} has finished its {recipe.epochs} epoch{plural}: to train longer, "
                f"set a larger --epochs{schedules.extension(recipe.schedule)}"
            )
        if changed:
            _begin_epoch_anew(state, changed, show)
        _note_changes(state, before.model.recipe, recipe, len(setup.splits.train), show)
        return self._trainer(state, before.preprocessing.statistics), state

    def _trainer(self, state: State, statistics: Statistics) -> Trainer:
        setup, config, splits = self.setup, self.setup.config, self.setup.splits
        classifier = setup.classifier(state, statistics, self.about)
        setup.show.say(
            announce.table(setup.model, splits, setup.devices, self.folder, config.minutes)
        )
        notes = announce.remarks(splits, setup.model.recipe.batch_size)
        if setup.world.size > 1:
            setup.show.say(f"processes {setup.world.describe()}")
        for sentence in (*setup.devices.describe()[1:], *notes):
            setup.show.say(sentence)
        watch = Watch(
            self.folder,
            step=state.step,
            every=config.log_steps,
            log=config.log,
            on_step=self.on_step,
            on_epoch=self.on_epoch,
            show=setup.show,
            silent=lambda: not setup.world.first,
        )
        trainer = setup.trainer(classifier, self.folder)
        if how := announce.exchange(trainer.step):
            setup.show.say(how)
        return replace(trainer, watch=watch, part_of=self.part_of)


def _begin_epoch_anew(state: State, changed: str, show: Progress) -> None:
    """Restart the current epoch, because its order refers to the data before the change."""
    anew = f", and epoch {state.epoch + 1} starts again" if state.position else ""
    show.say(
        f"the data has changed ({changed}): new images are used for training, "
        f"the held-out images stay the same{anew}"
    )
    state.start_epoch()
    note = f"step {state.step}: data, {changed}"
    state.changed = "; ".join(filter(None, (state.changed, note)))


def _note_changes(state: State, before: Recipe, now: Recipe, images: int, show: Progress) -> None:
    """Print what a resumed run changes, and note it in the history's next row."""
    changed = changes(before, now)
    if not changed:
        return
    if before.lr != now.lr:  # a new choice: drop the reductions of earlier restarts
        state.rate_factor, state.attempts = 1.0, 0
    show.say(f"changed after step {state.step}: {changed}")
    state.changed = "; ".join(filter(None, (state.changed, f"step {state.step}: {changed}")))
    if jump := rate_jump(before, now, state, images):
        show.say(jump)


def _require_outside(out: Path, data: Any) -> None:
    """Raise InputError for the folder of the images, where a run's folders would be classes."""
    named = isinstance(data, str | Path) and not is_builtin(data)
    if named and out.is_dir() and out.resolve() == expanded(data).resolve():
        raise InputError(
            f"the run would be written between the images in {out}: choose another output folder"
        )
