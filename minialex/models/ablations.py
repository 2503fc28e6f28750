"""The paper's ablations: each makes a network into the one that it is compared with.

They are options of `minialex.models.get` for every named network; a network's own option of the
same name takes precedence. Shapes after a change follow from the layers; what else a change needs
is documented with each function.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from numbers import Integral
from typing import Any

from minialex.errors import InputError, unknown
from minialex.layers import (
    AveragePool,
    Conv2D,
    Dense,
    Dropout,
    Layer,
    MaxPool,
    ReLU,
    ResponseNorm,
    SpatialResponseNorm,
    Tanh,
)
from minialex.network import Network

Named = tuple[tuple[str, Layer], ...]

_POOLS = (MaxPool, AveragePool)
_NORMS = (ResponseNorm, SpatialResponseNorm)


def compared(
    network: Network,
    *,
    activation: str = "relu",
    response_norm: bool = True,
    overlapping_pool: bool = True,
    dropout: bool = True,
    half: bool = False,
    communication: bool = True,
    without: str | None = None,
) -> Network:
    """`network` with the changes that differ from the defaults.

    activation        "tanh" instead of every ReLU (section 3.1)
    response_norm     False: no normalisation of any kind (section 3.3)
    overlapping_pool  False: 2 x 2 windows with stride 2 (section 3.4); see `plain_pooling`
    dropout           False: no dropout layers (section 4.2)
    half              True: one tower with half the channels (section 3.2); see `half_network`
    communication     False: two towers that share only the classifier; see `separate_towers`
    without           "conv3": one convolution removed (section 7); see `without_convolution`
    """
    if activation not in ("relu", "tanh"):
        raise unknown("activation", activation, ("relu", "tanh"))
    if half and not communication:
        raise InputError("half=True leaves one tower, but communication=False needs two")
    if without is not None:
        network = without_convolution(network, without)
    if half:
        network = half_network(network)
    if not communication:
        network = separate_towers(network)
    if not overlapping_pool:
        network = plain_pooling(network)
    left_out = (_NORMS if not response_norm else ()) + ((Dropout,) if not dropout else ())
    layers = tuple(
        (name, layer) for name, layer in network.layers if not isinstance(layer, left_out)
    )
    if activation == "tanh":
        layers = tuple((n, Tanh() if isinstance(l, ReLU) else l) for n, l in layers)
    return replace(network, layers=layers)


_COMPARED = inspect.signature(compared).parameters
OPTIONS = tuple(_COMPARED)[1:]


def require_types(function: Callable[..., Network], options: Mapping[str, Any]) -> None:
    """Raise InputError for an option that is not a flag or a whole number, where one is declared.

    Any text would count as true. Stored networks are built from what they were built from before.
    """
    declared = {**_COMPARED, **inspect.signature(function).parameters}
    for name, value in options.items():
        kind = declared[name].annotation if name in declared else None
        if kind in (bool, "bool") and not (isinstance(value, int) and value in (0, 1)):
            raise InputError(f"option {name} is {value!r}: it must be true or false")
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        if kind in (int, "int") and not whole:
            raise InputError(f"option {name} is {value!r}: it must be a whole number")


def build(function: Callable[..., Network], classes: int, options: dict) -> Network:
    """`function(classes, ...)` with its own options, then `compared` with the rest."""
    named = inspect.Parameter.VAR_KEYWORD
    own = [p.name for p in inspect.signature(function).parameters.values() if p.kind != named]
    other = {name: options[name] for name in OPTIONS if name in options and name not in own}
    mine = {name: value for name, value in options.items() if name not in other}
    for name in mine:
        if name not in own or name == "classes":
            raise unknown("option", name, [n for n in (*own, *OPTIONS) if n != "classes"])
    network = function(classes, **mine)
    return compared(network, **other) if other else network


def half_network(network: Network) -> Network:
    """One tower, half the channels in all convolutions but the last; dense layers unchanged.

    For "alexnet-2012" that gives the 48, 128, 192, 192 and 256 channels of the original's
    comparison.
    """
    convolutions = [name for name, layer in network.layers if isinstance(layer, Conv2D)]
    layers = []
    for name, layer in network.layers:
        if isinstance(layer, Conv2D):
            share = 1 if name == convolutions[-1] else 2
            layer = replace(layer, channels=layer.channels // share, groups=1)
        elif isinstance(layer, ResponseNorm):
            layer = replace(layer, groups=1)
        layers.append((name, layer))
    return replace(network, layers=tuple(layers))


def separate_towers(network: Network) -> Network:
    """Two towers that never communicate, as in the original's run without any (#150).

    Every convolution but the first reads only its own tower, and so do the hidden dense layers (as
    convolutions whose kernel covers the whole input). To compensate, the second convolution has a
    quarter more channels and the first hidden dense layer twice as many units.
    """
    dense = [name for name, layer in network.layers if isinstance(layer, Dense)]
    layers: list[tuple[str, Layer]] = []
    seen = 0
    for (name, layer), shape in zip(network.layers, network.shapes(), strict=False):
        if isinstance(layer, Conv2D):
            seen += 1
            if seen > 1:
                channels = layer.channels * 5 // 4 if seen == 2 else layer.channels
                layer = replace(layer, channels=channels, groups=2)
        elif isinstance(layer, ResponseNorm):
            layer = replace(layer, groups=2)
        elif isinstance(layer, Dense) and name != dense[-1]:
            first = name == dense[0]
            units, side = layer.units * (2 if first else 1), shape[0] if first else 1
            layer = Conv2D(units, side, groups=2, weight_std=layer.weight_std, bias=layer.bias)
        layers.append((name, layer))
    return replace(network, layers=tuple(layers))


def plain_pooling(network: Network) -> Network:
    """2 x 2 windows with stride 2 in every pooling layer, so that they do not overlap.

    If that changes the size of the dense layers' input, the padding of the second convolution is
    reduced by one, and then that of the last one too. For "alexnet-2012" these are the changes of
    the original's run (#147), with feature maps of 28, 26, 13, 11 and 6 pixels.
    """
    wanted = _read_by_dense(network)
    layers = tuple(
        (name, replace(layer, window=2, stride=2) if isinstance(layer, _POOLS) else layer)
        for name, layer in network.layers
    )
    plain = replace(network, layers=layers)
    names = [name for name, layer in layers if isinstance(layer, Conv2D)]
    second, last = names[1:2], names[-1:]
    for narrower in ([], second, second + last):
        found = _padded_less(plain, narrower)
        if _read_by_dense(found) == wanted:
            return found
    return plain


def _padded_less(network: Network, names: list[str]) -> Network:
    """`network` with the padding of the convolutions `names` reduced by one."""
    layers = tuple(
        (n, replace(l, pad=l.pad - 1) if isinstance(l, Conv2D) and n in names else l)
        for n, l in network.layers
    )
    return replace(network, layers=layers)


def without_convolution(network: Network, name: str) -> Network:
    """One convolution removed with its nonlinearity and normalisation; its pooling stays.

    If it is the first, the second takes over its kernel size and stride, with its own number of
    channels.
    """
    names = [found for found, layer in network.layers if isinstance(layer, Conv2D)]
    if name not in names:
        raise unknown("convolution", name, names)
    if len(names) == 1:
        raise InputError(f"{name!r} is the only convolution: it cannot be removed")
    layers = list(network.layers)
    start = [found for found, _ in layers].index(name)
    if name == names[0]:
        second = [found for found, _ in layers].index(names[1])
        first, other = layers[start][1], layers[second][1]
        assert isinstance(first, Conv2D)
        assert isinstance(other, Conv2D)
        layers[start] = (names[1], replace(first, channels=other.channels, bias=other.bias))
        start = second
    end = start + 1
    while end < len(layers) and not isinstance(layers[end][1], Conv2D | Dense):
        end += 1
    kept = [pair for pair in layers[start:end] if isinstance(pair[1], (*_POOLS, Dropout))]
    return replace(network, layers=(*layers[:start], *kept, *layers[end:]))


def _read_by_dense(network: Network) -> tuple[int, ...]:
    """Height and width of the first dense layer's input (or that of its replacement)."""
    last_pool = max(i for i, (_, layer) in enumerate(network.layers) if isinstance(layer, _POOLS))
    return network.shapes()[last_pool + 1][:2]
