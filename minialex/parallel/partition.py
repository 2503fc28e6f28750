"""How a network and its parameters are split over devices.

A layer with parameters is split in one of two ways. By images: every device has all its parameters
and some images of the batch. By channels: every device has the parameters of some output channels,
and all images; it receives the input channels it needs from the devices that computed them, and its
output is the sum of one partial sum per sending device.

    "towers"  every layer by channels: the paper's two GPUs (section 3.5)
    "data"    every layer by images
    "hybrid"  convolutions by images, dense layers by channels (Krizhevsky, "One weird trick for
              parallelizing convolutional neural networks", 2014)
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from minialex.errors import InputError, unknown
from minialex.layers import Conv2D, Dense, Layer
from minialex.layers.base import Shape
from minialex.network import Network
from minialex.tree import Tree

SCHEMES = ("towers", "data", "hybrid")
_BY_CHANNELS = (Conv2D, Dense)  # the layers with parameters that can be split by channels

Range = tuple[int, int]


def split(count: int, parts: int) -> list[Range]:
    """Split `count` items into `parts` ranges in order; the first may be one item longer."""
    ends = [count * i // parts for i in range(parts + 1)]
    sizes = sorted((b - a for a, b in pairwise(ends)), reverse=True)
    starts = [sum(sizes[:i]) for i in range(parts + 1)]
    return list(pairwise(starts))


@dataclass(frozen=True)
class ParameterSlice:
    """A device's array: elements `index` of the whole parameter, reshaped to `view`."""

    name: str  # on the device
    whole: str  # in the network
    view: Shape
    index: tuple[slice, ...]
    shape: Shape

    def cut(self, whole: np.ndarray) -> np.ndarray:
        # always a copy: devices on the CPU share memory, but each updates its own
        return np.array(whole.reshape(self.view)[self.index], order="C").reshape(self.shape)

    def paste(self, whole: np.ndarray, part: np.ndarray) -> None:
        target = whole.reshape(self.view)[self.index]
        target[...] = part.reshape(target.shape)


@dataclass(frozen=True)
class PartialSum:
    """One term of a layer's output: `layer` on the channels of device `sender`."""

    sender: int
    layer: Layer
    weight: str  # the parameter's name on the device


@dataclass(frozen=True)
class LayerPartition:
    """A device's part of a layer by channels: its channels, and the terms that sum to them."""

    channels: Range
    terms: tuple[PartialSum, ...]
    slices: tuple[ParameterSlice, ...]


@dataclass(frozen=True)
class Plan:
    """`partitions[layer]`, one per device, for layers split by channels; others are by images."""

    network: Network
    devices: int
    scheme: str
    partitions: dict[str, tuple[LayerPartition, ...]]

    def slices(self, layer: str, device: int) -> tuple[ParameterSlice, ...]:
        """The arrays of a layer that a device holds."""
        if layer in self.partitions:
            return self.partitions[layer][device].slices
        shapes = self.network.parameter_shapes()[layer]
        return tuple(
            ParameterSlice(name, name, shape, (slice(None),) * len(shape), shape)
            for name, shape in shapes.items()
        )

    def cut(self, tree: Tree, device: int) -> Tree:
        """A device's shard of whole parameters, on the host."""
        return {
            layer: {s.name: s.cut(of_layer[s.whole]) for s in self.slices(layer, device)}
            for layer, of_layer in tree.items()
        }

    def join(self, trees: list[Tree]) -> Tree:
        """Whole parameters from the shards of all devices, on the host."""
        joined: Tree = {}
        for layer, shapes in self.network.parameter_shapes().items():
            dtype = next(iter(trees[0][layer].values())).dtype
            joined[layer] = {name: np.empty(shape, dtype) for name, shape in shapes.items()}
            holders = range(self.devices) if layer in self.partitions else range(1)
            for device in holders:
                for piece in self.slices(layer, device):
                    piece.paste(joined[layer][piece.whole], trees[device][layer][piece.name])
        return joined


def default_scheme(network: Network, devices: int) -> str:
    """ "towers" if the network has as many groups as there are devices, else "data"."""
    groups = {layer.groups for _, layer in network.layers if isinstance(layer, Conv2D)}
    trained = network.parameter_shapes()
    by_channels = all(isinstance(one, _BY_CHANNELS) for n, one in network.layers if n in trained)
    return "towers" if devices in groups and by_channels else "data"


def require_trainable(network: Network, devices: int) -> None:
    """Raise InputError for layers whose statistics would be those of each device's images."""
    for name in network.layers_with_statistics if devices > 1 else ():
        raise InputError(
            f"layer {name!r} normalises all images of a batch together, so the batch cannot be "
            f"split over {devices} devices of one process: use one device, or start a process "
            "for each device with mpirun"
        )


def make(network: Network, devices: int, scheme: str | None = None) -> Plan:
    """The plan of a scheme; raises InputError if the network cannot be split that way."""
    scheme = scheme or default_scheme(network, devices)
    if scheme not in SCHEMES:
        raise unknown("parallel scheme", scheme, SCHEMES)
    partitions: dict[str, tuple[LayerPartition, ...]] = {}
    # the input channels on each device; None: all channels (of all images, or of its own)
    held: list[Range] | None = None
    for (name, layer), shape in zip(network.layers, network.shapes(), strict=False):
        if not layer.parameter_shapes(shape):
            continue
        by_images = scheme == "hybrid" and held is None and not isinstance(layer, Dense)
        if scheme == "data" or by_images:
            continue
        try:
            partitions[name] = _partitions(layer, shape, devices, held)
        except InputError as error:
            raise InputError(
                f"layer {name!r} cannot be split over {devices} devices: {error}; use "
                'parallel="data"'
            ) from None
        held = [partition.channels for partition in partitions[name]]
    return Plan(network, devices, scheme, partitions)


def _partitions(
    layer: Any, shape: Shape, devices: int, held: list[Range] | None
) -> tuple[LayerPartition, ...]:
    if not isinstance(layer, _BY_CHANNELS):
        raise InputError("each needs all of its parameters")
    outputs = layer.units if isinstance(layer, Dense) else layer.channels
    if outputs < devices:
        raise InputError(f"it has only {outputs} outputs")
    return tuple(
        _partition_dense(layer, shape, channels, held, d)
        if isinstance(layer, Dense)
        else _partition_conv(layer, shape, channels, held, d)
        for d, channels in enumerate(split(outputs, devices))
    )


def _partition_conv(
    layer: Conv2D, shape: Shape, channels: Range, held: list[Range] | None, device: int
) -> LayerPartition:
    """Whole groups with their own input channels, or part of one group with all of the group's."""
    c, (k0, k1) = shape[2], channels
    cg, kg = c // layer.groups, layer.channels // layer.groups
    g0, g1 = k0 // kg, -(-k1 // kg)
    if g1 - g0 > 1 and (k0 % kg or k1 % kg):
        raise InputError(f"channels {k0} to {k1 - 1} cover parts of several groups")
    needed, groups = (g0 * cg, g1 * cg), g1 - g0
    r, s = layer.kernel, layer.kernel
    own = replace(layer, channels=k1 - k0, groups=groups)
    view = (r, s, cg, layer.channels)
    bias = ParameterSlice("bias", "bias", (layer.channels,), (slice(k0, k1),), (k1 - k0,))
    if held is None and layer.groups > 1:
        # every device has all input channels, but no weights for the groups it does not compute
        raise InputError("it has groups, but its input is not split by channels")
    if held is None or held[device] == needed:
        index = (slice(None), slice(None), slice(None), slice(k0, k1))
        weight = ParameterSlice("weight", "weight", view, index, (r, s, cg, k1 - k0))
        return LayerPartition(channels, (PartialSum(device, own, "weight"),), (weight, bias))
    if groups > 1:
        raise InputError("its groups need input channels from other devices")
    terms, slices = [], [bias]
    for sender, (low, high) in _within(held, needed, device):
        name = f"weight.{sender}"
        index = (slice(None), slice(None), slice(low, high), slice(k0, k1))
        slices.append(ParameterSlice(name, "weight", view, index, (r, s, high - low, k1 - k0)))
        terms.append(PartialSum(sender, own, name))
    return LayerPartition(channels, tuple(terms), tuple(slices))


def _partition_dense(
    layer: Dense, shape: Shape, channels: Range, held: list[Range] | None, device: int
) -> LayerPartition:
    c, pixels, (k0, k1) = shape[-1], prod(shape[:-1]), channels
    own = replace(layer, units=k1 - k0)
    view = (pixels, c, layer.units)
    bias = ParameterSlice("bias", "bias", (layer.units,), (slice(k0, k1),), (k1 - k0,))
    if held is None:
        index = (slice(None), slice(None), slice(k0, k1))
        weight = ParameterSlice("weight", "weight", view, index, (pixels * c, k1 - k0))
        return LayerPartition(channels, (PartialSum(device, own, "weight"),), (weight, bias))
    terms, slices = [], [bias]
    for sender, (low, high) in _within(held, (0, c), device):
        name = f"weight.{sender}"
        index = (slice(None), slice(low, high), slice(k0, k1))
        slices.append(ParameterSlice(name, "weight", view, index, (pixels * (high - low), k1 - k0)))
        terms.append(PartialSum(sender, own, name))
    return LayerPartition(channels, tuple(terms), tuple(slices))


def _within(held: list[Range], needed: Range, device: int) -> list[tuple[int, Range]]:
    """The devices that have needed channels, and which of those; the device itself comes first."""
    found = []
    for sender, (low, high) in enumerate(held):
        if low >= needed[1] or high <= needed[0]:
            continue
        if low < needed[0] or high > needed[1]:
            raise InputError(f"device {sender} has channels of two groups")
        found.append((sender, (low - needed[0], high - needed[0])))
    return sorted(found, key=lambda term: term[0] != device)
