"""Batch normalisation (Ioffe & Szegedy, 2015), which later replaced response normalisation."""

from dataclasses import dataclass
from math import prod

from minialex.backends.base import Array, Backend
from minialex.layers.base import Layer, Mode, Params, Saved, Shape, require
from minialex.rng import InitialDraw


@dataclass(frozen=True)
class BatchNorm(Layer):
    """y_c = weight_c (x_c - mean_c) / √(variance_c + ε) + bias_c: x (..., C) -> y (..., C).

    In training, mean and variance are those of channel c in the images of the pass. At test time
    they are running averages over the training steps; each step keeps the share `keep` of them.
    """

    saves_output = False
    statistics = ("running_mean", "running_variance")

    epsilon: float = 1e-5
    keep: float = 0.9

    def __post_init__(self) -> None:
        require(self.epsilon > 0, f"epsilon must be greater than 0, not {self.epsilon}")
        require(0 <= self.keep < 1, f"keep must be at least 0 and less than 1, not {self.keep}")

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        return dict.fromkeys(("weight", "bias", *self.statistics), input_shape[-1:])

    def init(self, b: Backend, draw: InitialDraw, input_shape: Shape, dtype: str) -> Params:
        values = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_variance": 1.0}
        shape = input_shape[-1:]
        return {name: b.asarray(draw.constant(shape, v, dtype)) for name, v in values.items()}

    def forward(self, b: Backend, params: Params, x: Array, mode: Mode) -> tuple[Array, Saved]:
        if mode.training:
            mean, variance = b.batch_statistics(x)
        else:
            mean, variance = params["running_mean"], params["running_variance"]
        y = b.batch_norm(x, params["weight"], params["bias"], mean, variance, self.epsilon)
        return y, (x, mean, variance, mode.training)

    def backward(
        self, b: Backend, params: Params, saved: Saved, dy: Array, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
        x, mean, variance, training = saved
        weight = params["weight"]
        dx, dw, db = b.batch_norm_gradient(dy, x, weight, mean, variance, self.epsilon)
        if training:
            images, size = x.shape[0], prod(x.shape[:-1])
            unbiased = size / max(1, size - 1)
            found = b.scale(mean, images), b.scale(variance, images * unbiased)
        else:
            found = (b.zeros_like(mean),) * 2
            if input_gradient:  # without the terms of dx that come from mean and variance
                dx = b.batch_norm(dy, weight, *found, variance, self.epsilon)
        return dx, {"weight": dw, "bias": db, **dict(zip(self.statistics, found, strict=True))}
