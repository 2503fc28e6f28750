"""Learning-rate schedules: pure functions of the recipe, the epoch, and the errors so far.

A resumed run therefore needs no schedule state. To add a schedule, write a function here and an
entry in `SCHEDULES`; users register their own, or name it as FILE.py:FUNCTION.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, isfinite, pi
from typing import Any

from minialex.errors import InputError
from minialex.models.recipe import Recipe
from minialex.optim import Rates
from minialex.utils.arguments import plain
from minialex.utils.plugins import Registry, run

# (recipe, epochs done including the fraction, validation top-1 error per epoch) -> rates
Schedule = Callable[[Recipe, float, Sequence[float]], Rates]


def _uniform(recipe: Recipe, factor: float) -> Rates:
    rate = recipe.lr * factor
    return Rates(rate, rate * recipe.bias_rate, recipe.colour_noise)


def constant(recipe: Recipe, epoch: float, errors: Sequence[float]) -> Rates:
    """A constant rate."""
    return _uniform(recipe, 1.0)


def plateau(recipe: Recipe, epoch: float, errors: Sequence[float]) -> Rates:
    """Divided by ten when the validation error stops improving, three times at most (section 5)."""
    return _uniform(recipe, 0.1 ** min(3, plateau_drops(errors, recipe.patience)))


def plateau_drops(errors: Sequence[float], patience: int) -> int:
    """How many times `patience` epochs in a row brought no new best error."""
    drops, waited, best = 0, 0, float("inf")
    for error in errors:
        waited = 0 if error < best else waited + 1
        best = min(best, error)
        if waited == patience:
            drops, waited = drops + 1, 0
    return drops


def step(recipe: Recipe, epoch: float, errors: Sequence[float]) -> Rates:
    """Divided by ten after each third of the epochs."""
    return _uniform(recipe, 0.1 ** int(min(2, 3 * epoch // recipe.epochs)))


@dataclass(frozen=True)
class Falls:
    """Divided by ten at the epochs `at` of a run of `epochs`; other lengths stretch them."""

    epochs: float
    at: tuple[float, ...]

    def __call__(self, recipe: Recipe, epoch: float, errors: Sequence[float]) -> Rates:
        reached = epoch * self.epochs / recipe.epochs
        return _uniform(recipe, 0.1 ** sum(reached >= fall for fall in self.at))


def cosine(recipe: Recipe, epoch: float, errors: Sequence[float]) -> Rates:
    """Cosine annealing from the full rate to zero."""
    return _uniform(recipe, 0.5 * (1 + cos(pi * min(1.0, epoch / recipe.epochs))))


def poly(recipe: Recipe, epoch: float, errors: Sequence[float]) -> Rates:
    """Falls to zero with the square of the epochs that are left, as in runs with large batches."""
    return _uniform(recipe, max(0.0, 1 - epoch / recipe.epochs) ** 2)


@dataclass(frozen=True)
class HandSchedule:
    """The manual changes, by epoch, in the runs behind the paper's tables.

    The weights' rate is divided by 10 at epoch `first`, by 100 at `second` and by 1000 at `third`.
    At `slow` the rate of the first layer's weights is divided by 1000 and the colour noise is
    turned off; at `freeze` that layer is frozen. Biases start at twice the rate and keep it, or
    end at `last_bias` of it (the notes do not say when: here, at `third`). A run with a number of
    epochs other than `epochs` scales these epochs in proportion.
    """

    epochs: int
    first: int
    second: int
    slow: int
    freeze: int
    third: int | None
    last_bias: float = 1.0

    def __call__(self, recipe: Recipe, epoch: float, errors: Sequence[float]) -> Rates:
        at = epoch * self.epochs / recipe.epochs
        ended = self.third is not None and at >= self.third
        factor = 0.001 if ended else 0.01 if at >= self.second else 0.1 if at >= self.first else 1
        layers = {}
        if at >= self.slow:
            layers["conv1"] = 0.001 * recipe.lr
        if at >= self.freeze:
            layers = {"conv1": 0.0, "conv1.bias": 0.0}
        bias = recipe.lr * recipe.bias_rate * (self.last_bias if ended else 1.0)
        noise = 0.0 if at >= self.slow else recipe.colour_noise
        return Rates(recipe.lr * factor, bias, noise, layers)


def dexp(recipe: Recipe, epoch: float, errors: Sequence[float]) -> Rates:
    """The authors' later automatic schedule: four levels to 1/250; for biases, two to 1/10."""
    progress = min(epoch / recipe.epochs, 1 - 1e-9)
    weight = recipe.lr * 250 ** (-int(progress * 4) / 3)
    bias = recipe.lr * recipe.bias_rate * 10.0 ** -int(progress * 2)
    return Rates(weight, bias, recipe.colour_noise)


SCHEDULES: dict[str, Schedule] = {
    "constant": constant,
    "plateau": plateau,
    "step": step,
    "cosine": cosine,
    "poly": poly,
    "2010": HandSchedule(93, 23, 51, 68, 72, 78, last_bias=0.1),
    "2012": HandSchedule(91, 25, 51, 67, 72, 79),
    "2012-half": HandSchedule(96, 20, 48, 66, 72, None),
    "dexp": dexp,
    "caffe": Falls(450_000, (100_000, 200_000, 300_000, 400_000)),  # updates: 90 epochs
    "cifar10": Falls(140, (120, 130)),
}


@dataclass(frozen=True)
class Own:
    """A user's schedule, which returns the rates or a factor of the recipe's rate."""

    function: Callable[[Recipe, float, Sequence[float]], Rates | float]
    source: str

    def __call__(self, recipe: Recipe, epoch: float, errors: Sequence[float]) -> Rates:
        found = plain(run(f"the schedule {self.source}", self.function, recipe, epoch, errors))
        if isinstance(found, Rates):
            return found
        if isinstance(found, bool) or not isinstance(found, int | float) or not isfinite(found):
            raise InputError(
                f"the schedule {self.source} returned {found!r} in epoch {epoch:g}: it must return "
                "a factor of the recipe's rate, or Rates"
            )
        return _uniform(recipe, float(found))


PLUGINS: Registry[Schedule] = Registry("schedule", "--schedule", SCHEDULES, Own)


def register(name: str, schedule: Callable[[Recipe, float, Sequence[float]], Any]) -> None:
    """Register `schedule(recipe, epoch, errors)` under `name` in this process.

    It returns `Rates`, or a factor of the recipe's rate. A package can provide one through an entry
    point of the group "minialex.schedules".
    """
    PLUGINS.register(name, schedule)


def use(schedule: Any) -> Any:
    """The name of a schedule given as a name, a function, FILE.py:NAME or package.module:NAME."""
    return PLUGINS.use(schedule)


def extension(name: str) -> str:
    """How extending a run changes the rates of its schedule: the end of a sentence."""
    if name in ("constant", "plateau"):
        return ", which continues at the last learning rate"
    if name not in SCHEDULES:
        return "; your schedule sets the learning rates"
    return (
        f" (the schedule {name!r} is stretched over the whole run, so the learning rate rises "
        "again; use `--schedule constant --lr RATE` to continue at a fixed learning rate)"
    )


def rates(recipe: Recipe, epoch: float, errors: Sequence[float], step: int | None = None) -> Rates:
    """The rates of the recipe's schedule, including warm-up; itself a `Schedule`.

    `step`: updates so far, for `warmup_steps`, which last at most half the epochs; None ignores
    them.
    """
    found = get(recipe.schedule)(recipe, epoch, errors)
    risen = _risen(epoch, recipe.warmup)
    if step is not None:
        at_least = max(_risen(step, recipe.warmup_steps), _risen(epoch, recipe.epochs / 2))
        risen = min(risen, at_least)
    if risen == 1:
        return found
    return found.scaled(risen**2 if recipe.warmup_shape == "quadratic" else risen)


def _risen(at: float, length: float) -> float:
    """The share of the rate that a warm-up of this length has reached."""
    return 1.0 if at >= length else (at + 0.02 * length) / (1.02 * length)


def get(name: str) -> Schedule:
    """The schedule called `name`."""
    return PLUGINS.get(name)
