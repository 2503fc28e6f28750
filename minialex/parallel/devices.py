"""One interface to run a network on one device or several.

`Devices` is either a `SingleDevice` or a `DeviceGroup` that splits the work. Both hold parameters,
run passes and apply updates, so training and inference code need not distinguish them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minialex.backends import Backend
from minialex.errors import InputError
from minialex.layers import Mode
from minialex.losses import Loss
from minialex.network import Network
from minialex.precision import Precision
from minialex.tree import Tree, map_tree

# (backend, first image, past the last) -> the network's input for these images of a batch
Inputs = Callable[[Backend, int, int], Any]

# is called with a layer's name and the gradients of its parameters
OnGradients = Callable[[str, dict[str, Any]], None]


class Devices(ABC):
    """`network` on `backends`, one per device.

    A parameter is an array or, for a group of devices, a handle to its shards; parameter trees have
    the same structure in both cases.
    """

    network: Network
    backends: tuple[Backend, ...]
    scheme: str | None = None  # how the work is divided; None on one device

    # ------------------------------------------------------------------------------ parameters

    @abstractmethod
    def to_devices(self, params: Tree) -> Tree:
        """Copy whole parameters from the host to the devices."""

    @abstractmethod
    def whole(self, params: Tree) -> tuple[Backend, Tree]:
        """A single backend with all parameters on it, to inspect the network."""

    @abstractmethod
    def to_numpy(self, x: Any) -> np.ndarray:
        """A whole parameter on the host; waits for the devices."""

    @abstractmethod
    def zeros_like(self, x: Any) -> Any:
        """Zeros, sharded like the parameter x."""

    @abstractmethod
    def scale(self, x: Any, factor: float) -> Any:
        """A parameter times a number."""

    @abstractmethod
    def add(self, x: Any, y: Any) -> Any:
        """The sum of two parameters, or gradients, of the same shape."""

    @abstractmethod
    def all_finite(self, *parameters: Any) -> bool:
        """Whether none of them contains NaN or Inf."""

    @abstractmethod
    def sum_of_squares(self, x: Any) -> float:
        """Σ x² of a parameter."""

    @abstractmethod
    def updates(
        self, function: Callable[[Backend, Sequence[tuple]], list[tuple]], updates: Sequence[tuple]
    ) -> list[tuple]:
        """Call `function(backend, its shard of updates)` on each device.

        An update is (weight, ..., gradient, numbers); everything up to the gradient is sharded like
        the weight. For each update the function returns as many arrays as precede the gradient.
        """

    def sgd_updates(self, updates: Sequence[tuple], momentum: float) -> list[tuple[Any, Any]]:
        """Momentum SGD of (weight, velocity, gradient, rate, decay) each: (weight, velocity)."""
        return self.updates(lambda b, own: b.sgd_updates(own, momentum), updates)

    @abstractmethod
    def arrays(self, name: str, x: Any, d: int) -> dict[str, Any]:
        """The arrays on device number d of a parameter called `name`, by their own names."""

    def tree_of(self, tree: Tree, d: int) -> Tree:
        """All arrays on device number d of a parameter tree: {layer: {array's name: array}}."""
        return {
            layer: {k: v for n, x in of_layer.items() for k, v in self.arrays(n, x, d).items()}
            for layer, of_layer in tree.items()
        }

    # ------------------------------------------------------------------------------ passes

    def gradients(
        self,
        params: Tree,
        inputs: Inputs,
        labels: np.ndarray,
        loss: Loss,
        mode: Mode,
        dloss: float = 1.0,
        count: int | None = None,
        on_gradients: OnGradients | None = None,
    ) -> tuple[Callable[[], float], Tree]:
        """Forward and backward of one batch.

        Returns the mean loss, as a function that waits for it, and the gradients of all parameters
        times `dloss`, the upstream gradient of the loss. With `count`, these images are part of a
        batch of so many: sums are divided by it. `on_gradients` is given each layer's gradients as
        soon as they can be used, from the last layer to the first.
        """

        def targets(b: Backend, low: int, high: int) -> Any:
            return b.asarray(labels[low:high])

        own, images = self.cast(params), len(labels)
        how = (loss, mode, dloss, count, on_gradients)
        losses, grads = self.device_gradients(own, inputs, targets, images, *how)
        return lambda: sum(float(b.to_numpy(value)) for b, value in losses), grads

    def cast(self, params: Tree) -> list[Tree]:
        """What each device computes with: its arrays, in the compute type (fp32: the same)."""
        found = []
        for d, b in enumerate(self.backends):
            with b.device_context():
                found.append(b.cast_params(self.tree_of(params, d)))
        return found

    @abstractmethod
    def device_gradients(
        self,
        own: list[Tree],
        inputs: Inputs,
        targets: Inputs,
        images: int,
        loss: Loss,
        mode: Mode,
        dloss: Any = 1.0,
        count: int | None = None,
        on_gradients: OnGradients | None = None,
    ) -> tuple[list[tuple[Backend, Any]], Tree]:
        """`gradients` without the host: from `cast` parameters, and targets on each device.

        Returns (backend, its part of the loss) of each device that computes one. In a compiled
        step, `dloss` and the step of `mode` may be arrays of one number, by the devices' streams.
        """

    @abstractmethod
    def input_rows(self, images: int) -> list[tuple[int, int]]:
        """The first image, and past the last, that each device takes of a batch."""

    @abstractmethod
    def input_network(self, d: int) -> Network:
        """The network on device number d, or its first layer."""

    def helpers(self) -> list[Backend]:
        """Further streams of the devices, for sums between them."""
        return []

    @abstractmethod
    def infer(
        self, params: Tree, inputs: Inputs, count: int, until: str | None = None
    ) -> np.ndarray:
        """The network's output, or layer `until`'s, for `count` images: on the host, (N, ...)."""

    def compile(self, step: Any) -> Any:
        """A compiled training step (see `Backend.compile`), or None: run it op by op."""
        return self.backends[0].compile(step)

    # ------------------------------------------------------------------------------ description

    def open(self, network: Network) -> "Devices":
        """These devices; lets callers accept a `DeviceConfig` or devices already opened."""
        if network != self.network:
            raise InputError("these devices were opened for another network")
        return self

    @abstractmethod
    def describe(self) -> list[str]:
        """A description of what runs where, one sentence per line."""

    @property
    def name(self) -> str:
        """The backend's name."""
        return self.backends[0].name

    @property
    def precision(self) -> Precision:
        """The same on all devices."""
        return self.backends[0].precision

    def compute_dtype(self, dtype: str) -> str:
        """The type of activations of a network of `dtype`."""
        return self.backends[0].compute_dtype(dtype)

    def memory(self) -> int | None:
        """Bytes available for arrays on the smallest device; None in host memory."""
        found = [memory for b in self.backends if (memory := b.memory()) is not None]
        return min(found, default=None)

    def peak_memory(self) -> int | None:
        """Peak bytes reserved on the device that used the most; None in host memory."""
        found = [memory for b in self.backends if (memory := b.peak_memory()) is not None]
        return max(found, default=None)

    def synchronize(self) -> None:
        """Wait until all work given to the devices is done."""
        for b in self.backends:
            b.synchronize()


class SingleDevice(Devices):
    """`network` on one device."""

    def __init__(self, network: Network, backend: Backend):
        self.network = network
        self.backends = (backend,)
        self.backend = backend

    def __repr__(self) -> str:
        return f"<SingleDevice {self.backend}>"

    def to_devices(self, params: Tree) -> Tree:
        return map_tree(self.backend.asarray, params)

    def whole(self, params: Tree) -> tuple[Backend, Tree]:
        return self.backend, params

    def to_numpy(self, x: Any) -> np.ndarray:
        return self.backend.to_numpy(x)

    def zeros_like(self, x: Any) -> Any:
        return self.backend.zeros_like(x)

    def scale(self, x: Any, factor: float) -> Any:
        return self.backend.scale(x, factor)

    def add(self, x: Any, y: Any) -> Any:
        return self.backend.add(x, y)

    def all_finite(self, *parameters: Any) -> bool:
        return self.backend.all_finite(*parameters)

    def sum_of_squares(self, x: Any) -> float:
        return self.backend.sum_of_squares(x)

    def updates(
        self, function: Callable[[Backend, Sequence[tuple]], list[tuple]], updates: Sequence[tuple]
    ) -> list[tuple]:
        with self.backend.device_context():
            return function(self.backend, updates)

    def arrays(self, name: str, x: Any, d: int) -> dict[str, Any]:
        return {name: x}

    def device_gradients(
        self,
        own: list[Tree],
        inputs: Inputs,
        targets: Inputs,
        images: int,
        loss: Loss,
        mode: Mode,
        dloss: Any = 1.0,
        count: int | None = None,
        on_gradients: OnGradients | None = None,
    ) -> tuple[list[tuple[Backend, Any]], Tree]:
        b, [params] = self.backend, own
        scores, saved = self.network.forward(b, params, inputs(b, 0, images), mode)
        value, dscores = loss(b, scores, targets(b, 0, images), count, dloss)
        return [(b, value)], self.network.backward(b, params, saved, dscores, on_gradients)

    def input_rows(self, images: int) -> list[tuple[int, int]]:
        return [(0, images)]

    def input_network(self, d: int) -> Network:
        return self.network

    def infer(
        self, params: Tree, inputs: Inputs, count: int, until: str | None = None
    ) -> np.ndarray:
        b, network = self.backend, self.network if until is None else self.network.until(until)
        return b.to_numpy(network.infer(b, b.cast_params(params), inputs(b, 0, count)))

    def describe(self) -> list[str]:
        return [self.backend.describe(), *self.backend.remarks([self.backend.device])]
