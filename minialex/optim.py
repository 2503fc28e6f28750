"""The paper's stochastic gradient descent (section 5), and learning-rate schedules.

A schedule is a pure function of (recipe, progress in epochs, validation errors so far), so a
resumed run needs no schedule state.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import cos, pi

from minialex.errors import unknown
from minialex.models.recipe import Recipe
from minialex.tree import Tree


@dataclass(frozen=True)
class Rates:
    """The learning rates of one step; `layers` overrides the weights' rate by layer."""

    weight: float
    bias: float
    colour_noise: float
    layers: Mapping[str, float] = field(default_factory=dict)

    def of(self, layer: str, parameter: str) -> float:
        return self.bias if parameter == "bias" else self.layers.get(layer, self.weight)


@dataclass(frozen=True)
class SGD:
    """v <- momentum v - decay ε w - ε g; w <- w + v: the rate ε sits inside the velocity.

    So after a drop of the rate the old velocity keeps its larger scale for some ten steps, unlike
    in libraries that multiply the velocity by the rate.
    """

    recipe: Recipe

    def start(self, b, params: Tree) -> Tree:
        """Velocities of zero."""
        return {
            layer: {name: b.zeros_like(value) for name, value in of_layer.items()}
            for layer, of_layer in params.items()
        }

    def update(
        self, b, params: Tree, velocities: Tree, grads: Tree, rates: Rates, scale: float = 1.0
    ) -> None:
        """One step; `params` and `velocities` hold the new arrays afterwards.

        The gradients are `scale` times what they should be (see `LossScale`).
        """
        places = [(layer, name) for layer, of_layer in params.items() for name in of_layer]
        updates = [
            (
                params[layer][name],
                velocities[layer][name],
                grads[layer][name],
                self.rate(rates, layer, name),
                self.decay(layer, name),
            )
            for layer, name in places
        ]
        updated = b.sgd_updates(updates, self.recipe.momentum, 1 / scale)
        for (layer, name), (weight, velocity) in zip(places, updated, strict=True):
            params[layer][name], velocities[layer][name] = weight, velocity

    def rate(self, rates: Rates, layer: str, parameter: str) -> float:
        """The learning rate of one parameter."""
        return rates.of(layer, parameter) * self.recipe.layer_rates.get(layer, 1.0)

    def decay(self, layer: str, parameter: str) -> float:
        """The weight decay of one parameter."""
        share = self.recipe.bias_decay if parameter == "bias" else 1.0
        return self.recipe.weight_decay * share * self.recipe.layer_decays.get(layer, 1.0)

    def penalty(self, b, params: Tree) -> float:
        """The L2 term that the decay is the gradient of: Σ (decay / 2) |w|²."""
        return sum(
            0.5 * self.decay(layer, name) * b.sum_of_squares(value)
            for layer, of_layer in params.items()
            for name, value in of_layer.items()
            if self.decay(layer, name)
        )


@dataclass(frozen=True)
class LossScale:
    """What the loss is multiplied by before the backward pass in half precision (fp16).

    So that small gradients do not become zero. A step whose gradients overflow is left out and the
    scale halved; after `patience` good steps in a row it is doubled.
    """

    value: float = 2.0**15
    good_steps: int = 0
    patience: int = 1000

    def after(self, overflow: bool) -> "LossScale":
        """The scale for the next step."""
        if overflow:
            return LossScale(max(1.0, self.value / 2), 0, self.patience)
        if self.good_steps + 1 < self.patience:
            return LossScale(self.value, self.good_steps + 1, self.patience)
        return LossScale(min(2.0**24, self.value * 2), 0, self.patience)


# ------------------------------------------------------------------------------------ schedules

Schedule = Callable[[Recipe, float, Sequence[float]], Rates]


def _uniform(recipe: Recipe, factor: float) -> Rates:
    rate = recipe.lr * factor
    return Rates(rate, rate * recipe.bias_rate, recipe.colour_noise)


def constant(recipe: Recipe, epoch: float, errors: Sequence[float]) -> Rates:
    """The same rate throughout."""
    return _uniform(recipe, 1.0)


def plateau(recipe: Recipe, epoch: float, errors: Sequence[float]) -> Rates:
    """Divided by ten when the validation error stops improving, three times at most (section 5)."""
    return _uniform(recipe, 0.1 ** min(3, plateau_drops(errors, recipe.patience)))


def plateau_drops(errors: Sequence[float], patience: int) -> int:
    """How often `patience` epochs in a row brought no new best error."""
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


def cosine(recipe: Recipe, epoch: float, errors: Sequence[float]) -> Rates:
    """Half a cosine from the full rate to zero."""
    return _uniform(recipe, 0.5 * (1 + cos(pi * min(1.0, epoch / recipe.epochs))))


@dataclass(frozen=True)
class HandSchedule:
    """The changes made by hand in the runs behind the paper's tables, by epoch.

    From `first` the weights' rate is a tenth, from `second` a hundredth; from `slow` the first
    layer's weights have a thousandth and the colour noise is off; from `freeze` the first layer's
    weights stand still; from `third` all weights have a thousandth. Biases start at twice the rate
    and keep it, or end at `last_bias` of it (the notes do not say from when: here, from `third`).
    A run of other than `epochs` epochs stretches the epochs in proportion.
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
            layers["conv1"] = 0.0 if at >= self.freeze else 0.001 * recipe.lr
        bias = recipe.lr * recipe.bias_rate * (self.last_bias if ended else 1.0)
        noise = 0.0 if at >= self.slow else recipe.colour_noise
        return Rates(recipe.lr * factor, bias, noise, layers)


def dexp(recipe: Recipe, epoch: float, errors: Sequence[float]) -> Rates:
    """The later hands-off schedule: four plateaus down to 1/250, biases two down to 1/10."""
    progress = min(epoch / recipe.epochs, 1 - 1e-9)
    weight = recipe.lr * 250 ** (-int(progress * 4) / 3)
    bias = recipe.lr * recipe.bias_rate * 10.0 ** -int(progress * 2)
    return Rates(weight, bias, recipe.colour_noise)


SCHEDULES: dict[str, Schedule] = {
    "constant": constant,
    "plateau": plateau,
    "step": step,
    "cosine": cosine,
    "2010": HandSchedule(93, 23, 51, 68, 72, 78, last_bias=0.1),
    "2012": HandSchedule(91, 25, 51, 67, 72, 79),
    "2012-half": HandSchedule(96, 20, 48, 66, 72, None),
    "dexp": dexp,
}


def schedule(name: str) -> Schedule:
    """The schedule called `name`."""
    if name not in SCHEDULES:
        raise unknown("schedule", name, SCHEDULES)
    return SCHEDULES[name]
