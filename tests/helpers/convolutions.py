"""Convolutions of the CUDA backend in half precision and tf32, compared with the NumPy backend."""

import ml_dtypes
import numpy as np

from helpers.strategies import grid
from minialex import backends
from minialex.testing.tolerance import assert_close

reference = backends.get("numpy")
PRECISIONS = {"bf16": "bfloat16", "fp16": "float16", "tf32": "float32"}


def as_stored(x, precision: str) -> np.ndarray:
    """x rounded as the tensor cores read it, as float64."""
    if precision == "tf32":  # 10 bits of mantissa, rounded to nearest, ties away from zero
        bits = np.asarray(x, np.float32).view(np.uint32)
        return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32).astype(float)
    kind = np.float16 if precision == "fp16" else ml_dtypes.bfloat16
    return np.asarray(x).astype(kind).astype(np.float64)


def all_three(b, dtype, problem, seed=0):
    """y, dx and dW on the device, and the expected values."""
    image, kernel, outputs, stride, pads, groups = problem
    x = as_stored(grid(image, seed), b.precision)
    weight = as_stored(grid((*kernel, image[3] // groups, outputs), seed + 1), b.precision)
    bias = grid((outputs,), seed + 2).astype("float32")
    geometry = (stride, pads, groups)
    wanted = reference.convolution(x, weight, bias.astype(float), *geometry)
    dy = as_stored(grid(wanted.shape, seed + 3), b.precision)
    ours = [b.asarray(a, dtype) for a in (x, weight, dy)]
    found = (
        b.convolution(ours[0], ours[1], b.asarray(bias), *geometry),
        b.convolution(ours[0], ours[1], None, *geometry, relu=True),
        b.convolution_input_gradient(ours[2], ours[1], x.shape, *geometry),
        b.convolution_weight_gradient(ours[0], ours[2], kernel, *geometry),
    )
    masked = b.convolution_input_gradient_relu(ours[2], ours[1], ours[0], *geometry)
    np.testing.assert_array_equal(
        b.to_numpy(masked), b.to_numpy(b.relu_gradient(found[2], ours[0]))
    )
    dw, db = b.convolution_parameter_gradients(ours[0], ours[2], weight.shape, *geometry)
    np.testing.assert_array_equal(b.to_numpy(dw), b.to_numpy(found[3]))
    assert_close(b.to_numpy(db), dy.sum((0, 1, 2)), "float32", dy[..., 0].size, "db")
    theirs = (
        wanted,
        np.maximum(reference.convolution(x, weight, None, *geometry), 0),
        reference.convolution_input_gradient(dy, weight, x.shape, *geometry),
        reference.convolution_weight_gradient(x, dy, kernel, *geometry),
    )
    return [b.to_numpy(y) for y in found], theirs


def check(b, precision, problem, seed=0):
    dtype = PRECISIONS[precision]
    image, kernel, outputs, _, _, groups = problem
    length = kernel[0] * kernel[1] * max(image[3], outputs) // groups
    found, wanted = all_three(b, dtype, problem, seed)
    for name, ours, theirs in zip(("y", "relu", "dx"), found, wanted, strict=False):
        assert_close(ours, theirs, dtype, length if dtype == "float32" else 1, name)
    assert_close(found[3], wanted[3], "float32", wanted[0][..., 0].size, "dW")
    return found
