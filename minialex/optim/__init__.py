"""Optimisers: the paper's SGD, Adam, LARS for large batches, and users' own."""

from collections.abc import Callable
from functools import partial
from typing import Any

from minialex.models.recipe import Recipe
from minialex.optim.adam import Adam
from minialex.optim.base import Optimizer, Rates, Slots
from minialex.optim.lars import LARS
from minialex.optim.own import Own, plugged_in
from minialex.optim.sgd import SGD, VELOCITY
from minialex.utils.plugins import Registry

__all__ = [
    "ADAM",
    "DEFAULT",
    "LARS",
    "PLUGINS",
    "SGD",
    "VELOCITY",
    "WITH_MOMENTUM",
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
_BUILT_IN: dict[str, Callable[[Recipe], Optimizer]] = {
    DEFAULT: SGD,
    ADAM: Adam,
    "lars": LARS,
    "lars-without-decay": partial(LARS, decay_in_norm=False),  # in the norm, not in the update
}
WITH_MOMENTUM = (DEFAULT, "lars", "lars-without-decay")
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
    """The optimiser "sgd", "adam", "lars" or a registered one, with a recipe's rates and decays."""
    return PLUGINS.get(name)(recipe)
