"""The paper's stochastic gradient descent (section 5)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from minialex.models.recipe import Recipe
from minialex.tree import Tree, leaves, map_tree


@dataclass(frozen=True)
class Rates:
    """The learning rates of one step; `layers` overrides the weights' rate by layer."""

    weight: float
    bias: float
    colour_noise: float
    layers: Mapping[str, float] = field(default_factory=dict)

    def of(self, layer: str, parameter: str) -> float:
        """The rate of one parameter."""
        return self.bias if parameter == "bias" else self.layers.get(layer, self.weight)

    def scaled(self, factor: float) -> "Rates":
        """The same with every learning rate times `factor`."""
        layers = {name: rate * factor for name, rate in self.layers.items()}
        return replace(self, weight=self.weight * factor, bias=self.bias * factor, layers=layers)


class Updatable(Protocol):
    """What holds parameters: a backend, or `Devices`."""

    def zeros_like(self, x: Any) -> Any: ...
    def sum_of_squares(self, x: Any) -> float: ...
    def sgd_updates(self, updates: Sequence[tuple], momentum: float) -> list[tuple[Any, Any]]: ...


@dataclass(frozen=True)
class SGD:
    """v <- momentum v - decay ε w - ε g; w <- w + v: the rate ε sits inside the velocity.

    So after a drop of the rate the old velocity keeps its larger scale for some ten steps, unlike
    in libraries that multiply the velocity by the rate.
    """

    recipe: Recipe

    def start(self, b: Updatable, params: Tree) -> Tree:
        """Velocities of zero."""
        return map_tree(b.zeros_like, params)

    def update(
        self, b: Updatable, params: Tree, velocities: Tree, grads: Tree, rates: Rates
    ) -> None:
        """One step; `params` and `velocities` hold the new arrays afterwards."""
        # layers without gradients are frozen
        names = [(layer, name) for layer, name, _ in leaves(params) if layer in grads]
        updates = [
            (
                params[layer][name],
                velocities[layer][name],
                grads[layer][name],
                self.rate(rates, layer, name),
                self.decay(layer, name),
            )
            for layer, name in names
        ]
        updated = b.sgd_updates(updates, self.recipe.momentum)
        for (layer, name), (weight, velocity) in zip(names, updated, strict=True):
            params[layer][name], velocities[layer][name] = weight, velocity

    def rate(self, rates: Rates, layer: str, parameter: str) -> float:
        """The learning rate of one parameter."""
        return rates.of(layer, parameter) * _own(self.recipe.layer_rates, layer, parameter)

    def decay(self, layer: str, parameter: str) -> float:
        """The weight decay of one parameter."""
        share = self.recipe.bias_decay if parameter == "bias" else 1.0
        return self.recipe.weight_decay * share * _own(self.recipe.layer_decays, layer, parameter)

    def penalty(self, b: Updatable, params: Tree) -> float:
        """The L2 term that the decay is the gradient of: Σ (decay / 2) |w|²."""
        return sum(
            0.5 * self.decay(layer, name) * b.sum_of_squares(value)
            for layer, name, value in leaves(params)
            if self.decay(layer, name)
        )


def _own(factors: Mapping[str, float], layer: str, parameter: str) -> float:
    """The factor of "layer.parameter", or else of the layer."""
    return factors.get(f"{layer}.{parameter}", factors.get(layer, 1.0))
