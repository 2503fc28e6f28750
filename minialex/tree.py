"""Trees {layer: {parameter: value}}, which hold parameters, gradients and velocities."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Tree = dict[str, dict[str, Any]]


def leaves(tree: Tree) -> Iterator[tuple[str, str, Any]]:
    """(layer, parameter, value) of every value, in order."""
    for layer, parameters in tree.items():
        for name, value in parameters.items():
            yield layer, name, value


def map_tree(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """Apply `function` to every value and the corresponding values of `others`."""
    return {
        layer: {
            name: function(value, *(other[layer][name] for other in others))
            for name, value in parameters.items()
        }
        for layer, parameters in tree.items()
    }


def flatten(tree: Tree, prefix: str = "") -> dict[str, Any]:
    """{"layer.parameter": value}, with `prefix` before each name, as in a weight file."""
    return {f"{prefix}{layer}.{name}": value for layer, name, value in leaves(tree)}


def unflatten(flat: Mapping[str, Any], like: Tree, prefix: str = "") -> Tree:
    """Invert `flatten` for the layers and parameters of `like`; KeyError names a missing one."""
    return {
        layer: {name: flat[f"{prefix}{layer}.{name}"] for name in parameters}
        for layer, parameters in like.items()
    }
