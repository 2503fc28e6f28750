"""The fully connected layer, y = x W + b (paper, section 3.5)."""

import numpy as np


def forward(x, weight, bias):
    """x (N, I), weight (I, O), bias (O,) -> y (N, O)."""
    y = np.zeros((x.shape[0], weight.shape[1]))
    for n, o in np.ndindex(y.shape):
        y[n, o] = bias[o] + sum(x[n, i] * weight[i, o] for i in range(x.shape[1]))
    return y


def gradients(x, weight, dy):
    """dx, dw, db from dy (N, O)."""
    dx, dw, db = np.zeros(x.shape), np.zeros(weight.shape), np.zeros(weight.shape[1])
    for n, o in np.ndindex(dy.shape):
        db[o] += dy[n, o]
        for i in range(x.shape[1]):
            dx[n, i] += dy[n, o] * weight[i, o]
            dw[i, o] += dy[n, o] * x[n, i]
    return dx, dw, db
