"""Optimisers: the paper's SGD, Adam, and users' own."""

from collections.abc import Callable
from typing import Any

from minialex.models.recipe import Recipe
from minialex.optim.adam import Adam
from minialex.optim.base import Optimizer, Rates, Slots
from minialex.optim.own import Own, plugged_in
from minialex.optim.sgd import SGD, VELOCITY
from minialex.utils.plugins import Registry

__all__ = [
    "ADAM",
    "DEFAULT",
    "PLUGINS",
    "SGD",
    "VELOCITY",
    "Adam",
    "Optimizer",
    "Own",
    "Rates",
    "Slots",
    "get",
    "register",
    "use",
]

DEFAULT, ADAM = "sgd", "adam"
_BUILT_IN: dict[str, Callable[[Recipe], Optimizer]] = {DEFAULT: SGD, ADAM: Adam}
PLUGINS: Registry[Callable[[Recipe], Optimizer]] = Registry(
    "optimizer", "--optimizer", _BUILT_IN, plugged_in
)


def register(name: str, optimizer: Any) -> None:
    """Register `optimizer` under `name` in this process.

    It is a function (b, weight, gradient, slots, rate, decay, step) -> weight, slots, or a class
    whose objects can be called like that; its attribute `slots` names the arrays, initially zero,
    that each parameter gets. A package can provide one through an entry point of the group
    "minialex.optimizers".
    """
    PLUGINS.register(name, optimizer)


def use(optimizer: Any) -> Any:
    """The name of an optimiser given by name, function, FILE.py:NAME or package.module:NAME."""
    return PLUGINS.use(optimizer)


def get(name: str, recipe: Recipe) -> Optimizer:
    """The optimiser "sgd", "adam" or a registered one, with a recipe's rates and decays."""
    return PLUGINS.get(name)(recipe)
