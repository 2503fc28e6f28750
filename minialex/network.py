"""A network: an ordered tuple of named layers, and nothing else.

Parameters are a tree {layer: {"weight": ..., "bias": ...}} of the layers that have parameters;
gradients have the same structure. A pass runs the stages that the fusion pass makes of the layers.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod

from minialex.backends.base import Array, Backend
from minialex.errors import InputError, unknown
from minialex.fusion import Stage, fuse, unfused
from minialex.layers import Dense, Dropout, InitialDraw, Layer, Mode
from minialex.layers.base import Params, Saved, Shape
from minialex.tree import Tree
from minialex.utils.table import html


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
class Network:
    """Layers applied in order to images of `input_shape` (H, W, C)."""

    layers: tuple[tuple[str, Layer], ...]
    input_shape: Shape

    def __post_init__(self) -> None:
        names = [name for name, _ in self.layers]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise InputError(f"layer names must differ, but {', '.join(repeated)} are used twice")
        self.shapes()  # raises InputError if the layers do not fit together

    def __repr__(self) -> str:
        first, last = self.layers[0][0], self.layers[-1][0]
        shape = "x".join(map(str, self.input_shape))
        return (
            f"<Network {shape} to {self.classes:,} outputs: {len(self.layers)} layers from "
            f"{first} to {last}, {self.parameter_count:,} parameters>"
        )

    def _repr_html_(self) -> str:
        """The table of its layers, for notebooks."""
        rows = [
            (
                row.name,
                type(row.layer).__name__,
                "x".join(map(str, row.output_shape)),
                f"{row.parameters:,}" if row.parameters else "",
            )
            for row in self.rows()
        ]
        return html(("layer", "kind", "output", "parameters"), rows)

    # ------------------------------------------------------------------------------ passes

    def forward(
        self, b: Backend, params: Tree, x: Array, mode: Mode
    ) -> tuple[Array, list[tuple[Stage, Saved]]]:
        """-> y, and each stage with what it saved for the backward pass."""
        saved = []
        for stage in self.stages(mode.training):
            x, kept = stage.forward(b, params, x, mode)
            saved.append((stage, kept))
        return x, saved

    def backward(
        self,
        b: Backend,
        params: Tree,
        saved: list[tuple[Stage, Saved]],
        dy: Array,
        on_gradients: Callable[[str, Params], None] | None = None,
    ) -> Tree:
        """Gradients of all parameters from dy; empties `saved` as it goes, to free memory.

        `on_gradients` is given each layer's as soon as they are computed.
        """
        grads: Tree = {}
        first = next((i for i, (name, _) in enumerate(self.layers) if name in params), 0)
        while saved and saved[-1][0].index >= first:  # earlier layers have no parameters to learn
            stage, kept = saved.pop()
            dy, own = stage.backward(b, params, kept, dy, input_gradient=stage.index > first)
            if own:
                grads[stage.name] = own
                if on_gradients is not None:
                    on_gradients(stage.name, own)
        saved.clear()
        return grads

    def infer(self, b: Backend, params: Tree, x: Array) -> Array:
        """The output at test time; nothing is saved for a backward pass."""
        b = b.for_inference()
        for stage in self.stages():
            x = stage.forward(b, params, x, Mode())[0]  # its saved tensors are freed at once
        return x

    def stages(self, training: bool = False, fused: bool = True) -> tuple[Stage, ...]:
        """The stages of a pass, in order; with `fused=False`, one per layer."""
        return _stages(self.layers, training) if fused else unfused(self.layers)

    # ------------------------------------------------------------------------------ parameters

    def init(self, b: Backend, seed: int = 0, dtype: str = "float32") -> Tree:
        """Initial parameters; they depend on the seed alone."""
        params = {}
        for i, ((name, layer), shape) in enumerate(zip(self.layers, self.shapes(), strict=False)):
            own = layer.init(b, InitialDraw(seed, i), shape, dtype)
            if own:
                params[name] = own
        return params

    def parameter_shapes(self) -> dict[str, dict[str, Shape]]:
        """{layer: {parameter: shape}} for the layers that have parameters."""
        pairs = zip(self.layers, self.shapes(), strict=False)
        shapes = {name: layer.parameter_shapes(shape) for (name, layer), shape in pairs}
        return {name: parameters for name, parameters in shapes.items() if parameters}

    @property
    def layers_with_statistics(self) -> dict[str, Layer]:
        """The layers with running statistics."""
        return {name: layer for name, layer in self.layers if layer.statistics}

    def trainable(self, tree: Tree) -> Tree:
        """The part of a tree that gradients change: without running statistics."""
        kept = self.layers_with_statistics
        return {
            layer: {
                name: value
                for name, value in of_layer.items()
                if layer not in kept or name not in kept[layer].statistics
            }
            for layer, of_layer in tree.items()
        }

    @property
    def parameter_count(self) -> int:
        """The number of weights and biases, without running statistics."""
        return sum(row.parameters for row in self.rows())

    # ------------------------------------------------------------------------------ shapes

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

    @property
    def classes(self) -> int:
        """The number of outputs."""
        return self.shapes()[-1][-1]

    def rows(self) -> list[Row]:
        """What `minialex summary` prints: one row per layer."""
        shapes = self.shapes()
        rows = []
        for i, (name, layer) in enumerate(self.layers):
            sizes = layer.parameter_shapes(shapes[i])
            parameters = sum(prod(s) for n, s in sizes.items() if n not in layer.statistics)
            neurons = prod(shapes[i + 1]) if parameters and not layer.statistics else 0
            connections = layer.connections(shapes[i])
            rows.append(Row(name, layer, shapes[i + 1], parameters, neurons, connections))
        return rows

    # ------------------------------------------------------------------------------ relatives

    def until(self, name: str) -> "Network":
        """The network up to and including the layer called `name`, whose output it returns."""
        names = [n for n, _ in self.layers]
        if name not in names:
            raise unknown("layer", name, names)
        return replace(self, layers=self.layers[: names.index(name) + 1])

    def after(self, name: str) -> "Network":
        """The network of the layers after the one called `name`, on that layer's output."""
        before = self.until(name)
        rest = self.layers[len(before.layers) :]
        return Network(rest, before.shapes()[-1])

    def without_dropout(self) -> "Network":
        """The same network without dropout layers (and so without scaling at test time)."""
        kept = tuple(
            (n, replace(l, keep=1.0) if isinstance(l, Dropout) else l) for n, l in self.layers
        )
        return replace(self, layers=kept)

    def feature_layer(self) -> str:
        """The layer whose output is "the features": the last before the classifier's dropout.

        Raises InputError for a network without a layer before its classifier, a dense layer.
        """
        dense = [i for i, (_, layer) in enumerate(self.layers) if isinstance(layer, Dense)]
        if not dense or dense[-1] == 0:
            raise InputError(
                "this network has no features, which are what its last dense layer reads from a "
                "layer before it: choose another network"
            )
        i = dense[-1] - 1
        while i > 0 and isinstance(self.layers[i][1], Dropout):
            i -= 1
        return self.layers[i][0]


_stages = lru_cache(maxsize=64)(fuse)  # layers are values: the same ones give the same stages
