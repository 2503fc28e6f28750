"""A network over several devices of one process, with the interface of a single device.

A `DeviceGroup` stores each parameter as a `ShardedParameter`, in trees structured as on one device,
and runs forward, backward and update over its backends. It computes nothing itself: the layers do,
each on its own device, according to the plan.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minialex.backends import Backend
from minialex.layers import Mode
from minialex.losses import Loss
from minialex.network import Network
from minialex.parallel import partition as plans
from minialex.parallel.collectives import AllReduce, ShardedActivation, gather, reduce_scatter
from minialex.parallel.devices import Devices, Inputs, OnGradients
from minialex.parallel.partition import Plan, Range, split
from minialex.parallel.sharded_stages import ShardedParameters, ShardedStage, sharded_stages
from minialex.tree import Tree, map_tree


@dataclass(frozen=True)
class ShardedParameter:
    """One parameter, velocity or gradient over the devices: {array name: array} per device."""

    layer: str
    name: str
    parts: tuple[dict[str, Any], ...]


class DeviceGroup(Devices):
    """`network` over `backends`, split by `scheme` (see `partition`)."""

    def __init__(self, network: Network, backends: Sequence[Backend], scheme: str | None = None):
        self.plan: Plan = plans.make(network, len(backends), scheme)
        self.scheme = self.plan.scheme
        self.network = network
        self.backends = tuple(b.with_own_stream() for b in backends)
        self._reduce = AllReduce(self.backends)

    def __repr__(self) -> str:
        return f"<DeviceGroup {self.scheme!r} of {list(self.backends)}>"

    def describe(self) -> list[str]:
        ways = {
            "towers": "each device computes its own channels",
            "data": "each device takes its own images",
            "hybrid": "convolutions by images, dense layers by channels",
        }
        text = f"{len(self.backends)} devices, {self.scheme}: {ways[self.plan.scheme]}"
        remarks = self.backends[0].remarks([b.device for b in self.backends])
        return [text, *remarks]

    # ------------------------------------------------------------------------------ parameters

    def to_devices(self, params: Tree) -> Tree:
        return {
            layer: {name: self._placed(host, layer, name) for name, host in of_layer.items()}
            for layer, of_layer in params.items()
        }

    def _placed(self, host: np.ndarray, layer: str, name: str) -> ShardedParameter:
        parts = []
        for d, b in enumerate(self.backends):
            slices = [s for s in self.plan.slices(layer, d) if s.whole == name]
            with b.device_context():
                parts.append({s.name: b.asarray(s.cut(host)) for s in slices})
        return ShardedParameter(layer, name, tuple(parts))

    def to_numpy(self, x: Any) -> np.ndarray:
        if not isinstance(x, ShardedParameter):
            return np.asarray(x)
        shape = self.network.parameter_shapes()[x.layer][x.name]
        whole: np.ndarray | None = None
        holders = len(self.backends) if x.layer in self.plan.partitions else 1
        for d, b in enumerate(self.backends[:holders]):
            for piece in self.plan.slices(x.layer, d):
                if piece.whole == x.name:
                    part = b.to_numpy(x.parts[d][piece.name])
                    whole = np.empty(shape, part.dtype) if whole is None else whole
                    piece.paste(whole, part)
        assert whole is not None
        return whole

    def zeros_like(self, x: ShardedParameter) -> ShardedParameter:
        return self._map(lambda b, array: b.zeros_like(array), x)

    def scale(self, x: ShardedParameter, factor: float) -> ShardedParameter:
        scaled = self._map(lambda b, array: b.scale(array, factor), x)
        for d in self._devices:  # x may be a sum that other streams are still sending
            self._reduce.used(d, list(x.parts[d].values()))
        return scaled

    def add(self, x: ShardedParameter, y: ShardedParameter) -> ShardedParameter:
        parts = []
        for d, (b, own, other) in enumerate(zip(self.backends, x.parts, y.parts, strict=True)):
            with b.device_context():
                parts.append({name: b.add(array, other[name]) for name, array in own.items()})
            self._reduce.used(d, [*own.values(), *other.values()])  # as in `scale`
        return replace(x, parts=tuple(parts))

    def all_finite(self, *arrays: ShardedParameter) -> bool:
        listed = [[a for x in arrays for a in x.parts[d].values()] for d in self._devices]
        return all(b.all_finite(*own) for b, own in zip(self.backends, listed, strict=True) if own)

    def sum_of_squares(self, x: ShardedParameter) -> float:
        # a replicated parameter counts once
        holders = len(self.backends) if x.layer in self.plan.partitions else 1
        return sum(
            b.sum_of_squares(array)
            for b, part in zip(self.backends[:holders], x.parts[:holders], strict=True)
            for array in part.values()
        )

    def updates(
        self, function: Callable[[Backend, Sequence[tuple]], list[tuple]], updates: Sequence[tuple]
    ) -> list[tuple]:
        # for each update, by device: {array's name: new arrays}
        new: list[list[dict[str, tuple]]] = [[{} for _ in self.backends] for _ in updates]
        before_gradient = 0
        for d, b in enumerate(self.backends):
            held = [(j, name) for j, update in enumerate(updates) for name in update[0].parts[d]]
            own, gradients = [], []
            for j, name in held:
                arrays = [x.parts[d][name] for x in updates[j] if isinstance(x, ShardedParameter)]
                own.append((*arrays, *updates[j][len(arrays) :]))
                before_gradient = len(arrays) - 1
                gradients.append(arrays[before_gradient])
            with b.device_context():
                made = function(b, own)
            self._reduce.used(d, gradients)
            for (j, name), found in zip(held, made, strict=True):
                new[j][d][name] = found
        return [
            tuple(
                replace(
                    update[0],
                    parts=tuple({name: found[i] for name, found in part.items()} for part in parts),
                )
                for i in range(before_gradient)
            )
            for update, parts in zip(updates, new, strict=True)
        ]

    def whole(self, params: Tree) -> tuple[Backend, Tree]:
        b = self.backends[0]
        with b.device_context():
            return b, map_tree(lambda x: b.asarray(self.to_numpy(x)), params)

    @property
    def _devices(self) -> range:
        return range(len(self.backends))

    def _map(self, use: Callable[[Backend, Any], Any], x: ShardedParameter) -> ShardedParameter:
        parts = []
        for b, part in zip(self.backends, x.parts, strict=True):
            with b.device_context():
                parts.append({name: use(b, array) for name, array in part.items()})
        return replace(x, parts=tuple(parts))

    def arrays(self, name: str, x: ShardedParameter, d: int) -> dict[str, Any]:
        return x.parts[d]

    # ------------------------------------------------------------------------------ one step

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
        if mode.training:
            plans.require_trainable(self.network, len(self.backends))
        sharded = ShardedParameters(self.backends, own)
        scores, saved = self._forward(sharded, self._input(inputs, images), mode)
        losses, dscores = self._loss(scores, targets, images, loss, count or images, dloss)
        grads = self._backward(sharded, saved, dscores)
        self._reduce.finish()
        if on_gradients is not None:  # not before: the sums between the devices have streams apart
            for layer, of_layer in grads.items():
                on_gradients(layer, of_layer)
        return losses, grads

    def helpers(self) -> list[Backend]:
        return list(self._reduce.streams)

    def infer(
        self, params: Tree, inputs: Inputs, count: int, until: str | None = None
    ) -> np.ndarray:
        network = self.network if until is None else self.network.until(until)
        y = self._input(inputs, count)
        backends = [b.for_inference() for b in self.backends]
        own = ShardedParameters(backends, self.cast(params))
        for stage in sharded_stages(network, self.plan, training=False):
            y = stage.forward(own, y, Mode())[0]
        if y.axis is None:
            return self.backends[0].to_numpy(y.parts[0])
        parts = [
            b.to_numpy(part)
            for b, part in zip(self.backends, y.parts, strict=True)
            if part is not None
        ]
        return np.concatenate(parts, axis=y.axis)

    def input_rows(self, images: int) -> list[Range]:
        devices = len(self.backends)
        return [(0, images)] * devices if self._whole_input else split(images, devices)

    def input_network(self, d: int) -> Network:
        first, _ = self.network.layers[0]
        if first not in self.plan.partitions:
            return self.network
        own = self.plan.partitions[first][d].terms[0].layer
        return Network(((first, own),), self.network.input_shape)

    @property
    def _whole_input(self) -> bool:
        """Whether each device takes all images, because the first layer is split by channels."""
        return next(iter(self.network.parameter_shapes()), None) in self.plan.partitions

    def _input(self, inputs: Inputs, count: int) -> ShardedActivation:
        rows, parts = self.input_rows(count), list[Any]()
        for b, (low, high) in zip(self.backends, rows, strict=True):
            with b.device_context():
                parts.append(inputs(b, low, high) if high > low else None)
        if self._whole_input:
            return ShardedActivation(tuple(parts))
        return ShardedActivation(tuple(parts), 0, tuple(rows))

    def _loss(
        self,
        scores: ShardedActivation,
        targets: Inputs,
        images: int,
        loss: Loss,
        count: int,
        dloss: Any,
    ) -> tuple[list[tuple[Backend, Any]], ShardedActivation]:
        """[(backend, its share of the loss)], and the gradient sharded like the scores."""
        losses, divided = [], scores
        parts: list[Any] = []
        rows = split(images, len(self.backends))
        if scores.axis != 0:
            scores = scores if scores.axis is None else gather(self.backends, scores, [0])
            rows = [(0, images)] + [(0, 0)] * (len(self.backends) - 1)
        for b, part, (low, high) in zip(self.backends, scores.parts, rows, strict=True):
            if part is None or high == low:
                parts.append(None)
                continue
            with b.device_context():
                value, dscores = loss(b, part, targets(b, low, high), count, dloss)
            losses.append((b, value))
            parts.append(dscores)
        if divided.axis == -1:
            parts = list(reduce_scatter(self.backends, parts, -1, divided.ranges).parts)
        return losses, ShardedActivation(tuple(parts), divided.axis, divided.ranges)

    # ------------------------------------------------------------------------------ layers

    def _forward(
        self, own: ShardedParameters, x: ShardedActivation, mode: Mode
    ) -> tuple[ShardedActivation, list[tuple[ShardedStage, Any]]]:
        """-> the output, and each stage with what its backward pass needs."""
        saved = []
        for stage in sharded_stages(self.network, self.plan, mode.training):
            x, kept = stage.forward(own, x, mode)
            saved.append((stage, kept))
        return x, saved

    def _backward(self, own: ShardedParameters, saved: list, dy: ShardedActivation) -> Tree:
        """Gradients of all parameters; empties `saved` as it goes, to free memory."""
        grads: Tree = {}
        first = next(iter(self.network.parameter_shapes()))
        while saved:
            stage, kept = saved.pop()
            name = stage.name
            dy, of_layer = stage.backward(own, kept, dy, name != first)
            if any(of_layer):
                assert name is not None
                grads[name] = self._shards(name, of_layer)
            if name == first:
                break
        return grads

    def _shards(self, layer: str, of_layer: list[dict[str, Any]]) -> dict[str, ShardedParameter]:
        """A layer's gradients; those of replicated parameters are summed."""
        if layer not in self.plan.partitions:
            names = next(own for own in of_layer if own)
            summed = {n: self._reduce.start([own.get(n) for own in of_layer]) for n in names}
            return {
                n: ShardedParameter(layer, n, tuple({n: x} for x in arrays))
                for n, arrays in summed.items()
            }
        return {
            whole: ShardedParameter(
                layer,
                whole,
                tuple(
                    {s.name: own[s.name] for s in self.plan.slices(layer, d) if s.whole == whole}
                    for d, own in enumerate(of_layer)
                ),
            )
            for whole in self.network.parameter_shapes()[layer]
        }
