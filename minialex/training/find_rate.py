"""`find_lr`: a learning-rate range test."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minialex import optim
from minialex.data.loading.loader import Batch
from minialex.optim import Rates
from minialex.training.config import parse, plug_in
from minialex.training.micro_batches import MicroBatches
from minialex.training.setup import set_up
from minialex.training.state import State
from minialex.training.trainer import Trainer
from minialex.utils.arguments import integer
from minialex.utils.launcher import require_one_process
from minialex.utils.progress import Progress

STEPS = 100
LOWEST, HIGHEST = 1e-3, 1e2  # times the recipe's learning rate
SMOOTH = 0.9  # smoothing factor of the running mean of the loss


@dataclass(frozen=True)
class RateSearch:
    """Training losses of steps with an exponentially rising learning rate, and the suggested one.

    `rates` and `losses` have one entry per step; the losses are running means. The suggestion is
    for `optimizer`: pass both to `train`, which takes a learning rate alone to be SGD's.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    chance: float
    optimizer: str = optim.DEFAULT

    @property
    def best(self) -> float | None:
        """A third of the learning rate at the lowest loss, or None if the loss never fell.

        At the lowest loss the network is about to diverge, and real training runs longer.
        """
        if not self.losses:  # the very first one was not finite
            return None
        lowest = int(np.argmin(self.losses))
        if self.losses[lowest] > 0.93 * self.losses[0]:
            return None
        return float(f"{self.rates[lowest] / 3:.2g}")

    def __str__(self) -> str:
        rows = range(0, len(self.rates), max(1, len(self.rates) // 20))
        low = (self.losses[i] for i in rows if self.losses[i] < 3 * self.chance)
        top = max(low, default=3 * self.chance)
        lines = [
            f"{self.rates[i]:9.2g}  {self.losses[i]:8.3f}  "
            + "█" * round(40 * min(1.0, self.losses[i] / top))
            for i in rows
        ]
        return "\n".join(["       lr      loss", *lines])


def find_lr(
    data: Any = None, *, steps: int = STEPS, progress: bool = True, **arguments: Any
) -> RateSearch:
    """Train for `steps` steps with a rate that rises from tiny to far too large; saves nothing.

    The arguments are those of `train`. All layers have the same rate, as with `lr`. Raises
    InputError for invalid arguments.
    """
    require_one_process("find_lr")
    steps = integer(1).check("steps", steps)
    config, where = parse(plug_in({"data": data, **arguments}))
    setup = set_up(config, where, Progress(progress), tuned=False)
    state = setup.first_state()
    # whose folder is not used: nothing is saved
    trainer = setup.trainer(setup.classifier(state, setup.statistics()), Path())
    return _sweep(trainer, state, setup.model.recipe.lr * np.geomspace(LOWEST, HIGHEST, steps))


def _sweep(trainer: Trainer, state: State, rates: np.ndarray) -> RateSearch:
    step, chance, recipe, mean = trainer.step, trainer.chance, trainer.recipe, 0.0
    used: list[float] = []
    losses: list[float] = []
    with trainer.show.bar("learning rates", len(rates)) as bar:
        for i, batch in enumerate(_batches(trainer, len(rates))):
            rate = float(rates[i])
            loss = step(state, batch, Rates(rate, rate * recipe.bias_rate, recipe.colour_noise))
            if not len(batch):  # none of its images can be read
                continue
            mean = SMOOTH * mean + (1 - SMOOTH) * loss
            smooth = mean / (1 - SMOOTH ** (len(losses) + 1))  # images of others were unreadable
            if not np.isfinite(loss) or (losses and smooth > 3 * max(losses[0], chance)):
                break
            used.append(rate)
            losses.append(smooth)
            bar.update(1)
    return RateSearch(tuple(used), tuple(losses), chance, recipe.optimizer)


def _batches(trainer: Trainer, steps: int) -> Iterator[Batch | MicroBatches]:
    """`steps` batches, over as many epochs as needed."""
    epoch, made = 0, 0
    while made < steps:
        for batch in trainer.batches(trainer.order(epoch)):
            yield batch
            made += 1
            if made == steps:
                return
        epoch += 1
