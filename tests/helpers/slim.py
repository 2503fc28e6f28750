"""Networks with fewer channels, for tests that do not depend on a network's size."""

from dataclasses import replace
from functools import wraps

from minialex.layers import Conv2D, Dense
from minialex.models.registry import Variant
from minialex.network import Network


def slim(network: Network, by: int) -> Network:
    """The same layers with a `by`-th of the channels and units, and the same classes."""
    last = network.layers[-1][0]
    layers = []
    for name, layer in network.layers:
        if isinstance(layer, Conv2D):
            layer = replace(layer, channels=layer.channels // by)
        elif isinstance(layer, Dense) and name != last:
            layer = replace(layer, units=layer.units // by)
        layers.append((name, layer))
    return replace(network, layers=tuple(layers))


def slim_variant(variant: Variant, by: int = 8) -> Variant:
    """A variant that builds the slim network, with the same options and recipe."""

    @wraps(variant.build)
    def build(*arguments, **options):
        return slim(variant.build(*arguments, **options), by)

    return replace(variant, build=build)


def narrow(network, units=256):
    """`network` with at most so many units in its hidden dense layers, which have 90% of the
    parameters."""
    layers = [
        (name, replace(layer, units=min(layer.units, units)) if isinstance(layer, Dense) else layer)
        for name, layer in network.layers
    ]
    return replace(network, layers=tuple(layers))
