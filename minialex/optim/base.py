"""Base class of the optimisers, the learning rates of a step, and what they need of a backend.

An optimiser keeps its state in slots: named trees of arrays with the structure of the parameters.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from minialex.models.recipe import Recipe
from minialex.tree import Tree, leaves, map_tree

Slots = dict[str, Tree]


@dataclass(frozen=True)
class Rates:
    """The learning rates of one step; a parameter whose rate is 0 is not updated.

    `layers` overrides the weights' rate by layer, and any rate by "layer.parameter".
    """

    weight: float
    bias: float
    colour_noise: float
    layers: Mapping[str, float] = field(default_factory=dict)

    def of(self, layer: str, parameter: str) -> float:
        """The learning rate of one parameter."""
        usual = self.bias if parameter == "bias" else self.layers.get(layer, self.weight)
        return self.layers.get(f"{layer}.{parameter}", usual)

    def scaled(self, factor: float) -> "Rates":
        """The same with every learning rate times `factor`."""
        layers = {name: rate * factor for name, rate in self.layers.items()}
        return replace(self, weight=self.weight * factor, bias=self.bias * factor, layers=layers)


class Updatable(Protocol):
    """What holds parameters: a backend, or `Devices`."""

    def zeros_like(self, x: Any) -> Any: ...
    def sum_of_squares(self, x: Any) -> float: ...
    def sgd_updates(self, updates: Sequence[tuple], momentum: float) -> list[tuple[Any, Any]]: ...


class Placed(Updatable, Protocol):
    """What holds parameters on one device or several: `Devices`."""

    def updates(
        self, function: Callable[[Any, Sequence[tuple]], list[tuple]], updates: Sequence[tuple]
    ) -> list[tuple]: ...


@dataclass(frozen=True)
class Optimizer(ABC):
    """Updates parameters by gradients, with a recipe's rates and decays."""

    recipe: Recipe

    @property
    @abstractmethod
    def slots(self) -> tuple[str, ...]:
        """The names of its slots, which start at zero."""

    @property
    def compilable(self) -> bool:
        """Whether a backend that compiles steps supports this update."""
        return False

    def changing(self, params: Tree, rates: Rates, step: int) -> list[float]:
        """The numbers of an update that differ between steps, for a compiled one.

        First one for each parameter, in order: its learning rate.
        """
        return [self.rate(rates, layer, name) for layer, name, _ in leaves(params)]

    def compiled_update(
        self, b: Any, arrays: Sequence[tuple], decays: Sequence[float], changing: Any, guard: Any
    ) -> None:
        """The update as part of a compiled step, in place.

        Each of `arrays` is (weight, its slots ..., gradient, copy): the copy (or None) gets the new
        weight as stored at the backend's precision. `changing` is on the device, in fp16 with
        further rows after the first, for steps that were skipped; `guard` is passed on to the
        backend, chooses the row, and may stop the update.
        """
        raise NotImplementedError(f"{type(self).__name__} has no compiled update")

    def start(self, b: Updatable, trainable: Tree) -> Slots:
        """New slots for these parameters (`Network.trainable`), filled with zeros."""
        return {slot: map_tree(b.zeros_like, trainable) for slot in self.slots}

    @abstractmethod
    def update(
        self, b: Placed, params: Tree, slots: Slots, grads: Tree, rates: Rates, step: int = 0
    ) -> None:
        """One update, after `step` earlier ones; `params` and `slots` then hold the new arrays.

        Steps that were skipped, as in fp16 after an overflow, do not count.
        """

    def _update_arrays(
        self,
        b: Placed,
        params: Tree,
        slots: Slots,
        grads: Tree,
        rates: Rates,
        on_one_device: Callable[[Any, Sequence[tuple]], list[tuple]],
    ) -> None:
        """An update of all arrays by a function of those on one device.

        `on_one_device` gets that device's backend and, for each array, (weight, its slots ...,
        gradient, rate, decay), and returns the new (weight, slots ...). Without a rate, a parameter
        and its slots stay as they are.
        """
        names = [key for key in trained(params, grads) if self.rate(rates, *key)]
        updates = [
            (
                params[layer][name],
                *(slots[slot][layer][name] for slot in self.slots),
                grads[layer][name],
                self.rate(rates, layer, name),
                self.decay(layer, name),
            )
            for layer, name in names
        ]
        updated = b.updates(on_one_device, updates)
        for (layer, name), (weight, *arrays) in zip(names, updated, strict=True):
            params[layer][name] = weight
            for slot, array in zip(self.slots, arrays, strict=True):
                slots[slot][layer][name] = array

    def rate(self, rates: Rates, layer: str, parameter: str) -> float:
        """The learning rate of one parameter."""
        return rates.of(layer, parameter) * _own(self.recipe.layer_rates, layer, parameter)

    def decay(self, layer: str, parameter: str) -> float:
        """The weight decay of one parameter."""
        share = self.recipe.bias_decay if parameter == "bias" else 1.0
        return self.recipe.weight_decay * share * _own(self.recipe.layer_decays, layer, parameter)

    def penalty(self, b: Updatable, params: Tree) -> float:
        """The L2 term whose gradient is the decay: Σ (decay / 2) |w|²."""
        return sum(
            0.5 * self.decay(layer, name) * b.sum_of_squares(value)
            for layer, name, value in leaves(params)
            if self.decay(layer, name)
        )


def _own(factors: Mapping[str, float], layer: str, parameter: str) -> float:
    """The factor of "layer.parameter", or else of the layer."""
    return factors.get(f"{layer}.{parameter}", factors.get(layer, 1.0))


def trained(params: Tree, grads: Tree) -> list[tuple[str, str]]:
    """(layer, parameter) of all gradients; layers without any are frozen."""
    return [(layer, name) for layer, name, _ in leaves(params) if name in grads.get(layer, {})]
