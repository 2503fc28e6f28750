"""Local response normalisation across channels (paper, section 3.3) and within a channel.

s_i = k + α Σ x_j² over the window around i,    y_i = x_i s_i^-β
dL/dx_j = dy_j s_j^-β - 2αβ x_j Σ dy_i y_i / s_i over the i whose window holds j
"""

import numpy as np


def across(channel, channels, n, groups):
    """The n channels around `channel`, clipped to its group."""
    size = channels // groups
    first = channel // size * size
    return range(max(first, channel - n // 2), min(first + size, channel + n // 2 + 1))


def forward(x, n, k, alpha, beta, groups):
    """y and the scale s: x (..., C); α is not divided by n."""
    y, scale = np.zeros(x.shape), np.zeros(x.shape)
    for pixel in np.ndindex(x.shape[:-1]):
        for c in range(x.shape[-1]):
            window = across(c, x.shape[-1], n, groups)
            scale[pixel][c] = k + alpha * sum(x[pixel][j] ** 2 for j in window)
            y[pixel][c] = x[pixel][c] * scale[pixel][c] ** -beta
    return y, scale


def gradient(dy, x, y, scale, n, alpha, beta, groups):
    """dx by the formula above; the window of an odd n is symmetric."""
    dx = np.zeros(x.shape)
    for pixel in np.ndindex(x.shape[:-1]):
        for j in range(x.shape[-1]):
            spread = sum(
                dy[pixel][i] * y[pixel][i] / scale[pixel][i]
                for i in across(j, x.shape[-1], n, groups)
            )
            direct = dy[pixel][j] * scale[pixel][j] ** -beta
            dx[pixel][j] = direct - 2 * alpha * beta * x[pixel][j] * spread
    return dx


def around(h, w, height, width, n):
    """The n x n pixels around (h, w), clipped to the image."""
    for i in range(max(0, h - n // 2), min(height, h + n // 2 + 1)):
        for j in range(max(0, w - n // 2), min(width, w + n // 2 + 1)):
            yield i, j


def spatial_forward(x, n, k, alpha, beta):
    """The same with an n x n window in one channel: x (N, H, W, C)."""
    y, scale = np.zeros(x.shape), np.zeros(x.shape)
    _, height, width, _ = x.shape
    for m, h, w, c in np.ndindex(x.shape):
        squares = sum(x[m, i, j, c] ** 2 for i, j in around(h, w, height, width, n))
        scale[m, h, w, c] = k + alpha * squares
        y[m, h, w, c] = x[m, h, w, c] * scale[m, h, w, c] ** -beta
    return y, scale


def spatial_gradient(dy, x, y, scale, n, alpha, beta):
    """dx by the formula above."""
    dx = np.zeros(x.shape)
    _, height, width, _ = x.shape
    for m, h, w, c in np.ndindex(x.shape):
        spread = sum(
            dy[m, i, j, c] * y[m, i, j, c] / scale[m, i, j, c]
            for i, j in around(h, w, height, width, n)
        )
        direct = dy[m, h, w, c] * scale[m, h, w, c] ** -beta
        dx[m, h, w, c] = direct - 2 * alpha * beta * x[m, h, w, c] * spread
    return dx
