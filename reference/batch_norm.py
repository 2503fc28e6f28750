"""Batch normalisation: each channel c has mean 0 and variance 1 before scale and shift.

z = (x - mean) / √(variance + ε),    y = weight z + bias
dL/dx = weight / √(variance + ε) (dy - mean of dy - z · mean of dy z), all means over the channel
"""

import numpy as np


def statistics(x):
    """Mean and variance (C,) of each channel of x (..., C)."""
    mean, variance = np.zeros(x.shape[-1]), np.zeros(x.shape[-1])
    pixels = list(np.ndindex(x.shape[:-1]))
    for c in range(x.shape[-1]):
        mean[c] = sum(x[pixel][c] for pixel in pixels) / len(pixels)
        variance[c] = sum((x[pixel][c] - mean[c]) ** 2 for pixel in pixels) / len(pixels)
    return mean, variance


def forward(x, weight, bias, mean, variance, epsilon):
    """y: x (..., C), everything else (C,)."""
    y = np.zeros(x.shape)
    for pixel in np.ndindex(x.shape[:-1]):
        for c in range(x.shape[-1]):
            z = (x[pixel][c] - mean[c]) / np.sqrt(variance[c] + epsilon)
            y[pixel][c] = weight[c] * z + bias[c]
    return y


def gradients(dy, x, weight, epsilon):
    """dx, dweight and dbias, where mean and variance are those of x."""
    mean, variance = statistics(x)
    dx, dw, db = np.zeros(x.shape), np.zeros(x.shape[-1]), np.zeros(x.shape[-1])
    pixels = list(np.ndindex(x.shape[:-1]))
    for c in range(x.shape[-1]):
        deviation = np.sqrt(variance[c] + epsilon)
        z = {pixel: (x[pixel][c] - mean[c]) / deviation for pixel in pixels}
        for pixel in pixels:
            db[c] += dy[pixel][c]
            dw[c] += dy[pixel][c] * z[pixel]
        for pixel in pixels:
            centred = dy[pixel][c] - db[c] / len(pixels) - z[pixel] * dw[c] / len(pixels)
            dx[pixel][c] = weight[c] / deviation * centred
    return dx, dw, db


def running_average(average, new, keep, share):
    """keep average + share new, all (C,)."""
    result = np.zeros(average.shape)
    for c in range(len(average)):
        result[c] = keep * average[c] + share * new[c]
    return result
