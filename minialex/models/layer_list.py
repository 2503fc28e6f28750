"""Serialises an unnamed network to plain values and builds it again.

A weight file stores the name of its model and the options it was built with. A network read from
another framework's file is the model "layers", and its options are the list of its layers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from typing import Any

from minialex import layers as kinds
from minialex.errors import InputError, unknown
from minialex.layers import Dense, Layer
from minialex.models.recipe import Recipe
from minialex.network import Network

NAME = "layers"

_KINDS: dict[str, Any] = {
    kind.__name__: kind
    for kind in vars(kinds).values()
    if is_dataclass(kind) and isinstance(kind, type) and issubclass(kind, Layer)
}


def options_of(
    network: Network, recipe: Recipe | Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The options with which the model "layers" builds `network`; `recipe` may be partial.

    They are JSON values: {"layers": [[name, kind, {field: value}], ...], "input_shape": [...]}.
    """
    if isinstance(recipe, Recipe):
        usual = asdict(_recipe(network))
        recipe = {name: v for name, v in asdict(recipe).items() if v != usual[name]}
    listed = [
        [name, type(layer).__name__, _plain(asdict(layer))]  # type: ignore
        for name, layer in network.layers
    ]
    return {
        "layers": listed,
        "input_shape": list(network.input_shape),
        **({"recipe": dict(recipe)} if recipe else {}),
    }


def build(
    classes: int,
    layers: Sequence[Sequence[Any]],
    input_shape: Sequence[int],
    recipe: Mapping[str, Any] | None = None,
) -> tuple[Network, Recipe]:
    """The network of a list of layers with `classes` outputs, and its recipe.

    A last dense layer gets as many units as there are classes. Raises InputError for a list that
    is damaged.
    """
    made = tuple(_layer(entry) for entry in layers)
    if made and isinstance(made[-1][1], Dense):
        made = (*made[:-1], (made[-1][0], replace(made[-1][1], units=classes)))
    try:
        network = Network(made, tuple(int(extent) for extent in input_shape))
    except InputError:
        raise
    except (TypeError, ValueError, IndexError, ArithmeticError) as error:
        raise InputError(f"a list of layers cannot be built ({error})") from None
    known = {one.name for one in fields(Recipe)}
    given = dict(recipe or {})
    if odd := sorted(set(given) - known):
        raise unknown("field of a recipe", odd[0], known)
    return network, replace(_recipe(network), **given)


def _recipe(network: Network) -> Recipe:
    """The recipe of a list that comes without one."""
    side = network.input_shape[0]
    return Recipe(resize=side, crop=side, colour_noise=0.0)


def _layer(entry: Sequence[Any]) -> tuple[str, Layer]:
    try:
        name, kind, values = entry
        if kind not in _KINDS:
            raise unknown("kind of layer", kind, _KINDS)
        return str(name), _KINDS[kind](**{k: _value(v) for k, v in values.items()})
    except InputError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"a list of layers has an invalid entry ({error})") from None


def _value(value: Any) -> Any:
    """A field's value; JSON has lists where fields have tuples."""
    return tuple(map(_value, value)) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return list(map(_plain, value)) if isinstance(value, tuple) else value
