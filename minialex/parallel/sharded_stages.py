"""A network's stages over several devices: run a stage, gather, keep a slice, add partial sums.

Each class has a forward and a backward over all devices at once; activations are
`ShardedActivation`s.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from minialex.backends import Backend
from minialex.fusion import Stage, fuse
from minialex.layers import Layer, Mode, ResponseNorm
from minialex.network import Network
from minialex.parallel.collectives import ShardedActivation, gather, reduce_scatter, sums
from minialex.parallel.partition import LayerPartition, Plan, Range
from minialex.tree import Tree

Grads = list[dict[str, Any]]  # one dictionary of arrays per device
Forward = tuple[ShardedActivation, Any]  # y, and what backward needs
Backward = tuple[ShardedActivation, Grads]  # dx, and the gradients of the parameters


@dataclass(frozen=True)
class ShardedParameters:
    """The devices, and the parameters of each: {layer: {array name: array}}."""

    backends: Sequence[Backend]
    params: list[Tree]

    def __len__(self) -> int:
        return len(self.backends)


class ShardedStage(ABC):
    """A stage over several devices."""

    name: str | None  # the layer whose parameters it has, if any

    @abstractmethod
    def forward(self, own: ShardedParameters, x: ShardedActivation, mode: Mode) -> Forward:
        """The output, and what backward needs."""

    @abstractmethod
    def backward(
        self, own: ShardedParameters, saved: Any, dy: ShardedActivation, need_dx: bool
    ) -> Backward:
        """dx (parts are None unless `need_dx`), and the parameters' gradients, if any."""


@dataclass(frozen=True)
class RunStage(ShardedStage):
    """A stage run locally on each device; `channels` are its outputs if split by channels."""

    stages: tuple[Stage, ...]  # one per device, equal except for sizes
    channels: tuple[Range, ...] = ()

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.stages[0].name

    def forward(self, own: ShardedParameters, x: ShardedActivation, mode: Mode) -> Forward:
        parts: list[Any] = []
        saved: list[Any] = []
        layout = (-1, self.channels) if self.channels else (x.axis, x.ranges)
        for d, (b, part) in enumerate(zip(own.backends, x.parts, strict=True)):
            y, kept = None, None
            if part is not None:
                with b.device_context():
                    local = _mode_of(mode, *layout, d)
                    y, kept = self.stages[d].forward(b, own.params[d], part, local)
            parts.append(y)
            saved.append(kept)
        return ShardedActivation(tuple(parts), *layout), (saved, x.axis, x.ranges)

    def backward(
        self, own: ShardedParameters, saved: Any, dy: ShardedActivation, need_dx: bool
    ) -> Backward:
        kept, axis, ranges = saved
        parts: list[Any] = []
        grads: Grads = []
        for d, (b, part) in enumerate(zip(own.backends, dy.parts, strict=True)):
            dx, of_params = None, dict[str, Any]()
            if part is not None:
                with b.device_context():
                    dx, of_params = self.stages[d].backward(
                        b, own.params[d], kept[d], part, input_gradient=need_dx
                    )
            parts.append(dx)
            grads.append(of_params)
        return ShardedActivation(tuple(parts), axis, ranges), grads


@dataclass(frozen=True)
class AllGather(ShardedStage):
    """Gathers a whole sharded activation on every device."""

    name = None

    def forward(self, own: ShardedParameters, x: ShardedActivation, mode: Mode) -> Forward:
        return gather(own.backends, x, range(len(own))), (x.axis, x.ranges)

    def backward(
        self, own: ShardedParameters, saved: Any, dy: ShardedActivation, need_dx: bool
    ) -> Backward:
        axis, ranges = saved
        if not need_dx:
            return ShardedActivation((None,) * len(own), axis, ranges), []
        return reduce_scatter(own.backends, dy.parts, axis, ranges), []


@dataclass(frozen=True)
class LocalSlice(ShardedStage):
    """Each device keeps its slice of the channels, which all devices have."""

    name = None
    channels: tuple[Range, ...]

    def forward(self, own: ShardedParameters, x: ShardedActivation, mode: Mode) -> Forward:
        parts = []
        for b, part, (low, high) in zip(own.backends, x.parts, self.channels, strict=True):
            with b.device_context():
                parts.append(b.narrow(part, part.ndim - 1, low, high))
        return ShardedActivation(tuple(parts), -1, self.channels), None

    def backward(
        self, own: ShardedParameters, saved: Any, dy: ShardedActivation, need_dx: bool
    ) -> Backward:
        parts, end = [], self.channels[-1][1]
        for b, part, (low, high) in zip(own.backends, dy.parts, self.channels, strict=True):
            with b.device_context():
                before, after = (_zeros(b, part, width) for width in (low, end - high))
                parts.append(b.concat([*before, part, *after], part.ndim - 1))
        return ShardedActivation(tuple(parts)), []


def _zeros(b: Backend, like: Any, width: int) -> list[Any]:
    """`width` columns of zeros to concatenate with an array."""
    return [b.zeros_like(b.narrow(like, like.ndim - 1, 0, 1))] * width


@dataclass(frozen=True)
class PartialSums(ShardedStage):
    """A layer that needs the channels of all devices: a sum over the sending devices.

    To overlap copies with computation, a device starts with its own channels in the forward pass
    and with the gradients for the other devices in the backward pass.
    """

    index: int
    name: str
    partitions: tuple[LayerPartition, ...]  # one per device

    def forward(self, own: ShardedParameters, x: ShardedActivation, mode: Mode) -> Forward:
        backends = own.backends
        arrived = [
            {
                term.sender: (
                    backends[d].receive(x.parts[term.sender], backends[term.sender])
                    if term.sender != d
                    else (x.parts[d], None)
                )
                for term in partition.terms
            }
            for d, partition in enumerate(self.partitions)
        ]
        parts: list[Any] = [None] * len(backends)
        saved: list[list] = [[] for _ in backends]
        for turn in range(self._turns):
            for d, (b, partition) in enumerate(zip(backends, self.partitions, strict=True)):
                if turn >= len(partition.terms):
                    continue
                term = partition.terms[turn]
                part, event = arrived[d][term.sender]
                params = self._params(own.params[d], turn, term.weight)
                with b.device_context():
                    b.wait(event)
                    y, kept = term.layer.forward(b, params, part, replace(mode, layer=self.index))
                    parts[d] = y if turn == 0 else b.add(parts[d], y)
                saved[d].append(kept)
        channels = tuple(partition.channels for partition in self.partitions)
        return ShardedActivation(tuple(parts), -1, channels), (saved, x.ranges)

    def backward(
        self, own: ShardedParameters, saved: Any, dy: ShardedActivation, need_dx: bool
    ) -> Backward:
        backends, (kept, ranges) = own.backends, saved
        grads: Grads = [{} for _ in backends]
        contributions: list[list[tuple[int, Any]]] = [[] for _ in backends]
        for turn in reversed(range(self._turns)):
            for d, (b, partition) in enumerate(zip(backends, self.partitions, strict=True)):
                if turn >= len(partition.terms):
                    continue
                term = partition.terms[turn]
                params = self._params(own.params[d], turn, term.weight)
                with b.device_context():
                    dx, of_params = term.layer.backward(
                        b, params, kept[d][turn], dy.parts[d], input_gradient=need_dx
                    )
                contributions[term.sender].append((d, dx))
                grads[d][term.weight] = of_params["weight"]
                if turn == 0:
                    grads[d]["bias"] = of_params["bias"]
        if not need_dx:
            return ShardedActivation((None,) * len(own), -1, ranges), grads
        in_order = [[(dx, d) for d, dx in sorted(c, key=lambda p: p[0])] for c in contributions]
        return ShardedActivation(sums(backends, in_order), -1, ranges), grads

    @property
    def _turns(self) -> int:
        return max(len(partition.terms) for partition in self.partitions)

    def _params(self, own: Tree, turn: int, weight: str) -> dict[str, Any]:
        of_layer = own[self.name]
        return {"weight": of_layer[weight], "bias": of_layer["bias"] if turn == 0 else None}


def _mode_of(mode: Mode, axis: int | None, ranges: tuple[Range, ...], device: int) -> Mode:
    """The mode with a device's offsets for random numbers in a sharded activation."""
    if axis == 0:
        return replace(mode, first_image=mode.first_image + ranges[device][0])
    if axis == -1:
        return replace(mode, first_channel=ranges[device][0], channels=ranges[-1][1])
    return mode


class _Builder:
    """Collects stages; holds back local layers until they can be fused."""

    def __init__(self, devices: int, training: bool):
        self.stages: list[ShardedStage] = []
        self._devices, self._training = devices, training
        self._index, self._local = 0, list[tuple[str, tuple[Layer, ...]]]()
        self._channels: dict[int, tuple[Range, ...]] = {}

    def local(
        self, index: int, name: str, layers: tuple[Layer, ...], channels: tuple[Range, ...] = ()
    ) -> None:
        """Add layer `index`, one per device, run locally."""
        if not self._local:
            self._index = index
        self._local.append((name, layers))
        if channels:
            self._channels[index] = channels

    def then(self, stage: ShardedStage) -> None:
        """Add a communication stage after the layers so far."""
        self.flush()
        self.stages.append(stage)

    def flush(self) -> None:
        """Fuse the local layers, in the same way on every device."""
        of_device = [
            fuse([(name, layers[d]) for name, layers in self._local], self._training)
            for d in range(self._devices)
        ]
        for stages in zip(*of_device, strict=True):
            index = self._index + stages[0].index
            placed = tuple(replace(stage, index=index) for stage in stages)
            self.stages.append(RunStage(placed, self._channels.get(index, ())))
        self._local.clear()


def sharded_stages(network: Network, plan: Plan, training: bool) -> list[ShardedStage]:
    """The stages of a pass through the network, in order."""
    shapes, build = network.shapes(), _Builder(plan.devices, training)
    first = next(iter(network.parameter_shapes()), None)
    # how the activation is sharded: by images, by channels, or replicated
    channels: tuple[Range, ...] | None = None
    by_images = first not in plan.partitions
    for i, (name, layer) in enumerate(network.layers):
        same = (layer,) * plan.devices
        partitions = plan.partitions.get(name)
        if partitions:
            if by_images:
                build.then(AllGather())
                by_images = False
            channels = tuple(partition.channels for partition in partitions)
            if any(len(partition.terms) > 1 for partition in partitions):
                build.then(PartialSums(i, name, partitions))
            else:
                own = tuple(partition.terms[0].layer for partition in partitions)
                build.local(i, name, own, channels)
        elif isinstance(layer, ResponseNorm) and channels:
            size = shapes[i][-1] // layer.groups
            if all(low % size == 0 and high % size == 0 for low, high in channels):
                own = tuple(replace(layer, groups=(high - low) // size) for low, high in channels)
                build.local(i, name, own)
            else:
                build.then(AllGather())
                build.local(i, name, same)
                build.then(LocalSlice(channels))
        else:
            build.local(i, name, same)
    build.flush()
    return build.stages
