"""Local response normalisation: across channels (paper, section 3.3), and within a channel."""

from dataclasses import dataclass

from minialex.backends.base import Array, Backend
from minialex.layers.base import Layer, Mode, Params, Saved, Shape, require


def _check(n: int) -> None:
    require(
        n >= 1 and n % 2 == 1,
        f"response normalisation over n = {n} channels: n must be odd, because programs that allow "
        "an even n disagree on its window",
    )


@dataclass(frozen=True)
class ResponseNorm(Layer):
    """y_c = x_c / (k + α Σ x_j²)^β over the n channels around c: x (..., C) -> y (..., C).

    The window is clipped to c's group, so it never crosses from one tower to the other. α is the
    paper's and not divided by n: Caffe, PyTorch, MXNet and ONNX divide, so that the same function
    has `alpha=α * n` there (the paper's 1e-4 is their 5e-4); `alpha=2e-5` here is Caffe's 1e-4.
    """

    saves_output = False

    n: int = 5
    k: float = 2.0
    alpha: float = 1e-4
    beta: float = 0.75
    groups: int = 1

    def __post_init__(self) -> None:
        _check(self.n)

    def output_shape(self, input_shape: Shape) -> Shape:
        require(
            self.groups >= 1 and input_shape[-1] % self.groups == 0,
            f"{input_shape[-1]} channels cannot be divided into {self.groups} groups",
        )
        return input_shape

    def constants(self) -> tuple[int, float, float, float, int]:
        """(n, k, α, β, groups), as the backend's normalisation takes them."""
        return self.n, self.k, self.alpha, self.beta, self.groups

    def forward(self, b: Backend, params: Params, x: Array, mode: Mode) -> tuple[Array, Saved]:
        return b.response_norm(x, *self.constants())

    def backward(
        self, b: Backend, params: Params, saved: Saved, dy: Array, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
        return b.response_norm_gradient(dy, saved, *self.constants()), {}


@dataclass(frozen=True)
class SpatialResponseNorm(Layer):
    """The same formula over the n x n pixels around each one, per channel: x (N, H, W, C) -> y.

    The run that produced the paper's results has one after its second normalisation, which the
    paper does not mention. α is not divided by n².
    """

    saves_output = False

    n: int = 5
    k: float = 1.0
    alpha: float = 4e-5
    beta: float = 0.75

    def __post_init__(self) -> None:
        _check(self.n)

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def constants(self) -> tuple[int, float, float, float]:
        """(n, k, α, β), as the backend's normalisation takes them."""
        return self.n, self.k, self.alpha, self.beta

    def forward(self, b: Backend, params: Params, x: Array, mode: Mode) -> tuple[Array, Saved]:
        return b.spatial_response_norm(x, *self.constants())

    def backward(
        self, b: Backend, params: Params, saved: Saved, dy: Array, *, input_gradient: bool = True
    ) -> tuple[Array | None, Params]:
        return b.spatial_response_norm_gradient(dy, saved, *self.constants()), {}
