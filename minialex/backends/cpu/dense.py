"""Dense layers: each thread multiplies a strip of the weights, whole batches at a time.

N batch, I inputs, O outputs. Few images are a matter of reading the weights once, so that they go
row by row; many are a product.
"""

from numba import prange

from minialex.backends.cpu.blas import multiply, multiply_by_turned, multiply_turned
from minialex.jit import compiled, threaded

FEW = 4  # images up to which reading the weights takes longer than multiplying


@threaded
def forward(x, weight, bias, y, relu, threads):
    """y (N, O) = x (N, I) weight (I, O) + bias (O,)."""
    outputs = y.shape[1]
    for t in prange(threads):
        first, end = outputs * t // threads, outputs * (t + 1) // threads
        if y.shape[0] <= FEW:
            _by_rows(x, weight[:, first:end], y[:, first:end])
        elif end > first:
            multiply(x, weight[:, first:end], y[:, first:end])
        for n in range(y.shape[0]):
            for o in range(first, end):
                v = y[n, o] + bias[o]
                y[n, o] = 0 if relu and v < 0 else v


@compiled
def _by_rows(x, weight, y):
    """y = x weight, the weights read once, a part of a row of y at a time in the cache."""
    width = 2048
    for n in range(y.shape[0]):
        y[n] = 0
    for o in range(0, y.shape[1], width):
        strip = weight[:, o : o + width]
        for i in range(x.shape[1]):
            row = strip[i]
            for n in range(y.shape[0]):
                factor, sums = x[n, i], y[n, o : o + width]
                for j in range(row.shape[0]):
                    sums[j] += factor * row[j]


@threaded
def input_gradient(dy, weight, dx, threads):
    """dx (N, I) = dy (N, O) weightᵀ."""
    inputs = dx.shape[1]
    for t in prange(threads):
        first, end = inputs * t // threads, inputs * (t + 1) // threads
        if end > first:
            multiply_by_turned(dy, weight[first:end], dx[:, first:end])


@threaded
def weight_gradient(x, dy, dw, threads):
    """dw (I, O) = xᵀ dy."""
    inputs = dw.shape[0]
    for t in prange(threads):
        first, end = inputs * t // threads, inputs * (t + 1) // threads
        if end > first:
            multiply_turned(x[:, first:end], dy, dw[first:end])
