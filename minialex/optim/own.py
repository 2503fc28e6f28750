"""Users' own optimisers: functions of one array and its slots, and their checks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from minialex.errors import InputError
from minialex.models.recipe import Recipe
from minialex.optim.base import Optimizer, Placed, Rates, Slots
from minialex.tree import Tree
from minialex.utils.plugins import run


@dataclass(frozen=True)
class Own(Optimizer):
    """An optimiser that a user plugged in, and where it is defined.

    function(b, weight, gradient, slots, rate, decay, step) -> weight, slots: for one array and its
    slots {name: array}, after `step` earlier updates. Its attribute `slots` names the slots.
    """

    function: Callable[..., Any]
    source: str

    @property
    def slots(self) -> tuple[str, ...]:
        return _slots_of(self.function)

    def update(
        self, b: Placed, params: Tree, slots: Slots, grads: Tree, rates: Rates, step: int = 0
    ) -> None:
        self._update_arrays(b, params, slots, grads, rates, partial(self._on_one_device, step))

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
                f"the optimizer {self.source} returned {type(found).__name__}: it must return the "
                "weight and its slots, {name: array}"
            )
        after, slots = found
        if set(slots) != set(self.slots):
            raise InputError(
                f"the optimizer {self.source} returned the slots {sorted(slots)}: it has "
                f"{sorted(self.slots)}"
            )
        for name, array in {"the weight": after, **slots}.items():
            kind = getattr(array, "shape", ()), str(getattr(array, "dtype", type(array).__name__))
            if kind != (weight.shape, str(weight.dtype)):
                raise InputError(
                    f"the optimizer {self.source} returned {name} as {kind[1]} {kind[0]}: it "
                    f"must be {weight.dtype} {weight.shape}"
                )
        return (after, *(slots[name] for name in self.slots))


def _slots_of(function: Any) -> tuple[Any, ...]:
    names = getattr(function, "slots", ())
    return tuple(names) if isinstance(names, tuple | list) else (names,)


_RESERVED = {"average", "preprocessing"}  # names of other arrays in the state's file


def plugged_in(given: Any, source: str) -> Callable[[Recipe], Optimizer]:
    """Wraps what a user plugs in: a function, a class, or an object of one."""
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
