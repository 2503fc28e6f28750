"""Compares networks: whether they compute the same function of the same parameters."""

from dataclasses import fields, replace
from math import isclose
from typing import Any

from minialex.errors import InputError
from minialex.layers import AveragePool, Conv2D, Dense, Dropout, Layer, MaxPool, output_size
from minialex.layers.base import Shape
from minialex.network import Network

_CONSTANT = 1e-6  # tolerance: other programs store the constants of a normalisation in float32


def same_function(one: Network, other: Network) -> bool:
    """Whether they agree at test time, whatever the layers' names, initial values and dropout."""
    if one.input_shape != other.input_shape:
        return False
    ours, theirs = _computing(one), _computing(other)
    return len(ours) == len(theirs) and all(map(_same, ours, theirs))


def _computing(network: Network) -> list[Layer]:
    """The layers without dropout, equivalent layers in one canonical form."""
    pairs = zip(network.layers, network.shapes(), strict=False)
    return [
        _plain(layer, shape)
        for (_, layer), shape in pairs
        if not (isinstance(layer, Dropout) and layer.inverted)
    ]


def _plain(layer: Layer, shape: Shape) -> Layer:
    if isinstance(layer, (Conv2D, Dense)):
        layer = replace(layer, weight_std=0.0, bias=0.0)
    if isinstance(layer, (Conv2D, MaxPool, AveragePool)) and layer.rounding == "ceil":
        size = layer.kernel if isinstance(layer, Conv2D) else layer.window
        geometry = (shape, size, layer.stride, layer.pad)
        try:
            floor = output_size.pads(*geometry, "floor")
        except InputError:
            return layer
        if output_size.windows(shape, size, layer.stride, floor) == layer.output_shape(shape)[:2]:
            layer = replace(layer, rounding="floor")
    if isinstance(layer, AveragePool) and layer.pad == 0:
        layer = replace(layer, count_pads=False)
    return layer


def _same(one: Layer, other: Layer) -> bool:
    if type(one) is not type(other):
        return False
    names = [each.name for each in fields(one)]  # type: ignore[arg-type]
    return all(_equal(getattr(one, name), getattr(other, name)) for name in names)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, int | float):
        return isclose(one, other, rel_tol=_CONSTANT)
    return one == other
