"""The fusion pass: layers that run faster together become one stage of the network.

A backend can add the bias and apply ReLU and dropout while it writes a matrix product, and pool
while it normalises. `fuse` finds such runs of layers and replaces each with a fused layer, which
turns AlexNet's 22 layers into 11 stages: conv1+relu1, norm1+pool1, conv2+relu2, ... Fused and
unfused results are bit-for-bit the same. Only this module knows which layers fuse: everything else
iterates over stages.

A fused layer replaces the layers of its `pattern`, holds them as its first fields, and implements
their combined forward and backward. The ReLU at the end of a stage can have its gradient computed
by the next stage: a convolution multiplies its dx by the mask of its input (`masks_dx`), and the
preceding stage then receives a dy that is already masked (`dy_masked`). `fuse` sets both, once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from minialex.backends.base import Array, Backend
from minialex.layers import Conv2D, Dense, Dropout, Layer, MaxPool, Mode, ReLU, ResponseNorm
from minialex.layers.base import Params, Saved
from minialex.tree import Tree

NamedLayers = Sequence[tuple[str, Layer]]


@dataclass(frozen=True)
class Stage:
    """One step of a pass: a layer, or a fused layer that replaces several.

    `index` is the position of its first layer in the network, which random numbers depend on;
    `names` are the layers' names. Only the first layer can have parameters.
    """

    index: int
    names: tuple[str, ...]
    layer: Layer

    @property
    def name(self) -> str:
        """The first layer's name."""
        return self.names[0]

    def forward(self, b: Backend, params: Tree, x: Array, mode: Mode) -> tuple[Array, Saved]:
        """-> y, saved; `params` are the whole network's."""
        training = mode.training and self.name not in mode.fixed
        mode = replace(mode, training=training, layer=self.index)
        return self.layer.forward(b, params.get(self.name, {}), x, mode)

    def backward(
        self, b: Backend, params: Tree, saved: Saved, dy: Array, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
        """-> dx, gradients of the first layer's parameters."""
        own = params.get(self.name, {})
        return self.layer.backward(b, own, saved, dy, input_gradient=input_gradient)


# ------------------------------------------------------------------------------------ fused layers


class Fused(Layer):
    """Base class of the fused layers: frozen dataclasses whose first fields are the layers."""

    pattern: ClassVar[tuple[type[Layer], ...]]

    @classmethod
    def matches(cls, layers: Sequence[Layer], training: bool) -> bool:
        """Whether this class can replace `layers`, of which there are as many as in its pattern."""
        return [type(layer) for layer in layers] == list(cls.pattern)


@dataclass(frozen=True)
class ConvReLU(Fused):
    """A convolution with its bias and ReLU."""

    pattern = (Conv2D, ReLU)
    conv: Conv2D
    relu: ReLU
    masks_dx: bool = False
    dy_masked: bool = False

    def forward(self, b: Backend, params: Params, x: Array, mode: Mode) -> tuple[Array, Saved]:
        geometry = self.conv.geometry(x.shape[1:])
        y = b.convolution(x, params["weight"], params["bias"], *geometry, relu=True)
        return y, (x, None if self.dy_masked else y)

    def backward(
        self, b: Backend, params: Params, saved: Saved, dy: Array, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
        x, y = saved
        if not self.dy_masked:
            dy = b.relu_gradient(dy, y)
        conv = ConvAfterReLU(self.conv) if self.masks_dx else self.conv
        return conv.backward(b, params, x, dy, input_gradient=input_gradient)


@dataclass(frozen=True)
class ConvAfterReLU(Fused):
    """A convolution on the output of a ReLU: it applies that ReLU's mask as it writes dx."""

    conv: Conv2D

    def forward(self, b: Backend, params: Params, x: Array, mode: Mode) -> tuple[Array, Saved]:
        return self.conv.forward(b, params, x, mode)

    def backward(
        self, b: Backend, params: Params, saved: Saved, dy: Array, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
        x, geometry = saved, self.conv.geometry(saved.shape[1:])
        _, grads = self.conv.backward(b, params, x, dy, input_gradient=False)
        dx = None
        if input_gradient:
            dx = b.convolution_input_gradient_relu(dy, params["weight"], x, *geometry)
        return dx, grads


@dataclass(frozen=True)
class MaskedReLU(ReLU):
    """A separate ReLU whose gradient has already been masked by the next stage."""

    def backward(
        self, b: Backend, params: Params, saved: Saved, dy: Array, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
        return dy, {}


@dataclass(frozen=True)
class DenseReLU(Fused):
    """A dense layer with its bias and ReLU."""

    pattern = (Dense, ReLU)
    dense: Dense
    relu: ReLU
    dy_masked: bool = False

    def forward(self, b: Backend, params: Params, x: Array, mode: Mode) -> tuple[Array, Saved]:
        y = b.dense(x, params["weight"], params["bias"], relu=True)
        return y, (x, None if self.dy_masked else y)

    def backward(
        self, b: Backend, params: Params, saved: Saved, dy: Array, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
        x, y = saved
        if not self.dy_masked:
            dy = b.relu_gradient(dy, y)
        return self.dense.backward(b, params, x, dy, input_gradient=input_gradient)


@dataclass(frozen=True)
class DenseReLUDropout(Fused):
    """A dense layer with its bias, ReLU and dropout, in training."""

    pattern = (Dense, ReLU, Dropout)
    dense: Dense
    relu: ReLU
    dropout: Dropout

    @classmethod
    def matches(cls, layers: Sequence[Layer], training: bool) -> bool:
        return training and super().matches(layers, training) and _drops(layers[-1])

    def forward(self, b: Backend, params: Params, x: Array, mode: Mode) -> tuple[Array, Saved]:
        drawn = self.dropout.draw(replace(mode, layer=mode.layer + 2))
        y = b.dense_relu_dropout(x, params["weight"], params["bias"], *drawn)
        return y, (x, y)

    def backward(
        self, b: Backend, params: Params, saved: Saved, dy: Array, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
        x, y = saved  # y > 0 where a unit passed both the ReLU and the dropout
        dy = b.relu_dropout_gradient(dy, y, self.dropout.factor)
        return self.dense.backward(b, params, x, dy, input_gradient=input_gradient)


@dataclass(frozen=True)
class ResponseNormMaxPool(Fused):
    """Response normalisation followed by max pooling."""

    pattern = (ResponseNorm, MaxPool)
    norm: ResponseNorm
    pool: MaxPool
    masks_dx: bool = False

    def forward(self, b: Backend, params: Params, x: Array, mode: Mode) -> tuple[Array, Saved]:
        geometry = self.pool.geometry(x.shape[1:])
        y, saved = b.response_norm_pool(x, self.norm.constants(), geometry)
        return y, (saved, geometry)

    def backward(
        self, b: Backend, params: Params, saved: Saved, dy: Array, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
        saved, geometry = saved
        constants = self.norm.constants()
        dx = b.response_norm_pool_gradient(dy, saved, constants, geometry, relu=self.masks_dx)
        return dx, {}


def _drops(layer: Layer) -> bool:
    return isinstance(layer, Dropout) and layer.keep < 1


# ------------------------------------------------------------------------------------ the pass

# The first match wins, so longer patterns come first.
FUSED: tuple[type[Fused], ...] = (DenseReLUDropout, ConvReLU, DenseReLU, ResponseNormMaxPool)


def fuse(layers: NamedLayers, training: bool = False) -> tuple[Stage, ...]:
    """The stages that compute what `layers` compute, in training or at test time."""
    stages, i = list[Stage](), 0
    while i < len(layers):
        stage = _stage_at(layers, i, training)
        if i > 0 and isinstance(layers[i - 1][1], ReLU):
            stages[-1], stage = _move_mask(stages[-1], stage)
        stages.append(stage)
        i += len(stage.names)
    return tuple(stages)


def unfused(layers: NamedLayers) -> tuple[Stage, ...]:
    """One stage per layer, to inspect each layer's output and gradient."""
    return tuple(Stage(i, (name,), layer) for i, (name, layer) in enumerate(layers))


def _stage_at(layers: NamedLayers, i: int, training: bool) -> Stage:
    """The stage that begins with layer i."""
    for fused in FUSED:
        run = layers[i : i + len(fused.pattern)]
        if fused.matches([layer for _, layer in run], training):
            make: Any = fused
            return Stage(i, tuple(name for name, _ in run), make(*(layer for _, layer in run)))
    name, layer = layers[i]
    return Stage(i, (name,), layer)


def _move_mask(before: Stage, stage: Stage) -> tuple[Stage, Stage]:
    """Let `stage` apply the mask of the ReLU that ends `before`, if both support it."""
    masked, relieved = _masks_dx(stage.layer), _dy_masked(before.layer)
    if masked is None or relieved is None:
        return before, stage
    return replace(before, layer=relieved), replace(stage, layer=masked)


def _masks_dx(layer: Layer) -> Layer | None:
    if isinstance(layer, (ConvReLU, ResponseNormMaxPool)):
        return replace(layer, masks_dx=True)
    return ConvAfterReLU(layer) if isinstance(layer, Conv2D) else None


def _dy_masked(layer: Layer) -> Layer | None:
    if isinstance(layer, (ConvReLU, DenseReLU)):
        return replace(layer, dy_masked=True)
    return MaskedReLU() if isinstance(layer, ReLU) else None
