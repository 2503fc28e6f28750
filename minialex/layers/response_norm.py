"""Local response normalisation: across maps (paper, section 3.3) and within a map."""

from dataclasses import dataclass

from minialex.layers.base import Layer, require


def _check(n: int) -> None:
    require(
        n >= 1 and n % 2 == 1,
        f"response normalisation over n = {n} maps: an even n means three different windows in the "
        "programs that allow it, so n must be odd",
    )


@dataclass(frozen=True)
class ResponseNorm(Layer):
    """y_c = x_c / (k + α Σ x_j²)^β over the n maps around c: x (..., C) -> y (..., C).

    The window is clipped to c's group, so it never crosses from one tower to the other. α is the
    paper's and not divided by n: Caffe, PyTorch, MXNet and ONNX divide, so that the same function
    has `alpha=α * n` there (the paper's 1e-4 is their 5e-4); `alpha=2e-5` here is Caffe's 1e-4.
    """

    n: int = 5
    k: float = 2.0
    alpha: float = 1e-4
    beta: float = 0.75
    groups: int = 1

    def __post_init__(self):
        _check(self.n)

    def output_shape(self, input_shape):
        require(
            input_shape[-1] % self.groups == 0,
            f"{input_shape[-1]} maps cannot be shared out to {self.groups} groups",
        )
        return input_shape

    def place(self):
        """What the op takes behind x."""
        return (self.n, self.k, self.alpha, self.beta, self.groups)

    def forward(self, b, params, x, mode):
        return b.response_norm(x, *self.place())

    def backward(self, b, params, saved, dy, *, input_gradient=True):
        return b.response_norm_gradient(dy, saved, *self.place()), {}


@dataclass(frozen=True)
class SpatialResponseNorm(Layer):
    """The same over the n x n pixels around each, within one map: x (N, H, W, C) -> y.

    The run that made the paper's numbers has one after its second normalisation, which the paper
    does not mention. α is not divided by n².
    """

    n: int = 5
    k: float = 1.0
    alpha: float = 4e-5
    beta: float = 0.75

    def __post_init__(self):
        _check(self.n)

    def output_shape(self, input_shape):
        return input_shape

    def forward(self, b, params, x, mode):
        return b.spatial_response_norm(x, self.n, self.k, self.alpha, self.beta)

    def backward(self, b, params, saved, dy, *, input_gradient=True):
        place = (self.n, self.k, self.alpha, self.beta)
        return b.spatial_response_norm_gradient(dy, saved, *place), {}
