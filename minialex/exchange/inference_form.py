"""A network in the form of other programs.

Dropout scales in training, input scale is in layer 1, batch normalisation in the weights before it.
"""

from dataclasses import replace

import numpy as np

from minialex import models
from minialex.errors import InputError
from minialex.exchange.portable import PortableModel
from minialex.exchange.tensors import BatchNorm as StoredNorm
from minialex.layers import (
    AveragePool,
    BatchNorm,
    ChannelScale,
    Conv2D,
    Dense,
    Dropout,
    Layer,
    MaxPool,
    ReLU,
)
from minialex.models import Model, layer_list
from minialex.network import Network
from minialex.tree import Tree

# a positive factor passes through them
_HOMOGENEOUS = (Dropout, ReLU, MaxPool, AveragePool)


def with_inverted_dropout(portable: PortableModel) -> PortableModel:
    """The same function, with every dropout in the form of PyTorch and Caffe.

    Where units are multiplied by `keep` at test time here, the next layer's weights are multiplied
    instead, which preserves the outputs in testing and training. With keep = 0.5 it is exact.
    """
    network = portable.model.network
    params: Tree = {name: dict(of) for name, of in portable.params.items()}
    layers: list[tuple[str, Layer]] = []
    factor = 1.0
    for name, layer in network.layers:
        if isinstance(layer, Dropout) and not layer.inverted:
            factor *= layer.keep
            layer = replace(layer, inverted=True)
        elif factor != 1.0 and isinstance(layer, (Conv2D, Dense)):
            weight = params[name]["weight"]
            params[name]["weight"] = weight * weight.dtype.type(factor)
            factor = 1.0
        elif factor != 1.0 and not isinstance(layer, _HOMOGENEOUS):
            kind = type(layer).__name__
            raise InputError(f"a dropout's scale cannot pass through {name} ({kind})")
        layers.append((name, layer))
    if factor != 1.0:
        raise InputError("the network ends in a dropout: leave it out")
    changed = replace(network, layers=tuple(layers))
    return replace(portable, model=_of(changed, portable), params=params)


def without_batch_norm(portable: PortableModel) -> PortableModel:
    """The same function at test time, with every batch normalisation in the weights before it.

    Raises InputError for one that does not come right after a convolution or dense layer.
    """
    network = portable.model.network
    params: Tree = {name: dict(of) for name, of in portable.params.items()}
    layers: list[tuple[str, Layer]] = []
    for name, layer in network.layers:
        if not isinstance(layer, BatchNorm):
            layers.append((name, layer))
            continue
        before, kind = layers[-1] if layers else ("", None)
        if not isinstance(kind, (Conv2D, Dense)):
            raise InputError(
                f"{name}, a batch normalisation, cannot be exported: it does not come right after "
                "a convolution or dense layer, in whose weights it would be stored"
            )
        norm, of = params.pop(name), params[before]
        scale, statistics = norm["weight"], (norm["running_mean"], norm["running_variance"])
        factor, shift = StoredNorm(scale, norm["bias"], *statistics, layer.epsilon).affine()
        of["weight"] = (of["weight"] * factor).astype(np.float32)
        of["bias"] = (of["bias"] * factor + shift).astype(np.float32)
    if len(layers) == len(network.layers):
        return portable
    changed = replace(network, layers=tuple(layers))
    return replace(portable, model=_of(changed, portable), params=params, velocities=None)


def standard_form(network: Network) -> Network:
    """The network as these two leave it, without its weights; other batch normalisation stays."""
    kept: list[tuple[str, Layer]] = []
    for name, layer in network.layers:
        if isinstance(layer, BatchNorm) and kept and isinstance(kept[-1][1], (Conv2D, Dense)):
            continue
        if isinstance(layer, Dropout):
            layer = replace(layer, inverted=True)
        kept.append((name, layer))
    return replace(network, layers=tuple(kept))


def _of(network: Network, portable: PortableModel) -> Model:
    """A model of `network` that can be rebuilt from a name and options, or else a list of layers.

    VGG has an option for its dropout; other networks become lists of layers.
    """
    before, recipe = portable.model, portable.preprocessing.recipe
    for more in ({}, {"inverted": True}):
        try:
            model = models.stored(before.name, before.classes, {**before.options, **more})
        except InputError:
            continue  # a network without this option, or whose code is not available
        if model.network == network:
            return replace(model, recipe=recipe)
    model = models.get(layer_list.NAME, before.classes, **layer_list.options_of(network, recipe))
    return replace(model, recipe=recipe)


def split_scale(network: Network) -> tuple[tuple[float, ...] | None, Network]:
    """The input's scale factors by channel, if that is the first layer, and the other layers."""
    _, first = network.layers[0]
    if not isinstance(first, ChannelScale):
        return None, network
    return first.factors, replace(network, layers=network.layers[1:])
