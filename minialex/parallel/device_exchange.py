"""The sum of the ranks' gradients from device to device: `exchange`, not through the host."""

from math import prod
from typing import Any

import numpy as np

from minialex.backends import Backend
from minialex.layers.base import Shape
from minialex.parallel.partition import split
from minialex.parallel.tree_sum import Node, nodes_of_ranks, sum_of_nodes
from minialex.tree import leaves, map_tree


class DeviceLink:
    """The devices of all ranks, connected; on this rank that of backend `b`, on its own stream."""

    def __init__(self, b: Backend, key: Any, size: int, rank: int):
        self.b, self.stream = b, b.with_own_stream()
        self.ends = self.stream.link(key, size, rank)


class DeviceExchange:
    """One step's exchange among the ranks of `world`, of gradients with these `shapes`.

    All ranks give the same layers in the same order.
    """

    def __init__(
        self,
        world: Any,
        link: DeviceLink,
        shapes: dict[str, dict[str, Shape]],
        dtype: str,
        count: int,
    ):
        self.world, self.link, self.shapes = world, link, shapes
        self.dtype, self.count = dtype, count
        self.nodes = nodes_of_ranks(world, count)
        self._totals: dict[str, dict[str, Any]] = {}

    def start(self, layer: str, nodes: dict[Node, dict[str, Any] | None]) -> None:
        """Give this rank's nodes of a layer, as arrays on its device; None adds nothing."""
        b, stream = self.link.b, self.link.stream
        # they are there then, and the memory that the stream used before is free
        stream.wait(b.record())
        with stream.device_context():
            self._totals[layer] = {
                name: self._sum(shape, [(nodes[node] or {}).get(name) for node in self._own])
                for name, shape in self.shapes[layer].items()
            }
        for arrays in filter(None, nodes.values()):
            for x in arrays.values():
                b.record_stream(x, stream.record())

    def finish(self) -> dict[str, dict[str, Any]]:
        """The totals of all layers that were given, on the device."""
        b, stream = self.link.b, self.link.stream
        done = stream.record()
        self.world.wait_until(lambda: self.link.ends.done(done))
        copies = map_tree(lambda x: b.receive(x, stream), self._totals)
        for *_, (_, event) in leaves(copies):
            b.wait(event)
        return map_tree(lambda copy: copy[0], copies)

    @property
    def _own(self) -> list[Node]:
        return self.nodes[self.world.rank]

    def _sum(self, shape: Shape, given: list[Any]) -> Any:
        """The sum of one array, of which this rank has `given`, in the order of its nodes."""
        rank, stream, ends = self.world.rank, self.link.stream, self.link.ends
        size = prod(shape)
        owners = split(size, self.world.size)
        low, high = owners[rank]
        flat = [self._nothing(size) if x is None else stream.xp.reshape(x, (size,)) for x in given]
        others = [r for r in range(self.world.size) if r != rank]
        sends = [(x[a:b], r) for r in others for a, b in (owners[r],) if b > a for x in flat]
        parts = {
            (r, node): ends.empty(high - low, self.dtype)
            for r in others
            for node in self.nodes[r]
            if high > low
        }
        ends.move(sends, [(part, r) for (r, _), part in parts.items()])
        parts |= {(rank, node): x[low:high] for node, x in zip(self._own, flat, strict=True)}
        whole = {r: ends.empty(b - a, self.dtype) for r in others for a, b in (owners[r],) if b > a}
        arriving = [(part, r) for r, part in whole.items()]
        if high > low:
            nodes = ((node, part) for (_, node), part in parts.items())
            whole[rank] = sum_of_nodes(self.count, nodes, stream.add)
        totals = [(whole[rank], r) for r in others] if high > low else []
        ends.move(totals, arriving)
        itemsize = np.dtype(self.dtype).itemsize
        self.world.bytes_sent += sum(x.size for x, _ in (*sends, *totals)) * itemsize
        return stream.xp.reshape(stream.concat([whole[r] for r in sorted(whole)], 0), shape)

    def _nothing(self, size: int) -> Any:
        # -0.0 adds nothing to any number, +0.0 changes the sign of -0.0
        return self.link.stream.asarray(np.full(size, -0.0, self.dtype))
