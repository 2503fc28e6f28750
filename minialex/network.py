"""A network: an ordered tuple of named layers, and nothing else.

Parameters are a dictionary of dictionaries, {layer: {"weight": ..., "bias": ...}}, only for layers
that have any; gradients mirror it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from minialex.errors import InputError
from minialex.layers import (
    Conv2D,
    Dense,
    Dropout,
    InitialDraw,
    Layer,
    MaxPool,
    Mode,
    ReLU,
    ResponseNorm,
)
from minialex.layers.base import Shape

Tree = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Row:
    """One line of the summary; counts are for one image."""

    name: str
    layer: Layer
    output_shape: Shape
    parameters: int
    neurons: int
    connections: int


@dataclass(frozen=True)
class Pooled:
    """What a normalisation and the pooling after it leave for their backward pass, as one.

    If a ReLU stands before them, its gradient is taken there too.
    """

    norm: ResponseNorm
    pool: MaxPool
    relu: bool
    saved: Any
    input_shape: Shape  # with the batch

    @property
    def layers(self) -> int:
        """How many layers it stands for."""
        return 3 if self.relu else 2

    def backward(self, b, dy):
        """dx from dy."""
        place = self.norm.place(), self.pool.place(self.input_shape)
        return b.response_norm_pool_gradient(dy, self.saved, *place, relu=self.relu)


@dataclass(frozen=True)
class Dropped:
    """What a ReLU and the dropout after it leave for their backward pass, as one: their output."""

    y: Any
    factor: float
    layers: int = 2

    def backward(self, b, dy):
        """dx from dy."""
        return b.relu_dropout_gradient(dy, self.y, self.factor)


@dataclass(frozen=True)
class Network:
    """Layers applied in order to images of `input_shape` (H, W, C)."""

    layers: tuple[tuple[str, Layer], ...]
    input_shape: Shape

    def __post_init__(self):
        names = [name for name, _ in self.layers]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise InputError(f"layer names must differ, but {', '.join(repeated)} stand twice")
        self.shapes()  # a network whose layers do not fit together is refused here

    def shapes(self) -> list[Shape]:
        """The input shape of every layer, and the output shape of the last."""
        shapes = [self.input_shape]
        for name, layer in self.layers:
            try:
                shapes.append(layer.output_shape(shapes[-1]))
                layer.parameter_shapes(shapes[-2])
            except InputError as error:
                raise InputError(f"layer {name!r}: {error}") from None
        return shapes

    def parameter_shapes(self) -> dict[str, dict[str, Shape]]:
        """{layer: {parameter: shape}} for the layers that have parameters."""
        pairs = zip(self.layers, self.shapes(), strict=False)
        shapes = {name: layer.parameter_shapes(shape) for (name, layer), shape in pairs}
        return {name: parameters for name, parameters in shapes.items() if parameters}

    def init(self, b, seed: int = 0, dtype: str = "float32") -> Tree:
        """Initial parameters: a function of the seed alone."""
        params = {}
        for i, ((name, layer), shape) in enumerate(zip(self.layers, self.shapes(), strict=False)):
            of_layer = layer.init(b, InitialDraw(seed, i), shape, dtype)
            if of_layer:
                params[name] = of_layer
        return params

    def forward(self, b, params: Tree, x, mode: Mode, stop: str | None = None, watch=None):
        """-> y, saved. With `stop`, y is the output of the layer of that name.

        `watch(name, x)` is called with each layer's output; a ReLU's is that of its product.
        """
        saved: list[Any] = []  # an entry for each layer that is done
        for i, name, layer, fused in self.steps(stop):
            if i >= len(saved):
                x, kept = self._fused_forward(b, params, x, mode, i, stop, watch is not None)
                if not kept:
                    at = replace(mode, layer=i)
                    x, of_layer = layer.forward(b, params.get(name, {}), x, at, **fused)
                    # what the ReLU would keep is its output
                    kept = [of_layer, x] if fused else [of_layer]
                saved += kept
            if watch is not None:
                watch(name, x)
        return x, saved

    def infer(self, b, params: Tree, x, stop: str | None = None):
        """The output at test time; nothing is kept for a backward pass."""
        done = 0
        for i, name, layer, fused in self.steps(stop):
            if i >= done:
                x, kept = self._fused_forward(b, params, x, Mode(), i, stop)
                if not kept:
                    x, _ = layer.forward(b, params.get(name, {}), x, Mode(layer=i), **fused)
                done = i + (len(kept) or 1 + len(fused))
                del kept
        return x

    def _fused_forward(self, b, params: Tree, x, mode: Mode, i: int, stop, apart=False):
        """What is done as one from layer i on: its output, and what each of its layers keeps.

        x and [] if nothing is. With `apart`, dropout is not done with the layers before it.
        """
        name, layer = self.layers[i]
        if self.pool_follows(i) and name != stop:
            pool = self.layers[i + 1][1]
            relu = i > 0 and isinstance(self.layers[i - 1][1], ReLU)
            assert isinstance(layer, ResponseNorm)
            assert isinstance(pool, MaxPool)
            y, kept = b.response_norm_pool(x, layer.place(), pool.place(x.shape))
            return y, [None, Pooled(layer, pool, relu, kept, x.shape)]
        if not apart and self.dropout_follows(i, mode):
            (relu_name, _), (_, dropout) = self.layers[i + 1 : i + 3]
            if stop not in (name, relu_name):
                assert isinstance(layer, Dense)
                assert isinstance(dropout, Dropout)
                draw = dropout.draw(replace(mode, layer=i + 2))
                y, of_layer = layer.forward_dropped(b, params[name], x, *draw)
                return y, [of_layer, None, Dropped(y, dropout.factor)]
        return x, []

    def steps(self, stop: str | None = None) -> Iterator[tuple[int, str, Layer, dict[str, bool]]]:
        """(position, name, layer, options of its forward) in order, up to layer `stop`.

        A ReLU does not appear where the product before it applies it.
        """
        i = 0
        while i < len(self.layers):
            name, layer = self.layers[i]
            fused = {"relu": True} if name != stop and self.relu_follows(i) else {}
            yield i, name, layer, fused
            i += 1 + len(fused)
            if stop in (name, self.layers[i - 1][0]):
                break

    def relu_follows(self, i: int) -> bool:
        """Whether layer i + 1 is a ReLU that layer i can apply on its way."""
        able = isinstance(self.layers[i][1], (Conv2D, Dense))
        return able and i + 1 < len(self.layers) and isinstance(self.layers[i + 1][1], ReLU)

    def pool_follows(self, i: int) -> bool:
        """Whether layers i and i + 1 are a normalisation and its max pooling, done as one."""
        pair = [layer for _, layer in self.layers[i : i + 2]]
        return [type(layer) for layer in pair] == [ResponseNorm, MaxPool]

    def dropout_follows(self, i: int, mode: Mode) -> bool:
        """Whether layers i to i + 2 are dense, ReLU and a dropout that draws, done as one."""
        three = [layer for _, layer in self.layers[i : i + 3]]
        if not mode.training or [type(layer) for layer in three] != [Dense, ReLU, Dropout]:
            return False
        return isinstance(three[2], Dropout) and three[2].keep < 1

    def backward(self, b, params: Tree, saved: list, dy, watch=None) -> Tree:
        """Gradients of all parameters from dy; takes `saved` apart as it goes, to free memory.

        `watch(name, dy)` is called with the gradient that arrives at each layer's output.
        """
        grads: Tree = {}
        while saved:
            i = len(saved) - 1
            name, layer = self.layers[i]
            if watch is not None:
                watch(name, dy)
            kept = saved.pop()
            if isinstance(kept, (Pooled, Dropped)):
                dy = kept.backward(b, dy)
                del saved[i + 1 - kept.layers :]
                continue
            before = self.layers[i - 1][1] if i else None
            more = {}
            if watch is None and isinstance(layer, Conv2D) and isinstance(before, ReLU):
                more, _ = {"relu": True}, saved.pop()
            of = params.get(name, {})
            dy, of_layer = layer.backward(b, of, kept, dy, input_gradient=i > 0, **more)
            if of_layer:
                grads[name] = of_layer
        return grads

    def without_dropout(self) -> "Network":
        """The same network, every unit always present (and nothing scaled at test time)."""
        kept = tuple(
            (n, replace(l, keep=1.0) if isinstance(l, Dropout) else l) for n, l in self.layers
        )
        return replace(self, layers=kept)

    def feature_layer(self) -> str:
        """The layer whose output are "the features": the last before the classifier's dropout."""
        last_dense = max(i for i, (_, layer) in enumerate(self.layers) if isinstance(layer, Dense))
        i = last_dense - 1
        while i > 0 and isinstance(self.layers[i][1], Dropout):
            i -= 1
        return self.layers[i][0]

    @property
    def classes(self) -> int:
        """The number of outputs."""
        return self.shapes()[-1][-1]

    def rows(self) -> list[Row]:
        """What `minialex summary` prints: one row a layer."""
        shapes = self.shapes()
        rows = []
        for i, (name, layer) in enumerate(self.layers):
            sizes = layer.parameter_shapes(shapes[i]).values()
            parameters = sum(prod(size) for size in sizes)
            neurons = prod(shapes[i + 1]) if parameters else 0
            connections = layer.connections(shapes[i])
            rows.append(Row(name, layer, shapes[i + 1], parameters, neurons, connections))
        return rows

    @property
    def parameter_count(self) -> int:
        """All weights and biases."""
        return sum(row.parameters for row in self.rows())
