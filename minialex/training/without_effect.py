"""Refuses arguments that another argument makes ineffective, instead of ignoring them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from minialex.errors import InputError
from minialex.models.recipe import Recipe


@dataclass(frozen=True)
class _Rule:
    """`name` changes nothing if it `is_idle`, given all arguments; `usual` is its default."""

    name: str
    usual: Any
    is_idle: Callable[[Mapping[str, Any]], bool]
    sentence: str

    def applies(self, given: Mapping[str, Any]) -> bool:
        value = given.get(self.name, self.usual)
        return value != self.usual and self.is_idle(given)


_RULES = (
    _Rule(
        "margin",
        1.0,
        lambda given: given.get("loss") != "hinge",
        "`margin` has no effect without the hinge loss: leave it out, or choose `loss='hinge'`",
    ),
    _Rule(
        "val_fraction",
        0.1,
        lambda given: given.get("fold") is not None,
        "`val_fraction` has no effect with `fold`, which holds out that fold: leave out one",
    ),
    _Rule(
        "shallow",
        None,
        lambda given: given.get("initial") is not None,
        "`shallow` has no effect with `initial`, which has the weights to start from: leave out "
        "one",
    ),
    _Rule(
        "against_batch",
        None,
        lambda given: given.get("against") is None,
        "`against_batch` has no effect without `against`: leave it out, or give a learning curve",
    ),
    _Rule(
        "mixup",
        None,
        lambda given: given.get("micro_batch") == 1 and given["mixup"] > 0,
        "`mixup` has no effect with a micro-batch of one image, which it mixes with others of the "
        "same micro-batch: leave out one",
    ),
    _Rule(
        "colour_noise",
        None,
        lambda given: given.get("freeze") is not None and given["colour_noise"] > 0,
        "`colour_noise` has no effect with `freeze`: the frozen layers' outputs are computed once, "
        "of unchanged colours; leave out one",
    ),
)


def refuse(given: Mapping[str, Any]) -> None:
    """Raise InputError if an argument of `given` has no effect because of another one."""
    for rule in _RULES:
        if rule.applies(given):
            raise InputError(rule.sentence)


def dropped(given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with such arguments back at their defaults: older versions accepted them."""
    idle = {rule.name: rule.usual for rule in _RULES if rule.applies(given)}
    return {**given, **idle}


def refuse_warmup_shape(shape: str | None, recipe: Recipe) -> None:
    """Raise InputError if the shape of a warm-up is given for a `recipe` without one."""
    if shape is not None and not recipe.warmup and not recipe.warmup_steps:
        raise InputError(
            "`warmup_shape` has no effect without a warm-up, which this run does not have: leave "
            "it out, or give the epochs of one (`warmup`)"
        )
