"""The sum of the ranks' gradients, layer by layer while the backward pass goes on.

Each rank owns a part of every layer's parameters. It receives this part of all nodes of the fixed
tree that the ranks have (`TreeSum`), adds them up, and sends the total to all. What a rank has
summed by itself travels as one array for each of its nodes: one, if the number of micro-batches for
each rank is a power of two.
"""

from collections import deque
from math import prod
from typing import Any

import numpy as np

from minialex.layers.base import Shape
from minialex.parallel.devices import Devices
from minialex.parallel.partition import split
from minialex.parallel.tree_sum import Node, nodes_of_ranks, sum_of_nodes
from minialex.tree import Tree
from minialex.utils.allocator import MEMORY


class Exchange:
    """One step's exchange among the ranks of `world`, of gradients with these `shapes`.

    All ranks give the same layers in the same order. The two communicators are for the two halves,
    each of which runs in this order.
    """

    def __init__(
        self,
        world: Any,
        devices: Devices,
        scatter: Any,
        gather: Any,
        shapes: dict[str, dict[str, Shape]],
        dtype: str,
        count: int,
    ):
        self.world, self.devices = world, devices
        self.scatter, self.gather = scatter, gather
        self.shapes, self.dtype, self.count = shapes, np.dtype(dtype), count
        self.nodes = nodes_of_ranks(world, count)
        self._layers: deque[_LayerSum] = deque()

    def start(self, layer: str, nodes: dict[Node, dict[str, Any] | None]) -> None:
        """Give this rank's nodes of a layer, as arrays on its devices; None adds nothing."""
        with self.world.lost_ranks():
            self._layers.append(_LayerSum(self, layer, nodes))  # MPI may use it even if this fails
            self._layers[-1].begin()
            self.poll()

    def poll(self) -> bool:
        """Go on with what is under way; -> whether all is done. MPI works only when it is asked."""
        for one in self._layers:
            if not one.received():  # the second halves begin in order
                break
        return all([one.done() for one in self._layers])

    def finish(self) -> Tree:
        """The totals of all layers that were given, on the devices."""
        self.world.wait_until(self.poll)
        totals = {one.layer: one.total() for one in self._layers}
        self._layers.clear()  # they know this object: only the garbage collector would free them
        return self.devices.to_devices(totals)


class _LayerSum:
    def __init__(self, exchange: Exchange, layer: str, nodes: dict[Node, dict[str, Any] | None]):
        self.exchange, self.layer = exchange, layer
        shapes, world = exchange.shapes[layer], exchange.world
        size = sum(map(prod, shapes.values()))
        self._owners = split(size, world.size)
        low, high = self._owners[world.rank]
        mine, self._own = high - low, exchange.nodes[world.rank]
        held = MEMORY.empty((len(self._own), size), exchange.dtype)
        for row, node in zip(held, self._own, strict=True):
            if (arrays := nodes.get(node)) is not None:
                host = [exchange.devices.to_numpy(arrays[name]).reshape(-1) for name in shapes]
                np.concatenate(host, out=row)
            else:
                row[:] = -0.0  # which adds nothing to any number; +0.0 changes the sign of -0.0
        self._sent = held.reshape(-1)  # of one node, the owners' parts follow each other
        if len(self._own) > 1:
            self._sent = MEMORY.empty((held.size,), exchange.dtype)
            np.concatenate([held[:, a:b].reshape(-1) for a, b in self._owners], out=self._sent)
        self._found = MEMORY.empty((mine * sum(map(len, exchange.nodes)),), exchange.dtype)
        self._total = MEMORY.empty((size,), exchange.dtype)
        self._first: Any = None
        self._second: Any = None

    def begin(self) -> None:
        """Send the other ranks their parts."""
        exchange, world = self.exchange, self.exchange.world
        low, high = self._owners[world.rank]
        sizes = [len(self._own) * (b - a) for a, b in self._owners]
        coming = [len(nodes) * (high - low) for nodes in exchange.nodes]
        self._first = exchange.scatter.Ialltoallv([self._sent, sizes], [self._found, coming])
        elsewhere = self._sent.nbytes - len(self._own) * (high - low) * exchange.dtype.itemsize
        world.bytes_sent += elsewhere + (high - low) * (world.size - 1) * exchange.dtype.itemsize

    def received(self) -> bool:
        """Whether the first half is over; begins the second."""
        if self._second is None and self._first.Test():
            low, high = self._owners[self.exchange.world.rank]
            every = [node for nodes in self.exchange.nodes for node in nodes]
            parts = zip(every, self._found.reshape(len(every), high - low), strict=True)
            self._part = np.ascontiguousarray(sum_of_nodes(self.exchange.count, parts, np.add))
            sizes = [b - a for a, b in self._owners]
            self._second = self.exchange.gather.Iallgatherv(self._part, [self._total, sizes])
        return self._second is not None

    def done(self) -> bool:
        return self._second is not None and bool(self._second.Test())

    def total(self) -> dict[str, np.ndarray]:
        shapes = self.exchange.shapes[self.layer]
        cuts = np.cumsum([prod(shape) for shape in shapes.values()])[:-1]
        parts = np.split(self._total, cuts)
        return {name: x.reshape(s) for (name, s), x in zip(shapes.items(), parts, strict=True)}
