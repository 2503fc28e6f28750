"""Drawn problems for every op of a backend, and what two answers differ by.

Each op is a function from a `Problem` to its results; run on two backends with the same case number
it computes the same thing twice.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
from array_api_compat import numpy as host

from minialex import rng
from minialex.backends.base import Backend, Pads, Pair, output_shape
from minialex.backends.generic.backend import GenericBackend

GENERIC = GenericBackend("generic", host)


class Problem:
    """Random sizes and numbers that depend on the case number and the order of the calls alone.

    Numbers are rounded to `dtype` and handed to backend `b` as `compute`: so a float32 answer can
    be held to the float64 answer for the very same inputs.
    """

    def __init__(self, b: Backend, case: int, dtype: str = "float64", compute: str = "float64"):
        self.b, self.case, self.dtype, self.compute = b, case, dtype, compute
        self._calls = 0

    def _words(self, count: int) -> np.ndarray:
        self._calls += 1
        return rng.words(0, rng.Stream.TEST, self.case, [self._calls], count)[0]

    def integers(self, low: int, high: int, count: int = 1) -> np.ndarray:
        """`count` whole numbers, low … high."""
        return low + rng.integers(self._words(count), high + 1 - low)

    def integer(self, low: int, high: int) -> int:
        """One of them."""
        return int(self.integers(low, high)[0])

    def normal(self, shape: Sequence[int]) -> np.ndarray:
        """A host array from N(0, 1), float64."""
        count = prod(shape)
        return rng.normal(self._words(count + count % 2))[:count].reshape(shape)

    def apart(self, shape: Sequence[int]) -> np.ndarray:
        """A host array in -2 … 2 without two values, or a value and zero, close to each other."""
        count = prod(shape)
        return (4 * (np.argsort(self._words(count)) + 0.25) / count - 2).reshape(shape)

    def given(self, values) -> Any:
        """A host array of reals, rounded, on the backend."""
        return self.b.asarray(np.asarray(values, self.dtype), self.compute)

    def window(self) -> tuple[Pair, Pair, Pads, Pair]:
        """(R, S), stride, pads (each less than the window) and an (H, W) in which it fits."""
        (r, s), strides = self.integers(1, 4, 2), self.integers(1, 4, 2)
        top, bottom = self.integers(0, int(r) - 1, 2)
        left, right = self.integers(0, int(s) - 1, 2)
        h = max(1, int(r - top - bottom)) + self.integer(0, 6)
        w = max(1, int(s - left - right)) + self.integer(0, 6)
        pads = ((int(top), int(bottom)), (int(left), int(right)))
        return (int(r), int(s)), (int(strides[0]), int(strides[1])), pads, (h, w)


def difference(found: np.ndarray, expected: np.ndarray) -> tuple[float, str]:
    """The largest difference as a share of the largest value expected, and a sentence about it."""
    if found.shape != expected.shape:
        return float("inf"), f"its shape is {found.shape}, not {expected.shape}"
    if found.size == 0:
        return 0.0, "nothing"
    ours, theirs = found.astype(np.float64), expected.astype(np.float64)
    apart = np.nan_to_num(np.abs(ours - theirs), nan=np.inf, posinf=np.inf)
    index = np.unravel_index(np.argmax(apart), apart.shape)
    error = float(apart[index] / max(float(np.max(np.abs(theirs))), 1e-30))
    at = tuple(map(int, index))
    return error, f"{ours[index]:.9g} at {at} of {found.shape}, not {theirs[index]:.9g}"


# ------------------------------------------------------------------------------------ convolution


def _convolution(p: Problem):
    """x, weight, bias, dy on the host, and (stride, pads, groups)."""
    (r, s), stride, pads, (h, w) = p.window()
    groups, n = p.integer(1, 3), p.integer(1, 3)
    cg, kg = p.integer(1, 3), p.integer(1, 3)
    x, weight = p.normal((n, h, w, cg * groups)), p.normal((r, s, cg, kg * groups))
    dy = p.normal((n, *output_shape((h, w), (r, s), stride, pads), kg * groups))
    return x, weight, p.normal((kg * groups,)), dy, (stride, pads, groups)


def convolution(p: Problem):
    x, weight, bias, _, geometry = _convolution(p)
    x, weight, bias = p.given(x), p.given(weight), p.given(bias)
    return p.b.convolution(x, weight, bias, *geometry), p.b.convolution(x, weight, None, *geometry)


def convolution_input_gradient(p: Problem):
    x, weight, _, dy, geometry = _convolution(p)
    return (p.b.convolution_input_gradient(p.given(dy), p.given(weight), x.shape, *geometry),)


def convolution_input_gradient_relu(p: Problem):
    x, weight, _, dy, geometry = _convolution(p)
    given = [p.given(a) for a in (dy, weight, x)]
    return (p.b.convolution_input_gradient_relu(*given, *geometry),)


def convolution_weight_gradient(p: Problem):
    x, weight, _, dy, geometry = _convolution(p)
    kernel = weight.shape[:2]
    return (p.b.convolution_weight_gradient(p.given(x), p.given(dy), kernel, *geometry),)


def convolution_parameter_gradients(p: Problem):
    x, weight, _, dy, geometry = _convolution(p)
    return p.b.convolution_parameter_gradients(p.given(x), p.given(dy), weight.shape, *geometry)


# ------------------------------------------------------------------------------------ pooling


def _pooling(p: Problem):
    window, stride, pads, size = p.window()
    x = p.apart((p.integer(1, 3), *size, p.integer(1, 4)))
    dy = p.normal((x.shape[0], *output_shape(size, window, stride, pads), x.shape[3]))
    return x, dy, (window, stride, pads)


def max_pool(p: Problem):
    x, _, geometry = _pooling(p)
    return p.b.max_pool(p.given(x), *geometry)


def max_pool_gradient(p: Problem):
    x, dy, geometry = _pooling(p)
    argmax = p.b.max_pool(p.given(x), *geometry)[1]
    return (p.b.max_pool_gradient(p.given(dy), argmax, x.shape, *geometry),)


def average_pool(p: Problem):
    x, _, geometry = _pooling(p)
    return (p.b.average_pool(p.given(x), *geometry),)


def average_pool_gradient(p: Problem):
    x, dy, geometry = _pooling(p)
    return (p.b.average_pool_gradient(p.given(dy), x.shape, *geometry),)


# ------------------------------------------------------------------------------------ normalisation


def _norm(p: Problem):
    """x and dy on the host, the window n, the constants k, alpha and beta, and the groups."""
    groups, n = p.integer(1, 2), 2 * p.integer(0, 3) + 1
    x = p.normal((p.integer(1, 3), p.integer(1, 4), p.integer(1, 5), p.integer(1, 5) * groups))
    return x, p.normal(x.shape), n, 1.5, 1.0, 0.75 if p.case % 2 else 0.6, groups


def response_norm(p: Problem):
    x, _, *constants = _norm(p)
    return (p.b.response_norm(p.given(x), *constants)[0],)


def response_norm_gradient(p: Problem):
    x, dy, *constants = _norm(p)
    _, saved = p.b.response_norm(p.given(x), *constants)
    return (p.b.response_norm_gradient(p.given(dy), saved, *constants),)


_NORM = (3, 2.0, 1.0, 0.75, 1)


def response_norm_pool(p: Problem):
    x, _, geometry = _pooling(p)
    return (p.b.response_norm_pool(p.given(x), _NORM, geometry)[0],)


def response_norm_pool_gradient(p: Problem):
    x, dy, geometry = _pooling(p)
    _, saved = p.b.response_norm_pool(p.given(x), _NORM, geometry)
    return (p.b.response_norm_pool_gradient(p.given(dy), saved, _NORM, geometry, relu=True),)


def spatial_response_norm(p: Problem):
    x, _, *constants, _ = _norm(p)
    return (p.b.spatial_response_norm(p.given(x), *constants)[0],)


def spatial_response_norm_gradient(p: Problem):
    x, dy, *constants, _ = _norm(p)
    _, saved = p.b.spatial_response_norm(p.given(x), *constants)
    return (p.b.spatial_response_norm_gradient(p.given(dy), saved, *constants),)


# ------------------------------------------------------------------------------------ dense


def _dense(p: Problem):
    """x (N, H, W, C), weight, bias and dy on the host."""
    n, h, w, c, units = (p.integer(1, 4) for _ in range(5))
    return (
        p.normal((n, h, w, c)),
        p.normal((h * w * c, units)),
        p.normal((units,)),
        p.normal((n, units)),
    )


def dense(p: Problem):
    x, weight, bias, _ = map(p.given, _dense(p))
    return p.b.dense(x, weight, bias), p.b.dense(x, weight, None), p.b.dense(x, weight, bias, True)


def dense_input_gradient(p: Problem):
    x, weight, _, dy = _dense(p)
    return (p.b.dense_input_gradient(p.given(dy), p.given(weight), x.shape),)


def dense_weight_gradient(p: Problem):
    x, _, _, dy = map(p.given, _dense(p))
    return (p.b.dense_weight_gradient(x, dy),)


def bias_gradient(p: Problem):
    shape = (p.integer(1, 3), p.integer(1, 30), p.integer(1, 30), p.integer(1, 70))
    return (p.b.bias_gradient(p.given(p.normal(shape))),)


# ------------------------------------------------------------------------------------ activations


def _pair(p: Problem):
    shape = (p.integer(1, 5), p.integer(1, 40))
    return p.given(p.normal(shape)), p.given(p.normal(shape))


def relu(p: Problem):
    return (p.b.relu(_pair(p)[0]),)


def relu_gradient(p: Problem):
    return (p.b.relu_gradient(*_pair(p)),)


def tanh(p: Problem):
    return (p.b.tanh(_pair(p)[0]),)


def tanh_gradient(p: Problem):
    return (p.b.tanh_gradient(*_pair(p)),)


def scale(p: Problem):
    return (p.b.scale(_pair(p)[0], 0.7),)


def add(p: Problem):
    return (p.b.add(*_pair(p)),)


def concat(p: Problem):
    return p.b.concat(_pair(p), 0), p.b.concat(_pair(p), 1)


def narrow(p: Problem):
    x, _ = _pair(p)
    return p.b.narrow(x, 0, 0, x.shape[0]), p.b.narrow(x, 1, x.shape[1] // 2, x.shape[1])


def zeros_like(p: Problem):
    return (p.b.zeros_like(_pair(p)[0]),)


# ------------------------------------------------------------------------------------ losses


def _scores(p: Problem):
    n, k = p.integer(1, 6), p.integer(2, 9)
    return p.given(p.apart((n, k))), p.b.asarray(p.integers(0, k - 1, n))


def softmax(p: Problem):
    return (p.b.softmax(_scores(p)[0]),)


def softmax_cross_entropy(p: Problem):
    scores, labels = _scores(p)
    whole, part = p.b.softmax_cross_entropy(scores, labels), (scores, labels, 9, 64.0)
    return *whole, *p.b.softmax_cross_entropy(*part)


def hinge(p: Problem):
    scores, labels = _scores(p)
    return *p.b.hinge(scores, labels, 0.9), *p.b.hinge(scores, labels, 0.9, 9, 64.0)


# ------------------------------------------------------------------------------------ the rest


def all_finite(p: Problem):
    values = p.normal((3, 4))
    bad = values.copy()
    bad[1, 2] = (np.nan, np.inf, -np.inf)[p.case % 3]
    return np.array(p.b.all_finite(p.given(values))), np.array(p.b.all_finite(p.given(bad)))


def dropout_mask(p: Problem):
    shape = (p.integer(1, 4), p.integer(1, 40))
    seed, stream, step = p.integer(0, 2**31), p.integer(0, 20), p.integer(0, 2**31)
    return (p.b.dropout_mask(shape, 0.3 + 0.1 * p.case, seed, stream, step, p.integer(0, 1000)),)


def _dropped(p: Problem):
    """Of some of a layer's channels."""
    c = p.integer(1, 9)
    x, first = p.normal((p.integer(1, 3), p.integer(1, 4), c)), p.integer(0, 9)
    draw = (p.integer(0, 2**31), p.integer(0, 20), 3, p.integer(0, 9), first, first + c + p.case)
    return p.b.dropout(p.given(x), 0.6, 1.5, *draw), x.shape


def dropout(p: Problem):
    return (_dropped(p)[0][0],)


def dropout_gradient(p: Problem):
    (_, saved), shape = _dropped(p)
    return (p.b.dropout_gradient(p.given(p.normal(shape)), saved),)


def _passed(p: Problem):
    """The output of dense, ReLU and dropout."""
    n, i, o, first = p.integer(1, 4), p.integer(1, 9), p.integer(1, 9), p.integer(0, 9)
    x, weight, bias = (p.given(p.normal(shape)) for shape in ((n, i), (i, o), (o,)))
    draw = (p.integer(0, 2**31), p.integer(0, 20), 3, p.integer(0, 9), first, first + o + p.case)
    return p.b.dense_relu_dropout(x, weight, bias, 0.6, 1.5, *draw)


def dense_relu_dropout(p: Problem):
    return (_passed(p),)


def relu_dropout_gradient(p: Problem):
    y = _passed(p)
    return (p.b.relu_dropout_gradient(p.given(p.normal(y.shape)), y, 1.5),)


def crops(p: Problem):
    n, c, crop = p.integer(1, 4), p.integer(1, 3), p.integer(1, 5)
    size = crop + p.integer(0, 4)
    images = p.integers(0, 255, n * size * size * c).reshape(n, size, size, c).astype(np.uint8)
    mean = p.normal((size, size, c)).astype(np.float32)
    top, left = p.integers(0, size - crop, n), p.integers(0, size - crop, n)
    fixed = None if p.case % 2 else (size - crop) // 2
    shift = p.normal((n, c)).astype(np.float32) if p.case % 3 else None
    flip = p.integers(0, 1, n).astype(bool)
    here = (p.b.asarray(images), top, left, flip, crop, mean, fixed, fixed, shift)
    return (p.b.crops(*here, 0.5 if p.case % 2 else 1.0, p.compute),)


def sum_of_squares(p: Problem):
    return (np.array(p.b.sum_of_squares(p.given(p.normal((p.integer(1, 90), p.integer(1, 90)))))),)


def sgd_update(p: Problem):
    shape = (p.integer(1, 300), p.integer(1, 300))  # sometimes more than one block of a tuned one
    weight, velocity, slope = (p.given(p.normal(shape)) for _ in range(3))
    return p.b.sgd_update(weight, velocity, slope, 0.1, 0.9, 0.01)


OPS: dict[str, Callable[[Problem], Sequence[Any]]] = {
    op.__name__: op
    for op in (
        convolution,
        convolution_input_gradient,
        convolution_input_gradient_relu,
        convolution_weight_gradient,
        convolution_parameter_gradients,
        max_pool,
        max_pool_gradient,
        average_pool,
        average_pool_gradient,
        response_norm,
        response_norm_gradient,
        response_norm_pool,
        response_norm_pool_gradient,
        spatial_response_norm,
        spatial_response_norm_gradient,
        dense,
        dense_input_gradient,
        dense_weight_gradient,
        bias_gradient,
        relu,
        relu_gradient,
        tanh,
        tanh_gradient,
        scale,
        add,
        concat,
        narrow,
        zeros_like,
        softmax,
        softmax_cross_entropy,
        hinge,
        all_finite,
        dropout_mask,
        dropout,
        dropout_gradient,
        dense_relu_dropout,
        relu_dropout_gradient,
        sum_of_squares,
        crops,
        sgd_update,
    )
}
