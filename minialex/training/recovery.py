"""What ends learning, and the way back: dead units, a loss at random guessing, NaN and Inf.

A run that has stopped learning goes back to its best weights, or to its first ones if it never
learnt, with zero velocities and a lower rate: at most `ATTEMPTS` times, then it ends with advice.
"""

from dataclasses import dataclass

import numpy as np

from minialex.backends.base import Array, Backend
from minialex.errors import TrainingError
from minialex.layers import Mode, ReLU
from minialex.network import Network
from minialex.tree import Tree

ATTEMPTS = 3
FACTOR = 0.3  # of the rate, with each way back
CHECK_EVERY = 500  # steps, beside each epoch's end
HORIZON = 50  # steps over which the loss is averaged
PATIENT = 1500  # steps without any learning that are nothing unusual


class NotLearning(TrainingError):
    """A run has stopped learning, or never started; the message says how that shows."""

    attempts = ATTEMPTS


class NeverLearnt(NotLearning):
    """One way back is enough: a quarter of the run goes by before it is seen."""

    attempts = 1


@dataclass(frozen=True)
class Trend:
    """The training loss of late and at its lowest, as averages over some `HORIZON` steps."""

    steps: int = 0
    recent: float = 0.0
    lowest: float = float("inf")

    def add(self, loss: float) -> "Trend":
        """With the loss of one more step."""
        steps = self.steps + 1
        recent = self.recent + (loss - self.recent) / min(steps, HORIZON)
        settled = steps >= HORIZON
        return Trend(steps, recent, min(self.lowest, recent) if settled else self.lowest)

    def as_tuple(self) -> tuple[int, float, float]:
        """For a checkpoint."""
        return self.steps, self.recent, self.lowest

    def collapsed(self, chance: float) -> bool:
        """Whether what was learnt is lost again: the loss is back at that of random guessing."""
        return self.lowest < 0.85 * chance and self.recent > 0.99 * chance

    def exploded(self, chance: float) -> bool:
        """Whether the loss is far above that of random guessing, though still a number."""
        return self.recent > (2 if self.steps >= 2 * HORIZON else 100) * chance

    def stuck(self, chance: float, total: int) -> bool:
        """Whether nothing was learnt in `PATIENT` steps and in a quarter of `total`."""
        return self.steps > max(PATIENT, total // 4) and self.lowest > 0.985 * chance

    def suspicious(self, chance: float) -> bool:
        """Whether a look at the units is worth its time."""
        return self.recent > 0.9 * chance


def dead_layer(b: Backend, network: Network, params: Tree, x: Array) -> str | None:
    """The first ReLU layer that is zero everywhere for all of x (N, H, W, C), or None.

    The layers after it see no image any more, and no gradient passes it: it never wakes up.
    """
    for stage in network.stages(fused=False):
        x, _ = stage.forward(b, params, x, Mode())
        if isinstance(stage.layer, ReLU) and not np.any(b.to_numpy(x)):
            return stage.name
    return None


def advice(model: str, rate: float) -> str:
    """What to try with this network when it does not learn, as the end of a sentence."""
    if model in ("alexnet", "alexnet-single", "bvlc-alexnet"):
        return (
            "the initial weights of this network need a large data set to start from: try "
            "--model alexnet-64, or alexnet-2012, whose larger initial weights start at once"
        )
    return f"try a lower rate (--lr {rate / 5:.2g}), or a look at the images (`minialex data`)"
