"""Every op a layer may use, once, in functions of the Python array API standard only.

This is the meaning of the ops for any array library: `Backend("mine", xp)` runs a network on
whatever `xp` is. A tuned backend is a subclass that overrides the ops it can do better and nothing
else; the tests hold every override to this file, and this file to the loops of `reference/`.

Letters, here and everywhere: N batch, H W input, C channels in, K channels out, R S kernel, P Q
output, G groups. Arrays are N H W C, weights R S C/G K. `pads` is ((top, bottom), (left, right)).
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from minialex import rng
from minialex.errors import InputError

Array = Any  # an array of the backend's own library
Pads = tuple[tuple[int, int], tuple[int, int]]
Pair = tuple[int, int]

# im2col copies each input number R·S times; blocks of images keep the copy within 64 MiB.
_COLUMN_NUMBERS = 1 << 24


def output_shape(size: Pair, window: Pair, stride: Pair, pads: Pads) -> Pair:
    """(P, Q) of a window that moves over a padded (H, W) and never leaves it."""
    p, q = (
        (extent + sum(pad) - reach) // step + 1
        for extent, reach, step, pad in zip(size, window, stride, pads, strict=True)
    )
    return p, q


class Backend:
    """The generic backend over the array namespace `xp` (an array-API namespace).

    `device` is passed to the library's own array constructors; None leaves its default.
    """

    captures_steps = False  # whether it can be given a whole training step as one (see `captured`)

    def __init__(self, name: str, xp: Any, device: Any = None):
        self.name = name
        self.xp = xp
        self.device = device
        self.precision = "fp32"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    # ------------------------------------------------------------------------------ how it runs

    def with_precision(self, precision: str) -> "Backend":
        """This backend computing in "fp32", "tf32", "bf16" or "fp16", if it can."""
        if precision == "fp32":
            return self
        raise InputError(
            f'backend "{self.name}" computes in fp32 only, not in {precision}: leave the precision '
            'out, or use backend="cupy"'
        )

    def with_threads(self, threads: int | None) -> "Backend":
        """This backend on so many threads of the CPU (None: as many as it chooses)."""
        if threads is None:
            return self
        raise InputError(f'backend "{self.name}" has no threads to choose: leave the number out')

    def with_own_stream(self) -> "Backend":
        """This backend with a queue of its own, to run beside others on its device."""
        return self

    def device_context(self) -> AbstractContextManager:
        """The context in which this backend's device is current for its array library."""
        return nullcontext()

    def remarks(self, devices: Sequence) -> list[str]:
        """Sentences to say before a run: unequal devices, or kernels still to be compiled."""
        return []

    def memory(self) -> int | None:
        """Bytes that arrays may take on the device, None where that is the host's memory."""
        return None

    def peak_memory(self) -> int | None:
        """Bytes that the device's memory pool has reserved, None on the host."""
        return None

    def synchronize(self) -> None:
        """Wait until all work given to the device is done."""

    def receive(self, x: Array, sender: "Backend") -> tuple[Array, Any]:
        """A copy of the sender's array here, and an event to `wait` for before it is read."""
        return x, None

    def record(self) -> Any:
        """An event after all work so far, for another backend of the device to `wait` for."""

    def wait(self, event: Any) -> None:
        """Later work waits for an event."""

    def record_stream(self, x: Array, event: Any) -> None:
        """Keep the memory of x, which another backend reads, until the event."""

    # ------------------------------------------------------------------------------ precision

    def compute_dtype(self, dtype: str) -> str:
        """The type that activations of a network of `dtype` are kept in at this precision."""
        return dtype

    def cast_params(self, params: dict) -> dict:
        """The parameters as the layers compute with them: at full precision, themselves."""
        return params

    # ------------------------------------------------------------------------------ in and out

    def asarray(self, x, dtype: str | None = None) -> Array:
        """A host array (or a number) as an array of this backend; `dtype` by name."""
        kind = None if dtype is None else getattr(self.xp, dtype)
        return self.xp.asarray(np.asarray(x, dtype), dtype=kind, device=self.device)

    def to_numpy(self, x: Array) -> np.ndarray:
        """An array of this backend as a NumPy array; waits for the device."""
        return np.asarray(x)

    def all_finite(self, *arrays: Array) -> bool:
        """Whether no array holds NaN or infinity; waits for the device."""
        return all(bool(self.xp.all(self.xp.isfinite(x))) for x in arrays)

    def sum_of_squares(self, x: Array) -> float:
        """Σ x², on the host; waits for the device."""
        return float(self.xp.sum(x * x))

    def zeros_like(self, x: Array) -> Array:
        """Zeros in the shape and type of x."""
        return self._zeros(x.shape, x)

    def narrow(self, x: Array, axis: int, start: int, stop: int) -> Array:
        """The part start … stop - 1 of an axis, on its own in memory."""
        index = [slice(None)] * x.ndim
        index[axis] = slice(start, stop)
        return self.xp.asarray(x[tuple(index)], copy=True)

    def concat(self, parts: Sequence[Array], axis: int) -> Array:
        """Arrays joined along an axis."""
        return self.xp.concat(tuple(parts), axis=axis)

    def _empty(self, shape, like: Array) -> Array:
        return self.xp.empty(shape, dtype=like.dtype, device=self.device)

    def _zeros(self, shape, like: Array) -> Array:
        return self.xp.zeros(shape, dtype=like.dtype, device=self.device)

    # ------------------------------------------------------------------------------ convolution

    def convolution(
        self, x, weight, bias, stride: Pair, pads: Pads, groups: int, relu: bool = False
    ) -> Array:
        """y = im2col(x) W + b within each group (paper, section 3.5), then max(0, y) if `relu`.

        x (N, H, W, C), weight (R, S, C/G, K), bias (K,) or None -> y (N, P, Q, K).
        """
        n, h, w, _ = x.shape
        r, s, cg, k = weight.shape
        kg = k // groups
        p, q = output_shape((h, w), (r, s), stride, pads)
        y = self._empty((n, p, q, k), x)
        for images in self._blocks(n, p * q * r * s * cg):
            padded = self._pad(x[images, ...], pads, 0.0)
            for g in range(groups):
                cols = self.im2col(padded[..., g * cg : (g + 1) * cg], (r, s), stride, (p, q))
                w_g = self.xp.reshape(weight[..., g * kg : (g + 1) * kg], (r * s * cg, kg))
                y_g = self.xp.matmul(cols, w_g)  # (N·P·Q, K/G)
                y[images, :, :, g * kg : (g + 1) * kg] = self.xp.reshape(y_g, (-1, p, q, kg))
        if bias is not None:
            y += bias
        return self.relu(y) if relu else y

    def convolution_input_gradient(
        self, dy, weight, input_shape, stride: Pair, pads: Pads, groups: int
    ) -> Array:
        """dx = col2im(dy Wᵀ): dy (N, P, Q, K) -> dx of `input_shape` (N, H, W, C)."""
        n, h, w, c = input_shape
        r, s, cg, k = weight.shape
        p, q = dy.shape[1:3]
        kg = k // groups
        dx = self._empty((n, h, w, c), dy)
        for images in self._blocks(n, p * q * r * s * cg):
            for g in range(groups):
                dy_g = self.xp.reshape(dy[images, :, :, g * kg : (g + 1) * kg], (-1, kg))
                w_g = self.xp.reshape(weight[..., g * kg : (g + 1) * kg], (r * s * cg, kg))
                cols = self.xp.matmul(dy_g, w_g.T)  # (N·P·Q, R·S·C/G)
                cols = self.xp.reshape(cols, (-1, p, q, r, s, cg))
                dx[images, :, :, g * cg : (g + 1) * cg] = self.col2im(cols, (h, w), stride, pads)
        return dx

    def convolution_input_gradient_relu(
        self, dy, weight, x, stride: Pair, pads: Pads, groups: int
    ) -> Array:
        """The same where x, the convolution's input, is a ReLU's output: its gradient as well."""
        dx = self.convolution_input_gradient(dy, weight, x.shape, stride, pads, groups)
        return self.relu_gradient(dx, x)

    def convolution_weight_gradient(
        self, x, dy, kernel: Pair, stride: Pair, pads: Pads, groups: int
    ) -> Array:
        """dW = im2col(x)ᵀ dy: x (N, H, W, C), dy (N, P, Q, K) -> dW (R, S, C/G, K)."""
        n, c, k = x.shape[0], x.shape[3], dy.shape[3]
        (r, s), (p, q) = kernel, dy.shape[1:3]
        cg, kg = c // groups, k // groups
        dw = self._zeros((r, s, cg, k), x)
        for images in self._blocks(n, p * q * r * s * cg):
            padded = self._pad(x[images, ...], pads, 0.0)
            for g in range(groups):
                cols = self.im2col(padded[..., g * cg : (g + 1) * cg], (r, s), stride, (p, q))
                dy_g = self.xp.reshape(dy[images, :, :, g * kg : (g + 1) * kg], (-1, kg))
                dw_g = self.xp.matmul(cols.T, dy_g)  # (R·S·C/G, K/G)
                dw[..., g * kg : (g + 1) * kg] += self.xp.reshape(dw_g, (r, s, cg, kg))
        return dw

    def convolution_parameter_gradients(
        self, x, dy, weight_shape, stride: Pair, pads: Pads, groups: int, bias: bool = True
    ) -> tuple[Array, Array | None]:
        """dW of `weight_shape` (R, S, C/G, K), and db (K,), or None without `bias`."""
        dw = self.convolution_weight_gradient(x, dy, weight_shape[:2], stride, pads, groups)
        return dw, self.bias_gradient(dy) if bias else None

    def im2col(self, x, window: Pair, stride: Pair, output: Pair) -> Array:
        """Each output pixel's window as a row: x (N, H, W, C) -> (N·P·Q, R·S·C)."""
        n, c = x.shape[0], x.shape[3]
        cols = self._empty((n, *output, *window, c), x)  # (N, P, Q, R, S, C)
        for r, s, rows, columns in _taps(window, stride, output):
            cols[:, :, :, r, s, :] = x[:, rows, columns, :]
        return self.xp.reshape(cols, (-1, window[0] * window[1] * c))

    def col2im(self, cols, size: Pair, stride: Pair, pads: Pads) -> Array:
        """The adjoint of padding and im2col: (N, P, Q, R, S, C) -> (N, H, W, C), summed."""
        n, p, q, r, s, c = cols.shape
        (top, bottom), (left, right) = pads
        h, w = size
        padded = self._zeros((n, h + top + bottom, w + left + right, c), cols)
        for i, j, rows, columns in _taps((r, s), stride, (p, q)):
            padded[:, rows, columns, :] += cols[:, :, :, i, j, :]
        return padded[:, top : top + h, left : left + w, :]

    def _pad(self, x, pads: Pads, value: float) -> Array:
        """x (N, H, W, C) with `value` around it."""
        (top, bottom), (left, right) = pads
        if top == bottom == left == right == 0:
            return x
        n, h, w, c = x.shape
        shape = (n, h + top + bottom, w + left + right, c)
        padded = self.xp.full(shape, value, dtype=x.dtype, device=self.device)
        padded[:, top : top + h, left : left + w, :] = x
        return padded

    @staticmethod
    def _blocks(n: int, numbers: int) -> Iterator[slice]:
        """Slices of the batch for which `numbers` an image stay within the column budget."""
        step = max(1, _COLUMN_NUMBERS // max(1, numbers))
        for start in range(0, n, step):
            yield slice(start, min(n, start + step))

    # ------------------------------------------------------------------------------ dense

    def dense(self, x, weight, bias, relu: bool = False) -> Array:
        """y = x W + b, then max(0, y) if `relu`: x (N, ...) of I numbers an image -> y (N, O)."""
        rows = self.xp.reshape(x, (x.shape[0], -1))  # (N, I)
        y = self.xp.matmul(rows, weight)
        if bias is not None:
            y += bias
        return self.relu(y) if relu else y

    def dense_input_gradient(self, dy, weight, input_shape) -> Array:
        """dx = dy Wᵀ: dy (N, O), weight (I, O) -> dx of `input_shape`."""
        return self.xp.reshape(self.xp.matmul(dy, weight.T), input_shape)

    def dense_weight_gradient(self, x, dy) -> Array:
        """dW = xᵀ dy: x (N, ...) of I numbers an image, dy (N, O) -> dW (I, O)."""
        rows = self.xp.reshape(x, (x.shape[0], -1))  # (N, I)
        return self.xp.matmul(rows.T, dy)

    def bias_gradient(self, dy) -> Array:
        """db = Σ dy over all but the last axis: dy (..., K) -> db (K,)."""
        return self.xp.sum(dy, axis=tuple(range(dy.ndim - 1)))

    # ------------------------------------------------------------------------------ activations

    def relu(self, x) -> Array:
        """max(0, x) (paper, section 3.1)."""
        return self.xp.maximum(x, self.xp.zeros((), dtype=x.dtype, device=self.device))

    def relu_gradient(self, dy, y) -> Array:
        """dx = dy where y > 0, else 0."""
        return dy * self.xp.astype(y > 0, dy.dtype)

    def tanh(self, x) -> Array:
        """tanh(x)."""
        return self.xp.tanh(x)

    def tanh_gradient(self, dy, y) -> Array:
        """dx = dy (1 - y²)."""
        return dy * (1.0 - y * y)

    def scale(self, x, factor: float) -> Array:
        """x times a number."""
        return x * factor

    def add(self, x, y) -> Array:
        """x + y."""
        return x + y

    # ------------------------------------------------------------------------------ pooling

    def max_pool(self, x, window: Pair, stride: Pair, pads: Pads) -> tuple[Array, Array]:
        """Maxima of windows (paper, section 3.4): x (N, H, W, C) -> y, which (N, P, Q, C).

        `which` is the tap r·S + s of the first maximum in scan order; a NaN wins, padding never.
        """
        output = output_shape(x.shape[1:3], window, stride, pads)
        padded = self._pad(x, pads, -math.inf)
        y = which = None
        for r, s, rows, columns in _taps(window, stride, output):
            tap = padded[:, rows, columns, :]
            if y is None or which is None:
                y = self.xp.asarray(tap, copy=True)
                which = self.xp.zeros(y.shape, dtype=self.xp.int32, device=self.device)
                continue
            wins = (tap > y) | (self.xp.isnan(tap) & ~self.xp.isnan(y))
            y = self.xp.where(wins, tap, y)
            here = self.xp.full_like(which, r * window[1] + s)
            which = self.xp.where(wins, here, which)
        return y, which

    def max_pool_gradient(
        self, dy, which, input_shape, window: Pair, stride: Pair, pads: Pads
    ) -> Array:
        """Each dy goes to its window's first maximum: dy (N, P, Q, C) -> dx (N, H, W, C)."""
        n, h, w, c = input_shape
        (top, bottom), (left, right) = pads
        padded = self._zeros((n, h + top + bottom, w + left + right, c), dy)
        none = self.xp.zeros_like(dy)
        for r, s, rows, columns in _taps(window, stride, dy.shape[1:3]):
            padded[:, rows, columns, :] += self.xp.where(which == r * window[1] + s, dy, none)
        return padded[:, top : top + h, left : left + w, :]

    def average_pool(self, x, window: Pair, stride: Pair, pads: Pads) -> Array:
        """Means over the part of each window inside the image: x (N, H, W, C) -> (N, P, Q, C)."""
        output = output_shape(x.shape[1:3], window, stride, pads)
        padded = self._pad(x, pads, 0.0)
        y = self._zeros((x.shape[0], *output, x.shape[3]), x)
        for _, _, rows, columns in _taps(window, stride, output):
            y += padded[:, rows, columns, :]
        return y / self._areas(x, x.shape[1:3], window, stride, pads)

    def average_pool_gradient(
        self, dy, input_shape, window: Pair, stride: Pair, pads: Pads
    ) -> Array:
        """Each dy spread evenly over its window: dy (N, P, Q, C) -> dx (N, H, W, C)."""
        n, h, w, c = input_shape
        (top, bottom), (left, right) = pads
        share = dy / self._areas(dy, (h, w), window, stride, pads)
        padded = self._zeros((n, h + top + bottom, w + left + right, c), dy)
        for _, _, rows, columns in _taps(window, stride, dy.shape[1:3]):
            padded[:, rows, columns, :] += share
        return padded[:, top : top + h, left : left + w, :]

    def _areas(self, like, size: Pair, window: Pair, stride: Pair, pads: Pads) -> Array:
        """How many pixels of the image each window covers: (1, P, Q, 1)."""
        inside = [
            [min(i * step + reach, before + extent) - max(i * step, before) for i in range(count)]
            for extent, reach, step, (before, _), count in zip(
                size, window, stride, pads, output_shape(size, window, stride, pads), strict=True
            )
        ]
        areas = np.maximum(np.outer(inside[0], inside[1]), 1)[None, :, :, None]
        return self.xp.asarray(areas, dtype=like.dtype, device=self.device)

    # ------------------------------------------------------------------------------ normalisation

    def response_norm(
        self, x, n: int, k: float, alpha: float, beta: float, groups: int
    ) -> tuple[Array, Any]:
        """Local response normalisation across channels (paper, section 3.3).

        s_c = k + α Σ x_j² over the n channels around c, clipped to c's group; y = x s^-β.
        x (..., C) -> y, and what the gradient needs. α is not divided by n.
        """
        scale = alpha * self._channel_sums(x * x, n, groups) + k
        y = x / _power(self.xp, scale, beta)
        return y, (x, y, scale)

    def response_norm_gradient(
        self, dy, saved, n: int, k: float, alpha: float, beta: float, groups: int
    ) -> Array:
        """dx_c = dy_c s_c^-β - 2αβ x_c Σ dy_j y_j / s_j over the same window, n odd."""
        x, y, scale = saved
        spread = self._channel_sums(dy * y / scale, n, groups)
        return dy / _power(self.xp, scale, beta) - (2 * alpha * beta) * x * spread

    def spatial_response_norm(
        self, x, n: int, k: float, alpha: float, beta: float
    ) -> tuple[Array, Any]:
        """The same within each map, over n x n pixels clipped to the image: x (N, H, W, C)."""
        scale = alpha * self._spatial_sums(x * x, n) + k
        y = x / _power(self.xp, scale, beta)
        return y, (x, y, scale)

    def spatial_response_norm_gradient(
        self, dy, saved, n: int, k: float, alpha: float, beta: float
    ) -> Array:
        """As `response_norm_gradient`, with the n x n window."""
        x, y, scale = saved
        spread = self._spatial_sums(dy * y / scale, n)
        return dy / _power(self.xp, scale, beta) - (2 * alpha * beta) * x * spread

    def response_norm_pool(self, x, norm: tuple, pool: tuple) -> tuple[Array, Any]:
        """`response_norm(x, *norm)`, then `max_pool(…, *pool)`: y, and what the gradient needs."""
        z, kept = self.response_norm(x, *norm)
        y, which = self.max_pool(z, *pool)
        return y, (x, kept, which)

    def response_norm_pool_gradient(
        self, dy, saved, norm: tuple, pool: tuple, relu: bool = False
    ) -> Array:
        """dx of both; with `relu`, x was a ReLU's output, and its gradient is taken as well."""
        x, kept, which = saved
        dz = self.max_pool_gradient(dy, which, x.shape, *pool)
        dx = self.response_norm_gradient(dz, kept, *norm)
        return self.relu_gradient(dx, x) if relu else dx

    def _channel_sums(self, x, n: int, groups: int) -> Array:
        """Sums over the n channels around each, clipped to its group."""
        grouped = self.xp.reshape(x, (*x.shape[:-1], groups, x.shape[-1] // groups))
        return self.xp.reshape(self._window_sums(grouped, n, -1), x.shape)

    def _spatial_sums(self, x, n: int) -> Array:
        """Sums over the n x n pixels around each: a square window is two line windows."""
        return self._window_sums(self._window_sums(x, n, 1), n, 2)

    def _window_sums(self, x, n: int, axis: int) -> Array:
        """Sums over the n neighbours along `axis`, clipped at both ends."""
        axis %= x.ndim
        total = self.xp.asarray(x, copy=True)
        extent = x.shape[axis]
        for offset in range(1, min(n // 2, extent - 1) + 1):
            low = (*[slice(None)] * axis, slice(0, extent - offset), ...)
            high = (*[slice(None)] * axis, slice(offset, extent), ...)
            total[low] += x[high]
            total[high] += x[low]
        return total

    # ------------------------------------------------------------------------------ losses

    def softmax_cross_entropy(
        self, scores, labels, count: int | None = None, scale: float = 1.0
    ) -> tuple[Array, Array]:
        """Mean of -log softmax(scores)[label] and its gradient: scores (N, K), labels (N,).

        With `count` the sum is divided by that instead of N: these are part of a larger batch. The
        gradient is times `scale`, for numbers that would be too small at half precision.
        """
        xp, n = self.xp, count or scores.shape[0]
        shifted = scores - xp.max(scores, axis=1, keepdims=True)
        powers = xp.exp(shifted)
        sums = xp.sum(powers, axis=1, keepdims=True)
        target = self._one_hot(scores, labels)
        loss = xp.sum(xp.log(sums[:, 0]) - xp.sum(shifted * target, axis=1)) / n
        return loss, (powers / sums - target) * (scale / n)

    def hinge(
        self, scores, labels, margin: float, count: int | None = None, scale: float = 1.0
    ) -> tuple[Array, Array]:
        """Multiclass hinge: mean of Σ_{j≠y} max(0, s_j - s_y + Δ) and its gradient."""
        xp, n = self.xp, count or scores.shape[0]
        target = self._one_hot(scores, labels)
        own = xp.sum(scores * target, axis=1, keepdims=True)
        over = (scores - own + margin) * (1.0 - target)
        violated = xp.astype(over > 0, scores.dtype)
        loss = xp.sum(over * violated) / n
        per_label = xp.sum(violated, axis=1, keepdims=True)
        return loss, (violated - target * per_label) * (scale / n)

    def softmax(self, logits) -> Array:
        """Probabilities along the last axis."""
        powers = self.xp.exp(logits - self.xp.max(logits, axis=-1, keepdims=True))
        return powers / self.xp.sum(powers, axis=-1, keepdims=True)

    def _one_hot(self, scores, labels) -> Array:
        classes = self.xp.arange(scores.shape[1], dtype=labels.dtype, device=self.device)
        return self.xp.astype(labels[:, None] == classes[None, :], scores.dtype)

    # ------------------------------------------------------------------------------ the rest

    def dropout_mask(
        self,
        shape: tuple[int, ...],
        keep: float,
        seed: int,
        stream: int,
        step: int,
        first_image: int = 0,
        first_channel: int = 0,
        channels: int | None = None,
    ) -> Array:
        """Boolean (N, ..., C): a unit of an image stays if its random word is below keep · 2³².

        The C channels are those from `first_channel` on of a layer's `channels` (None: all), and
        draw what they would draw there.
        """
        n, *rows, c = shape
        whole = channels or c
        units = math.prod(rows) * whole
        images = np.arange(first_image, first_image + n)
        word = rng.words(seed, rng.Stream.DROPOUT + stream, step, images, units)
        word = word.reshape(n, *rows, whole)[..., first_channel : first_channel + c]
        return self.asarray(word < np.uint64(threshold(keep)))

    def dropout(
        self,
        x,
        keep: float,
        factor: float,
        seed: int,
        stream: int,
        step: int,
        first_image: int = 0,
        first_channel: int = 0,
        channels: int | None = None,
    ) -> tuple[Array, Any]:
        """x times `factor` where its unit stays, else 0 (see `dropout_mask`).

        Returns y and what `dropout_gradient` needs.
        """
        place = (seed, stream, step, first_image, first_channel, channels)
        mask = self.dropout_mask(x.shape, keep, *place)
        factors = self.xp.astype(mask, x.dtype) * factor
        return x * factors, factors

    def dropout_gradient(self, dy, saved) -> Array:
        """dx = dy times the same factors."""
        return dy * saved

    def dense_relu_dropout(self, x, weight, bias, keep: float, factor: float, *place) -> Array:
        """y = dropout(max(0, x W + b)): keep, factor and place (seed ...) as `dropout` has them."""
        return self.dropout(self.dense(x, weight, bias, relu=True), keep, factor, *place)[0]

    def relu_dropout_gradient(self, dy, y, factor: float) -> Array:
        """dx through a ReLU and the dropout after it, whose output y says which units passed."""
        return dy * (self.xp.astype(y > 0, dy.dtype) * factor)

    def crops(
        self, images, top, left, flip, crop: int, mean, mean_top, mean_left, shift, scale, dtype
    ) -> Array:
        """Raw squares to network input: cut, subtract the mean, mirror, shift the colour, scale.

        images uint8 (N, S, S, C); top, left, flip host arrays (N,); mean (S, S, C) on the host,
        read where the crop lies, or at (mean_top, mean_left) if these are given; shift (N, C) or
        None, in grey levels -> (N, crop, crop, C) of `dtype`.
        """
        kind = getattr(self.xp, dtype)
        mean = self.asarray(mean, dtype)
        shift = None if shift is None else self.asarray(shift, dtype)
        out = self.xp.empty((len(top), crop, crop, images.shape[3]), dtype=kind, device=self.device)
        for i, (t, l, mirrored) in enumerate(zip(top, left, flip, strict=True)):
            window = images[i, int(t) : int(t) + crop, int(l) : int(l) + crop, :]
            mt, ml = (int(t), int(l)) if mean_top is None else (mean_top, mean_left)
            x = self.xp.astype(window, kind) - mean[mt : mt + crop, ml : ml + crop, :]
            if mirrored:
                x = self.xp.flip(x, axis=1)
            if shift is not None:
                x = x + shift[i, :]
            out[i, ...] = x if scale == 1.0 else x * scale
        return out

    def sgd_update(self, weight, velocity, gradient, rate: float, momentum: float, decay: float):
        """v <- momentum v - decay rate w - rate g; w <- w + v (paper, section 5): (w, v)."""
        velocity = momentum * velocity - (decay * rate) * weight - rate * gradient
        return weight + velocity, velocity

    def sgd_updates(
        self, updates: Sequence[tuple], momentum: float, gradient_scale: float = 1.0
    ) -> list[tuple[Array, Array]]:
        """`sgd_update` of many arrays, each (weight, velocity, gradient, rate, decay).

        All gradients are first multiplied by `gradient_scale`.
        """
        return [
            self.sgd_update(
                *(w, v, g if gradient_scale == 1.0 else self.scale(g, gradient_scale)),
                *(rate, momentum, decay),
            )
            for w, v, g, rate, decay in updates
        ]


def threshold(keep: float) -> int:
    """A random word below this keeps its unit."""
    return math.ceil(keep * 2.0**32)


def _taps(window: Pair, stride: Pair, output: Pair) -> Iterator[tuple[int, int, slice, slice]]:
    """For each kernel position (r, s), in scan order: the rows and columns it meets."""
    for r in range(window[0]):
        for s in range(window[1]):
            rows = slice(r, r + stride[0] * (output[0] - 1) + 1, stride[0])
            columns = slice(s, s + stride[1] * (output[1] - 1) + 1, stride[1])
            yield r, s, rows, columns


def _power(xp, scale, beta: float) -> Array:
    """scale^β; the paper's β = 3/4 by two square roots, several times faster than a power."""
    if beta == 0.75:
        root = xp.sqrt(scale)
        return root * xp.sqrt(root)
    return scale**beta
