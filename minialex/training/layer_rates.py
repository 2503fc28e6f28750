"""A run's own learning rates by layer, as fine-tuning in the paper's pre-training had them."""

from collections.abc import Mapping
from dataclasses import replace

from minialex.errors import InputError, unknown
from minialex.models.recipe import Recipe
from minialex.network import Network


def applied(
    recipe: Recipe, network: Network, rates: Mapping[str, float], freeze: str | None
) -> Recipe:
    """`recipe` with `rates`, the factors of a layer or "layer.parameter"; others are kept.

    InputError for a name that the network does not train; it freezes all up to `freeze`.
    """
    shapes = network.trainable(network.parameter_shapes())
    frozen = {name for name, _ in network.until(freeze).layers} if freeze is not None else ()
    for name in rates:
        layer, dot, parameter = name.rpartition(".") if name not in shapes else (name, "", "")
        if layer not in shapes or (dot and parameter not in shapes[layer]):
            raise unknown("layer with parameters", name, tuple(shapes))
        if layer in frozen:
            raise InputError(f"{layer} is frozen by `freeze`: it has no learning rate of its own")
    if not rates:
        return recipe
    others = {
        name: rate
        for name, rate in recipe.layer_rates.items()
        # a parameter's own comes before its layer's
        if name.rpartition(".")[0] not in rates or _is_none(name, recipe.layer_rates)
    }
    return replace(recipe, layer_rates={**others, **rates})


def _is_none(name: str, rates: Mapping[str, float]) -> bool:
    """Whether this is the bias of a layer without one, such as Caffe's: 0, and not trained."""
    layer, _, parameter = name.rpartition(".")
    weight = rates.get(f"{layer}.weight", rates.get(layer, 1.0))
    return parameter == "bias" and rates[name] == 0 != weight
