"""Detects failed training and recovers: dead units, a loss at random guessing, NaN and Inf.

A run that has stopped learning restarts from its best weights, or from its initial ones if it never
learnt, with zero velocities and a lower rate. After `ATTEMPTS` restarts it ends with advice.
"""

from dataclasses import dataclass

import numpy as np

from minialex import optim
from minialex.backends.base import Array, Backend
from minialex.errors import TrainingError
from minialex.layers import Mode, ReLU
from minialex.network import Network
from minialex.tree import Tree

ATTEMPTS = 3
FACTOR = 0.3  # multiplies the rate at each restart
CHECK_EVERY = 500  # steps, besides the end of each epoch
HORIZON = 50  # steps over which the loss is averaged
AT_CHANCE = 0.985  # times the loss of random guessing: nothing was learnt above it
EQUAL = 1e-6  # relative difference of scores that is rounding in float32
PATIENT = 1500  # this many steps without any learning are not unusual


class NotLearning(TrainingError):
    """A run has stopped learning, or never started; the message gives the symptom."""

    attempts = ATTEMPTS


class NeverLearnt(NotLearning):
    """Restarted only once, since detecting it takes a quarter of the run."""

    attempts = 1


@dataclass(frozen=True)
class Trend:
    """The recent and the lowest training loss, as running averages over `HORIZON` steps."""

    steps: int = 0
    recent: float = 0.0
    lowest: float = float("inf")

    def add(self, loss: float) -> "Trend":
        """The trend after one more step with this loss."""
        steps = self.steps + 1
        recent = self.recent + (loss - self.recent) / min(steps, HORIZON)
        settled = steps >= HORIZON
        return Trend(steps, recent, min(self.lowest, recent) if settled else self.lowest)

    def as_tuple(self) -> tuple[int, float, float]:
        """For a checkpoint."""
        return self.steps, self.recent, self.lowest

    def _tells(self, chance: float) -> bool:
        """Whether it can be compared: a loss of one's own may be 0 or less for random guessing."""
        return self.steps > 0 and chance > 0

    def collapsed(self, chance: float) -> bool:
        """Whether the loss is back at that of random guessing after having been lower."""
        if not self._tells(chance):
            return False
        return self.lowest < 0.85 * chance and self.recent > 0.99 * chance

    def exploded(self, chance: float) -> bool:
        """Whether the loss is far above that of random guessing, though still finite."""
        if not self._tells(chance):
            return False
        return self.recent > (2 if self.steps >= 2 * HORIZON else 100) * chance

    def stuck(self, chance: float, total: int) -> bool:
        """Whether nothing was learnt in `PATIENT` steps and in a quarter of `total`."""
        if not self._tells(chance):
            return False
        return self.steps > max(PATIENT, total // 4) and self.lowest > AT_CHANCE * chance

    def suspicious(self, chance: float) -> bool:
        """Whether checking for dead units is worth the time."""
        if not self._tells(chance):
            return False
        return self.recent > 0.9 * chance


def guessing_frequencies(labels: np.ndarray, classes: int, smoothing: float) -> float:
    """The softmax loss of a network that knows only the classes' shares of the labels (N,).

    With unbalanced classes it is lower than that of random guessing. Dead networks learn that much.
    """
    shares = np.bincount(labels, minlength=classes) / len(labels)
    shares = (1 - smoothing) * shares + smoothing / classes
    return float(-np.sum(shares * np.log(np.where(shares > 0, shares, 1))))


def dead(b: Backend, network: Network, params: Tree, x: Array) -> str | None:
    """What shows that nothing about the images x (N, H, W, C) reaches the scores, or None.

    A ReLU layer that is zero everywhere lets no gradient pass: it stays so. Without one, all units
    may be saturated, or the weights have vanished. In 16 bits, scores can be equal by rounding.
    """
    for stage in network.stages(fused=False):
        x, _ = stage.forward(b, params, x, Mode())
        if isinstance(stage.layer, ReLU) and not np.any(b.to_numpy(x)):
            return f"all units of {stage.name} are 0 for every image"
    scores = b.to_numpy(x)
    if scores.dtype.itemsize < 4 or len(scores) == 1 or not np.all(np.isfinite(scores)):
        return None
    if np.ptp(scores, axis=0).max() <= EQUAL * np.abs(scores).max():
        return "the scores are the same for every image"
    return None


def advice(model: str, optimizer: str, rate: float, restarts: int) -> str:
    """What to try with this network when it does not learn, as the end of a sentence."""
    if model in ("alexnet", "alexnet-single", "bvlc-alexnet"):
        return (
            "the initial weights of this network need a large data set to start from: try "
            "--model alexnet-64, or alexnet-2012, whose larger initial weights start at once"
        )
    if restarts:
        return (
            "as lower learning rates did not help, check the images and their labels "
            "(`minialex data`), or try another network (--model)"
        )
    return (
        f"try a lower learning rate ({rate_options(optimizer, rate / 5)}), or check the images "
        "(`minialex data`)"
    )


def rate_options(optimizer: str, rate: float) -> str:
    """The options that choose this rate and keep the optimiser: `--lr` alone chooses SGD."""
    chosen = "" if optimizer == optim.DEFAULT else f"--optimizer {optimizer} "
    return f"{chosen}--lr {rate:.2g}"
