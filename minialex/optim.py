"""The paper's stochastic gradient descent (section 5), and optimisers of a user's own.

What an optimiser keeps from step to step is in slots: trees of arrays like the parameters, by name.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from minialex.errors import InputError
from minialex.models.recipe import Recipe
from minialex.tree import Tree, leaves, map_tree
from minialex.utils.plugins import Registry, run

Slots = dict[str, Tree]


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


class Placed(Updatable, Protocol):
    """What holds parameters on one device or several: `Devices`."""

    def updates(
        self, function: Callable[[Any, Sequence[tuple]], list[tuple]], updates: Sequence[tuple]
    ) -> list[tuple]: ...


@dataclass(frozen=True)
class Optimizer(ABC):
    """How gradients change parameters, with a recipe's rates and decays."""

    recipe: Recipe

    @property
    @abstractmethod
    def slots(self) -> tuple[str, ...]:
        """The names of its slots, which are zeros at the start."""

    @property
    def compilable(self) -> bool:
        """Whether a backend that compiles steps knows this update."""
        return False

    def start(self, b: Updatable, params: Tree) -> Slots:
        """Slots of zeros."""
        return {slot: map_tree(b.zeros_like, params) for slot in self.slots}

    @abstractmethod
    def update(
        self, b: Placed, params: Tree, slots: Slots, grads: Tree, rates: Rates, step: int = 0
    ) -> None:
        """One update, after `step` others; `params` and `slots` hold the new arrays afterwards."""

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


def _trained(params: Tree, grads: Tree) -> list[tuple[str, str]]:
    """(layer, parameter) of all that have gradients: layers without any are frozen."""
    return [(layer, name) for layer, name, _ in leaves(params) if layer in grads]


VELOCITY = "velocity"


@dataclass(frozen=True)
class SGD(Optimizer):
    """v <- momentum v - decay ε w - ε g; w <- w + v: the rate ε sits inside the velocity.

    So after a drop of the rate the old velocity keeps its larger scale for some ten steps, unlike
    in libraries that multiply the velocity by the rate.
    """

    @property
    def slots(self) -> tuple[str, ...]:
        return (VELOCITY,)

    @property
    def compilable(self) -> bool:
        return True

    def update(
        self, b: Updatable, params: Tree, slots: Slots, grads: Tree, rates: Rates, step: int = 0
    ) -> None:
        velocities, names = slots[VELOCITY], _trained(params, grads)
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


@dataclass(frozen=True)
class Own(Optimizer):
    """An optimiser that a user plugged in, and where it is to be found.

    function(b, weight, gradient, slots, rate, decay, step) -> weight, slots: of one array, with
    the slots {name: array}, after `step` other updates. Its attribute `slots` names them.
    """

    function: Callable[..., Any]
    source: str

    @property
    def slots(self) -> tuple[str, ...]:
        return _slots_of(self.function)

    def update(
        self, b: Placed, params: Tree, slots: Slots, grads: Tree, rates: Rates, step: int = 0
    ) -> None:
        names = _trained(params, grads)
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
        updated = b.updates(partial(self._on_one_device, step), updates)
        for (layer, name), (weight, *arrays) in zip(names, updated, strict=True):
            params[layer][name] = weight
            for slot, array in zip(self.slots, arrays, strict=True):
                slots[slot][layer][name] = array

    def _on_one_device(self, step: int, b: Any, updates: Sequence[tuple]) -> list[tuple]:
        made = []
        for weight, *arrays, gradient, rate, decay in updates:
            before = dict(zip(self.slots, arrays, strict=True))
            what = f"the optimizer {self.source}"
            found = run(what, self.function, b, weight, gradient, before, rate, decay, step)
            made.append(self._checked(found, weight))
        return made

    def _checked(self, found: Any, weight: Any) -> tuple:
        """(weight, array of each slot); InputError for anything else."""
        if not isinstance(found, tuple) or len(found) != 2 or not isinstance(found[1], dict):
            raise InputError(
                f"the optimizer {self.source} gives {type(found).__name__}: it must give the "
                "weight and its slots, {name: array}"
            )
        after, slots = found
        if set(slots) != set(self.slots):
            raise InputError(
                f"the optimizer {self.source} gives the slots {sorted(slots)}: it has "
                f"{sorted(self.slots)}"
            )
        for name, array in {"the weight": after, **slots}.items():
            kind = getattr(array, "shape", ()), str(getattr(array, "dtype", type(array).__name__))
            if kind != (weight.shape, str(weight.dtype)):
                raise InputError(
                    f"the optimizer {self.source} gives {name} as {kind[1]} {kind[0]}: it must be "
                    f"{weight.dtype} {weight.shape}"
                )
        return (after, *(slots[name] for name in self.slots))


def _slots_of(function: Any) -> tuple[Any, ...]:
    names = getattr(function, "slots", ())
    return tuple(names) if isinstance(names, tuple | list) else (names,)


_RESERVED = {"average", "preprocessing"}  # names of other arrays in the state's file


def _made(given: Any, source: str) -> Callable[[Recipe], Optimizer]:
    """What makes the optimiser that a user plugs in: a function, a class, or an object of one."""
    if isinstance(given, type) and issubclass(given, Optimizer):
        return given
    function = run(f"the optimizer {source}", given) if isinstance(given, type) else given
    names = _slots_of(function)
    wrong = [name for name in names if not isinstance(name, str) or not name.isidentifier()]
    wrong = wrong or sorted(_RESERVED & set(names))
    if wrong or len(set(names)) < len(names):
        raise InputError(
            f"the optimizer {source} has the slots {names!r}: give a tuple of different names, "
            f"other than {' and '.join(sorted(_RESERVED))}"
        )
    if not callable(function):
        raise InputError(f"the optimizer {source} cannot be called: give a function or a class")
    return partial(Own, function=function, source=source)


DEFAULT = "sgd"
_BUILT_IN: dict[str, Callable[[Recipe], Optimizer]] = {DEFAULT: SGD}
PLUGINS: Registry[Callable[[Recipe], Optimizer]] = Registry(
    "optimizer", "--optimizer", _BUILT_IN, _made
)


def register(name: str, optimizer: Any) -> None:
    """Make `optimizer` the one called `name` in this process.

    It is a function (b, weight, gradient, slots, rate, decay, step) -> weight, slots, or a class
    whose objects are called so; its attribute `slots` names the arrays of zeros that each
    parameter starts with. A package offers one by an entry point of "minialex.optimizers".
    """
    PLUGINS.register(name, optimizer)


def use(optimizer: Any) -> Any:
    """The name of one given as a name, a function, FILE.py:NAME or package.module:NAME."""
    return PLUGINS.use(optimizer)


def get(name: str, recipe: Recipe) -> Optimizer:
    """The optimiser called "sgd" or as it was registered, with a recipe's rates and decays."""
    return PLUGINS.get(name)(recipe)
