"""The gradients of a batch as a sum over its micro-batches, layer by layer as they are computed."""

from functools import partial
from typing import Any

import numpy as np

from minialex.parallel.devices import Devices
from minialex.parallel.tree_sum import TreeSum, nodes_of_ranks, sum_of_nodes
from minialex.parallel.world import World
from minialex.tree import Tree


class GradientSum:
    """Sums the gradients and losses of `count` micro-batches, each in a `TreeSum`.

    This rank of `world` computes those of its share, in order. A layer's sum over the ranks begins
    when the last of them is in. `layers` are those with gradients, in the order of the backward
    pass. With a `link` (see `World.link`), they do not travel through the host.
    """

    def __init__(
        self,
        devices: Devices,
        count: int,
        layers: list[str],
        world: World,
        dtype: str = "float32",
        link: Any = None,
    ):
        self.devices, self.count, self.world = devices, count, world
        self._own = world.share(count)
        self._layers = {layer: TreeSum(count, partial(_sum, devices)) for layer in layers}
        self._loss = TreeSum(count, lambda x, y: (x[0] + y[0], x[1] + y[1]))
        self._next = self._own.start
        shapes = devices.network.parameter_shapes()
        own = {layer: shapes[layer] for layer in layers}
        self.exchange = world.exchange(devices, own, dtype, count, link)
        if not self._own:
            self._start(*layers)

    def add(self, index: int, layer: str, gradients: dict[str, Any] | None) -> None:
        """Add what micro-batch `index` contributes to the parameters of `layer`."""
        self._layers[layer].put(index, gradients)
        if index + 1 == self._own.stop:
            self._start(layer)

    def add_loss(self, index: int, loss: float, images: int) -> None:
        """Add the loss of micro-batch `index`, divided as its gradients are."""
        self._loss.put(index, (loss, images))

    def skip_to(self, index: int) -> None:
        """Note that the micro-batches after the last one, and before `index`, have no images."""
        for absent in range(self._next, index):
            for layer in self._layers:
                self.add(absent, layer, None)
            self._loss.put(absent, None)
        self._next = index + 1

    def total(self) -> tuple[float, int, Tree]:
        """-> loss, number of images, gradients; of all ranks."""
        self.skip_to(self._own.stop)
        if self.exchange is None:
            loss, images = self._loss.total or (0.0, 0)
            return loss, images, {layer: one.total for layer, one in self._layers.items()}
        loss, images = self._total_loss()
        return loss, images, self.exchange.finish()

    def _start(self, *layers: str) -> None:
        if self.exchange is None:
            return
        for layer in layers:
            nodes = self._layers[layer].nodes
            given = dict(nodes)
            nodes.clear()
            self.exchange.start(layer, given)

    def _total_loss(self) -> tuple[float, int]:
        nodes = nodes_of_ranks(self.world, self.count)
        own = np.full((max(map(len, nodes)), 2), -0.0)
        for row, node in zip(own, nodes[self.world.rank], strict=False):
            row[:] = self._loss.nodes.get(node) or -0.0
        found = self.world.gather_numbers(own.reshape(-1)).reshape(self.world.size, -1, 2)
        pairs = zip(nodes, found, strict=True)
        parts = (part for of_rank, values in pairs for part in zip(of_rank, values, strict=False))
        loss, images = sum_of_nodes(self.count, parts, np.add)
        return float(loss), int(images)


def _sum(devices: Devices, x: dict[str, Any], y: dict[str, Any]) -> dict[str, Any]:
    """The sums of arrays by name; no method, whose object would wait for the garbage collector."""
    return {name: devices.add(value, y[name]) for name, value in x.items()}
