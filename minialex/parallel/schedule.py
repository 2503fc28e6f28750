"""What the devices do one after the other: run a layer, gather, take their own part, sum pieces.

Each move has a forward and, under it, its backward. `own` are the devices' parameters, `saved` what
forward keeps; an activation is a `ShardedActivation`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from minialex.backends import Backend
from minialex.layers import Layer, Mode, ResponseNorm
from minialex.network import Network, Tree
from minialex.parallel.collectives import ShardedActivation, gather, reduce_scatter, sums
from minialex.parallel.partition import LayerPartition, Plan, Range

Backends = Sequence[Backend]
Grads = list[dict[str, Any]]  # one dictionary of arrays a device


@dataclass(frozen=True)
class RunLayer:
    """Layer `i` on what each device has; `maps` are its outputs where it divides them."""

    i: int
    name: str
    layers: tuple[Layer, ...]  # one a device
    fused: dict[str, bool]
    maps: tuple[Range, ...] = ()

    def forward(self, backends: Backends, own: list[Tree], x: ShardedActivation, mode: Mode):
        parts: list[Any] = []
        saved: list[Any] = []
        for d, (b, part) in enumerate(zip(backends, x.parts, strict=True)):
            if part is None:
                parts.append(None)
                saved.append(None)
                continue
            with b.device_context():
                here = _mode_of(mode, x, d, self.i)
                params = own[d].get(self.name, {})
                y, kept = self.layers[d].forward(b, params, part, here, **self.fused)
            parts.append(y)
            saved.append((kept, y if self.fused else None))
        place = (-1, self.maps) if self.maps else (x.axis, x.ranges)
        return ShardedActivation(tuple(parts), *place), (saved, x.axis, x.ranges)

    def backward(
        self, backends: Backends, own: list[Tree], saved, dy: ShardedActivation, wanted: bool
    ):
        kept, axis, ranges = saved
        parts: list[Any] = []
        grads: Grads = []
        for d, (b, part) in enumerate(zip(backends, dy.parts, strict=True)):
            if part is None:
                parts.append(None)
                grads.append({})
                continue
            of_layer, y = kept[d]
            with b.device_context():
                if self.fused:
                    part = b.relu_gradient(part, y)
                params = own[d].get(self.name, {})
                dx, of_params = self.layers[d].backward(
                    b, params, of_layer, part, input_gradient=wanted
                )
            parts.append(dx)
            grads.append(of_params)
        return ShardedActivation(tuple(parts), axis, ranges), grads


@dataclass(frozen=True)
class AllGather:
    """Every device gets the whole of a divided activation."""

    def forward(self, backends: Backends, own: list[Tree], x: ShardedActivation, mode: Mode):
        return gather(backends, x, range(len(backends))), (x.axis, x.ranges)

    def backward(
        self, backends: Backends, own: list[Tree], saved, dy: ShardedActivation, wanted: bool
    ):
        axis, ranges = saved
        if not wanted:
            return ShardedActivation((None,) * len(backends), axis, ranges), []
        return reduce_scatter(backends, dy.parts, axis, ranges), []


@dataclass(frozen=True)
class LocalSlice:
    """Of maps that every device computed whole, each keeps its own."""

    maps: tuple[Range, ...]

    def forward(self, backends: Backends, own: list[Tree], x: ShardedActivation, mode: Mode):
        parts = []
        for b, part, (low, high) in zip(backends, x.parts, self.maps, strict=True):
            with b.device_context():
                parts.append(b.narrow(part, part.ndim - 1, low, high))
        return ShardedActivation(tuple(parts), -1, self.maps), None

    def backward(
        self, backends: Backends, own: list[Tree], saved, dy: ShardedActivation, wanted: bool
    ):
        parts, end = [], self.maps[-1][1]
        for b, part, (low, high) in zip(backends, dy.parts, self.maps, strict=True):
            with b.device_context():
                before, after = (_zeros(b, part, width) for width in (low, end - high))
                parts.append(b.concat([*before, part, *after], part.ndim - 1))
        return ShardedActivation(tuple(parts)), []


def _zeros(b: Backend, like, width: int) -> list:
    """`width` columns of zeros to put beside an array."""
    return [b.zeros_like(b.narrow(like, like.ndim - 1, 0, 1))] * width


@dataclass(frozen=True)
class PartialSums:
    """A layer that needs the maps of all devices, as a sum over the devices they come from.

    A device starts with its own maps while the others' are on their way, and on the way back with
    the others' gradients, so that they travel while it computes the rest.
    """

    i: int
    name: str
    shares: tuple[LayerPartition, ...]

    def forward(self, backends: Backends, own: list[Tree], x: ShardedActivation, mode: Mode):
        arrived = [
            {
                piece.sender: (
                    backends[d].receive(x.parts[piece.sender], backends[piece.sender])
                    if piece.sender != d
                    else (x.parts[d], None)
                )
                for piece in share.pieces
            }
            for d, share in enumerate(self.shares)
        ]
        parts: list[Any] = [None] * len(backends)
        saved: list[list] = [[] for _ in backends]
        for turn in range(max(len(share.pieces) for share in self.shares)):
            for d, (b, share) in enumerate(zip(backends, self.shares, strict=True)):
                if turn >= len(share.pieces):
                    continue
                piece = share.pieces[turn]
                part, event = arrived[d][piece.sender]
                params = self._params(own[d], turn, piece.weight)
                with b.device_context():
                    b.wait(event)
                    y, kept = piece.layer.forward(b, params, part, replace(mode, layer=self.i))
                    parts[d] = y if turn == 0 else b.add(parts[d], y)
                saved[d].append(kept)
        maps = tuple(share.maps for share in self.shares)
        return ShardedActivation(tuple(parts), -1, maps), (saved, x.ranges)

    def backward(
        self, backends: Backends, own: list[Tree], saved, dy: ShardedActivation, wanted: bool
    ):
        kept, ranges = saved
        grads: Grads = [{} for _ in backends]
        contributions: list[list[tuple[int, Any]]] = [[] for _ in backends]
        for turn in reversed(range(max(len(share.pieces) for share in self.shares))):
            for d, (b, share) in enumerate(zip(backends, self.shares, strict=True)):
                if turn >= len(share.pieces):
                    continue
                piece = share.pieces[turn]
                params = self._params(own[d], turn, piece.weight)
                with b.device_context():
                    dx, of_params = piece.layer.backward(
                        b, params, kept[d][turn], dy.parts[d], input_gradient=wanted
                    )
                contributions[piece.sender].append((d, dx))
                grads[d][piece.weight] = of_params["weight"]
                if turn == 0:
                    grads[d]["bias"] = of_params["bias"]
        if not wanted:
            return ShardedActivation((None,) * len(backends), -1, ranges), grads
        in_order = [[(dx, d) for d, dx in sorted(c, key=lambda p: p[0])] for c in contributions]
        return ShardedActivation(sums(backends, in_order), -1, ranges), grads

    def _params(self, own: Tree, turn: int, weight: str) -> dict[str, Any]:
        of_layer = own[self.name]
        return {"weight": of_layer[weight], "bias": of_layer["bias"] if turn == 0 else None}


Move = RunLayer | AllGather | LocalSlice | PartialSums


def _mode_of(mode: Mode, x: ShardedActivation, device: int, layer: int) -> Mode:
    """What a device's random numbers are drawn for."""
    here = replace(mode, layer=layer)
    if x.axis == 0:
        return replace(here, first_image=mode.first_image + x.ranges[device][0])
    if x.axis == -1:
        return replace(here, first_channel=x.ranges[device][0], channels=x.ranges[-1][1])
    return here


def moves(network: Network, plan: Plan, stop: str | None = None) -> list[Move]:
    """The moves of a forward pass, up to layer `stop`."""
    shapes, found = network.shapes(), list[Move]()
    first = next(iter(network.parameter_shapes()), None)
    # how the activation lies: by rows, by maps, or whole on every device
    maps: tuple[Range, ...] | None = None
    rows = first not in plan.shares
    for i, name, layer, fused in network.steps(stop):
        shares = plan.shares.get(name)
        if shares:
            if rows:
                found.append(AllGather())
                rows = False
            maps = tuple(share.maps for share in shares)
            if len(shares[0].pieces) > 1:
                found.append(PartialSums(i, name, shares))
                if fused:
                    relu = network.layers[i + 1][1]
                    found.append(RunLayer(i + 1, "", (relu,) * plan.devices, {}))
            else:
                own = tuple(share.pieces[0].layer for share in shares)
                found.append(RunLayer(i, name, own, fused, maps))
        elif isinstance(layer, ResponseNorm) and maps:
            size = shapes[i][-1] // layer.groups
            if all(low % size == 0 and high % size == 0 for low, high in maps):
                own = tuple(replace(layer, groups=(high - low) // size) for low, high in maps)
                found.append(RunLayer(i, name, own, {}))
            else:
                found += [
                    AllGather(),
                    RunLayer(i, name, (layer,) * plan.devices, {}),
                    LocalSlice(maps),
                ]
        else:
            found.append(RunLayer(i, name, (layer,) * plan.devices, fused))
    return found
