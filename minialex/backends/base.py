"""The contract of a backend: every public name that layers and training use, and its meaning.

`backends/generic/` implements each op for any library that follows the Python array API standard,
in one file per op family; `backends/numpy/`, `numba/` and `cuda/` override the ops for which they
are faster, in files of the same names.

Letters, here and everywhere: N batch, H W input, C channels in, K channels out, R S kernel, P Q
output, G groups. Arrays are N H W C, weights R S C/G K. `pads` is ((top, bottom), (left, right)).
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from minialex.backends.execution import Array, Execution

Pads = tuple[tuple[int, int], tuple[int, int]]
Pair = tuple[int, int]
Shape = tuple[int, ...]
NO_PADS: Pads = ((0, 0), (0, 0))


def output_shape(size: Pair, window: Pair, stride: Pair, pads: Pads) -> Pair:
    """(P, Q) of a window that slides over a padded (H, W) and stays inside it."""
    p, q = (
        (extent + sum(pad) - reach) // step + 1
        for extent, reach, step, pad in zip(size, window, stride, pads, strict=True)
    )
    return p, q


class Backend(Execution):
    """Arrays of one library on one device, and the ops that layers, losses and updates use.

    `xp` is the library's namespace. `device` is passed to its array constructors; None means the
    library's default.
    """

    # ------------------------------------------------------------------------------ arrays

    @abstractmethod
    def asarray(self, x: Any, dtype: str | None = None) -> Array:
        """A host array (or number) as an array of this backend; `dtype` by name."""

    @abstractmethod
    def to_numpy(self, x: Array) -> np.ndarray:
        """An array of this backend as a NumPy array; waits for the device."""

    @abstractmethod
    def all_finite(self, *arrays: Array) -> bool:
        """Whether no array holds NaN or Inf; waits for the device."""

    @abstractmethod
    def sum_of_squares(self, x: Array) -> float:
        """Σ x², on the host; waits for the device."""

    @abstractmethod
    def zeros_like(self, x: Array) -> Array:
        """Zeros with the shape and type of x."""

    @abstractmethod
    def narrow(self, x: Array, axis: int, start: int, stop: int) -> Array:
        """A copy of the entries start … stop - 1 along an axis."""

    @abstractmethod
    def concat(self, parts: Sequence[Array], axis: int) -> Array:
        """Concatenate arrays along an axis."""

    @abstractmethod
    def scale(self, x: Array, factor: float) -> Array:
        """x times a number."""

    @abstractmethod
    def scale_channels(self, x: Array, factors: Sequence[float]) -> Array:
        """x (N, H, W, C) with each channel multiplied by its factor; there are C factors."""

    @abstractmethod
    def add(self, x: Array, y: Array) -> Array:
        """x + y."""

    # ------------------------------------------------------------------------------ convolution

    @abstractmethod
    def convolution(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        stride: Pair,
        pads: Pads,
        groups: int,
        relu: bool = False,
    ) -> Array:
        """x (N, H, W, C), weight (R, S, C/G, K), bias (K,) or None -> y (N, P, Q, K)."""

    @abstractmethod
    def convolution_input_gradient(
        self, dy: Array, weight: Array, input_shape: Shape, stride: Pair, pads: Pads, groups: int
    ) -> Array:
        """dy (N, P, Q, K) -> dx of `input_shape` (N, H, W, C)."""

    @abstractmethod
    def convolution_input_gradient_relu(
        self, dy: Array, weight: Array, x: Array, stride: Pair, pads: Pads, groups: int
    ) -> Array:
        """dx, also masked by the ReLU before the convolution: x is that ReLU's output."""

    @abstractmethod
    def convolution_weight_gradient(
        self, x: Array, dy: Array, kernel: Pair, stride: Pair, pads: Pads, groups: int
    ) -> Array:
        """x (N, H, W, C), dy (N, P, Q, K), kernel (R, S) -> dW (R, S, C/G, K)."""

    @abstractmethod
    def convolution_parameter_gradients(
        self,
        x: Array,
        dy: Array,
        weight_shape: Shape,
        stride: Pair,
        pads: Pads,
        groups: int,
        bias: bool = True,
    ) -> tuple[Array, Array | None]:
        """dW of `weight_shape` (R, S, C/G, K), and db (K,), or None without `bias`."""

    @property
    @abstractmethod
    def convolution_by(self) -> str:
        """The convolution algorithm: "im2col", or on tensor cores "implicit", "wgmma" or "tma"."""

    @convolution_by.setter
    @abstractmethod
    def convolution_by(self, way: str) -> None:
        """Raises InputError if this backend does not support it."""

    @property
    @abstractmethod
    def has_warpgroup_products(self) -> bool:
        """Whether `convolution_by` may be "wgmma" or "tma"."""

    # ------------------------------------------------------------------------------ dense

    @abstractmethod
    def dense(self, x: Array, weight: Array, bias: Array | None, relu: bool = False) -> Array:
        """x (N, ...) with I numbers per image, weight (I, O), bias (O,) or None -> y (N, O)."""

    @abstractmethod
    def dense_input_gradient(self, dy: Array, weight: Array, input_shape: Shape) -> Array:
        """dy (N, O), weight (I, O) -> dx of `input_shape`."""

    @abstractmethod
    def dense_weight_gradient(self, x: Array, dy: Array) -> Array:
        """x (N, ...) with I numbers per image, dy (N, O) -> dW (I, O)."""

    @abstractmethod
    def bias_gradient(self, dy: Array) -> Array:
        """dy (..., K) -> db (K,)."""

    @abstractmethod
    def convolution_workspace(
        self, x_shape: Shape, weight_shape: Shape, stride: Pair, pads: Pads, groups: int
    ) -> int:
        """Upper bound of a convolution's workspace in bytes, without arguments and results."""

    # ------------------------------------------------------------------------------ activations

    @abstractmethod
    def relu(self, x: Array) -> Array:
        """max(0, x)."""

    @abstractmethod
    def relu_gradient(self, dy: Array, y: Array) -> Array:
        """dx from dy and the output y."""

    @abstractmethod
    def tanh(self, x: Array) -> Array:
        """tanh(x)."""

    @abstractmethod
    def tanh_gradient(self, dy: Array, y: Array) -> Array:
        """dx from dy and the output y."""

    @abstractmethod
    def sigmoid(self, x: Array) -> Array:
        """1 / (1 + exp(-x))."""

    @abstractmethod
    def sigmoid_gradient(self, dy: Array, y: Array) -> Array:
        """dx from dy and the output y."""

    # ------------------------------------------------------------------------------ pooling

    @abstractmethod
    def max_pool(self, x: Array, window: Pair, stride: Pair, pads: Pads) -> tuple[Array, Array]:
        """x (N, H, W, C) -> y and the argmax r·S + s within each window, (N, P, Q, C)."""

    @abstractmethod
    def max_pool_gradient(
        self, dy: Array, argmax: Array, input_shape: Shape, window: Pair, stride: Pair, pads: Pads
    ) -> Array:
        """dy, argmax (N, P, Q, C) -> dx of `input_shape` (N, H, W, C)."""

    @abstractmethod
    def average_pool(
        self, x: Array, window: Pair, stride: Pair, pads: Pads, counted: Pads = NO_PADS
    ) -> Array:
        """x (N, H, W, C) -> y (N, P, Q, C); a mean counts the zeros of the pads `counted`."""

    @abstractmethod
    def average_pool_gradient(
        self,
        dy: Array,
        input_shape: Shape,
        window: Pair,
        stride: Pair,
        pads: Pads,
        counted: Pads = NO_PADS,
    ) -> Array:
        """dy (N, P, Q, C) -> dx of `input_shape` (N, H, W, C)."""

    # ------------------------------------------------------------------------------ normalisation

    @abstractmethod
    def response_norm(
        self, x: Array, n: int, k: float, alpha: float, beta: float, groups: int
    ) -> tuple[Array, Any]:
        """x (..., C) -> y of the same shape, and what the gradient needs."""

    @abstractmethod
    def response_norm_gradient(
        self, dy: Array, saved: Any, n: int, k: float, alpha: float, beta: float, groups: int
    ) -> Array:
        """dy (..., C) -> dx."""

    @abstractmethod
    def spatial_response_norm(
        self, x: Array, n: int, k: float, alpha: float, beta: float
    ) -> tuple[Array, Any]:
        """x (N, H, W, C) -> y of the same shape, and what the gradient needs."""

    @abstractmethod
    def spatial_response_norm_gradient(
        self, dy: Array, saved: Any, n: int, k: float, alpha: float, beta: float
    ) -> Array:
        """dy (N, H, W, C) -> dx."""

    @abstractmethod
    def response_norm_pool(self, x: Array, norm: tuple, pool: tuple) -> tuple[Array, Any]:
        """`response_norm(x, *norm)`, then `max_pool(…, *pool)`: y, and what the gradient needs."""

    @abstractmethod
    def response_norm_pool_gradient(
        self, dy: Array, saved: Any, norm: tuple, pool: tuple, relu: bool = False
    ) -> Array:
        """dx through both; with `relu`, also through the ReLU before them."""

    @abstractmethod
    def batch_statistics(self, x: Array) -> tuple[Array, Array]:
        """x (..., C) -> mean and variance (C,) of each channel, in the parameters' type."""

    @abstractmethod
    def batch_norm(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        mean: Array,
        variance: Array,
        epsilon: float,
    ) -> Array:
        """x (..., C), everything else (C,) -> y = weight (x - mean) / √(variance + ε) + bias."""

    @abstractmethod
    def batch_norm_gradient(
        self,
        dy: Array,
        x: Array,
        weight: Array,
        mean: Array,
        variance: Array,
        epsilon: float,
    ) -> tuple[Array, Array, Array]:
        """dy, x (..., C), x's own mean and variance (C,) -> dx, dweight (C,), dbias (C,)."""

    @abstractmethod
    def running_average(self, average: Array, new: Array, keep: float, share: float) -> Array:
        """`keep` average + `share` new, of arrays of one shape; may update `average` in place."""

    # ------------------------------------------------------------------------------ dropout

    @abstractmethod
    def dropout_mask(
        self,
        shape: Shape,
        keep: float,
        seed: int,
        stream: int,
        step: int,
        first_image: int = 0,
        first_channel: int = 0,
        channels: int | None = None,
    ) -> Array:
        """Boolean (N, ..., C), the same bits on every backend."""

    @abstractmethod
    def dropout(
        self,
        x: Array,
        keep: float,
        factor: float,
        seed: int,
        stream: int,
        step: int,
        first_image: int = 0,
        first_channel: int = 0,
        channels: int | None = None,
    ) -> tuple[Array, Any]:
        """x times `factor` where its unit is kept, else 0; and what the gradient needs."""

    @abstractmethod
    def dropout_gradient(self, dy: Array, saved: Any) -> Array:
        """dx: dy times the same factors."""

    @abstractmethod
    def dense_relu_dropout(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        keep: float,
        factor: float,
        seed: int,
        stream: int,
        step: int,
        first_image: int = 0,
        first_channel: int = 0,
        channels: int | None = None,
    ) -> Array:
        """dropout(max(0, x W + b)): x (N, ...), weight (I, O), bias (O,) -> y (N, O)."""

    @abstractmethod
    def relu_dropout_gradient(self, dy: Array, y: Array, factor: float) -> Array:
        """dx through a ReLU and the dropout after it, from their output y."""

    # ------------------------------------------------------------------------------ losses

    @abstractmethod
    def softmax_cross_entropy(
        self, scores: Array, labels: Array, count: int | None = None, dloss: float = 1.0
    ) -> tuple[Array, Array]:
        """scores (N, K), labels (N,) -> the mean loss (), and dscores (N, K), times `dloss`."""

    @abstractmethod
    def soft_cross_entropy(
        self, scores: Array, targets: Array, count: int | None = None, dloss: float = 1.0
    ) -> tuple[Array, Array]:
        """scores, targets (N, K) -> the mean loss (), and dscores (N, K), times `dloss`.

        Targets have the parameters' type: float32 if the scores are in half precision.
        """

    @abstractmethod
    def hinge(
        self,
        scores: Array,
        labels: Array,
        margin: float,
        count: int | None = None,
        dloss: float = 1.0,
    ) -> tuple[Array, Array]:
        """scores (N, K), labels (N,) -> the mean loss (), and dscores (N, K), times `dloss`."""

    @abstractmethod
    def softmax(self, logits: Array) -> Array:
        """Probabilities along the last axis."""

    # ------------------------------------------------------------------------------ input, update

    @abstractmethod
    def crops(
        self,
        images: Array,
        top: np.ndarray,
        left: np.ndarray,
        flip: np.ndarray,
        crop: int,
        mean: np.ndarray,
        mean_top: int | None,
        mean_left: int | None,
        shift: np.ndarray | None,
        scale: float,
        dtype: str,
    ) -> Array:
        """uint8 images (N, S, S, C) -> augmented network input (N, crop, crop, C)."""

    @abstractmethod
    def crops_at(
        self,
        images: Array,
        offsets: Array,
        crop: int,
        mean: Array,
        mean_corner: Pair,
        shift: Array | None,
        scale: Array | float,
        dtype: str,
        channels: int | None = None,
        blocks: Pair | None = None,
    ) -> Array:
        """`crops` of data on the device, for a compiled step: offsets (N, 3) top, left, flip.

        A `mean_corner` of (-1, -1) means the corner of the crop. If `channels` is more than the
        images have (None: the same number), the extra ones are zeros. With `blocks`, (side, count),
        the result (N, count, count, side side C) has squares of pixels as channels, row by row;
        what is beyond the crop is zero.
        """

    @abstractmethod
    def input_blocks(
        self, size: int, channels: int, outputs: int, groups: int, window: Pair, dtype: str
    ) -> Pair | None:
        """The `blocks` in which the fastest first convolution takes images, if it does.

        That convolution has `outputs` output channels, a window (kernel, stride) and no padding;
        the images have `size` pixels each way.
        """

    @abstractmethod
    def channels_to_copy(self, channels: int, outputs: int, groups: int, dtype: str) -> int:
        """How many channels to zero-pad images to, for the fastest first convolution.

        That convolution has `outputs` output channels.
        """

    @abstractmethod
    def sgd_update(
        self,
        weight: Array,
        velocity: Array,
        gradient: Array,
        rate: float,
        momentum: float,
        decay: float,
    ) -> tuple[Array, Array]:
        """The new (weight, velocity); may update in place. At a rate of 0, nothing changes."""

    @abstractmethod
    def sgd_updates(self, updates: Sequence[tuple], momentum: float) -> list[tuple[Array, Array]]:
        """`sgd_update` for a sequence of (weight, velocity, gradient, rate, decay)."""

    @abstractmethod
    def adam_update(
        self,
        weight: Array,
        mean: Array,
        square: Array,
        gradient: Array,
        rate: float,
        decay: float,
        step: int,
        beta1: float,
        beta2: float,
        epsilon: float,
    ) -> tuple[Array, Array, Array]:
        """The new (weight, mean, square) after `step` earlier updates; may update in place."""
