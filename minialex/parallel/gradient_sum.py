"""The gradients of a batch as a sum over its micro-batches, layer by layer as they are computed."""

from typing import Any

from minialex.parallel.devices import Devices
from minialex.parallel.tree_sum import TreeSum
from minialex.tree import Tree


class GradientSum:
    """Sums the gradients and losses of `count` micro-batches on `devices`, each in a `TreeSum`."""

    def __init__(self, devices: Devices, count: int):
        self.devices, self.count = devices, count
        self._layers: dict[str, TreeSum] = {}
        self._loss = TreeSum(count, lambda x, y: (x[0] + y[0], x[1] + y[1]))
        self._absent: list[int] = []
        self._next = 0

    def add(self, index: int, layer: str, gradients: dict[str, Any]) -> None:
        """Add what micro-batch `index` contributes to the parameters of `layer`."""
        if layer not in self._layers:
            self._layers[layer] = TreeSum(self.count, self._add)
            for absent in self._absent:
                self._layers[layer].put(absent, None)
        self._layers[layer].put(index, gradients)

    def add_loss(self, index: int, loss: float, images: int) -> None:
        """Add the loss of micro-batch `index`, divided as its gradients are."""
        self._loss.put(index, (loss, images))

    def skip_to(self, index: int) -> None:
        """Note that the micro-batches from the last one added up to `index` have no images."""
        for absent in range(self._next, index):
            self._absent.append(absent)
            for one in (*self._layers.values(), self._loss):
                one.put(absent, None)
        self._next = index + 1

    def total(self) -> tuple[float, int, Tree]:
        """-> loss, number of images, gradients."""
        loss, images = self._loss.total or (0.0, 0)
        return loss, images, {layer: one.total for layer, one in self._layers.items()}

    def _add(self, x: dict[str, Any], y: dict[str, Any]) -> dict[str, Any]:
        return {name: self.devices.add(value, y[name]) for name, value in x.items()}
